package worker

import (
	"archive/tar"
	"bufio"
	"cmp"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

const (
	// ratioFloor is the size up to which an archive may unpack whatever its compression.
	ratioFloor = 64 << 20
	// maxLinkText bounds the names and targets of symbolic links, which are kept in memory until the end.
	maxLinkText = 16 << 20
	// maxPath is the longest name of an entry, or target of a link, in bytes.
	maxPath = 4096
)

// unpack writes the files of a tar archive, compressed with gzip or not, below an empty root. An archive that breaks a rule or a limit
// is an error that wraps errBadSource; part of it has been written then, none of it outside.
//
// What an archive may hold: directories, regular files, hard links to files that came before, and symbolic links that are relative,
// stay within the tree and go up only at their beginning, so that no chain of them leaves it. Modes are kept without the set-id and
// sticky bits, owners and times are not. No name may come twice, and none below a symbolic link.
func unpack(ctx context.Context, root *os.Root, archive io.Reader, size int64, limits UnpackLimits) error {
	in := bufio.NewReaderSize(archive, 64<<10)
	stream := &boundedReader{ctx: ctx, r: in, left: limits.stream(size)}
	if magic, _ := in.Peek(2); string(magic) == "\x1f\x8b" {
		decompressed, err := gzip.NewReader(in)
		if err != nil {
			return fmt.Errorf("%w: %w", errBadSource, err)
		}
		stream.r = decompressed
	}
	u := &unpacker{
		root: root, stream: stream, in: tar.NewReader(stream), limits: limits, left: limits.Bytes, buf: make([]byte, 64<<10),
	}
	for {
		header, err := u.in.Next()
		if err == io.EOF {
			return u.finish()
		}
		if err == nil {
			err = u.entry(header)
		} else {
			err = stream.explain(err)
		}
		if err != nil {
			return err
		}
	}
}

// stream returns how long the stream of an archive of that size may be, headers included.
func (l *UnpackLimits) stream(size int64) int64 {
	ratio := int64(math.MaxInt64)
	if size < math.MaxInt64/l.Ratio {
		ratio = max(ratioFloor, size*l.Ratio)
	}
	// A header takes 512 bytes and a file's last block as many at most; long names take more.
	headers := int64(l.Entries) * 2048
	if l.Bytes > math.MaxInt64-headers {
		return ratio
	}
	return min(ratio, l.Bytes+headers)
}

// A boundedReader fails when too much comes, or when ctx ends.
type boundedReader struct {
	ctx  context.Context
	r    io.Reader
	left int64
}

var errTooMuch = fmt.Errorf("%w: it unpacks to too much", errBadSource)

func (b *boundedReader) Read(p []byte) (int, error) {
	if b.ctx.Err() != nil {
		return 0, context.Cause(b.ctx)
	}
	if b.left == 0 {
		return 0, errTooMuch
	}
	n, err := b.r.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

// explain returns why reading the archive failed: ctx, a limit, or the archive itself.
func (b *boundedReader) explain(err error) error {
	if b.ctx.Err() != nil {
		return context.Cause(b.ctx)
	}
	if errors.Is(err, errBadSource) {
		return err
	}
	return fmt.Errorf("%w: %w", errBadSource, err)
}

// An unpacker is the state of unpacking one archive.
type unpacker struct {
	root    *os.Root
	stream  *boundedReader
	in      *tar.Reader
	limits  UnpackLimits
	left    int64 // bytes of files
	entries int
	made    string    // the directory that was made last
	links   []symlink // made at the end, so that nothing is written through one
	text    int       // bytes of links
	buf     []byte
}

type symlink struct{ name, target string }

// entry writes what one header, and the bytes that follow it, stand for.
func (u *unpacker) entry(h *tar.Header) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil // it says something of the archive as a whole
	}
	if err := u.count(); err != nil {
		return err
	}
	if h.Typeflag == tar.TypeDir && strings.Trim(h.Name, "./") == "" && !strings.Contains(h.Name, "..") && !path.IsAbs(h.Name) {
		return nil // the root itself, as "./"
	}
	name, err := u.name(h.Name, h.Typeflag == tar.TypeDir)
	if err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeDir:
		err = u.directory(name, h.FileInfo().Mode().Perm())
	case tar.TypeReg, tar.TypeGNUSparse:
		err = u.file(name, h.FileInfo().Mode().Perm(), h.Size)
	case tar.TypeLink:
		err = u.hardLink(name, h.Linkname)
	case tar.TypeSymlink:
		err = u.symbolicLink(name, h.Linkname)
	default:
		err = fmt.Errorf("%w: %.200q is neither a file nor a directory nor a link", errBadSource, name)
	}
	return u.explain(err)
}

// count counts what is made: what has an entry, and the directories that names imply.
func (u *unpacker) count() error {
	if u.entries++; u.entries > u.limits.Entries {
		return fmt.Errorf("%w: it has more than %d entries", errBadSource, u.limits.Entries)
	}
	return nil
}

