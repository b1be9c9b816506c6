package filestore_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"unsafe"

	"github.com/slipway-build/slipway/storage"
	"github.com/slipway-build/slipway/storage/filestore"
)

// onFaultyThread runs f on a thread of its own, which it ends after f. On it,
// after deny(call, errno), that system call fails. It is the kernel that says
// so, by a seccomp filter, so the code under test is the one that ships.
func onFaultyThread(t *testing.T, f func(deny func(call uintptr, errno syscall.Errno))) {
	t.Helper()
	var thread sync.WaitGroup
	thread.Go(func() {
		// Not unlocked, so the thread dies with the goroutine.
		runtime.LockOSThread()
		f(func(call uintptr, errno syscall.Errno) {
			if err := denyCall(call, errno); err != nil {
				t.Errorf("seccomp filter: %v", err)
			}
		})
	})
	thread.Wait()
}

func denyCall(call uintptr, errno syscall.Errno) error {
	const (
		setNoNewPrivs = 38 // PR_SET_NO_NEW_PRIVS
		setSeccomp    = 22 // PR_SET_SECCOMP
		modeFilter    = 2  // SECCOMP_MODE_FILTER
		load          = 0x20
		jumpIfEqual   = 0x15
		ret           = 0x06
		retAllow      = 0x7fff0000
		retErrno      = 0x00050000
	)
	filter := [...]syscall.SockFilter{
		{Code: load, K: 0}, // the number of the call
		{Code: jumpIfEqual, K: uint32(call), Jf: 1},
		{Code: ret, K: retErrno | uint32(errno)},
		{Code: ret, K: retAllow},
	}
	prog := syscall.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if _, _, err := syscall.RawSyscall6(syscall.SYS_PRCTL, setNoNewPrivs, 1, 0, 0, 0, 0); err != 0 {
		return err
	}
	if _, _, err := syscall.RawSyscall6(syscall.SYS_PRCTL, setSeccomp, modeFilter, uintptr(unsafe.Pointer(&prog)), 0, 0, 0); err != 0 {
		return err
	}
	return nil
}

const (
	atStart  = "at the start"
	atFirst  = "at the first byte"
	atEnd    = "at the last byte"
	existing = "of a blob that is there"
)

// Each system call that a Put makes fails in turn. Then the blob is there whole
// or not at all, nothing else is left, and a second Put succeeds.
func TestFaults(t *testing.T) {
	data := bytes.Repeat([]byte("some bytes"), 10_000)
	for _, c := range []struct {
		step    string
		call    uintptr
		errno   syscall.Errno
		when    string
		want    error // nil if the fault does no harm
		visible bool
		left    int // temporary files
	}{
		{"open the directories", syscall.SYS_OPENAT, syscall.EMFILE, atStart, syscall.EMFILE, false, 0},
		{"ask for free space", syscall.SYS_FSTATFS, syscall.EIO, atStart, syscall.EIO, false, 0},
		{"ask for free space, unsupported", syscall.SYS_FSTATFS, syscall.ENOSYS, atStart, nil, true, 0},
		{"write", syscall.SYS_WRITE, syscall.EIO, atFirst, syscall.EIO, false, 0},
		{"write, disk full", syscall.SYS_WRITE, syscall.ENOSPC, atFirst, storage.ErrNoSpace, false, 0},
		{"write, over quota", syscall.SYS_WRITE, syscall.EDQUOT, atFirst, storage.ErrNoSpace, false, 0},
		{"write the last piece", syscall.SYS_WRITE, syscall.ENOSPC, atEnd, storage.ErrNoSpace, false, 0},
		{"sync the file", syscall.SYS_FSYNC, syscall.EIO, atEnd, syscall.EIO, false, 0},
		{"sync the file, disk full", syscall.SYS_FSYNC, syscall.ENOSPC, atEnd, storage.ErrNoSpace, false, 0},
		{"make a directory", syscall.SYS_MKDIRAT, syscall.EIO, atEnd, syscall.EIO, false, 0},
		{"make a directory, disk full", syscall.SYS_MKDIRAT, syscall.ENOSPC, atEnd, storage.ErrNoSpace, false, 0},
		{"open a made directory", syscall.SYS_OPENAT, syscall.EMFILE, atEnd, syscall.EMFILE, false, 0},
		{"link", syscall.SYS_LINKAT, syscall.EIO, atEnd, syscall.EIO, false, 0},
		{"link, disk full", syscall.SYS_LINKAT, syscall.ENOSPC, atEnd, storage.ErrNoSpace, false, 0},
		{"link, read-only", syscall.SYS_LINKAT, syscall.EROFS, atEnd, syscall.EROFS, false, 0},
		{"remove the temporary file", syscall.SYS_UNLINKAT, syscall.EIO, atEnd, nil, true, 1},
		{"sync the directories", syscall.SYS_FSYNC, syscall.EIO, existing, syscall.EIO, true, 0},
		{"sync the directories, disk full", syscall.SYS_FSYNC, syscall.ENOSPC, existing, storage.ErrNoSpace, true, 0},
	} {
		t.Run(c.step, func(t *testing.T) {
			dir := t.TempDir()
			b := open(t, dir)
			s := storage.New(b, nil)
			if c.when == existing {
				mustPut(t, s, "p", data)
			}
			var err error
			onFaultyThread(t, func(deny func(uintptr, syscall.Errno)) {
				denying := func() { deny(c.call, c.errno) }
				r := &faultyReader{r: bytes.NewReader(data)}
				switch c.when {
				case atFirst:
					r.first = denying
				case atEnd:
					r.end = denying
				default:
					denying()
				}
				err = s.Put(t.Context(), "p", describe(data), r)
			})
			if !errors.Is(err, c.want) || (c.want == nil) != (err == nil) {
				t.Errorf("Put: %v, want %v", err, c.want)
			}
			_, err = s.Stat(t.Context(), "p", describe(data).Digest)
			if c.visible != (err == nil) || err != nil && !errors.Is(err, storage.ErrNotFound) {
				t.Errorf("Stat: %v, want the blob to be visible: %v", err, c.visible)
			}
			remains, err := filepath.Glob(filepath.Join(dir, "tmp", "*"))
			if err != nil || len(remains) != c.left {
				t.Errorf("left in tmp: %v, %v; want %d files", remains, err, c.left)
			}
			for _, path := range remains {
				_ = os.Remove(path)
			}
			mustPut(t, s, "p", data)
			checkTree(t, dir)
		})
	}
}

