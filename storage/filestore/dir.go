package filestore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"strings"

	"github.com/slipway-build/slipway/storage"
)

// split returns the directories below the root and the name of a blob's file.
func split(key storage.Key) (dirs []string, name string) {
	parts := strings.Split(blobsDir+"/"+key.String(), "/")
	last := len(parts) - 1
	return parts[:last], parts[last]
}

// descend goes from the root down through dirs, one by one by enter, and
// returns the last. An os.Root keeps paths inside, but follows links that stay
// there; so no path of several names is ever opened.
func (b *Backend) descend(enter func(parent *os.Root, name string) (*os.Root, error), dirs ...string) (*os.Root, error) {
	dir := b.root
	for _, name := range dirs {
		next, err := enter(dir, name)
		if dir != b.root {
			err = errors.Join(err, dir.Close())
		}
		if err != nil {
			return nil, err
		}
		dir = next
	}
	return dir, nil
}

// openDir opens a directory, and nothing that only leads to one. The error is
// fs.ErrNotExist or errIrregular if it is not there.
func openDir(parent *os.Root, name string) (*os.Root, error) {
	want, err := parent.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !want.IsDir() {
		return nil, &fs.PathError{Op: "open", Path: name, Err: errIrregular}
	}
	dir, err := parent.OpenRoot(name)
	if err != nil {
		return nil, err
	}
	if got, err := dir.Stat("."); err != nil || !os.SameFile(want, got) {
		return nil, errors.Join(&fs.PathError{Op: "open", Path: name, Err: errIrregular}, err, dir.Close())
	}
	return dir, nil
}

// makeDir is openDir, after making the directory if it is not there.
func makeDir(parent *os.Root, name string) (*os.Root, error) {
	if err := parent.Mkdir(name, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return openDir(parent, name)
}

// openSynced is openDir, and makes what is in the directory durable.
func openSynced(parent *os.Root, name string) (*os.Root, error) {
	dir, err := openDir(parent, name)
	if err != nil {
		return nil, err
	}
	if err := syncDir(dir); err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	return dir, nil
}

func syncDir(dir *os.Root) error {
	if runtime.GOOS == "windows" {
		return nil // has no such call for directories
	}
	f, err := dir.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// dirOf opens the directory of a blob and returns it with the name in it. The
// error is storage.ErrNotFound if there is none.
func (b *Backend) dirOf(key storage.Key) (*os.Root, string, error) {
	dirs, name := split(key)
	dir, err := b.descend(openDir, dirs...)
	return dir, name, notFound(err)
}

// lstat describes the file of a blob.
func lstat(dir *os.Root, name string) (fs.FileInfo, error) {
	fi, err := dir.Lstat(name)
	if err != nil {
		return nil, notFound(err)
	}
	if !fi.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "stat", Path: name, Err: errIrregular}
	}
	return fi, nil
}

// namesIn returns the names in a directory. It leaves out what ReadDir would
// tell beyond them, because that is looked up by path.
func namesIn(dir *os.Root) ([]string, error) {
	f, err := dir.Open(".")
	if err != nil {
		return nil, err
	}
	names, err := f.Readdirnames(-1)
	return names, errors.Join(err, f.Close())
}

func notFound(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return storage.ErrNotFound
	}
	return err
}

func noSpace(err error) error {
	if isNoSpace(err) {
		return fmt.Errorf("%w: %w", storage.ErrNoSpace, err)
	}
	return err
}
