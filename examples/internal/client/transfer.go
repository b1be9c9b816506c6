package client

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/slipway-build/slipway/examples/internal/api"
	"github.com/slipway-build/slipway/queue"
)

// PutSource sees to it that the controller has an archive. It asks first, and if the archive is not there sends what open returns, which
// must be s.Size bytes of that SHA-256. open is called once for each attempt. It reports whether the archive was there already.
//
// Errors: [worker.ErrBlobTooLarge]; [worker.ErrNoSpace]; [worker.ErrBlobMismatch].
func (c *Client) PutSource(ctx context.Context, s api.Source, open func() (io.ReadCloser, error)) (present bool, err error) {
	r := request{op: "upload source", method: http.MethodHead, path: "/v1/sources/" + url.PathEscape(s.SHA256)}
	err = c.exchange(ctx, r, nil, nil)
	if !errors.Is(err, queue.ErrNotFound) {
		return err == nil, err
	}
	r.method, r.size = http.MethodPut, s.Size
	r.header = http.Header{"Content-Type": {"application/gzip"}, "Expect": {"100-continue"}}
	err = c.retry(ctx, func() error {
		guard := newStallGuard(ctx)
		defer guard.stop()
		r.body = func() (io.ReadCloser, error) {
			f, err := open()
			return &guarded{ReadCloser: f, guard: guard}, err
		}
		resp, err := c.once(guard.ctx, r)
		if err == nil {
			_ = resp.Body.Close() // its status says all
		}
		return err
	})
	return false, err
}

// Artifacts returns the artifacts of an attempt, of the newest if epoch is zero. Errors: [queue.ErrNotFound].
func (c *Client) Artifacts(ctx context.Context, id queue.ID, epoch int64) ([]api.Artifact, error) {
	query := url.Values{}
	if epoch != 0 {
		query.Set("epoch", strconv.FormatInt(epoch, 10))
	}
	var list api.Artifacts
	r := request{op: "list artifacts", method: http.MethodGet, path: buildPath(id) + "/artifacts", query: query}
	err := c.exchange(ctx, r, nil, &list)
	return list.Artifacts, err
}

// Fetch writes the bytes of an artifact to w. When a transfer breaks off it goes on where it was. If the bytes are not those of the
// artifact the error wraps [ErrDamaged], and what was written to w is of no use.
func (c *Client) Fetch(ctx context.Context, id queue.ID, a api.Artifact, w io.Writer) error {
	parts := strings.Split(a.Name, "/")
	for i := range parts {
		parts[i] = url.PathEscape(parts[i])
	}
	f := fetch{
		artifact: a, w: w, sum: sha256.New(),
		request: request{
			op: "download", method: http.MethodGet, path: buildPath(id) + "/artifacts/" + strings.Join(parts, "/"),
			query: url.Values{"epoch": {strconv.FormatInt(a.Epoch, 10)}},
		},
	}
	for {
		before := f.offset
		err := c.retry(ctx, func() error { return f.more(ctx, c) })
		if err == nil {
			return f.verify()
		}
		if f.offset == before || ctx.Err() != nil || !temporary(err) {
			return err
		}
	}
}

// A fetch is a download that may take several requests.
type fetch struct {
	artifact api.Artifact
	request  request
	w        io.Writer
	sum      hash.Hash
	offset   int64 // bytes written and summed
}

// more reads from the offset to the end, or to where the connection breaks.
func (f *fetch) more(ctx context.Context, c *Client) error {
	r := f.request
	if f.offset > 0 {
		r.header = http.Header{
			"Range":    {"bytes=" + strconv.FormatInt(f.offset, 10) + "-"},
			"If-Range": {`"` + f.artifact.SHA256 + `"`},
		}
	}
	guard := newStallGuard(ctx)
	defer guard.stop()
	resp, err := c.once(guard.ctx, r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body := &guarded{ReadCloser: resp.Body, guard: guard}
	if f.offset > 0 && resp.StatusCode != http.StatusPartialContent {
		// The answer is the whole: what is there already is passed over, and the sum decides.
		if _, err := io.CopyN(io.Discard, body, f.offset); err != nil {
			return &Error{Op: r.op, Err: c.unanswered(guard.ctx, err)}
		}
	}
	// One byte more than there should be is enough to know.
	sink := &sink{w: io.MultiWriter(f.w, f.sum)}
	n, err := io.Copy(sink, io.LimitReader(body, f.artifact.Size-f.offset+1))
	f.offset += n
	switch {
	case sink.err != nil:
		return &Error{Op: r.op, Err: sink.err}
	case err != nil:
		return &Error{Op: r.op, Err: c.unanswered(guard.ctx, err)}
	}
	return nil
}

// verify compares what was written with what it should have been.
func (f *fetch) verify() error {
	if f.offset != f.artifact.Size {
		err := fmt.Errorf("artifact %q: %w: got %d bytes, not %d", f.artifact.Name, ErrDamaged, f.offset, f.artifact.Size)
		return &Error{Op: f.request.op, Err: err}
	}
	if got := hex.EncodeToString(f.sum.Sum(nil)); got != f.artifact.SHA256 {
		err := fmt.Errorf("artifact %q: %w: the sum is %s, not %s", f.artifact.Name, ErrDamaged, got, f.artifact.SHA256)
		return &Error{Op: f.request.op, Err: err}
	}
	return nil
}

// A sink tells an error of writing from one of reading.
type sink struct {
	w   io.Writer
	err error
}

func (s *sink) Write(b []byte) (int, error) {
	n, err := s.w.Write(b)
	if err != nil {
		s.err = err
	}
	return n, err
}

// A stallGuard ends its context when a transfer makes no progress, without limiting how long it may take as a whole.
type stallGuard struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	timer  *time.Timer
}

func newStallGuard(ctx context.Context) *stallGuard {
	ctx, cancel := context.WithCancelCause(ctx)
	return &stallGuard{ctx: ctx, cancel: cancel, timer: time.AfterFunc(stallTimeout, func() { cancel(errSlow) })}
}

func (g *stallGuard) stop() {
	g.timer.Stop()
	g.cancel(nil)
}

// guarded reports each read as progress.
type guarded struct {
	io.ReadCloser
	guard *stallGuard
}

func (g *guarded) Read(b []byte) (int, error) {
	n, err := g.ReadCloser.Read(b)
	if n > 0 {
		g.guard.timer.Reset(stallTimeout)
	}
	return n, err
}
