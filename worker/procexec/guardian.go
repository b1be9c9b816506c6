//go:build linux || darwin

package procexec

import (
	"cmp"
	"encoding/gob"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// guardianName stands in the place of the program's name when this program is started as a guardian.
const guardianName = "slipway-guardian"

// File descriptors of a guardian.
const (
	controlFD = 3 // takes an order, then commands; its end means kill
	reportFD  = 4 // gives a beginning, then an ending
	lockFD    = 5 // is held open, and with it the lock that tells the agent's next process that the guardian lives
)

// maxPause is the longest time between two looks at processes that are about to end.
const maxPause = 50 * time.Millisecond

// Exit codes of commands that could not be started, as shells have them.
const (
	exitNotRun   = 126
	exitNotFound = 127
)

// A command is what a guardian is told after its order.
type command struct {
	Signal int           // to be passed on; 0 if there is none
	Lease  time.Duration // how long the build may live unless more is heard; 0 leaves that as it is
}

// A beginning is a guardian's first report.
type beginning struct {
	Pid      int    // of the command and its group, 0 if it was not started
	ExitCode int    // of a command that could not be started by its own fault
	Why      string // it could not be started
}

// An ending is a guardian's last report, sent when nothing of the build is left.
type ending struct {
	Status       syscall.WaitStatus
	User, System time.Duration
	MaxRSS       int64  // bytes
	Alive        string // names what could not be killed
}

// guarded tells New whether main called Guardian.
var guarded atomic.Bool

// Guardian must be called at the top of main, before flags are read and anything is started: an [Executor] runs this
// program a second time beside each build, as the build's guardian. In that process Guardian does the guardian's work and never
// returns; in every other it returns at once.
//
// Package initialization of the whole program runs in guardians too, with an empty environment.
func Guardian() {
	guarded.Store(true)
	if len(os.Args) > 0 && os.Args[0] == guardianName {
		// os.Exit would let the runtime of an instrumented program (race, cover) take its time and write into the build's log.
		syscall.Exit(guard())
	}
}

// guard runs one build and returns the exit code of the guardian, which is 0 if it made all its reports.
func guard() int {
	// The death signal and the priority of the command belong to the thread that starts it.
	runtime.LockOSThread()
	// What is sent to everything around must not keep the guardian from its work. Caught signals, unlike ignored ones, are
	// back to their defaults in the command.
	signal.Notify(make(chan os.Signal, 1))
	hideDescriptors()
	if err := unix.SetNonblock(controlFD, true); err != nil {
		fmt.Fprintln(os.Stderr, guardianName+": only an agent can start this")
		return 2
	}
	control, reports := os.NewFile(controlFD, "control"), os.NewFile(reportFD, "reports")
	in, out := gob.NewDecoder(control), gob.NewEncoder(reports)
	var o order
	if in.Decode(&o) != nil {
		return 2
	}
	t, begun := start(o)
	// A report that cannot be sent has no reader any more: then the control pipe has ended too, and obey sees to it.
	err := out.Encode(begun)
	if begun.Pid == 0 {
		return failed(err)
	}
	var obeying sync.WaitGroup
	obeying.Go(func() { obey(in, t, o.Lease) })
	alive := t.await(o.KillTimeout)
	_ = control.Close()
	obeying.Wait()
	return failed(out.Encode(t.ending(alive)))
}

func failed(err error) int {
	if err != nil {
		return 1
	}
	return 0
}

// obey passes signals on from the agent. When the agent closes the pipe, or is no more, it kills; and when the lease is over, which an
// agent renews unless it stands still.
func obey(in *gob.Decoder, t *tree, lease time.Duration) {
	over := time.AfterFunc(cmp.Or(lease, math.MaxInt64), t.kill)
	defer over.Stop()
	for {
		var c command
		if in.Decode(&c) != nil {
			t.kill()
			return
		}
		if c.Lease != 0 {
			over.Reset(c.Lease)
		}
		if c.Signal != 0 {
			t.stop(syscall.Signal(c.Signal))
		}
	}
}

// start starts the command of an order in a process group of its own.
func start(o order) (*tree, beginning) {
	if err := errors.Join(adoptOrphans(), lowerPriority(o.Nice)); err != nil {
		return nil, beginning{Why: err.Error()}
	}
	path, err := lookUp(o.Command[0], o.Env)
	if err != nil {
		return nil, refusal(err)
	}
	attr := &syscall.ProcAttr{Env: o.Env, Files: []uintptr{0, 1, 2}, Sys: childAttr()}
	attr.Sys.Credential = o.User.credential()
	pid, err := syscall.ForkExec(path, o.Command, attr)
	// Another thread of the agent that forks at the wrong moment holds a program of the source open for writing until its
	// child has executed.
	for pause := time.Millisecond; errors.Is(err, unix.ETXTBSY) && pause < time.Second; pause *= 2 {
		time.Sleep(pause)
		pid, err = syscall.ForkExec(path, o.Command, attr)
	}
	if err != nil {
		return nil, refusal(err)
	}
	return &tree{pid: pid}, beginning{Pid: pid}
}

// lookUp finds a program as the build's shell would.
func lookUp(name string, env []string) (string, error) {
	for _, variable := range env {
		if dirs, ok := strings.CutPrefix(variable, "PATH="); ok {
			if err := os.Setenv("PATH", dirs); err != nil {
				return "", err
			}
		}
	}
	return exec.LookPath(name)
}

// refusal says whose fault it is that a command could not be started: an exit code if it is the build's.
func refusal(err error) beginning {
	if e, ok := errors.AsType[*exec.Error](err); ok {
		err = e.Err
	}
	b := beginning{ExitCode: exitNotRun, Why: reason(err).Error()}
	switch {
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, fs.ErrNotExist):
		b.ExitCode = exitNotFound
	case errors.Is(err, unix.ENOEXEC):
		b.Why += ": a script needs a first line such as #!/bin/sh"
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.ENOMEM), errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE):
		b.ExitCode = 0
	}
	return b
}

