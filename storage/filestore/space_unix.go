//go:build linux || darwin || freebsd

package filestore

import (
	"errors"
	"math"
	"math/bits"
	"os"
	"syscall"
)

// freeBytes returns the bytes that dir's file system has free for us.
func freeBytes(dir *os.Root) (free int64, err error) {
	f, err := dir.Open(".")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	conn, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	var st syscall.Statfs_t
	var statErr error
	err = conn.Control(func(fd uintptr) { statErr = retry(func() error { return syscall.Fstatfs(int(fd), &st) }) })
	if err = errors.Join(err, statErr); err != nil {
		return 0, os.NewSyscallError("fstatfs", err)
	}
	// The types of the fields differ between systems, and Bavail can be
	// negative where root has a reserve.
	over, bytes := bits.Mul64(uint64(max(st.Bavail, 0)), uint64(st.Bsize))
	if over > 0 || bytes > math.MaxInt64 {
		return math.MaxInt64, nil
	}
	return int64(bytes), nil
}

func retry(call func() error) error {
	for {
		if err := call(); err != syscall.EINTR { //nolint:errorlint // errno
			return err
		}
	}
}

// isNoSpace reports whether a device or a quota is full.
func isNoSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}
