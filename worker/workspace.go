package worker

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/slipway-build/slipway/queue"
)

// openDir takes the agent's directory for itself, with what an earlier agent left there. The caller calls close at the end.
func (a *Agent) openDir() (close func(), err error) {
	if a.dir, err = filepath.Abs(a.opts.Dir); err != nil {
		return nil, fmt.Errorf("worker: %w", err)
	}
	if err := os.MkdirAll(a.dir, 0o700); err != nil {
		return nil, fmt.Errorf("worker: %w", err)
	}
	lock, err := lockFile(filepath.Join(a.dir, "lock"))
	if err != nil {
		return nil, fmt.Errorf("worker: %s: %w", a.dir, err)
	}
	if err := a.takeUp(); err != nil {
		_ = lock.Close()
		return nil, fmt.Errorf("worker: %w", err)
	}
	return func() { _ = lock.Close() }, nil
}

// attemptDir returns where the files of an attempt are.
func (a *Agent) attemptDir(id queue.AttemptID) string {
	return filepath.Join(a.dir, id.Build.String(), strconv.FormatInt(id.Epoch, 10))
}

// removeTree removes a directory and all that is in it. A build may have made directories that nobody may write to.
func removeTree(dir string) error {
	err := os.RemoveAll(dir)
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	_ = fs.WalkDir(root.FS(), ".", func(path string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() && (err != nil || path == "." || unwritable(d)) {
			_ = root.Chmod(path, 0o700) // RemoveAll tells of what was in vain
		}
		return nil
	})
	return os.RemoveAll(dir)
}

func unwritable(d fs.DirEntry) bool {
	info, err := d.Info()
	return err == nil && info.Mode().Perm()&0o700 != 0o700
}
