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
	if err := a.makeDir(a.dir); err != nil {
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

// A Confined is an [Executor] that makes the agent's directories, because its builds run as another user.
type Confined interface {
	// MakeDir creates a directory, and what is missing of the way there, that nobody but the agent's user can look into, and that builds can
	// pass through to [Job.Dir]. If it exists it is made so.
	MakeDir(dir string) error
}

// makeDir creates a directory, if need be, that only this user can look into.
func (a *Agent) makeDir(dir string) error {
	if confined, ok := a.opts.Executor.(Confined); ok {
		return confined.MakeDir(dir)
	}
	return os.MkdirAll(dir, 0o700)
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
