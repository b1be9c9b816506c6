package storelogs

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/storage"
)

// New returns an archive that keeps logs in b. It holds nothing of its own: any number of them, also of several processes, may work on the
// same objects. Errors wrap those of b.
func New(b storage.Backend) queue.LogArchive { return archive{b} }

type archive struct{ backend storage.Backend }

// mark ends the names of logs, in place of the last bytes of a digest.
const mark = "slip log"

// key names the object of an attempt. Its first byte is a random one of the build's id, because backends spread keys by that.
func key(project string, id queue.AttemptID) (storage.Key, error) {
	name := make([]byte, 0, len(storage.Digest{}))
	name = append(name, id.Build[8:]...)
	name = append(name, id.Build[:8]...)
	name = binary.BigEndian.AppendUint64(name, uint64(id.Epoch))
	name = append(name, mark...)
	return storage.NewKey(project, storage.Digest(name))
}

// Put implements [queue.LogArchive].
func (a archive) Put(ctx context.Context, project string, id queue.AttemptID, object io.Reader, size int64) error {
	k, err := key(project, id)
	if err != nil {
		return err
	}
	err = a.backend.Put(ctx, k, size, &exactly{ctx: ctx, r: object, left: size})
	if !errors.Is(err, storage.ErrDigest) {
		return err
	}
	// There is one of another size, made by another compressor. Put it again as it is, to be sure that it is durable.
	there, err := a.backend.Stat(ctx, k)
	if err != nil {
		return err
	}
	return a.backend.Put(ctx, k, there.Size, &exactly{ctx: ctx, r: gone{}, left: there.Size})
}

// Open implements [queue.LogArchive].
func (a archive) Open(ctx context.Context, project string, id queue.AttemptID, offset, length int64) (io.ReadCloser, error) {
	k, err := key(project, id)
	if err != nil {
		return nil, err
	}
	there, err := a.backend.Stat(ctx, k)
	if err != nil {
		return nil, notExist(err)
	}
	length = min(length, there.Size-offset)
	if length <= 0 {
		return io.NopCloser(eof{}), nil
	}
	r, err := a.backend.Open(ctx, k, offset, length)
	return r, notExist(err)
}

// Delete implements [queue.LogArchive].
func (a archive) Delete(ctx context.Context, project string, id queue.AttemptID) error {
	k, err := key(project, id)
	if err != nil {
		return err
	}
	return a.backend.Delete(ctx, k)
}

// notExist puts the error of an object that is not there under the one that a queue knows.
func notExist(err error) error {
	if errors.Is(err, storage.ErrNotFound) {
		return fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	}
	return err
}

// An exactly reads what a backend counts on: so many bytes and then io.EOF, or else an error, and nothing after ctx has ended.
type exactly struct {
	ctx  context.Context
	r    io.Reader
	left int64
}

var errSize = errors.New("the object has another size than was said")

func (e *exactly) Read(p []byte) (int, error) {
	if err := e.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := e.r.Read(p)
	e.left -= int64(n)
	if e.left < 0 || err == io.EOF && e.left > 0 {
		return 0, errSize
	}
	return n, err
}

// A gone is read if an object that was there is not any more.
type gone struct{}

func (gone) Read([]byte) (int, error) {
	return 0, errors.New("the object was removed while it was put")
}

type eof struct{}

func (eof) Read([]byte) (int, error) { return 0, io.EOF }
