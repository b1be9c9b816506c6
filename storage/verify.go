package storage

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
)

// verifier reads a stream whose length, and perhaps digest, is known. It
// delivers the last bytes only after the whole has been found right, so that
// whoever got all the bytes has got the right ones, even without reading on to
// io.EOF.
type verifier struct {
	ctx  context.Context
	src  io.Reader
	left int64     // bytes not yet read
	sum  hash.Hash // nil if only the length is checked
	want Digest
	err  error // what every further Read returns, once set
}

func newVerifier(ctx context.Context, src io.Reader, blob Blob) *verifier {
	return &verifier{ctx: ctx, src: src, left: blob.Size, sum: sha256.New(), want: blob.Digest}
}

// failure is the reason why the stream was refused, or nil.
func (v *verifier) failure() error {
	if v.err == io.EOF {
		return nil
	}
	return v.err
}

func (v *verifier) Read(p []byte) (int, error) {
	if v.err != nil {
		return 0, v.err
	}
	if len(p) == 0 {
		return 0, nil
	}
	if v.left == 0 {
		v.err = v.finish(nil)
		return 0, v.err
	}
	if v.err = v.ctx.Err(); v.err != nil {
		return 0, v.err
	}
	n, err := v.src.Read(p[:min(int64(len(p)), v.left)])
	if v.sum != nil {
		v.sum.Write(p[:n])
	}
	v.left -= int64(n)
	switch {
	case v.left == 0:
		if v.err = v.finish(err); v.err != io.EOF {
			return 0, v.err
		}
	case errors.Is(err, io.EOF):
		v.err = fmt.Errorf("%w: ended %d bytes early", ErrDigest, v.left)
	default:
		v.err = err
	}
	return n, v.failure()
}

// finish decides about a stream that delivered all its bytes with err as the
// last error of its source. It returns io.EOF if all is well.
func (v *verifier) finish(err error) error {
	var extra [1]byte
	for n := 0; err == nil; {
		if err = v.ctx.Err(); err != nil {
			break
		}
		if n, err = v.src.Read(extra[:]); n > 0 {
			return fmt.Errorf("%w: goes on beyond the declared size", ErrDigest)
		}
	}
	if !errors.Is(err, io.EOF) {
		return err
	}
	if v.sum != nil && Digest(v.sum.Sum(nil)) != v.want {
		return fmt.Errorf("%w: other bytes", ErrDigest)
	}
	return io.EOF
}
