package storage

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"iter"
)

const (
	defaultMaxBlobBytes = 5 << 30
	pageLimit           = 1000
)

var emptyDigest = Digest(sha256.Sum256(nil))

// Options are the settings of a Store. The zero value is ready for use.
type Options struct {
	// MaxBlobBytes is the largest size Put accepts, in bytes. Zero or less
	// means 5 GiB, the most that S3 takes in one request.
	MaxBlobBytes int64
}

// Store keeps blobs, named by SHA-256 within a project, in a Backend. All
// methods may be called from several goroutines at once, and all errors are of
// type *Error.
type Store struct {
	backend Backend
	max     int64
}

// New returns a Store over b. A nil o means the defaults.
func New(b Backend, o *Options) *Store {
	s := &Store{backend: b, max: defaultMaxBlobBytes}
	if o != nil && o.MaxBlobBytes > 0 {
		s.max = o.MaxBlobBytes
	}
	return s
}

// Put stores the bytes of r as blob in project. It publishes them whole, once
// their number and digest have proved to be the declared ones, or not at all.
// It reads at most one byte more than blob.Size, to see that r ends there.
//
// If the project has the blob already, Put returns nil without reading r.
// Concurrent Puts of one blob all succeed.
//
// It fails with ErrInvalid, with ErrTooLarge before anything is read, with
// ErrDigest if r has more, fewer or other bytes than declared or if the digest
// is already stored with another size, with ErrNoSpace, with the error of the
// context, which is checked before each Read, or with the error of r. A Read
// that blocks is not interrupted: close its source for that.
func (s *Store) Put(ctx context.Context, project string, blob Blob, r io.Reader) error {
	key, err := begin(ctx, project, blob.Digest)
	switch {
	case err != nil:
	case blob.Size < 0:
		err = fmt.Errorf("%w: size %d is negative", ErrInvalid, blob.Size)
	case blob.Size > s.max:
		err = fmt.Errorf("%w: %d bytes, the limit is %d", ErrTooLarge, blob.Size, s.max)
	case (blob.Size == 0) != (blob.Digest == emptyDigest):
		err = fmt.Errorf("%w: no content has %d bytes and this digest", ErrDigest, blob.Size)
	default:
		v := newVerifier(ctx, r, blob)
		err = s.backend.Put(ctx, key, blob.Size, v)
		if cause := v.failure(); cause != nil {
			err = cause
		}
	}
	return wrap("put", key.String(), err)
}

// Open returns a reader of length bytes of a blob from offset on. A negative
// length means up to the end; a range that reaches beyond the end is cut there
// and may be empty. The reader belongs to one goroutine, fails once ctx is
// cancelled, and must be closed.
//
// When the range is the whole blob, the reader verifies the digest: damaged
// bytes end with ErrDigest in place of io.EOF, before the last of them are
// delivered. Of a part, only the length is verified.
//
// It fails with ErrNotFound, or with ErrInvalid if offset is negative.
func (s *Store) Open(ctx context.Context, project string, d Digest, offset, length int64) (io.ReadCloser, error) {
	key, err := begin(ctx, project, d)
	if err != nil {
		return nil, wrap("open", key.String(), err)
	}
	if offset < 0 {
		return nil, wrap("open", key.String(), fmt.Errorf("%w: offset %d is negative", ErrInvalid, offset))
	}
	info, err := s.backend.Stat(ctx, key)
	if err != nil {
		return nil, wrap("open", key.String(), err)
	}
	offset = min(offset, info.Size)
	if rest := info.Size - offset; length < 0 || length > rest {
		length = rest
	}
	r, err := openRange(ctx, s.backend, info, offset, length)
	if err != nil {
		return nil, wrap("open", key.String(), err)
	}
	return r, nil
}

// Stat describes a blob. It fails with ErrNotFound or ErrInvalid.
func (s *Store) Stat(ctx context.Context, project string, d Digest) (Info, error) {
	key, err := begin(ctx, project, d)
	var info Info
	if err == nil {
		info, err = s.backend.Stat(ctx, key)
	}
	if err != nil {
		return Info{}, wrap("stat", key.String(), err)
	}
	return info, nil
}

// Delete removes a blob. That there is none is no error. Readers that are open
// go on or fail, depending on the backend. It fails with ErrInvalid.
//
// A Put of the same blob at the same time may have found it and report success
// just before it goes: delete only what nobody is about to refer to.
func (s *Store) Delete(ctx context.Context, project string, d Digest) error {
	key, err := begin(ctx, project, d)
	if err == nil {
		err = s.backend.Delete(ctx, key)
	}
	return wrap("delete", key.String(), err)
}

// List yields the blobs of project in the order of their digests. It reads in
// pages, so blobs may be put and deleted meanwhile: those may be missing or
// present, all others come exactly once. An error ends the listing and is its
// last pair.
func (s *Store) List(ctx context.Context, project string) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		if err := checkProject(project); err != nil {
			yield(Info{}, wrap("list", "", err))
			return
		}
		s.list(ctx, project, yield)
	}
}

// All is List over every project, in the order of Key.Compare. It is for
// operators and maintenance: what it yields crosses the border between
// projects.
func (s *Store) All(ctx context.Context) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) { s.list(ctx, "", yield) }
}

func (s *Store) list(ctx context.Context, project string, yield func(Info, error) bool) {
	page := Page{Project: project, Limit: pageLimit}
	for {
		infos, err := s.page(ctx, page)
		if err != nil {
			yield(Info{}, wrap("list", project, err))
			return
		}
		for _, info := range infos {
			if !yield(info, nil) {
				return
			}
		}
		if len(infos) < page.Limit {
			return
		}
		page.After = infos[len(infos)-1].Key
	}
}

func (s *Store) page(ctx context.Context, page Page) ([]Info, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	infos, err := s.backend.List(ctx, page)
	if err != nil {
		return nil, err
	}
	if len(infos) > 0 && infos[0].Key.Compare(page.After) <= 0 {
		return nil, errors.New("the backend's listing does not advance")
	}
	return infos, nil
}

// Ping returns nil if the backend can be reached and serves. It asks the
// backend's own Ping, or lists one blob if it has none.
func (s *Store) Ping(ctx context.Context) error {
	if p, ok := s.backend.(Pinger); ok {
		err := ctx.Err()
		if err == nil {
			err = p.Ping(ctx)
		}
		return wrap("ping", "", err)
	}
	_, err := s.page(ctx, Page{Limit: 1})
	return wrap("ping", "", err)
}

// begin is what all operations on one blob start with.
func begin(ctx context.Context, project string, d Digest) (Key, error) {
	key, err := NewKey(project, d)
	if err == nil {
		err = ctx.Err()
	}
	return key, err
}

func wrap(op, key string, err error) error {
	if err == nil {
		return nil
	}
	return &Error{Op: op, Key: key, Err: err}
}
