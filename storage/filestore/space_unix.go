//go:build linux || darwin || freebsd

package filestore

import (
	"errors"
	"syscall"
)

// isNoSpace reports whether a device or a quota is full.
func isNoSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}
