package archive

import (
	"bufio"
	"compress/flate"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"strings"
)

// An unzipper goes through the directory of a zip one entry at a time, so that a directory of any size takes no more memory than
// another. What the directory says is held against what is there.
type unzipper struct {
	in      *input
	tree    *tree
	packed  *bufio.Reader
	inflate io.Reader // and flate.Resetter
	end     int64     // where entries end and the directory begins
	left    int64     // how much of the archive entries may still take: together they cannot take more than there is
}

// unzip unpacks a zip.
func unzip(t *tree, in *input) error {
	dir, err := findDirectory(in)
	if err != nil {
		return in.explain(err)
	}
	if dir.entries > uint64(t.limits.Entries) {
		return fmt.Errorf("%w: it has more than %d entries", ErrInvalid, t.limits.Entries)
	}
	u := &unzipper{in: in, tree: t, packed: bufio.NewReaderSize(nil, bufferSize), end: dir.start, left: dir.start}
	u.inflate = flate.NewReader(u.packed)
	headers := bufio.NewReaderSize(in.section(dir.start, dir.size), bufferSize)
	for range dir.entries {
		h, err := readZipHeader(headers)
		if err != nil {
			return in.explain(err)
		}
		if err := u.entry(h); err != nil {
			return err
		}
	}
	if _, err := headers.Peek(1); err != io.EOF {
		return in.explain(fmt.Errorf("%w: its directory is longer than its entries", errZip))
	}
	return nil
}

// entry unpacks what one line of the directory stands for.
func (u *unzipper) entry(h *zipHeader) error {
	e := entry{name: h.name, perm: h.perm, kind: h.kind, size: int64(min(h.size, 1<<62))}
	content, err := u.content(h)
	switch {
	case err != nil:
	case strings.Contains(h.name, `\`):
		err = fmt.Errorf("%w: %.200q has a backslash", ErrInvalid, h.name)
	case h.kind == fs.ModeDir && h.size > 0:
		err = fmt.Errorf("%w: %.200q is a directory with content", errZip, h.name)
	case h.kind == fs.ModeSymlink && h.size > maxPath:
		err = fmt.Errorf("%w: %.200q is too long a link", ErrInvalid, h.name)
	case h.kind == fs.ModeSymlink:
		var target []byte
		target, err = io.ReadAll(content)
		e.target = string(target)
	}
	if err != nil {
		return u.in.explain(err)
	}
	e.content = content
	return u.tree.add(e)
}

// content returns the unpacked content of an entry, which stays valid until the next.
func (u *unzipper) content(h *zipHeader) (io.Reader, error) {
	start, err := u.locate(h)
	if err != nil {
		return nil, err
	}
	u.packed.Reset(u.in.section(start, int64(h.packed)))
	c := &zipContent{in: u.in, r: u.packed, left: h.size, want: h.sum}
	switch h.method {
	case methodStore:
	case methodDeflate:
		if err := u.inflate.(flate.Resetter).Reset(u.packed, nil); err != nil {
			return nil, err
		}
		c.r = u.inflate
	default:
		return nil, fmt.Errorf("%w: %.200q is compressed by method %d: stored and deflated ones are supported", errZip, h.name, h.method)
	}
	return c, nil
}

// locate returns where the packed content of an entry begins. The entry must be there, have the name that the directory says, and end
// before the directory.
func (u *unzipper) locate(h *zipHeader) (int64, error) {
	const fixed = 30
	local := make([]byte, fixed+len(h.name))
	if h.offset > uint64(u.end) || int64(h.offset) > u.end-int64(len(local)) {
		return 0, fmt.Errorf("%w: %.200q is not where its directory says", errZip, h.name)
	}
	start := int64(h.offset)
	if n, err := u.in.ReadAt(local, start); n < len(local) {
		return 0, noEOF(err)
	}
	f := fields(local)
	if f.u32() != sigLocal {
		return 0, fmt.Errorf("%w: %.200q is not where its directory says", errZip, h.name)
	}
	f = f[22:] // what the directory has, too
	nameSize, extraSize := f.u16(), f.u16()
	if int(nameSize) != len(h.name) || string(local[fixed:]) != h.name {
		return 0, fmt.Errorf("%w: %.200q has two names", errZip, h.name)
	}
	start += int64(len(local)) + int64(extraSize)
	if start > u.end || h.packed > uint64(u.end-start) || int64(h.packed) > u.left {
		return 0, fmt.Errorf("%w: %.200q is longer than the archive, or shares its bytes with others", errZip, h.name)
	}
	u.left -= int64(h.packed)
	return start, nil
}

// A zipContent is the content of an entry. It fails where the content is not what the directory says.
type zipContent struct {
	in   *input
	r    io.Reader
	left uint64
	sum  uint32
	want uint32
}

func (c *zipContent) Read(p []byte) (int, error) {
	if err := c.in.alive(); err != nil {
		return 0, err
	}
	if uint64(len(p)) > c.left {
		p = p[:c.left+1]
	}
	n, err := c.r.Read(p)
	if uint64(n) > c.left {
		return 0, fmt.Errorf("%w: an entry is longer than its directory says", errZip)
	}
	c.left -= uint64(n)
	c.sum = crc32.Update(c.sum, crc32.IEEETable, p[:n])
	if err == io.EOF && c.left > 0 {
		err = fmt.Errorf("%w: an entry is shorter than its directory says", errZip)
	} else if err == io.EOF && c.sum != c.want {
		err = fmt.Errorf("%w: an entry does not have the checksum that its directory says", errZip)
	}
	return n, err
}
