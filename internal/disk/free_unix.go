//go:build linux || darwin || freebsd

package disk

import (
	"errors"
	"math"
	"math/bits"
	"os"
	"syscall"
)

func freeOf(f *os.File) (int64, error) {
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
