package storelogs

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"

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
	r := &exactly{ctx: ctx, r: object, left: size}
	err = a.backend.Put(ctx, k, size, r)
	if r.begun || err != nil && !errors.Is(err, storage.ErrDigest) {
		return err
	}
	// The backend has left it unread: there is one, of the same size or another.
	packed, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	there, err := a.backend.Stat(ctx, k)
	if err != nil {
		return err
	}
	same, err := a.same(ctx, there, packed)
	if err != nil {
		return err
	}
	if same { // put again as it is, to be sure that it is durable
		return a.backend.Put(ctx, k, there.Size, &exactly{ctx: ctx, r: gone{}, left: there.Size})
	}
	return a.replace(ctx, k, packed)
}

// replace puts an object in place of another. If that ends in between there is none: the queue keeps the log until Put has returned nil.
func (a archive) replace(ctx context.Context, k storage.Key, packed []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := a.backend.Delete(ctx, k); err != nil {
		return err
	}
	size := int64(len(packed))
	r := &exactly{ctx: ctx, r: bytes.NewReader(packed), left: size}
	err := a.backend.Put(ctx, k, size, r)
	if err == nil && !r.begun {
		return errors.New("another object was put at the same time")
	}
	return err
}

// same reports whether the object that is there unpacks into what packed does. One that is damaged does not.
func (a archive) same(ctx context.Context, there storage.Info, packed []byte) (bool, error) {
	want, err := unpack(bytes.NewReader(packed), math.MaxInt64)
	if err != nil {
		return false, fmt.Errorf("unpack the object that is to be put: %w", err)
	}
	if there.Size == 0 {
		return false, nil
	}
	object, err := a.backend.Open(ctx, there.Key, 0, there.Size)
	if err != nil {
		return false, err
	}
	defer object.Close()
	r := &exactly{ctx: ctx, r: object, left: there.Size}
	got, err := unpack(r, want.length+1)
	if r.err != nil { // nothing is known of what was not read
		return false, r.err
	}
	return err == nil && got == want, nil
}

// A content is what is compared of a log.
type content struct {
	length int64
	sum    [sha256.Size]byte
}

// unpack returns the content of a gzip file, as far as most bytes.
func unpack(file io.Reader, most int64) (c content, err error) {
	z, err := gzip.NewReader(file)
	if err != nil {
		return content{}, err
	}
	hash := sha256.New()
	c.length, err = io.Copy(hash, io.LimitReader(z, most))
	hash.Sum(c.sum[:0])
	return c, err
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
	ctx   context.Context
	r     io.Reader
	left  int64
	begun bool
	err   error // what has kept it from that
}

var errSize = errors.New("the object has another size than was said")

func (e *exactly) Read(p []byte) (int, error) {
	e.begun = true
	if e.err = e.ctx.Err(); e.err != nil {
		return 0, e.err
	}
	n, err := e.r.Read(p)
	e.left -= int64(n)
	if e.left < 0 || err == io.EOF && e.left > 0 {
		n, err = 0, errSize
	}
	if err != io.EOF {
		e.err = err
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
