//go:build unix

package main

import (
	"os"
	"syscall"
)

// lock takes the file for this process. The kernel lets go of it when the process ends, however it does.
func lock(f *os.File) error { return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) }
