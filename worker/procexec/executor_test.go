//go:build linux || darwin

package procexec

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/slipway-build/slipway/worker"
)

func TestRunExit(t *testing.T) {
	files := map[string]struct {
		content string
		mode    os.FileMode
	}{
		"plain":       {"#!/bin/sh\n", 0o644},
		"headless":    {"echo hello\n", 0o755},
		"interpreted": {"#!/nonexistent/interpreter\n", 0o755},
		"good":        {"#!/bin/sh\nexit 4\n", 0o755},
	}
	tests := []struct {
		name   string
		spec   Spec
		code   int
		signal string
		log    string
	}{
		{"success", shell("exit 0"), 0, "", ""},
		{"failure", shell("echo no; exit 3"), 3, "", "no\n"},
		{"kill", shell("kill -9 $$"), -1, "SIGKILL", ""},
		{"term", shell("kill $$"), -1, "SIGTERM", ""},
		{"abort", shell("kill -ABRT $$"), -1, "SIGABRT", ""},
		{"no standard input", shell("read line || exit 5"), 5, "", ""},
		{"source directory", shell(`test -f plain && test "$(basename "$PWD")" = source`), 0, "", ""},
		{"relative program", Spec{Command: []string{"./good"}}, 4, "", ""},
		{
			"not in PATH",
			Spec{Command: []string{"no-such-program"}},
			127, "", "slipway: \"no-such-program\" cannot be started: executable file not found in $PATH\n",
		},
		{
			"PATH of the spec",
			Spec{Command: []string{"sh"}, Env: map[string]string{"PATH": "/nonexistent"}},
			127, "", "slipway: \"sh\" cannot be started: executable file not found in $PATH\n",
		},
		{
			"no file",
			Spec{Command: []string{"./missing"}},
			127, "", "slipway: \"./missing\" cannot be started: no such file or directory\n",
		},
		{
			"no interpreter",
			Spec{Command: []string{"./interpreted"}},
			127, "", "slipway: \"./interpreted\" cannot be started: no such file or directory\n",
		},
		{
			"not executable",
			Spec{Command: []string{"./plain"}},
			126, "", "slipway: \"./plain\" cannot be started: permission denied\n",
		},
		{
			"directory",
			Spec{Command: []string{"./"}},
			126, "", "slipway: \"./\" cannot be started: is a directory\n",
		},
		{
			"no first line",
			Spec{Command: []string{"./headless"}},
			126, "", "slipway: \"./headless\" cannot be started: exec format error: a script needs a first line such as #!/bin/sh\n",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			job, log := newJob(t, test.spec)
			for name, file := range files {
				if err := os.WriteFile(filepath.Join(job.Source, name), []byte(file.content), file.mode); err != nil {
					t.Fatal(err)
				}
			}
			result, err := newExecutor(t, nil).Run(t.Context(), job)
			if err != nil {
				t.Fatal(err)
			}
			if result.ExitCode != test.code || result.Signal != test.signal {
				t.Errorf("ended with %d %q, want %d %q", result.ExitCode, result.Signal, test.code, test.signal)
			}
			if log.String() != test.log {
				t.Errorf("log %q, want %q", log, test.log)
			}
		})
	}
}

func TestRunUsage(t *testing.T) {
	result, _ := run(t, shell("i=0; while [ $i -lt 50000 ]; do i=$((i+1)); done"))
	if u := result.Usage; u.UserTime+u.SystemTime <= 0 || u.MaxRSS < 1<<16 {
		t.Errorf("usage %+v of a command that worked", u)
	}
}

func TestRunOutputOrder(t *testing.T) {
	_, log := run(t, self(t, "interleave"))
	var want strings.Builder
	for i := range interleaved {
		fmt.Fprintf(&want, "line %d\n", i)
	}
	if log != want.String() {
		t.Error("standard output and standard error are not in the order they were written")
	}
}

func TestRunLargeOutput(t *testing.T) {
	_, log := run(t, self(t, "emit"))
	want := sha256.New()
	emit(want)
	if got := sha256.Sum256([]byte(log)); len(log) != emitted || !slices.Equal(got[:], want.Sum(nil)) {
		t.Errorf("log of %d bytes has digest %x, want %d bytes with digest %x", len(log), got, emitted, want.Sum(nil))
	}
}

