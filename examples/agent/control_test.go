package main

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/slipway-build/slipway/worker"
)

// executor runs nothing: no build gets here.
type executor struct{ worker.Executor }

func newAgent(t *testing.T, dir string) *worker.Agent {
	t.Helper()
	a, err := worker.NewAgent(worker.AgentOptions{
		URLs: []string{"http://127.0.0.1:1"}, Credential: "the-credential", Worker: "a", Dir: dir, Executor: executor{},
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// perform runs a command at the agent in dir.
func perform(dir string, args ...string) (out string, code int) {
	var stdout, stderr bytes.Buffer
	code = run(nil, append(args, "-dir", dir), noEnv(), &stdout, &stderr)
	return stdout.String() + stderr.String(), code
}

// TestDrainOfAnAgentThatIsStopped has somebody wait for the end of an agent that leaves its builds.
func TestDrainOfAnAgentThatIsStopped(t *testing.T) {
	for name, tt := range map[string]struct {
		left bool
		code int
		said string
	}{"finished": {false, exitOK, "has finished"}, "stopped": {true, exitFailure, "was stopped before"}} {
		t.Run(name, func(t *testing.T) {
			dir, a := t.TempDir(), newAgent(t, t.TempDir())
			c, err := openControl(t.Context(), dir, a, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			var waiter sync.WaitGroup
			var out string
			var code int
			waiter.Go(func() { out, code = perform(dir, "drain", "-wait") })
			if err := a.Run(t.Context()); err != nil { // which ends when the question has come
				t.Error(err)
			}
			c.close(tt.left)
			waiter.Wait()
			if code != tt.code || !strings.Contains(out, tt.said) {
				t.Errorf("drain ends with %d and says %q, want %d and %q", code, out, tt.code, tt.said)
			}
		})
	}
}

// TestControlOfTwo has two agents in one directory, and one that comes after another that was killed.
func TestControlOfTwo(t *testing.T) {
	dir := t.TempDir()
	path := controlPath(dir)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	dead, err := new(net.ListenConfig).Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	dead.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := dead.Close(); err != nil {
		t.Fatal(err)
	}
	a := newAgent(t, dir)
	c, err := openControl(t.Context(), dir, a, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatalf("after an agent that was killed: %v", err)
	}
	if second, err := openControl(t.Context(), dir, a, slog.New(slog.DiscardHandler)); err == nil {
		second.close(true)
		t.Error("a second agent has a socket too")
	}
	if out, code := perform(dir, "status"); code != exitOK {
		t.Errorf("the first agent cannot be asked any more: %s", out)
	}
	for what, mode := range map[string]os.FileMode{path: 0o600, filepath.Dir(path): 0o700} {
		if info, err := os.Stat(what); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v, want %v", what, info.Mode(), err, mode)
		}
	}
	c.close(false)
	if _, err := os.Stat(path); err == nil {
		t.Error("the socket is left")
	}
}

// TestControlThatCannotBe has a directory whose socket would have too long a path.
func TestControlThatCannotBe(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("x", 120))
	if c, err := openControl(context.Background(), dir, newAgent(t, dir), slog.New(slog.DiscardHandler)); err == nil {
		c.close(false)
		t.Fatal("it can")
	}
	if out, code := perform(dir, "status"); code != exitFailure || !strings.Contains(out, "no agent can be asked") {
		t.Errorf("status ends with %d: %s", code, out)
	}
}
