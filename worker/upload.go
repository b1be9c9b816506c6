package worker

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"

	"github.com/slipway-build/slipway/queue"
)

// uploads is what became of an attempt's artifacts.
type uploads struct {
	done    int
	missing string // which is missing and why; empty if none is
}

// upload sends artifacts. One that the controller does not take, for good, is left out; the log says so and the result
// is partial. Uploading ends early with ctx, or when the attempt's token is no longer good: its lease is over.
func (t *attempt) upload(ctx context.Context, files []File) (done uploads) {
	for _, f := range files {
		err := t.uploadFile(ctx, f)
		switch {
		case err == nil:
			done.done++
			continue
		case done.missing == "":
			done.missing = fmt.Sprintf("artifact %q: %v", f.Name, err)
		}
		t.spool.notice("artifact %q is missing: %v", f.Name, err)
		t.log.Warn("artifact not uploaded", "artifact", t.mask(f.Name), "error", t.mask(err.Error()))
		if ctx.Err() != nil || errors.Is(err, ErrUnauthorized) || errors.Is(err, queue.ErrStaleLease) {
			break
		}
	}
	return done
}

func (t *attempt) uploadFile(ctx context.Context, f File) error {
	content, size, err := openArtifact(t.workDir(), f.Path)
	if err != nil {
		return err
	}
	defer content.Close()
	sum := sha256.New()
	if n, err := io.Copy(sum, content); err != nil {
		return err
	} else if n != size {
		return errors.New("its size changes")
	}
	return t.courier.upload(ctx, t.artifactsPath(), newArtifact{Name: f.Name, Size: size, SHA256: queue.Digest(sum.Sum(nil))}, content)
}

// openArtifact opens a regular file. Below dir, which a build may have filled with links, none is followed out of it.
func openArtifact(dir, name string) (*os.File, int64, error) {
	open, stat := os.Open, os.Lstat
	if below, err := filepath.Rel(dir, name); err == nil && filepath.IsLocal(below) {
		root, err := os.OpenRoot(dir)
		if err != nil {
			return nil, 0, err
		}
		defer root.Close()
		name, open, stat = below, root.Open, root.Lstat
	}
	if info, err := stat(name); err != nil {
		return nil, 0, err
	} else if !info.Mode().IsRegular() {
		return nil, 0, errors.New("it is not a regular file")
	}
	f, err := open(name)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("it is not a regular file")
	}
	if err != nil {
		_ = f.Close()
		return nil, 0, err
	}
	return f, info.Size(), nil
}

// upload makes an artifact known to the controller, and sends its bytes if they are not there yet.
func (c *courier) upload(ctx context.Context, path string, a newArtifact, content io.ReaderAt) error {
	body, err := json.Marshal(a)
	if err != nil {
		return err
	}
	var created createdArtifact
	err = c.retry(ctx, func() (bool, error) {
		created = createdArtifact{}
		return false, c.create(ctx, path, body, &created)
	})
	if err != nil || created.Present {
		return err
	}
	return c.retry(ctx, func() (bool, error) { return c.put(ctx, created.Upload, a, content) })
}

func (c *courier) create(ctx context.Context, path string, body []byte, created *createdArtifact) error {
	response, err := c.request(ctx, http.MethodPost, path, func(r *http.Request, _ func()) {
		r.Header.Set("Content-Type", "application/json")
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	}, http.StatusOK, http.StatusCreated)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if err := json.NewDecoder(io.LimitReader(response.Body, maxJSON)).Decode(created); err != nil {
		return fmt.Errorf("the controller's answer cannot be read: %w", err)
	}
	return nil
}

// put sends the bytes. That some of them went out is no progress: the controller keeps all or none.
func (c *courier) put(ctx context.Context, path string, a newArtifact, content io.ReaderAt) (progress bool, err error) {
	response, err := c.request(ctx, http.MethodPut, path, func(r *http.Request, touch func()) {
		r.Header.Set("Repr-Digest", reprDigest(a.SHA256))
		r.Header.Set("Expect", "100-continue") // a refusal comes before the bytes go
		r.ContentLength = a.Size
		r.Body = http.NoBody
		if a.Size > 0 {
			r.Body = io.NopCloser(&touchingReader{io.NewSectionReader(content, 0, a.Size), touch})
		}
	}, http.StatusNoContent)
	if err != nil {
		return false, err
	}
	return true, response.Body.Close()
}

// A touchingReader reports that it is read from.
type touchingReader struct {
	io.Reader
	touch func()
}

func (t *touchingReader) Read(p []byte) (int, error) {
	t.touch()
	return t.Reader.Read(p)
}
