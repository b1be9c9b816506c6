//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd || windows)

package worker

import (
	"errors"
	"os"
)

// lockFile refuses: without a lock two agents may run builds in each other's directories.
func lockFile(string) (*os.File, error) { return nil, errors.ErrUnsupported }
