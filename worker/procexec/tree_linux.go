package procexec

import (
	"bytes"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// rssUnit is the unit of Rusage.Maxrss in bytes.
const rssUnit = 1024

// ownProgramPath is this program even after its file was replaced by a newer one.
const ownProgramPath = "/proc/self/exe"

func programPath() (string, error) { return ownProgramPath, nil }

// adoptOrphans makes this process the parent of every descendant whose parent dies.
func adoptOrphans() error {
	return os.NewSyscallError("prctl", unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))
}

// orphansParent is the parent that processes of the build have when their own has died.
func orphansParent() int { return os.Getpid() }

// childAttr puts the command into its own group and has it killed with the guardian.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// lowerPriority lowers the priority of what this thread starts from now on.
func lowerPriority(by int) error {
	if by == 0 {
		return nil
	}
	raw, err := unix.Getpriority(unix.PRIO_PROCESS, 0) // the system call returns 20 - nice
	if err != nil {
		return os.NewSyscallError("getpriority", err)
	}
	// Where the kernel groups processes by session, nice levels count only inside a session: there the guardian's session as a
	// whole has to step back. Elsewhere the file is missing or without effect.
	_ = os.WriteFile("/proc/self/autogroup", []byte(strconv.Itoa(by)), 0)
	return os.NewSyscallError("setpriority", unix.Setpriority(unix.PRIO_PROCESS, 0, min(20-raw+by, 19)))
}

// await waits for the command to end, then kills and reaps every descendant of this process until it has none.
// It returns the names of those that are alive after limit.
//
// The dead hand their children to this process, so killing its children, again and again, reaches all. The process id of an
// unreaped child cannot be taken by another process.
func (t *tree) await(limit time.Duration) string {
	for !t.hasEnded() {
		// Only this goroutine reaps, and holds the mutex when it does: who sends a signal finds the command or its corpse.
		_ = unix.Waitid(unix.P_ALL, 0, nil, unix.WEXITED|unix.WNOWAIT, nil)
		t.reap()
	}
	pause := time.Millisecond
	for ; !t.reap() && t.lingers(); pause = min(2*pause, maxPause) {
		t.catchUp()
		time.Sleep(pause)
	}
	var last []int
	for deadline := time.Now().Add(limit); !t.reap(); {
		current := children()
		for _, pid := range current {
			killWithGroup(pid)
		}
		switch {
		case time.Now().After(deadline):
			return fmt.Sprintf("processes %v", current)
		case slices.Equal(current, last):
			time.Sleep(pause)
			pause = min(2*pause, maxPause)
		default:
			pause = time.Millisecond // there may be new ones at this moment
		}
		last = current
	}
	return ""
}

func (t *tree) hasEnded() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.ended
}

// reap takes the status of all children that have ended and reports whether no child is left.
func (t *tree) reap() (childless bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		switch {
		case err == syscall.EINTR:
		case err != nil:
			return true
		case pid == 0:
			return false
		case pid == t.pid && !t.ended:
			t.ended, t.status = true, status
		}
	}
}

// killWithGroup kills a child of this process, and its group in one stroke, so that none of it can fork in between.
func killWithGroup(pid int) {
	own, _ := unix.Getpgid(0)
	if group, err := unix.Getpgid(pid); err == nil && group != own && group > 1 {
		_ = unix.Kill(-group, unix.SIGKILL)
	}
	_ = unix.Kill(pid, unix.SIGKILL)
}

// children returns the process ids of this process's children, sorted.
func children() []int {
	lists, _ := filepath.Glob("/proc/self/task/*/children")
	if len(lists) == 0 {
		return scanChildren()
	}
	var pids []int
	for _, list := range lists {
		b, _ := os.ReadFile(list) // a thread that ended has none
		for field := range bytes.FieldsSeq(b) {
			if pid, err := strconv.Atoi(string(field)); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	slices.Sort(pids)
	return pids
}

// scanChildren does the work of children, more slowly, on kernels without lists of children.
func scanChildren() []int {
	var pids []int
	for p := range processes() {
		if p.parent == os.Getpid() {
			pids = append(pids, p.pid)
		}
	}
	slices.Sort(pids)
	return pids
}

// processes returns the processes that this one can see.
func processes() iter.Seq[process] {
	return func(yield func(process) bool) {
		stats, _ := filepath.Glob("/proc/[0-9]*/stat")
		for _, name := range stats {
			b, _ := os.ReadFile(name) // may be no more
			// "(name) state parent group session", where name may hold anything.
			p, state := process{}, ""
			_, err := fmt.Sscan(string(b[bytes.LastIndexByte(b, ')')+1:]), &state, &p.parent, &p.group, &p.session)
			if err == nil {
				p.pid, err = strconv.Atoi(filepath.Base(filepath.Dir(name)))
			}
			p.dead = state == "Z" || state == "X"
			if err == nil && !yield(p) {
				return
			}
		}
	}
}

// killAttempt kills the processes that were started with the variables of an attempt, and returns those that are alive.
func killAttempt(build string, epoch int64) (left []int) {
	ours := [][]byte{fmt.Appendf(nil, "\x00SLIPWAY_BUILD_ID=%s\x00", build), fmt.Appendf(nil, "\x00SLIPWAY_EPOCH=%d\x00", epoch)}
	for p := range processes() {
		if p.dead {
			continue
		}
		environ, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", p.pid)) // may be no more, or another user's
		environ = append([]byte{0}, environ...)
		if bytes.Contains(environ, ours[0]) && bytes.Contains(environ, ours[1]) {
			killWithGroup(p.pid)
			left = append(left, p.pid)
		}
	}
	return left
}
