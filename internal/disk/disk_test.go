package disk_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/slipway-build/slipway/internal/disk"
)

func TestFree(t *testing.T) {
	dir := t.TempDir()
	free, err := disk.FreeAt(dir)
	if errors.Is(err, errors.ErrUnsupported) {
		return // as it says
	}
	if err != nil || free <= 0 {
		t.Errorf("%d bytes are free: %v", free, err)
	}
	if _, err := disk.FreeAt(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("of a directory that is not there: %v", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := root.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := disk.Free(root); !errors.Is(err, os.ErrClosed) {
		t.Errorf("of a directory that is closed: %v", err)
	}
}
