//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package worker

import (
	"errors"
	"os"
	"syscall"
)

// lockFile opens a file, made if need be, that no other process has open like this. Closing it, or dying, gives it free.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = ErrDirInUse
		}
		return nil, err
	}
	return f, nil
}