func TestRunEnvironment(t *testing.T) {
	t.Setenv("AGENT_SECRET", "canary")
	t.Setenv("PASSED", "yes, with = and \xff")
	t.Setenv("HOME", "/agent")
	t.Setenv("TMPDIR", t.TempDir())
	t.Setenv("LC_TIME", "C")
	t.Setenv("LANG", "C")
	t.Setenv("TZ", "UTC")
	t.Setenv("SLIPWAY_KEY", "canary")
	spec := Spec{Command: []string{"env"}, Env: map[string]string{"OWN": "1", "TZ": "Asia/Tokyo", "PASSED_TOO": "", "TOKEN": "mine"}}
	job, log := newJob(t, spec)
	job.Env = []string{"SLIPWAY_BUILD_TOKEN=t=1", "TOKEN=theirs"}
	e := newExecutor(t, &Options{PassEnv: []string{"PASSED", "NOT_SET"}})
	if _, err := e.Run(t.Context(), job); err != nil {
		t.Fatal(err)
	}
	got := strings.Split(strings.TrimSuffix(log.String(), "\n"), "\n")
	got = slices.DeleteFunc(got, func(v string) bool { return strings.HasPrefix(v, "LC_") && v != "LC_TIME=C" })
	want := []string{
		"HOME=" + filepath.Join(job.Dir, "home"), "LANG=C", "LC_TIME=C", "OWN=1", "PASSED=yes, with = and \xff", "PASSED_TOO=",
		"PATH=" + os.Getenv("PATH"), "SLIPWAY_BUILD_TOKEN=t=1", "TMPDIR=" + filepath.Join(job.Dir, "tmp"), "TOKEN=theirs", "TZ=Asia/Tokyo",
	}
	if slices.Sort(got); !slices.Equal(got, want) {
		t.Errorf("environment\n%q, want\n%q", got, want)
	}
}

func TestRunOwnDirectories(t *testing.T) {
	job, _ := newJob(t, shell(`echo 1 > "$HOME/a" && echo 2 > "$TMPDIR/b"`))
	result, err := newExecutor(t, nil).Run(t.Context(), job)
	if err != nil || result.ExitCode != 0 {
		t.Fatal(result, err)
	}
	for _, name := range []string{"home/a", "tmp/b"} {
		if _, err := os.Stat(filepath.Join(job.Dir, name)); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{"home", "tmp"} {
		info, err := os.Stat(filepath.Join(job.Dir, name))
		if err != nil || info.Mode().Perm() != 0o700 {
			t.Error(info, err)
		}
	}
}

func TestRunRefusesPlantedDirectories(t *testing.T) {
	job, _ := newJob(t, shell("exit 0"))
	if err := os.Symlink(t.TempDir(), filepath.Join(job.Dir, "home")); err != nil {
		t.Fatal(err)
	}
	if _, err := newExecutor(t, nil).Run(t.Context(), job); !errors.Is(err, os.ErrExist) {
		t.Errorf("error %v, want one that wraps os.ErrExist", err)
	}
	job, _ = newJob(t, shell("exit 0"))
	for _, source := range []string{t.TempDir(), job.Dir, filepath.Dir(job.Dir)} {
		job.Source = source
		if _, err := newExecutor(t, nil).Run(t.Context(), job); err == nil {
			t.Errorf("source %s is taken for a directory below %s", source, job.Dir)
		}
	}
}

func TestRunBadSpec(t *testing.T) {
	job, _ := newJob(t, shell("exit 0"))
	job.Spec = []byte(`{"command": []}`)
	if _, err := newExecutor(t, nil).Run(t.Context(), job); !errors.Is(err, worker.ErrBadSpec) {
		t.Errorf("error %v, want ErrBadSpec", err)
	}
}

func TestRunNice(t *testing.T) {
	for _, test := range []struct{ nice, want int }{{0, 5}, {-1, 0}, {7, 7}} {
		job, log := newJob(t, Spec{Command: []string{"nice"}})
		if _, err := newExecutor(t, &Options{Nice: test.nice}).Run(t.Context(), job); err != nil {
			t.Fatal(err)
		}
		base, err := exec.CommandContext(t.Context(), "nice").Output()
		if err != nil {
			t.Fatal(err)
		}
		from, _ := strconv.Atoi(strings.TrimSpace(string(base)))
		if want := strconv.Itoa(min(from+test.want, 19)) + "\n"; log.String() != want {
			t.Errorf("Nice %d: build runs at %q, want %q", test.nice, log, want)
		}
	}
}

func TestCancelGrace(t *testing.T) {
	tests := []struct {
		name   string
		script string
		code   int
		signal string
		log    string
	}{
		{"default action", "echo ready; sleep 1000", -1, "SIGTERM", ""},
		{"trap", "trap 'echo bye; exit 7' TERM; echo ready; while :; do sleep 0.01; done", 7, "", "bye\n"},
		{"suspended", "echo ready; kill -STOP $$; sleep 1000", -1, "SIGTERM", ""},
		{
			"shell ends before what it runs",
			`sh -c 'trap "sleep 0.3; echo clean; exit" TERM; echo ready; while :; do sleep 0.01; done'; true`,
			-1, "SIGTERM", "clean\n",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			job, log := newJob(t, shell(test.script))
			r := begin(t, newExecutor(t, nil), job, log)
			log.lines(t, 1)
			r.cancel(worker.ErrCanceled)
			result, err := r.wait(t)
			if err != nil {
				t.Fatal(err)
			}
			if result.ExitCode != test.code || result.Signal != test.signal {
				t.Errorf("ended with %d %q, want %d %q", result.ExitCode, result.Signal, test.code, test.signal)
			}
			// What a shell says about its terminated children differs.
			if !strings.HasSuffix(log.String(), test.log) {
				t.Errorf("log %q, want it to end in %q", log, test.log)
			}
		})
	}
}

