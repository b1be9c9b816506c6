//go:build linux || darwin

package procexec

import (
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/slipway-build/slipway/worker"
)

const (
	// drainTimeout bounds the wait for the end of a pipe that somebody outside the build may hold open.
	drainTimeout = 2 * time.Second
	// sendTimeout bounds the time that a guardian may take to read what it is told.
	sendTimeout = 10 * time.Second
	// maxPipe is the largest capacity of a pipe that Linux lets a process ask for, in bytes.
	maxPipe = 1 << 20
)

func ownProgram() (string, error) {
	if !guarded.Load() {
		return "", ErrNoGuardian
	}
	path, err := programPath()
	if err != nil {
		return "", fmt.Errorf("procexec: %w", err)
	}
	return path, nil
}

// supervise runs an order under a guardian and returns when nothing of it is left alive, its output was copied and its
// resources here were released.
func (e *Executor) supervise(ctx context.Context, job worker.Job, o order, log *buildLog) (worker.Result, error) {
	w, err := e.startGuardian(job)
	if err != nil {
		return worker.Result{}, fmt.Errorf("procexec: cannot start a guardian: %w", err)
	}
	defer w.close()
	over := make(chan struct{})
	var work sync.WaitGroup
	work.Go(func() { w.copyOutput(log) })
	work.Go(func() {
		defer close(over)
		w.watch()
	})
	w.send(o)
	if o.Lease != 0 {
		work.Go(func() { w.renew(job, o.Lease, over) })
	}
	answered := w.steer(ctx, job, over, o.KillTimeout+drainTimeout)
	work.Wait()
	switch begun, ended := w.begun, w.ended; {
	case ended != nil && ended.Alive != "":
		return worker.Result{}, fmt.Errorf("%w: %s", ErrNotKilled, ended.Alive)
	case ended != nil:
		return resultOf(*ended), nil
	case begun != nil && begun.ExitCode != 0:
		log.notice("%.256q cannot be started: %s", o.Command[0], begun.Why)
		return worker.Result{ExitCode: begun.ExitCode}, nil
	case begun != nil && begun.Pid == 0:
		return worker.Result{}, fmt.Errorf("procexec: the machine cannot start a process: %s", begun.Why)
	case !answered:
		return worker.Result{}, fmt.Errorf("%w: it did not answer", ErrNotKilled)
	}
	if w.exit != nil {
		return worker.Result{}, fmt.Errorf("%w: %w", ErrGuardianLost, w.exit)
	}
	return worker.Result{}, ErrGuardianLost
}

func resultOf(e ending) worker.Result {
	r := worker.Result{
		ExitCode: e.Status.ExitStatus(), // -1 after a signal
		Usage:    worker.Usage{UserTime: e.User, SystemTime: e.System, MaxRSS: e.MaxRSS},
	}
	if e.Status.Signaled() {
		r.Signal = unix.SignalName(e.Status.Signal())
	}
	return r
}

// A ward is the executor's side of one guardian.
type ward struct {
	guardian *exec.Cmd
	control  *os.File
	sending  sync.Mutex
	orders   *gob.Encoder
	reports  *os.File
	output   *os.File

	// Written by watch.
	begun *beginning
	ended *ending
	exit  error // of the guardian
}

// startGuardian starts a guardian that waits for its order. The build's output goes to one pipe, so that its order is kept; a
// crash of the guardian would be told there too.
func (e *Executor) startGuardian(job worker.Job) (_ *ward, err error) {
	var files []*os.File
	pipe := func() (r, w *os.File) {
		if err == nil {
			r, w, err = os.Pipe()
			files = append(files, r, w)
		}
		return r, w
	}
	output, outputEnd := pipe()
	controlEnd, control := pipe()
	reports, reportsEnd := pipe()
	w := &ward{control: control, reports: reports, output: output}
	var lock *os.File
	if err == nil {
		lock, err = lockJob(job.Dir)
		files = append(files, lock)
	}
	if err == nil && e.user != nil {
		err = outputEnd.Chown(int(e.user.UID), int(e.user.GID)) // or /dev/stdout would not open
		if errors.Is(err, unix.EINVAL) {
			err = nil // where a pipe has no owner
		}
	}
	if err == nil {
		w.orders = gob.NewEncoder(control)
		w.guardian = &exec.Cmd{
			Path:       e.self,
			Args:       []string{guardianName, job.Build.String()},
			Env:        []string{},
			Dir:        job.Source,
			Stdout:     outputEnd,
			Stderr:     outputEnd,
			ExtraFiles: []*os.File{controlEnd, reportsEnd, lock},
			// Away from the agent's terminal: its signals are for the agent, which decides about its builds.
			SysProcAttr: &syscall.SysProcAttr{Setsid: true},
		}
		err = w.guardian.Start()
	}
	if err != nil {
		closeAll(files...)
		return nil, err
	}
	closeAll(outputEnd, controlEnd, reportsEnd, lock)
	return w, nil
}

