package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// reader is what Store.Open returns: the backend's reader behind a verifier.
type reader struct {
	key    Key
	src    io.Closer
	stream *verifier
}

// openRange opens a range that lies within the blob of info.
func openRange(ctx context.Context, b Backend, info Info, offset, length int64) (*reader, error) {
	src := io.NopCloser(eof{})
	if length > 0 {
		var err error
		if src, err = b.Open(ctx, info.Key, offset, length); err != nil {
			return nil, err
		}
	}
	v := newVerifier(ctx, src, Blob{Digest: info.Key.Digest(), Size: length})
	if length < info.Size {
		v.sum = nil
	}
	return &reader{key: info.Key, src: src, stream: v}, nil
}

func (r *reader) Read(p []byte) (int, error) {
	n, err := r.stream.Read(p)
	if err != nil && err != io.EOF {
		err = wrap("read", r.key.String(), err)
	}
	return n, err
}

func (r *reader) Close() error { return wrap("read", r.key.String(), r.src.Close()) }

type eof struct{}

func (eof) Read([]byte) (int, error) { return 0, io.EOF }

// OpenSeeker returns a seekable reader of a whole blob, such as
// http.ServeContent wants. If the backend is a FileOpener it is an *os.File,
// which must only be read. Otherwise it opens ranges of the blob as they are
// asked for, and fails once ctx is cancelled. It belongs to one goroutine and
// must be closed. Do not count on its bytes being verified: they may be read in
// any order.
//
// It fails with ErrNotFound or ErrInvalid.
func (s *Store) OpenSeeker(ctx context.Context, project string, d Digest) (io.ReadSeekCloser, error) {
	key, err := begin(ctx, project, d)
	if err != nil {
		return nil, wrap("open", key.String(), err)
	}
	if b, ok := s.backend.(FileOpener); ok {
		f, err := b.OpenFile(ctx, key)
		if err != nil {
			return nil, wrap("open", key.String(), err)
		}
		return f, nil
	}
	info, err := s.backend.Stat(ctx, key)
	if err != nil {
		return nil, wrap("open", key.String(), err)
	}
	return &seeker{ctx: ctx, backend: s.backend, info: info}, nil
}

// seeker reads a blob from a position on through one range that it opens at
// the first Read and drops when the position moves.
type seeker struct {
	ctx     context.Context
	backend Backend
	info    Info
	pos     int64
	rest    *reader // from pos to the end, or nil
	closed  bool
}

var (
	errClosed = errors.New("reader is closed")
	errWhence = fmt.Errorf("%w: seek to a negative position or from an unknown origin", ErrInvalid)
)

func (s *seeker) Read(p []byte) (int, error) {
	if s.closed {
		return 0, wrap("read", s.info.Key.String(), errClosed)
	}
	if s.pos >= s.info.Size {
		return 0, io.EOF
	}
	if s.rest == nil {
		rest, err := openRange(s.ctx, s.backend, s.info, s.pos, s.info.Size-s.pos)
		if err != nil {
			return 0, wrap("read", s.info.Key.String(), err)
		}
		s.rest = rest
	}
	n, err := s.rest.Read(p)
	s.pos += int64(n)
	return n, err
}

func (s *seeker) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekStart:
	case io.SeekCurrent:
		offset += s.pos
	case io.SeekEnd:
		offset += s.info.Size
	default:
		offset = -1
	}
	switch {
	case s.closed:
		return 0, wrap("read", s.info.Key.String(), errClosed)
	case offset < 0:
		return 0, wrap("read", s.info.Key.String(), errWhence)
	case offset == s.pos:
		return offset, nil
	}
	s.pos = offset
	return offset, s.drop()
}

func (s *seeker) Close() error {
	if s.closed {
		return nil
	}
	s.closed = true
	return s.drop()
}

func (s *seeker) drop() error {
	if s.rest == nil {
		return nil
	}
	rest := s.rest
	s.rest = nil
	return rest.Close()
}
