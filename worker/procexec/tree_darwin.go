package procexec

import (
	"errors"
	"fmt"
	"iter"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// rssUnit is the unit of Rusage.Maxrss in bytes.
const rssUnit = 1

func programPath() (string, error) { return os.Executable() }

// adoptOrphans does nothing: macOS has no such thing.
func adoptOrphans() error { return nil }

// orphansParent is the parent that processes have when their own has died: launchd.
func orphansParent() int { return 1 }

// childAttr puts the command into its own group.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}

// lowerPriority lowers the priority of this process and of what it starts from now on.
func lowerPriority(by int) error {
	if by == 0 {
		return nil
	}
	nice, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
	if err != nil {
		return os.NewSyscallError("getpriority", err)
	}
	return os.NewSyscallError("setpriority", unix.Setpriority(unix.PRIO_PROCESS, 0, min(nice+by, 19)))
}

// await waits for the command to end, then kills its group until nothing of it is left. It returns the name of the group if
// it is alive after limit.
func (t *tree) await(limit time.Duration) (alive string) {
	if err := waitForExit(t.pid); err != nil {
		t.kill()
		alive = fmt.Sprintf("process group %d cannot be watched: %v", t.pid, err)
	}
	pause := time.Millisecond
	for ; t.lingers(); pause = min(2*pause, maxPause) {
		t.catchUp()
		time.Sleep(pause)
	}
	// The command is not reaped yet, so nobody else can have its group's id. Kill fails when only the dead are in it.
	for deadline := time.Now().Add(limit); unix.Kill(-t.pid, unix.SIGKILL) == nil; pause = min(2*pause, maxPause) {
		if time.Now().After(deadline) {
			alive = fmt.Sprintf("process group %d", t.pid)
			break
		}
		time.Sleep(pause)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for t.ended = true; ; {
		if _, err := syscall.Wait4(t.pid, &t.status, 0, nil); !errors.Is(err, syscall.EINTR) {
			return alive
		}
	}
}

// waitForExit blocks until the child has ended and leaves it to be reaped. It does not use waitid, which on macOS returns for
// a stopped child too.
func waitForExit(pid int) error {
	kq, err := unix.Kqueue()
	if err != nil {
		return err
	}
	defer unix.Close(kq)
	unix.CloseOnExec(kq)
	var exit [1]unix.Kevent_t
	unix.SetKevent(&exit[0], pid, unix.EVFILT_PROC, unix.EV_ADD|unix.EV_ONESHOT)
	exit[0].Fflags = unix.NOTE_EXIT
	for {
		// A child that has ended already is answered by an error event, which is as good.
		_, err := unix.Kevent(kq, exit[:], exit[:], nil)
		switch {
		case err == unix.EINTR:
		case err == unix.ESRCH:
			return nil
		default:
			return err
		}
	}
}

// processes returns the processes of this machine.
func processes() iter.Seq[process] {
	return func(yield func(process) bool) {
		const zombie = 5 // SZOMB of sys/proc.h
		all, _ := unix.SysctlKinfoProcSlice("kern.proc.all")
		for i := range all {
			p := process{
				pid:    int(all[i].Proc.P_pid),
				parent: int(all[i].Eproc.Ppid),
				group:  int(all[i].Eproc.Pgid),
				dead:   all[i].Proc.P_stat == zombie,
			}
			var err error
			if p.session, err = unix.Getsid(p.pid); err == nil && !yield(p) {
				return
			}
		}
	}
}

// killAttempt finds nothing: macOS shows the environment of a process to nobody else.
func killAttempt(string, int64) []int { return nil }
