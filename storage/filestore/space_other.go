//go:build !(linux || darwin || freebsd)

package filestore

import (
	"errors"
	"os"
)

// freeBytes is not implemented here, which switches the guard off.
func freeBytes(*os.Root) (int64, error) { return 0, errors.ErrUnsupported }

// isNoSpace cannot tell; a full disk is like any other failure of a Put.
func isNoSpace(error) bool { return false }
