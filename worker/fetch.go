package worker

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/slipway-build/slipway/worker/wire"
)

// errBadSource says that a build's source is not what it should be: the build fails, wherever it is attempted.
var errBadSource = errors.New("bad source")

// fetchSource downloads and unpacks the attempt's source into a new directory.
func (t *attempt) fetchSource(ctx context.Context, dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	source := t.offer.Source
	if source == nil {
		return nil
	}
	archive, err := os.OpenFile(filepath.Join(t.dir, "source"), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		_ = archive.Close()
		_ = os.Remove(archive.Name()) // it goes with its directory at the latest
	}()
	if err := t.courier.download(ctx, *source, archive); err != nil {
		return fmt.Errorf("download source: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := unpack(ctx, root, archive, source.Size, t.agent.opts.Unpack); err != nil {
		return fmt.Errorf("unpack source: %w", err)
	}
	return nil
}

// A download is a source on its way into a file.
type download struct {
	wire.Source
	file *os.File
	have int64
	sum  hash.Hash
}

// download writes a source to an empty file, and resumes what broke off. The bytes have the declared size and digest, or else the
// error wraps errBadSource.
func (c *courier) download(ctx context.Context, source wire.Source, file *os.File) error {
	d := &download{Source: source, file: file, sum: sha256.New()}
	if err := c.retry(ctx, func() (bool, error) { return c.resume(ctx, d) }); err != nil {
		return err
	}
	if !bytes.Equal(d.sum.Sum(nil), source.SHA256[:]) {
		return fmt.Errorf("%w: it does not have the declared digest", errBadSource)
	}
	return nil
}

// resume asks for the bytes that are missing.
func (c *courier) resume(ctx context.Context, d *download) (progress bool, err error) {
	response, err := c.request(ctx, http.MethodGet, d.URL, func(r *http.Request, _ func()) {
		if d.have > 0 {
			r.Header.Set("Range", "bytes="+strconv.FormatInt(d.have, 10)+"-")
			r.Header.Set("If-Range", `"`+d.SHA256.String()+`"`)
		}
	}, http.StatusOK, http.StatusPartialContent)
	if p, ok := errors.AsType[*Problem](err); ok && p.Status == http.StatusRequestedRangeNotSatisfiable {
		return false, permanentError{fmt.Errorf("%w: it is shorter than declared", errBadSource)}
	}
	if err != nil {
		return false, err
	}
	defer response.Body.Close()
	if response.StatusCode == http.StatusOK {
		if err := d.restart(); err != nil {
			return false, permanentError{err}
		}
	} else if !strings.HasPrefix(response.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-", d.have)) {
		return false, permanentError{errors.New("the controller sent another range than was asked for")}
	}
	return d.readFrom(response.Body)
}

func (d *download) restart() error {
	d.have = 0
	d.sum.Reset()
	if _, err := d.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	return d.file.Truncate(0)
}

// readFrom writes what comes to the file, up to the declared size.
func (d *download) readFrom(body io.Reader) (progress bool, err error) {
	buf := make([]byte, 64<<10)
	for {
		n, err := body.Read(buf)
		if d.have+int64(n) > d.Size {
			return progress, permanentError{fmt.Errorf("%w: it is longer than declared", errBadSource)}
		}
		if _, err := d.file.Write(buf[:n]); err != nil {
			return progress, permanentError{err}
		}
		d.sum.Write(buf[:n])
		d.have += int64(n)
		progress = progress || n > 0
		switch {
		case err == io.EOF && d.have < d.Size:
			return progress, io.ErrUnexpectedEOF
		case err == io.EOF:
			return progress, nil
		case err != nil:
			return progress, err
		}
	}
}
