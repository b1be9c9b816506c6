//go:build linux || darwin

package procexec

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/worker"
)

// roleVariable makes this test binary play a part of a test instead of running tests.
const roleVariable = "PROCEXEC_TEST_ROLE"

func TestMain(m *testing.M) {
	if os.Getenv(roleVariable) == "unguarded" {
		_, err := New(nil)
		fmt.Println(errors.Is(err, ErrNoGuardian))
		return
	}
	Guardian()
	switch role := os.Getenv(roleVariable); role {
	case "":
		os.Exit(m.Run())
	case "emit":
		emit(os.Stdout)
	case "interleave":
		for i := range interleaved {
			fmt.Fprintf([]*os.File{os.Stdout, os.Stderr}[i%2], "line %d\n", i)
		}
	case "agent":
		playAgent()
	default:
		panic("unknown role " + role)
	}
}

const (
	emitted     = 10 << 20
	interleaved = 2000
)

// emit writes the same random bytes each time, in pieces of odd sizes.
func emit(w io.Writer) {
	random := rand.NewChaCha8([32]byte{1})
	piece := make([]byte, 10007)
	for left := emitted; left > 0; left -= len(piece) {
		piece = piece[:min(len(piece), left)]
		random.Read(piece)
		if _, err := w.Write(piece); err != nil {
			panic(err)
		}
	}
}

// agentsBuild is what the agent runs that playAgent plays.
var agentsBuild = queue.ID{0: 1, 6: 0x70, 8: 0x80}

// playAgent runs the spec on standard input until it is killed.
func playAgent() {
	spec, err := io.ReadAll(os.Stdin)
	if err != nil {
		panic(err)
	}
	dir, err := os.Getwd()
	if err != nil {
		panic(err)
	}
	e, err := New(nil)
	if err != nil {
		panic(err)
	}
	result, err := e.Run(context.Background(), worker.Job{
		Build: agentsBuild, Epoch: 7, Spec: spec, Dir: dir, Source: filepath.Join(dir, "source"), Log: os.Stdout, Grace: time.Hour,
		Lease: func() time.Duration { return 5 * time.Second },
		Env:   []string{"SLIPWAY_BUILD_ID=" + agentsBuild.String(), "SLIPWAY_EPOCH=7"},
	})
	fmt.Println("Run returned", result.Signal, err)
}

// self is this test binary in another role.
func self(t *testing.T, role string) Spec {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return Spec{Command: []string{path}, Env: map[string]string{roleVariable: role}}
}

func shell(script string, args ...string) Spec {
	return Spec{Command: append([]string{"sh", "-c", script, "sh"}, args...)}
}

func newExecutor(t *testing.T, o *Options) *Executor {
	t.Helper()
	e, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// newJob returns a job with an empty source and a log that grows while it runs.
func newJob(t *testing.T, spec Spec) (worker.Job, *growing) {
	t.Helper()
	encoded, err := spec.Encode()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	source := filepath.Join(dir, "source")
	if err := os.Mkdir(source, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		eventually(t, "nothing of the build is left", func() bool { return len(having(t, dir)) == 0 })
	})
	log := &growing{changed: make(chan struct{})}
	return worker.Job{Build: queue.NewID(), Epoch: 1, Spec: encoded, Dir: dir, Source: source, Log: log, Grace: patience}, log
}

// run runs a spec to its end.
func run(t *testing.T, spec Spec) (worker.Result, string) {
	t.Helper()
	job, log := newJob(t, spec)
	result, err := newExecutor(t, nil).Run(t.Context(), job)
	if err != nil {
		t.Fatal(err)
	}
	return result, log.String()
}

// A running is a Run in the background.
type running struct {
	cancel context.CancelCauseFunc
	log    *growing
	result worker.Result
	err    error
	over   chan struct{}
}

func begin(t *testing.T, e *Executor, job worker.Job, log *growing) *running {
	ctx, cancel := context.WithCancelCause(t.Context())
	r := &running{cancel: cancel, log: log, over: make(chan struct{})}
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(r.over)
		r.result, r.err = e.Run(ctx, job)
	})
	t.Cleanup(func() {
		cancel(nil)
		wg.Wait()
	})
	return r
}

// wait returns how Run returned, which must be soon.
func (r *running) wait(t *testing.T) (worker.Result, error) {
	t.Helper()
	select {
	case <-r.over:
	case <-time.After(patience):
		t.Fatalf("Run has not returned after %v; log:\n%s", patience, r.log)
	}
	return r.result, r.err
}

// patience is how long a test waits for what should happen within a moment, on a machine that has other things to do.
const patience = 20 * time.Second

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !holds(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("not so after %v: %s", patience, what)
		}
	}
}

// alive reports whether a process exists and is not a zombie.
func alive(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		_, err := os.Stat("/proc/self/stat")
		return err != nil // without a /proc, as far as one can tell
	}
	state := bytes.TrimSpace(stat[bytes.LastIndexByte(stat, ')')+1:])
	return len(state) > 0 && state[0] != 'Z' && state[0] != 'X'
}

// having returns the living processes that have dir in their first environment, on systems with a /proc.
func having(t *testing.T, dir string) []string {
	t.Helper()
	names, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(names, func(name string) bool {
		environ, _ := os.ReadFile(name)
		return !bytes.Contains(environ, []byte("HOME="+dir+"/"))
	})
}

func gone(t *testing.T, pids ...int) {
	t.Helper()
	for _, pid := range pids {
		eventually(t, fmt.Sprintf("process %d is gone", pid), func() bool { return !alive(pid) })
	}
}

// A growing is a log that can be watched while it is written.
type growing struct {
	mu      sync.Mutex
	b       bytes.Buffer
	changed chan struct{}
}

func (g *growing) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.changed)
	g.changed = make(chan struct{})
	return g.b.Write(p)
}

func (g *growing) String() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.b.String()
}

// lines waits until the log has n lines and returns them.
func (g *growing) lines(t *testing.T, n int) []string {
	t.Helper()
	timeout := time.After(patience)
	for {
		g.mu.Lock()
		text, changed := g.b.String(), g.changed
		g.mu.Unlock()
		if strings.Count(text, "\n") >= n {
			return strings.SplitN(text, "\n", n+1)[:n]
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("the log has no %d lines after %v: %q", n, patience, text)
		}
	}
}

// pids waits for n lines that are process ids.
func (g *growing) pids(t *testing.T, n int) []int {
	t.Helper()
	var pids []int
	for _, line := range g.lines(t, n) {
		pid, err := strconv.Atoi(line)
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	return pids
}
