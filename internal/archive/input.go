package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// An input is an archive that is read. It remembers why reading failed, so that a fault of the disk is not held against the archive.
type input struct {
	ctx  context.Context
	src  io.ReaderAt
	size int64
	err  error
}

// ReadAt fails once ctx has ended.
func (in *input) ReadAt(p []byte, off int64) (int, error) {
	if err := in.alive(); err != nil {
		return 0, err
	}
	n, err := in.src.ReadAt(p, off)
	if err != nil && err != io.EOF {
		in.err = err
	}
	return n, err
}

// alive returns why to go no further, if there is a reason.
func (in *input) alive() error {
	if in.ctx.Err() != nil {
		in.err = context.Cause(in.ctx)
	}
	return in.err
}

func (in *input) section(off, n int64) *io.SectionReader { return io.NewSectionReader(in, off, n) }

// explain returns why reading an archive failed: ctx, the disk, a rule, or that it is damaged.
func (in *input) explain(err error) error {
	switch {
	case in.alive() != nil:
		return in.err
	case errors.Is(err, ErrInvalid):
		return err
	}
	return fmt.Errorf("%w: %w", ErrInvalid, err)
}

// noEOF says that an end is one too early.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// A boundedReader fails when too much comes, or when the input's ctx ends.
type boundedReader struct {
	in   *input
	r    io.Reader
	left int64
}

func (b *boundedReader) Read(p []byte) (int, error) {
	if err := b.in.alive(); err != nil {
		return 0, err
	}
	if b.left == 0 {
		return 0, errTooMuch
	}
	n, err := b.r.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}
