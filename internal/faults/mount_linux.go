package main

import (
	"os"

	"golang.org/x/sys/unix"
)

// mountAgent makes the agent's directory a small file system of its own, if that is permitted.
func (c *cell) mountAgent() error {
	if err := os.Mkdir(c.path("agent"), 0o700); err != nil {
		return err
	}
	_ = unix.Mount("tmpfs", c.path("agent"), "tmpfs", 0, "size=32m") // mounted tells
	return nil
}

// mounted reports whether the agent's directory is a file system of its own.
func (c *cell) mounted() bool {
	var here, above unix.Stat_t
	return unix.Stat(c.path("agent"), &here) == nil && unix.Stat(c.dir, &above) == nil && here.Dev != above.Dev
}

func (c *cell) unmount() {
	if c.dir != "" && c.mounted() {
		_ = unix.Unmount(c.path("agent"), unix.MNT_DETACH) // what cannot be removed is told by that
	}
}
