package archive

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

const (
	// maxLinkText bounds the names and targets of symbolic links, which are kept in memory until the end.
	maxLinkText = 16 << 20
	// maxPath is the longest name of an entry, or target of a link, in bytes.
	maxPath = 4096
)

// An entry is one thing in an archive, whatever the format.
type entry struct {
	name    string
	kind    fs.FileMode // 0 for a file, fs.ModeDir, fs.ModeSymlink; any other is refused
	hard    bool        // a hard link, not a file
	perm    fs.FileMode
	target  string // of a link
	size    int64  // of a file, as declared
	content io.Reader
}

// A tree is what an archive is unpacked to. It holds entries to the rules and limits.
type tree struct {
	root    *os.Root
	limits  Limits
	left    int64             // bytes of files
	explain func(error) error // why reading content failed
	entries int
	made    string    // the directory that was made last
	links   []symlink // made at the end, so that nothing is written through one
	text    int       // bytes of links
	buf     []byte
}

type symlink struct{ name, target string }

// add makes what an entry stands for.
func (t *tree) add(e entry) error {
	if err := t.count(); err != nil {
		return err
	}
	if e.kind == fs.ModeDir && strings.Trim(e.name, "./") == "" && !strings.Contains(e.name, "..") && !path.IsAbs(e.name) {
		return nil // the root itself, as "./"
	}
	name, err := t.name(e.name, e.kind == fs.ModeDir)
	if err != nil {
		return err
	}
	switch {
	case e.hard:
		err = t.hardLink(name, e.target)
	case e.kind == fs.ModeDir:
		err = t.directory(name, e.perm)
	case e.kind == fs.ModeSymlink:
		err = t.symbolicLink(name, e.target)
	case e.kind == 0:
		err = t.file(name, e)
	default:
		err = fmt.Errorf("%w: %.200q is neither a file nor a directory nor a link", ErrInvalid, name)
	}
	return faulty(err)
}

// count counts what is made: what has an entry, and the directories that names imply.
func (t *tree) count() error {
	if t.entries++; t.entries > t.limits.Entries {
		return fmt.Errorf("%w: it has more than %d entries", ErrInvalid, t.limits.Entries)
	}
	return nil
}

// name checks the name of an entry and returns it in its plain form.
func (t *tree) name(name string, dir bool) (string, error) {
	plain := name
	for strings.HasPrefix(plain, "./") {
		plain = plain[2:]
	}
	if dir {
		plain = strings.TrimSuffix(plain, "/")
	}
	if len(plain) > maxPath || strings.Count(plain, "/") >= t.limits.Depth {
		return "", fmt.Errorf("%w: %.200q is too deep or too long", ErrInvalid, name)
	}
	unfit := func(part string) bool { return part == "" || part == "." || part == ".." }
	if slices.ContainsFunc(strings.Split(plain, "/"), unfit) || strings.ContainsRune(plain, 0) ||
		!filepath.IsLocal(filepath.FromSlash(plain)) {
		return "", fmt.Errorf("%w: %.200q is not the name of a file in it", ErrInvalid, name)
	}
	return plain, nil
}

// faulty tells names that the file system refuses, which are the archive's fault, from its other troubles.
func faulty(err error) error {
	if errors.Is(err, ErrInvalid) {
		return err
	}
	for _, fault := range []error{
		fs.ErrExist, syscall.ENOTDIR, syscall.EISDIR, syscall.ENAMETOOLONG, syscall.EINVAL, syscall.EILSEQ, syscall.ELOOP,
	} {
		if errors.Is(err, fault) {
			return fmt.Errorf("%w: %w", ErrInvalid, err)
		}
	}
	return err
}

// parent makes the directory that an entry is in. Until the links are made it cannot lead anywhere else.
func (t *tree) parent(name string) error {
	dir := path.Dir(name)
	if dir == "." || dir == t.made {
		return nil
	}
	for i := range len(dir) + 1 {
		if i < len(dir) && dir[i] != '/' {
			continue
		}
		if fresh, err := t.mkdir(dir[:i]); err != nil {
			return err
		} else if !fresh {
			continue
		}
		if err := t.count(); err != nil {
			return err
		}
	}
	t.made = dir
	return nil
}

// mkdir makes a directory and reports whether it was not there.
func (t *tree) mkdir(dir string) (fresh bool, err error) {
	err = t.root.Mkdir(dir, 0o755)
	if !errors.Is(err, fs.ErrExist) {
		return err == nil, err
	}
	info, err := t.root.Lstat(dir)
	if err == nil && !info.IsDir() {
		err = &fs.PathError{Op: "mkdir", Path: dir, Err: syscall.ENOTDIR}
	}
	return false, err
}

// directory makes a directory, or sets the mode of one that an entry in it has made. Its owner must be able to remove what is in it.
func (t *tree) directory(name string, perm fs.FileMode) error {
	if err := t.parent(name); err != nil {
		return err
	}
	if _, err := t.mkdir(name); err != nil {
		return err
	}
	return t.root.Chmod(name, perm|0o700)
}

func (t *tree) file(name string, e entry) (err error) {
	switch {
	case e.size > t.limits.Bytes:
		return fmt.Errorf("%w: its files have more than %d bytes", ErrInvalid, t.limits.Bytes)
	case e.size < 0 || e.size > t.left:
		return errTooMuch
	}
	t.left -= e.size
	if err := t.parent(name); err != nil {
		return err
	}
	f, err := t.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = cmp.Or(err, f.Close()) }()
	for {
		n, err := e.content.Read(t.buf)
		if _, err := f.Write(t.buf[:n]); err != nil {
			return err
		}
		if err == io.EOF {
			return f.Chmod(e.perm)
		}
		if err != nil {
			return t.explain(err)
		}
	}
}

// hardLink gives a file of the archive another name.
func (t *tree) hardLink(name, target string) error {
	target, err := t.name(target, false)
	if err != nil {
		return err
	}
	info, err := t.root.Lstat(target)
	if err != nil || !info.Mode().IsRegular() {
		return fmt.Errorf("%w: %.200q is a link to what is no file before it", ErrInvalid, name)
	}
	if err := t.parent(name); err != nil {
		return err
	}
	return t.root.Link(target, name)
}

// symbolicLink notes a link to be made at the end.
func (t *tree) symbolicLink(name, target string) error {
	if !stays(name, target) {
		return fmt.Errorf("%w: %.200q is a link to outside", ErrInvalid, name)
	}
	if t.text += len(name) + len(target); t.text > maxLinkText {
		return fmt.Errorf("%w: it has too many symbolic links", ErrInvalid)
	}
	t.links = append(t.links, symlink{name, target})
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
func (t *tree) finish() error {
	for _, l := range t.links {
		if err := t.parent(l.name); err != nil {
			return faulty(err)
		}
	}
	for _, l := range t.links {
		if err := t.root.Symlink(l.target, l.name); err != nil {
			return faulty(err)
		}
	}
	return nil
}
