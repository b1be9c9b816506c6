package pack_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/slipway-build/slipway/examples/internal/pack"
)

func TestWriteUnreadableFile(t *testing.T) {
	dir := tree(t, map[string]string{"a": "1", "private": "2"})
	if err := errors.Join(os.Chmod(filepath.Join(dir, "private"), 0), os.Chmod(filepath.Join(dir, "a"), 0o444)); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	packed := make(chan error)
	go func() {
		// Root may read everything. This thread, which ends with the goroutine it is locked to, shall not.
		runtime.LockOSThread()
		const nobody = 65534
		if os.Getuid() == 0 {
			if err := syscall.Setfsuid(nobody); err != nil {
				packed <- err
				return
			}
		}
		_, err := pack.Write(t.Context(), io.Discard, dir, &pack.Options{Everything: true})
		packed <- err
	}()
	err := <-packed
	if err == nil || !strings.Contains(err.Error(), `cannot pack "private": permission denied`) {
		t.Errorf("got %v", err)
	}
}