// TestCancelReachesTheUnborn: a process that was not there yet when the group was told to stop, and whose parent has died of that, is told too.
func TestCancelReachesTheUnborn(t *testing.T) {
	job, log := newJob(t, shell(`trap 'sleep 1000 & exit 1' TERM; echo ready; while :; do sleep 0.01; done`))
	job.Grace = 2 * patience
	r := begin(t, newExecutor(t, nil), job, log)
	log.lines(t, 1)
	r.cancel(worker.ErrCanceled)
	if result, err := r.wait(t); err != nil || result.ExitCode != 1 {
		t.Errorf("result %+v, %v; want exit code 1", result, err)
	}
}

// TestCancelLeavesCleaningUpAlone: what somebody starts who cleans up, after the command itself has ended, is not told to stop.
func TestCancelLeavesCleaningUpAlone(t *testing.T) {
	job, log := newJob(t, shell(`sh -c 'trap "sleep 0.3 && echo cleaned up; exit" TERM; echo ready; while :; do sleep 0.01; done' & wait; :`))
	r := begin(t, newExecutor(t, nil), job, log)
	log.lines(t, 1)
	r.cancel(worker.ErrCanceled)
	if result, err := r.wait(t); err != nil || result.Signal != "SIGTERM" || !strings.HasSuffix(log.String(), "cleaned up\n") {
		t.Errorf("result %+v, %v; log %q", result, err, log)
	}
}

func TestCancelIgnored(t *testing.T) {
	job, log := newJob(t, shell(`trap '' TERM; sh -c 'echo $$; while :; do sleep 0.01; done' & echo $$; wait`))
	job.Grace = 200 * time.Millisecond
	r := begin(t, newExecutor(t, nil), job, log)
	pids := log.pids(t, 2)
	began := time.Now()
	r.cancel(worker.ErrTimeout)
	result, err := r.wait(t)
	if err != nil || result.Signal != "SIGKILL" {
		t.Errorf("result %+v, %v; want SIGKILL", result, err)
	}
	if d := time.Since(began); d < job.Grace {
		t.Errorf("killed after %v, before the grace of %v", d, job.Grace)
	}
	gone(t, pids...)
}

