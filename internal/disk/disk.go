// Package disk tells how much room there is.
package disk

import (
	"errors"
	"os"
)

// Free returns how many bytes a process without privileges can still write to the file system that dir is on. It is
// [errors.ErrUnsupported] where that cannot be found out.
func Free(dir *os.Root) (free int64, err error) {
	f, err := dir.Open(".")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return freeOf(f)
}

// FreeAt is [Free] of the directory of that path.
func FreeAt(path string) (free int64, err error) {
	dir, err := os.OpenRoot(path)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	return Free(dir)
}
