//go:build linux || darwin

package procexec

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
)

// An account is a user that builds run as. It travels in an order.
type account struct {
	Name     string
	UID, GID uint32
	Groups   []uint32
}

// findAccount looks up a user that this process may become and that is not root.
func findAccount(name string) (*account, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return nil, fmt.Errorf("procexec: User: %w", err)
	}
	groups, err := u.GroupIds()
	if err != nil {
		return nil, fmt.Errorf("procexec: User: the groups of %s: %w", name, err)
	}
	ids := make([]uint32, 0, len(groups)+2)
	for _, text := range append([]string{u.Uid, u.Gid}, groups...) {
		id, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("procexec: User: %s has the id %q: %w", name, text, err)
		}
		ids = append(ids, uint32(id))
	}
	a := &account{Name: name, UID: ids[0], GID: ids[1], Groups: ids[2:]}
	switch {
	case a.UID == 0 || a.GID == 0 || slices.Contains(a.Groups, 0):
		return nil, fmt.Errorf("procexec: User: %s is root, or of root's group: choose one that may do less than the agent", name)
	case os.Geteuid() != 0:
		return nil, fmt.Errorf("procexec: User: only root can run builds as another user, here %s: %w", name, fs.ErrPermission)
	}
	return a, nil
}

// credential is for the command. Without an account there is none, and it runs as the agent does.
func (a *account) credential() *syscall.Credential {
	if a == nil {
		return nil
	}
	return &syscall.Credential{Uid: a.UID, Gid: a.GID, Groups: a.Groups}
}

// makeDir creates a directory that the account can pass through, and those around it that are missing.
func (a *account) makeDir(dir string) error {
	if _, err := os.Stat(filepath.Dir(dir)); errors.Is(err, fs.ErrNotExist) {
		if err := a.makeDir(filepath.Dir(dir)); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	info, err := os.Stat(dir)
	if err != nil || a.passes(info) {
		return err
	}
	if err := os.Chown(dir, -1, int(a.GID)); err != nil {
		return err
	}
	return os.Chmod(dir, 0o710) //nolint:gosec // it is a directory
}

// own makes the directories of a job the account's. The one around them stays the agent's: the account may pass through it, and neither
// look into it nor change it, so that the guardian's lock stays where it is.
func (a *account) own(dir string, names ...string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("procexec: %w", err)
	}
	defer root.Close()
	for _, name := range names {
		err := fs.WalkDir(root.FS(), filepath.ToSlash(name), func(path string, _ fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			return root.Lchown(path, int(a.UID), int(a.GID))
		})
		if err != nil {
			return fmt.Errorf("procexec: %w", err)
		}
	}
	if err := root.Lchown(".", -1, int(a.GID)); err != nil {
		return fmt.Errorf("procexec: %w", err)
	}
	if err := root.Chmod(".", 0o710); err != nil {
		return fmt.Errorf("procexec: %w", err)
	}
	return nil
}

// owns reports whether a file is the account's. What the agent would upload as root may be a link to what the build cannot read.
func (a *account) owns(d fs.DirEntry) bool {
	if a == nil {
		return true
	}
	info, err := d.Info()
	if err != nil {
		return false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && stat.Uid == a.UID
}

// CheckReach returns an error that names the first directory, from the root to dir, that [Options.User] cannot pass through as far as
// its permissions say. For what does not exist yet nothing is said.
func (e *Executor) CheckReach(dir string) error {
	if e.user == nil {
		return nil
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("procexec: %w", err)
	}
	if resolved, err := filepath.EvalSymlinks(dir); err == nil {
		dir = resolved
	}
	var way []string
	for parent := dir; ; parent = filepath.Dir(parent) {
		way = append(way, parent)
		if parent == filepath.Dir(parent) {
			break
		}
	}
	for _, parent := range slices.Backward(way) {
		info, err := os.Stat(parent)
		if err != nil {
			return nil // it is not there yet
		}
		if !e.user.passes(info) {
			return fmt.Errorf("procexec: builds of %s cannot pass through %s: run chmod o+x on it, or choose another directory", e.user.Name, parent)
		}
	}
	return nil
}

// passes reports whether the permissions of a directory let the account through.
func (a *account) passes(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	bits := fs.FileMode(0o001)
	switch {
	case !ok:
	case stat.Uid == a.UID:
		bits = 0o100
	case stat.Gid == a.GID || slices.Contains(a.Groups, stat.Gid):
		bits = 0o010
	}
	return info.Mode().Perm()&bits != 0
}
