//go:build unix && !linux

package testenv

import "syscall"

// serverAttr puts the server in a process group of its own, out of the reach of
// a terminal's Ctrl-C. Its death with the test process is left to the janitor.
func serverAttr(cred *syscall.Credential) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Credential: cred}
}