// name checks the name of an entry and returns it in its plain form.
func (u *unpacker) name(name string, dir bool) (string, error) {
	plain := name
	for strings.HasPrefix(plain, "./") {
		plain = plain[2:]
	}
	if dir {
		plain = strings.TrimSuffix(plain, "/")
	}
	parts := strings.Split(plain, "/")
	unfit := func(part string) bool { return part == "" || part == "." || part == ".." }
	if slices.ContainsFunc(parts, unfit) || strings.ContainsRune(plain, 0) || !filepath.IsLocal(filepath.FromSlash(plain)) {
		return "", fmt.Errorf("%w: %.200q is not the name of a file in it", errBadSource, name)
	}
	if len(parts) > u.limits.Depth || len(plain) > maxPath {
		return "", fmt.Errorf("%w: %.200q is too deep or too long", errBadSource, name)
	}
	return plain, nil
}

// explain tells names that the file system refuses, which are the archive's fault, from its other troubles.
func (u *unpacker) explain(err error) error {
	for _, fault := range []error{
		fs.ErrExist, syscall.ENOTDIR, syscall.EISDIR, syscall.ENAMETOOLONG, syscall.EINVAL, syscall.EILSEQ, syscall.ELOOP,
	} {
		if errors.Is(err, fault) {
			return fmt.Errorf("%w: %w", errBadSource, err)
		}
	}
	return err
}

// parent makes the directory that an entry is in. Until the links are made it cannot lead anywhere else.
func (u *unpacker) parent(name string) error {
	dir := path.Dir(name)
	if dir == "." || dir == u.made {
		return nil
	}
	for i := range len(dir) + 1 {
		if i < len(dir) && dir[i] != '/' {
			continue
		}
		if fresh, err := u.mkdir(dir[:i]); err != nil {
			return err
		} else if !fresh {
			continue
		}
		if err := u.count(); err != nil {
			return err
		}
	}
	u.made = dir
	return nil
}

// mkdir makes a directory and reports whether it was not there.
func (u *unpacker) mkdir(dir string) (fresh bool, err error) {
	err = u.root.Mkdir(dir, 0o755)
	if !errors.Is(err, fs.ErrExist) {
		return err == nil, err
	}
	info, err := u.root.Lstat(dir)
	if err == nil && !info.IsDir() {
		err = &fs.PathError{Op: "mkdir", Path: dir, Err: syscall.ENOTDIR}
	}
	return false, err
}

// directory makes a directory, or sets the mode of one that an entry in it has made. The agent must be able to remove what is in it.
func (u *unpacker) directory(name string, mode fs.FileMode) error {
	if err := u.parent(name); err != nil {
		return err
	}
	if _, err := u.mkdir(name); err != nil {
		return err
	}
	return u.root.Chmod(name, mode|0o700)
}

func (u *unpacker) file(name string, mode fs.FileMode, size int64) (err error) {
	if size > u.left {
		return fmt.Errorf("%w: its files have more than %d bytes", errBadSource, u.limits.Bytes)
	}
	u.left -= size
	if err := u.parent(name); err != nil {
		return err
	}
	f, err := u.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = cmp.Or(err, f.Close()) }()
	for {
		n, err := u.in.Read(u.buf)
		if _, err := f.Write(u.buf[:n]); err != nil {
			return err
		}
		if err == io.EOF {
			return f.Chmod(mode)
		}
		if err != nil {
			return u.stream.explain(err)
		}
	}
}

// hardLink gives a file of the archive another name.
func (u *unpacker) hardLink(name, target string) error {
	target, err := u.name(target, false)
	if err != nil {
		return err
	}
	info, err := u.root.Lstat(target)
	if err != nil || !info.Mode().IsRegular() {
		return fmt.Errorf("%w: %.200q is a link to what is no file before it", errBadSource, name)
	}
	if err := u.parent(name); err != nil {
		return err
	}
	return u.root.Link(target, name)
}

// symbolicLink notes a link to be made at the end.
func (u *unpacker) symbolicLink(name, target string) error {
	if !stays(name, target) {
		return fmt.Errorf("%w: %.200q is a link to outside", errBadSource, name)
	}
	if u.text += len(name) + len(target); u.text > maxLinkText {
		return fmt.Errorf("%w: it has too many symbolic links", errBadSource)
	}
	u.links = append(u.links, symlink{name, target})
	return nil
}

// stays reports whether a symbolic link leads to a place in the tree, whatever other links of that kind are in the way: it goes up at
// its beginning only, where it is known how deep it is in real directories.
func stays(name, target string) bool {
	if target == "" || len(target) > maxPath || path.IsAbs(target) || filepath.IsAbs(target) ||
		strings.ContainsRune(target, 0) || os.PathSeparator != '/' && strings.ContainsAny(target, `\:`) {
		return false
	}
	depth, descended := strings.Count(name, "/"), false
	for part := range strings.SplitSeq(target, "/") {
		switch part {
		case "", ".":
		case "..":
			if depth--; depth < 0 || descended {
				return false
			}
		default:
			descended = true
		}
	}
	return true
}

// finish makes the symbolic links. All directories come first, so that no link can be in the way to another.
func (u *unpacker) finish() error {
	for _, l := range u.links {
		if err := u.parent(l.name); err != nil {
			return u.explain(err)
		}
	}
	for _, l := range u.links {
		if err := u.root.Symlink(l.target, l.name); err != nil {
			return u.explain(err)
		}
	}
	return nil
}
