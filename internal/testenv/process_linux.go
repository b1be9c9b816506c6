package testenv

import "syscall"

// serverAttr puts the server in a process group of its own, out of the reach of
// a terminal's Ctrl-C, and has the kernel shut it down when the thread that
// started it ends. See startTied.
func serverAttr(cred *syscall.Credential) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Credential: cred, Pdeathsig: syscall.SIGQUIT}
}
