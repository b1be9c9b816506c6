package testenv

import (
	"fmt"
	"io"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
)

// process is a child that was started by startTied.
type process struct {
	pid    int
	exited chan struct{} // closed when the child has been waited for
	err    error         // of Wait; read only after exited is closed
}

// startTied starts cmd on a thread that lives as long as the child does: the
// kernel's parent-death signal follows the thread that forked, not the process,
// and the Go runtime is free to end an idle thread at any time.
func startTied(cmd *exec.Cmd) (*process, error) {
	p := &process{exited: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		defer close(p.exited)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := cmd.Start(); err != nil {
			started <- err
			return
		}
		p.pid = cmd.Process.Pid
		started <- nil
		p.err = cmd.Wait()
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

func (p *process) running() bool {
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

func (p *process) signal(sig syscall.Signal) {
	if p.running() {
		// The only failure is that the process has just ended, which is what every
		// caller wants to see next.
		_ = syscall.Kill(p.pid, sig)
	}
}

// janitorScript reads the process id of the server from its input, a line at
// each start and an empty one at each end. When the input ends it stops the
// server, if there is one, and removes the directory named by its argument.
const janitorScript = `
pid=
while read -r line; do pid=$line; done
if [ -n "$pid" ] && kill -s QUIT "$pid" 2>/dev/null; then
	n=0
	while kill -s 0 "$pid" 2>/dev/null && [ $n -lt 100 ]; do
		sleep 0.1
		n=$((n + 1))
	done
fi
rm -rf -- "$1"
`

// janitor cleans up after a cluster when the process that owns the cluster ends.
type janitor struct {
	input io.WriteCloser
	done  chan struct{}
	err   error // read only after done is closed
}

func startJanitor(dir string) (*janitor, error) {
	cmd := exec.Command("/bin/sh", "-c", janitorScript, "slipway-janitor", dir) //nolint:noctx // it must outlive everything else
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	input, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start the janitor of %s: %w", dir, err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the janitor of %s: %w", dir, err)
	}
	j := &janitor{input: input, done: make(chan struct{})}
	go func() {
		defer close(j.done)
		j.err = cmd.Wait()
	}()
	return j, nil
}

// watch tells the janitor which server to stop; zero is none.
func (j *janitor) watch(pid int) error {
	line := "\n"
	if pid != 0 {
		line = strconv.Itoa(pid) + "\n"
	}
	if _, err := io.WriteString(j.input, line); err != nil {
		return fmt.Errorf("tell the janitor: %w", err)
	}
	return nil
}

// finish sends the janitor to work and waits until it is done.
func (j *janitor) finish() error {
	// The pipe may already be closed by a janitor that died; Wait has the reason.
	_ = j.input.Close()
	<-j.done
	if j.err != nil {
		return fmt.Errorf("janitor: %w", j.err)
	}
	return nil
}
