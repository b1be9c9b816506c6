package procexec

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/slipway-build/slipway/worker"
)

// escape is a script that leaves two processes outside its group and session: one by setsid, one by a double fork below it.
// Each tells its process id.
const escape = `
setsid sh -c 'trap "" TERM HUP; echo $$; sleep 1000; :' &
setsid sh -c 'setsid sh -c "echo \$\$; exec sleep 1000" & :' &
`

func TestEscapeesAreKilled(t *testing.T) {
	job, log := newJob(t, shell(escape+`while [ ! -e go ]; do sleep 0.01; done; exit 3`))
	r := begin(t, newExecutor(t, nil), job, log)
	pids := log.pids(t, 2)
	create(t, filepath.Join(job.Source, "go"))
	if result, err := r.wait(t); err != nil || result.ExitCode != 3 {
		t.Errorf("result %+v, %v; want exit code 3", result, err)
	}
	for _, pid := range pids {
		if alive(pid) {
			t.Errorf("process %d lives on after Run", pid)
		}
	}
}

func TestUsersEscapeesAreKilled(t *testing.T) {
	e, ok := newStranger(t)
	if !ok {
		return
	}
	job, log := newStrangersJob(t, shell(escape+`while [ ! -e go ]; do sleep 0.01; done; exit 3`))
	r := begin(t, e, job, log)
	pids := log.pids(t, 2)
	create(t, filepath.Join(job.Source, "go"))
	if result, err := r.wait(t); err != nil || result.ExitCode != 3 {
		t.Errorf("result %+v, %v; want exit code 3", result, err)
	}
	for _, pid := range pids {
		if alive(pid) {
			t.Errorf("process %d lives on after Run", pid)
		}
	}
}

func TestEscapeesDoNotOutliveGrace(t *testing.T) {
	job, log := newJob(t, shell(escape+`sleep 1000; :`))
	job.Grace = time.Hour // is not waited for: nothing of the group is left
	r := begin(t, newExecutor(t, nil), job, log)
	pids := log.pids(t, 2)
	r.cancel(worker.ErrCanceled)
	if result, err := r.wait(t); err != nil || result.Signal != "SIGTERM" {
		t.Errorf("result %+v, %v; want SIGTERM", result, err)
	}
	gone(t, pids...)
}

func TestEscapeesDieWithAgent(t *testing.T) {
	job, _ := newJob(t, shell(escape+`echo $$; echo $PPID; sleep 1000; :`))
	cmd := exec.CommandContext(t.Context(), self(t, "").Command[0])
	cmd.Env = append(os.Environ(), roleVariable+"=agent")
	cmd.Dir = job.Dir
	cmd.Stdin = bytes.NewReader(job.Spec)
	log := &growing{changed: make(chan struct{})}
	cmd.Stdout = log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pids := log.pids(t, 4)
	began := time.Now()
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	gone(t, pids...)
	t.Logf("all were gone after %v", time.Since(began))
	if err := cmd.Wait(); err == nil {
		t.Error("the agent was not killed")
	}
}

// TestRestlessEscapee kills what is never the same process for longer than a moment.
func TestRestlessEscapee(t *testing.T) {
	job, log := newJob(t, shell(`./hop & while [ ! -e hopped ]; do sleep 0.01; done`))
	hop := filepath.Join(job.Source, "hop")
	script := "#!/bin/sh\nif [ $((n=${1:-0})) -gt 20 ]; then : > hopped; fi\nsetsid \"$PWD/hop\" $((n+1)) &\n"
	if err := os.WriteFile(hop, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	if result, err := begin(t, newExecutor(t, nil), job, log).wait(t); err != nil || result.ExitCode != 0 {
		t.Errorf("result %+v, %v; want exit code 0", result, err)
	}
	if left := having(t, job.Dir); len(left) > 0 {
		t.Errorf("processes %v live on after Run", left)
	}
}

func TestGuardianSuspended(t *testing.T) {
	job, log := newJob(t, shell(`echo $PPID; echo $$; kill -STOP $PPID; sleep 1000; :`))
	job.Grace = 0
	r := begin(t, newExecutor(t, &Options{KillTimeout: time.Millisecond}), job, log)
	pids := log.pids(t, 2)
	eventually(t, "the guardian is suspended", func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pids[0]))
		return err == nil && bytes.Contains(stat, []byte(") T "))
	})
	r.cancel(worker.ErrCanceled)
	if result, err := r.wait(t); !errors.Is(err, ErrNotKilled) {
		t.Errorf("result %+v, %v; want ErrNotKilled", result, err)
	}
	gone(t, pids...)
}

