// Package disk tells how much room there is.
package disk

import (
	"errors"
	"os"
)

// FreeAt is [Free] of the file system that a directory is on.
func FreeAt(dir string) (free int64, err error) {
	f, err := os.Open(dir)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return Free(f)
}
