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
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := disk.Free(f); err == nil {
		t.Error("there is no error of a file that is closed")
	}
}