func closeAll(files ...*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}

func (w *ward) close() { closeAll(w.control, w.reports, w.output) }

// send tells the guardian something. That it failed need not be known: the guardian is dead then, which watch sees, or it
// hangs and is killed in the end.
func (w *ward) send(message any) {
	w.sending.Lock()
	defer w.sending.Unlock()
	_ = w.control.SetWriteDeadline(time.Now().Add(sendTimeout))
	_ = w.orders.Encode(message)
}

// renew tells the guardian again and again how long the build may live, until over is closed.
func (w *ward) renew(job worker.Job, first time.Duration, over <-chan struct{}) {
	ticks := time.NewTicker(min(max(first/10, 10*time.Millisecond), time.Second))
	defer ticks.Stop()
	for {
		select {
		case <-over:
			return
		case <-ticks.C:
			w.send(command{Lease: leaseOf(job)})
		}
	}
}

// steer returns when over is closed. When ctx ends or job.Kill is closed it has the guardian stop the build, and when that was
// not done limit after the kill it kills the guardian and returns false.
func (w *ward) steer(ctx context.Context, job worker.Job, over <-chan struct{}, limit time.Duration) bool {
	select {
	case <-over:
		return true
	case <-job.Kill:
	case <-ctx.Done():
		w.send(command{Signal: int(unix.SIGTERM)})
		select {
		case <-over:
			return true
		case <-job.Kill:
		case <-time.After(job.Grace):
		}
	}
	_ = w.control.Close()
	select {
	case <-over:
		return true
	case <-time.After(limit):
	}
	_ = w.guardian.Process.Kill()
	_ = w.reports.SetReadDeadline(time.Now().Add(drainTimeout)) // the build may have got hold of the other end
	<-over
	return false
}

// watch takes the guardian's reports and waits for its end. If the guardian dies before its last report, the build is killed from
// here. Then nobody in the build can write output any more, and the end of the output is waited for at most drainTimeout.
func (w *ward) watch() {
	w.readReports()
	if w.begun == nil || w.begun.Pid != 0 && w.ended == nil {
		// The guardian leads the session that the build runs in, and is not reaped: its process id is not another's yet.
		killSession(w.guardian.Process.Pid, drainTimeout)
	}
	w.exit = w.guardian.Wait()
	_ = w.output.SetReadDeadline(time.Now().Add(drainTimeout))
}

func (w *ward) readReports() {
	in := gob.NewDecoder(w.reports)
	var begun beginning
	if in.Decode(&begun) != nil {
		return
	}
	w.begun = &begun
	var ended ending
	if begun.Pid != 0 && in.Decode(&ended) == nil {
		w.ended = &ended
	}
}

// killSession kills a session until it has no process any more, for at most limit.
//
// A look at all processes is not one moment: what is born while it lasts by a parent that then dies is not in it. So it is
// believed only when others have confirmed it.
func killSession(session int, limit time.Duration) {
	const confirmed = 3
	pause := time.Millisecond
	deadline := time.Now().Add(limit)
	for quiet := 0; quiet < confirmed && time.Now().Before(deadline); pause = min(2*pause, maxPause) {
		quiet++
		for p := range processes() {
			if p.session != session {
				continue
			}
			_ = unix.Kill(-p.group, unix.SIGKILL) // one that is dead may have left others there
			if !p.dead {
				quiet = 0
			}
		}
		time.Sleep(pause)
	}
}

// copyOutput copies the build's output to the log until all who hold the pipe have closed it, or until the read deadline that
// watch sets. In both cases nothing is left out that the build wrote.
func (w *ward) copyOutput(log *buildLog) {
	buf := make([]byte, 64<<10)
	for {
		n, err := w.output.Read(buf)
		log.write(buf[:n])
		if errors.Is(err, os.ErrDeadlineExceeded) {
			w.drainOutput(log, buf)
			log.notice("output ends here, though a process outside the build holds it open")
			return
		}
		if err != nil {
			return
		}
	}
}

// drainOutput copies what is in the pipe at this moment.
func (w *ward) drainOutput(log *buildLog, buf []byte) {
	_ = w.output.SetReadDeadline(time.Time{})
	conn, err := w.output.SyscallConn()
	if err != nil {
		return
	}
	for left := maxPipe; left > 0; {
		var n int
		var readErr error
		err := conn.Read(func(fd uintptr) bool {
			n, readErr = unix.Read(int(fd), buf)
			return true
		})
		if err != nil || readErr != nil || n <= 0 {
			return
		}
		log.write(buf[:n])
		left -= n
	}
}