// hideDescriptors keeps everything but standard input, output and error from the command: the guardian's pipes, and what the
// agent itself may have been started with.
func hideDescriptors() {
	syscall.CloseOnExec(controlFD)
	syscall.CloseOnExec(reportFD)
	syscall.CloseOnExec(lockFD)
	open, _ := os.ReadDir("/dev/fd") // where it is missing, the agent's own discipline has to do
	for _, d := range open {
		if fd, err := strconv.Atoi(d.Name()); err == nil && fd > 2 {
			syscall.CloseOnExec(fd)
		}
	}
}

// A tree is a command with everything it started. Its methods are safe for concurrent use with one await.
type tree struct {
	pid int // of the command, and of its process group

	mu       sync.Mutex
	ended    bool // the command has; pid may belong to somebody else now
	status   syscall.WaitStatus
	stopping syscall.Signal // the group was sent it before the command had ended; 0: nothing
	told     map[int]bool   // processes of the group that were sent it
	killing  bool
}

// stop asks the command's group to end.
func (t *tree) stop(sig syscall.Signal) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended {
		return // await is killing what is left
	}
	t.stopping, t.told = sig, make(map[int]bool)
	for p := range processes() {
		if p.group == t.pid {
			t.told[p.pid] = true
		}
	}
	// A command can move to another group.
	if unix.Kill(-t.pid, sig) != nil {
		_ = unix.Kill(t.pid, sig)
	}
	_ = unix.Kill(-t.pid, unix.SIGCONT) // one that is suspended would not hear it
}

// kill kills the command and its group. The rest is left to await, which sees the command end.
func (t *tree) kill() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.killing = true
	if !t.ended {
		_ = unix.Kill(-t.pid, unix.SIGKILL)
		_ = unix.Kill(t.pid, unix.SIGKILL)
	}
}

// lingers reports whether the group, told to stop and not yet to be killed, goes on without the command: a shell ends before what
// it runs has cleaned up.
func (t *tree) lingers() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.stopping != 0 && !t.killing && unix.Kill(-t.pid, 0) == nil
}

// catchUp tells those of the group to stop who were being born when it was told: a shell that holds signals back while it forks dies of
// the signal afterwards, and its child has never got it. They are the ones without a parent; what a process that is cleaning up has
// started since is left to it.
func (t *tree) catchUp() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for p := range processes() {
		if p.group == t.pid && p.parent == orphansParent() && !p.dead && !t.told[p.pid] {
			t.told[p.pid] = true
			_ = unix.Kill(p.pid, t.stopping)
		}
	}
}

// A process is one of this machine.
type process struct {
	pid, parent, group, session int
	dead                        bool // and not reaped
}

func (t *tree) ending(alive string) ending {
	var used unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_CHILDREN, &used)
	return ending{
		Status: t.status,
		User:   time.Duration(used.Utime.Nano()),
		System: time.Duration(used.Stime.Nano()),
		MaxRSS: used.Maxrss * rssUnit,
		Alive:  alive,
	}
}