// TestOutputHeldOpen has a process outside the build hold the build's output open.
func TestOutputHeldOpen(t *testing.T) {
	job, log := newJob(t, shell(`echo $$; while [ ! -e go ]; do sleep 0.01; done; echo last; exit 3`))
	r := begin(t, newExecutor(t, nil), job, log)
	pids := log.pids(t, 1)
	held, err := os.OpenFile(fmt.Sprintf("/proc/%d/fd/1", pids[0]), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	create(t, filepath.Join(job.Source, "go"))
	if result, err := r.wait(t); err != nil || result.ExitCode != 3 {
		t.Errorf("result %+v, %v; want exit code 3", result, err)
	}
	if !strings.Contains(log.String(), "\nlast\nslipway: output ends here") {
		t.Errorf("log %q, want everything that was written and a notice", log)
	}
}

// TestDescriptorsAreHidden gives the agent a file that it forgot to close on exec.
func TestDescriptorsAreHidden(t *testing.T) {
	name := filepath.Join(t.TempDir(), "secret")
	fd, err := syscall.Open(name, syscall.O_RDWR|syscall.O_CREAT, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	_, log := run(t, Spec{Command: []string{"ls", "-l", "/proc/self/fd"}})
	if strings.Contains(log, name) || strings.Count(log, "pipe:") != 2 {
		t.Errorf("the build has other files than its own:\n%s", log)
	}
}

// TestGuardianKilledAtOnce kills a guardian that may not have said yet which process it started.
func TestGuardianKilledAtOnce(t *testing.T) {
	e := newExecutor(t, nil)
	for range 20 {
		job, log := newJob(t, shell(`kill -9 $PPID; sleep 1000; :`))
		if result, err := begin(t, e, job, log).wait(t); !errors.Is(err, ErrGuardianLost) {
			t.Errorf("result %+v, %v; want ErrGuardianLost", result, err)
		}
	}
}

func TestScanChildren(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if pids := scanChildren(); !slices.Contains(pids, cmd.Process.Pid) || !slices.Equal(pids, children()) {
		t.Errorf("scan found %v, list has %v, want both to have %d", pids, children(), cmd.Process.Pid)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
}

func create(t *testing.T, name string) {
	t.Helper()
	if err := os.WriteFile(name, nil, 0o644); err != nil {
		t.Fatal(err)
	}
}

// When agent and guardian were killed in one stroke, the next process of the agent kills what they left, wherever it has gone.
func TestReapAfterGuardian(t *testing.T) {
	job, _ := newJob(t, shell(`echo $PPID; setsid sh -c 'echo $$; sleep 1000; :' & sh -c 'echo $$; sleep 1000; :' & sleep 1000; :`))
	cmd, log := startAgent(t, job)
	pids := log.pids(t, 3)
	guardian, left := pids[0], pids[1:]
	if err := errors.Join(syscall.Kill(guardian, syscall.SIGSTOP), cmd.Process.Kill(), syscall.Kill(guardian, syscall.SIGKILL)); err != nil {
		t.Fatal(err)
	}
	gone(t, guardian)
	for _, pid := range left {
		if !alive(pid) {
			t.Errorf("process %d is dead: there is nothing to reap", pid)
		}
	}
	if err := reap(t, job, nil); err != nil {
		t.Error(err)
	}
	for _, pid := range left {
		if alive(pid) {
			t.Errorf("process %d is alive", pid)
		}
	}
	_ = cmd.Wait()
}