// faultyReader calls first before the first byte, and end before the Read that
// delivers the last ones.
type faultyReader struct {
	r          *bytes.Reader
	first, end func()
}

func (f *faultyReader) Read(p []byte) (int, error) {
	if f.first != nil {
		f.first()
		f.first = nil
	}
	if f.end != nil && f.r.Len() <= len(p) {
		f.end()
		f.end = nil
	}
	return f.r.Read(p)
}

// New and Ping tell when links or syncs do not work.
func TestProbeFaults(t *testing.T) {
	for call, errno := range map[uintptr]syscall.Errno{
		syscall.SYS_LINKAT: syscall.EPERM, syscall.SYS_FSYNC: syscall.EINVAL, syscall.SYS_MKDIRAT: syscall.EROFS,
	} {
		dir := t.TempDir()
		b := open(t, dir)
		onFaultyThread(t, func(deny func(uintptr, syscall.Errno)) {
			deny(call, errno)
			if b, err := filestore.New(dir, nil); !errors.Is(err, errno) {
				t.Errorf("New: %v, want %v", err, errno)
				if err == nil {
					_ = b.Close()
				}
			}
			if err := b.Ping(t.Context()); call != syscall.SYS_MKDIRAT && !errors.Is(err, errno) {
				t.Errorf("Ping: %v, want %v", err, errno)
			}
		})
		checkTree(t, dir)
	}
}

// The space that Puts under way have declared is not given away twice.
func TestLowDiskCountsPending(t *testing.T) {
	dir := t.TempDir()
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	free := int64(st.Bavail) * int64(st.Bsize)
	b, err := filestore.New(dir, &filestore.Options{MinFreeBytes: free / 2})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	s := storage.New(b, &storage.Options{MaxBlobBytes: free})
	blob := storage.Blob{Digest: describe([]byte("never sent")).Digest, Size: free / 8 * 3}
	put := func(during func()) error {
		return s.Put(t.Context(), "p", blob, readerFunc(func([]byte) (int, error) {
			during()
			return 0, io.ErrUnexpectedEOF
		}))
	}
	for range 2 { // what was declared is free again after the Put
		err = put(func() {
			if err := put(func() { t.Error("content was read") }); !errors.Is(err, storage.ErrNoSpace) {
				t.Errorf("second Put: %v, want ErrNoSpace", err)
			}
		})
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("first Put: %v, want the error of the reader", err)
		}
	}
}
