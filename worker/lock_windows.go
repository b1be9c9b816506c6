package worker

import (
	"errors"
	"os"
	"syscall"
)

// sharingViolation is what Windows calls a file that somebody else has open.
const sharingViolation = syscall.Errno(32)

// lockFile opens a file, made if need be, that no other process has open like this. Closing it, or dying, gives it free.
func lockFile(path string) (*os.File, error) {
	name, err := syscall.UTF16PtrFromString(path)
	if err != nil {
		return nil, err
	}
	const shareNothing = 0
	handle, err := syscall.CreateFile(name, syscall.GENERIC_READ|syscall.GENERIC_WRITE, shareNothing, nil, syscall.OPEN_ALWAYS,
		syscall.FILE_ATTRIBUTE_NORMAL, 0)
	if errors.Is(err, sharingViolation) {
		return nil, ErrDirInUse
	}
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(handle), path), nil
}