func TestKill(t *testing.T) {
	for _, canceled := range []bool{false, true} {
		t.Run(fmt.Sprintf("canceled=%t", canceled), func(t *testing.T) {
			spec := shell(`trap 'echo told' TERM; echo $$; while :; do sleep 0.01; done`)
			spec.Artifacts = []string{"*"}
			job, log := newJob(t, spec)
			kill := make(chan struct{})
			job.Kill, job.Grace = kill, time.Hour
			r := begin(t, newExecutor(t, nil), job, log)
			pids := log.pids(t, 1)
			if canceled {
				r.cancel(worker.ErrLeaseLost)
				log.lines(t, 2)
			}
			close(kill)
			result, err := r.wait(t)
			if err != nil || result.Signal != "SIGKILL" {
				t.Errorf("result %+v, %v; want SIGKILL", result, err)
			}
			gone(t, pids...)
		})
	}
}

func TestRunNotBegun(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	job, log := newJob(t, shell("echo no"))
	result, err := newExecutor(t, nil).Run(ctx, job)
	if err != nil || result.ExitCode != -1 || result.Signal != "" || log.String() != "" {
		t.Errorf("result %+v, %v, log %q; want exit code -1 and nothing run", result, err, log)
	}
}

func TestBackgroundIsKilled(t *testing.T) {
	job, log := newJob(t, shell(`sleep 1000 & echo $!; (trap '' TERM HUP; sleep 1000; sleep 1000) & echo $!; exit 2`))
	result, err := begin(t, newExecutor(t, nil), job, log).wait(t)
	if err != nil || result.ExitCode != 2 {
		t.Errorf("result %+v, %v; want exit code 2", result, err)
	}
	for _, pid := range log.pids(t, 2) {
		if alive(pid) {
			t.Errorf("process %d lives on after Run", pid)
		}
	}
}

func TestForksWhileKilled(t *testing.T) {
	job, log := newJob(t, shell(`trap '' TERM; echo $$; while :; do (sleep 1000 & sleep 1000 & :) & done`))
	job.Grace = 50 * time.Millisecond
	r := begin(t, newExecutor(t, nil), job, log)
	pids := log.pids(t, 1)
	r.cancel(worker.ErrCanceled)
	if result, err := r.wait(t); err != nil || result.Signal != "SIGKILL" {
		t.Errorf("result %+v, %v; want SIGKILL", result, err)
	}
	if err := syscall.Kill(-pids[0], 0); err == nil {
		eventually(t, "the group is gone", func() bool { return syscall.Kill(-pids[0], 0) != nil })
	}
}

