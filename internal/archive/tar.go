package archive

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
)

// untar unpacks a tar.
func untar(t *tree, stream *boundedReader) error {
	in := tar.NewReader(stream)
	for first := true; ; first = false {
		header, err := in.Next()
		switch {
		case err == io.EOF:
			return nil
		case first && errors.Is(err, tar.ErrHeader):
			return stream.in.explain(fmt.Errorf("it begins like no format that is known: %s: %w", supported, err))
		case err != nil:
			return stream.in.explain(err)
		case header.Typeflag == tar.TypeXGlobalHeader:
			continue // it says something of the archive as a whole
		}
		if err := t.add(tarEntry(header, in)); err != nil {
			return err
		}
	}
}

// tarEntry returns the entry that a header and the content after it stand for.
func tarEntry(h *tar.Header, content io.Reader) entry {
	e := entry{name: h.Name, perm: h.FileInfo().Mode().Perm(), target: h.Linkname, size: h.Size, content: content}
	switch h.Typeflag {
	case tar.TypeDir:
		e.kind = fs.ModeDir
	case tar.TypeReg, tar.TypeGNUSparse:
	case tar.TypeLink:
		e.hard = true
	case tar.TypeSymlink:
		e.kind = fs.ModeSymlink
	default:
		e.kind = fs.ModeIrregular
	}
	return e
}
