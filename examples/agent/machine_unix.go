//go:build linux || darwin

package main

import (
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// freeBytes returns how many bytes an unprivileged user can still write to the file system of dir.
func freeBytes(dir string) (free int64, known bool) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return 0, false
	}
	return int64(s.Bavail) * int64(s.Bsize), true // the types differ between systems; no disk is that large
}

// foreign returns a directory in dir that is another file system, or nothing.
func foreign(dir string) string {
	device := func(path string) (uint64, bool) {
		info, err := os.Lstat(path)
		if err != nil {
			return 0, false
		}
		stat, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return 0, false
		}
		return uint64(stat.Dev), true // the types differ between systems; it is only compared
	}
	here, ok := device(dir)
	entries, err := os.ReadDir(dir)
	if !ok || err != nil {
		return ""
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if there, ok := device(path); ok && there != here {
			return path
		}
	}
	return ""
}

// ofRoot reports whether a file belongs to root.
func ofRoot(info os.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && stat.Uid == 0
}

// openFiles returns how many files this process may have open.
func openFiles() (most uint64, known bool) {
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err != nil {
		return 0, false
	}
	return r.Cur, true
}

// userName returns the name of the user who runs this, or his number.
func userName() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return strconv.Itoa(os.Geteuid())
}