// startAgent starts this program as an agent that runs a job.
func startAgent(t *testing.T, job worker.Job) (*exec.Cmd, *growing) {
	t.Helper()
	agent := self(t, "agent")
	cmd := exec.CommandContext(t.Context(), agent.Command[0])
	cmd.Env = append(os.Environ(), roleVariable+"=agent")
	cmd.Dir = job.Dir
	cmd.Stdin = strings.NewReader(string(job.Spec))
	log := &growing{changed: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, log
}

const stubborn = `trap '' TERM HUP INT; echo $PPID; echo $$; sh -c 'echo $$; sleep 1000; :' & sleep 1000; :`

func TestAgentKilled(t *testing.T) {
	job, _ := newJob(t, shell(stubborn))
	cmd, log := startAgent(t, job)
	pids := log.pids(t, 3)
	began := time.Now()
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	gone(t, pids...)
	t.Logf("guardian, command and child were gone after %v", time.Since(began))
	if err := cmd.Wait(); err == nil {
		t.Error("the agent was not killed")
	}
}

// A build is killed when its lease is over, though the agent stands still.
func TestAgentSuspended(t *testing.T) {
	job, _ := newJob(t, shell(stubborn))
	cmd, log := startAgent(t, job)
	pids := log.pids(t, 3)
	if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	gone(t, pids[1:]...)
	if err := cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if lines := log.lines(t, 4); lines[3] != "Run returned SIGKILL <nil>" {
		t.Errorf("the agent says %q", lines[3])
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// A lease that is renewed never ends.
func TestLeaseRenewed(t *testing.T) {
	job, log := newJob(t, shell(`sleep 6; echo done`))
	begun := time.Now()
	job.Lease = func() time.Duration { return 4 * time.Second }
	r := begin(t, newExecutor(t, nil), job, log)
	if result, err := r.wait(t); err != nil || result.ExitCode != 0 || log.String() != "done\n" {
		t.Errorf("after %v: %+v, %v, log %q", time.Since(begun), result, err, log)
	}
}

// A lease that is over before the start leaves nothing alive.
func TestLeaseOver(t *testing.T) {
	job, log := newJob(t, shell(`sleep 1000; :`))
	job.Lease = func() time.Duration { return -time.Second }
	r := begin(t, newExecutor(t, nil), job, log)
	if result, err := r.wait(t); err != nil || result.Signal != "SIGKILL" {
		t.Errorf("%+v, %v", result, err)
	}
}

// reap has the next agent reap what a killed one has run.
func reap(t *testing.T, job worker.Job, o *Options) error {
	t.Helper()
	return newExecutor(t, o).Reap(t.Context(), worker.Job{Build: agentsBuild, Epoch: 7, Dir: job.Dir, Source: job.Source})
}

// The next process of an agent knows when nothing is alive of what the one before ran.
func TestReap(t *testing.T) {
	job, _ := newJob(t, shell(stubborn))
	if err := reap(t, job, nil); err != nil {
		t.Errorf("before anything ran: %v", err)
	}
	cmd, log := startAgent(t, job)
	pids := log.pids(t, 3)
	if err := reap(t, job, &Options{KillTimeout: time.Millisecond}); !errors.Is(err, ErrNotKilled) {
		t.Errorf("while the agent lives: %v", err)
	}
	for _, pid := range pids {
		if !alive(pid) {
			t.Errorf("process %d of a living agent was killed", pid)
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := reap(t, job, nil); err != nil {
		t.Errorf("after the agent was killed: %v", err)
	}
	for _, pid := range pids {
		if alive(pid) {
			t.Errorf("process %d is alive", pid)
		}
	}
	_ = cmd.Wait()
}

func TestReapGivesUp(t *testing.T) {
	job, _ := newJob(t, shell(stubborn))
	cmd, log := startAgent(t, job)
	log.pids(t, 3)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(worker.ErrShutdown)
	if err := newExecutor(t, nil).Reap(ctx, worker.Job{Dir: job.Dir}); !errors.Is(err, worker.ErrShutdown) {
		t.Errorf("with a context that has ended: %v", err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
}

func TestGuardianKilled(t *testing.T) {
	job, log := newJob(t, shell(`trap '' TERM HUP INT; echo $PPID; echo $$; sh -c 'echo $$; sleep 1000; :' & wait; sleep 1000; :`))
	r := begin(t, newExecutor(t, nil), job, log)
	pids := log.pids(t, 3)
	if err := syscall.Kill(pids[0], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if result, err := r.wait(t); !errors.Is(err, ErrGuardianLost) {
		t.Errorf("result %+v, %v; want ErrGuardianLost", result, err)
	}
	gone(t, pids...)
}

func TestGuardianSurvivesSignals(t *testing.T) {
	result, _ := run(t, shell(`for s in HUP INT QUIT TERM USR1 PIPE TSTP; do kill -$s $PPID; done; exit 6`))
	if result.ExitCode != 6 {
		t.Errorf("result %+v, want exit code 6", result)
	}
}

func TestRunConcurrently(t *testing.T) {
	e := newExecutor(t, nil)
	var wg sync.WaitGroup
	for i := range 8 {
		job, log := newJob(t, shell(`echo "$1"; exit "$1"`, strconv.Itoa(i)))
		wg.Go(func() {
			result, err := e.Run(t.Context(), job)
			if err != nil || result.ExitCode != i || log.String() != strconv.Itoa(i)+"\n" {
				t.Errorf("run %d: %+v, %v, log %q", i, result, err, log)
			}
		})
	}
	wg.Wait()
}

func TestCopyOutputHeldOpen(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer closeAll(r, w)
	want := strings.Repeat("0123456789abcdef", 4000)
	if _, err := w.WriteString(want); err != nil {
		t.Fatal(err)
	}
	if err := r.SetReadDeadline(time.Now().Add(-time.Second)); err != nil {
		t.Fatal(err)
	}
	log := &growing{changed: make(chan struct{})}
	(&ward{output: r}).copyOutput(&buildLog{w: log})
	want += "\nslipway: output ends here, though a process outside the build holds it open\n"
	if log.String() != want {
		t.Errorf("%d bytes of output were copied, want %d", len(log.String()), len(want))
	}
}

func TestNew(t *testing.T) {
	for option, refused := range map[string][]Options{
		"Nice":        {{Nice: 20}, {Nice: -2}},
		"KillTimeout": {{KillTimeout: -1}},
		"PassEnv": {
			{PassEnv: []string{""}},
			{PassEnv: []string{"A=B"}},
			{PassEnv: []string{"HOME"}},
			{PassEnv: []string{"TMPDIR"}},
			{PassEnv: []string{"SLIPWAY_ADMIN_KEY"}},
		},
		"User": {{User: "root"}, {User: "no-such-user-here"}},
	} {
		for _, o := range refused {
			e, err := New(&o)
			if found, ok := errors.AsType[*OptionError](err); !ok || found.Option != option || e != nil {
				t.Errorf("%+v: %v, %v; want an error of option %s", o, e, err, option)
			}
		}
	}
}

func TestNewWithoutGuardian(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), self(t, "").Command[0])
	cmd.Env = append(os.Environ(), roleVariable+"=unguarded")
	if out, err := cmd.Output(); err != nil || string(out) != "true\n" {
		t.Errorf("%q, %v; want ErrNoGuardian", out, err)
	}
}

func TestGuardianByHand(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), self(t, "").Command[0])
	cmd.Args = []string{guardianName}
	out, err := cmd.CombinedOutput()
	if err, ok := errors.AsType[*exec.ExitError](err); !ok || err.ExitCode() != 2 {
		t.Errorf("%q, %v; want exit code 2", out, err)
	}
}

func TestNoLeaks(t *testing.T) {
	e := newExecutor(t, nil)
	once := func() {
		job, _ := newJob(t, Spec{Command: []string{"true"}})
		if _, err := e.Run(t.Context(), job); err != nil {
			t.Fatal(err)
		}
	}
	once()
	files, goroutines := openFiles(t), runtime.NumGoroutine()
	for range 100 {
		once()
	}
	eventually(t, "files and goroutines are as before", func() bool {
		return openFiles(t) <= files && runtime.NumGoroutine() <= goroutines
	})
}

func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/dev/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func TestRunArtifacts(t *testing.T) {
	for _, code := range []int{0, 1} {
		spec := shell(`mkdir dist; echo 1 > dist/b; echo 2 > dist/a; ln -s /etc/passwd dist/c; exit "$1"`, strconv.Itoa(code))
		spec.Artifacts = []string{"dist/[ab]", "*.log"}
		result, log := run(t, spec)
		if got := names(result.Artifacts); result.ExitCode != code || !slices.Equal(got, []string{"dist/a", "dist/b"}) {
			t.Errorf("exit code %d with artifacts %q, want %d with dist/a and dist/b", result.ExitCode, got, code)
		}
		if want := "slipway: artifact \"*.log\" matches no regular file\n"; log != want {
			t.Errorf("log %q, want %q", log, want)
		}
	}
}

func TestArtifactsAfterStop(t *testing.T) {
	for cause, want := range map[error]int{worker.ErrTimeout: 1, worker.ErrLeaseLost: 0} {
		spec := shell(`: > report; echo ready; sleep 1000; :`)
		spec.Artifacts = []string{"report"}
		job, log := newJob(t, spec)
		r := begin(t, newExecutor(t, nil), job, log)
		log.lines(t, 1)
		r.cancel(cause)
		if result, err := r.wait(t); err != nil || len(result.Artifacts) != want {
			t.Errorf("%v: artifacts %v, %v; want %d", cause, result.Artifacts, err, want)
		}
	}
}

func TestPreflight(t *testing.T) {
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"tool": 0o700, "text": 0o600} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"), mode); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", "relative"+string(filepath.ListSeparator)+dir)
	for tool, lacking := range map[string]bool{
		"tool": false, "text": true, "none": true, filepath.Join(dir, "tool"): false, filepath.Join(dir, "none"): true, "sh": true,
	} {
		e, err := New(&Options{Tools: []string{"tool", tool}})
		if err != nil {
			t.Fatal(err)
		}
		if err := e.Preflight(t.Context(), nil); (err != nil) != lacking {
			t.Errorf("%s: %v", tool, err)
		} else if lacking && !strings.Contains(err.Error(), tool) {
			t.Errorf("%s is not named: %v", tool, err)
		}
	}
	if _, err := New(&Options{Tools: []string{""}}); err == nil {
		t.Error("a tool without a name is accepted")
	}
}
