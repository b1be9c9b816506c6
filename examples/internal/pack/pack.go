package pack

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// Errors besides those of the file system.
var (
	// ErrEmpty says that there is nothing in the directory to be packed.
	ErrEmpty = errors.New("there is nothing to pack")
	// ErrGit says that git failed. [Options.Everything] does without it.
	ErrGit = errors.New("git cannot list the files")
)

// Options say what to pack. The zero value, and nil, mean the defaults.
type Options struct {
	// Everything packs all files but .git, whatever git ignores. Default: false.
	Everything bool
}

// A Summary counts what was packed.
type Summary struct {
	Files int   // and symbolic links
	Bytes int64 // of the files
}

// Write packs the directory dir into w. Names in its errors are below dir.
func Write(ctx context.Context, w io.Writer, dir string, o *Options) (Summary, error) {
	if o == nil {
		o = &Options{}
	}
	dir, err := filepath.EvalSymlinks(dir)
	if err == nil {
		dir, err = filepath.Abs(dir)
	}
	if err != nil {
		return Summary{}, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return Summary{}, err
	}
	defer root.Close()
	names, err := files(ctx, dir, o)
	if err != nil {
		return Summary{}, err
	}
	if len(names) == 0 {
		return Summary{}, ErrEmpty
	}
	compressed := gzip.NewWriter(w)
	p := packer{root: root, tar: tar.NewWriter(compressed), made: map[string]bool{".": true}}
	for _, name := range names {
		if ctx.Err() != nil {
			return Summary{}, context.Cause(ctx)
		}
		if err := p.add(name); err != nil {
			return Summary{}, fmt.Errorf("cannot pack %q: %w", name, cause(err))
		}
	}
	if err := p.tar.Close(); err != nil {
		return Summary{}, err
	}
	return p.summary, compressed.Close()
}

// cause returns what the system said, without the path that a message gives already.
func cause(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	return err
}

type packer struct {
	root    *os.Root
	tar     *tar.Writer
	made    map[string]bool // directories that are in the archive
	summary Summary
}

func (p *packer) add(name string) error {
	info, err := p.root.Lstat(filepath.FromSlash(name))
	if err != nil {
		return err
	}
	if err := p.addParents(path.Dir(name)); err != nil {
		return err
	}
	p.summary.Files++
	switch {
	case info.Mode().IsRegular():
		return p.addFile(name)
	case info.Mode()&fs.ModeSymlink != 0:
		return p.addLink(name)
	default:
		return fmt.Errorf("it is a %s, and only files, directories and symbolic links can be packed: remove it", kind(info.Mode()))
	}
}

func kind(m fs.FileMode) string {
	switch {
	case m&fs.ModeSocket != 0:
		return "socket"
	case m&fs.ModeNamedPipe != 0:
		return "named pipe"
	case m&fs.ModeDevice != 0:
		return "device"
	default:
		return "special file"
	}
}

func (p *packer) addParents(dir string) error {
	if p.made[dir] {
		return nil
	}
	if err := p.addParents(path.Dir(dir)); err != nil {
		return err
	}
	p.made[dir] = true
	return p.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755})
}

func (p *packer) addFile(name string) error {
	f, err := p.root.Open(filepath.FromSlash(name))
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return errors.New("it changed while it was packed: try again")
	}
	header := &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: info.Size(), Mode: 0o644}
	if info.Mode()&0o100 != 0 {
		header.Mode = 0o755
	}
	if err := p.tar.WriteHeader(header); err != nil {
		return err
	}
	// One byte more than there was tells whether it has grown.
	n, err := io.Copy(p.tar, io.LimitReader(f, info.Size()+1))
	if errors.Is(err, tar.ErrWriteTooLong) || err == nil && n != info.Size() {
		return errors.New("it changed while it was packed: try again")
	}
	p.summary.Bytes += n
	return err
}

func (p *packer) addLink(name string) error {
	target, err := p.root.Readlink(filepath.FromSlash(name))
	if err != nil {
		return err
	}
	target = filepath.ToSlash(target)
	if !stays(name, target) {
		return fmt.Errorf("it is a symbolic link to %q, and an agent takes only links that are relative, stay in the directory "+
			"and go up at their beginning only: change or remove it", target)
	}
	return p.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777})
}

// stays reports whether a link leads to a place in the directory, whatever other links are on its way.
func stays(name, target string) bool {
	if target == "" || path.IsAbs(target) || filepath.IsAbs(target) {
		return false
	}
	up, rest := 0, strings.Split(target, "/")
	for len(rest) > 0 && (rest[0] == ".." || rest[0] == ".") {
		if rest[0] == ".." {
			up++
		}
		rest = rest[1:]
	}
	return up <= strings.Count(name, "/") && !slices.Contains(rest, "..")
}
