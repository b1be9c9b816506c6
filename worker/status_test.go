package worker_test

import (
	"context"
	"io"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/worker"
	"github.com/slipway-build/slipway/worker/wire"
)

// TestDrain drains an agent that runs a build while another one waits: the first is finished and reported, the second not begun.
func TestDrain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.controller(nil)
	started, finish := make(chan worker.Job, 2), make(chan struct{})
	a, err := worker.NewAgent(worker.AgentOptions{
		URLs: []string{c.server.URL}, Credential: secret + "_one", Worker: "one", Dir: filepath.Join(t.TempDir(), "one"), Slots: 2,
		Logger: slog.New(slog.DiscardHandler),
		Executor: executor(func(_ context.Context, job worker.Job) (worker.Result, error) {
			_, _ = io.WriteString(job.Log, "hello")
			started <- job
			<-finish
			return worker.Result{}, nil
		}),
	})
	if err != nil {
		t.Fatal(err)
	}
	if s := a.Status(); s.Controller != "" || s.Session != "" || s.Draining || len(s.Attempts) != 0 || !s.Answered.IsZero() || s.Worker != "one" || s.Slots != 2 {
		t.Errorf("before Run: %+v", s)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	defer stop()

	first := w.submit(nil)
	receive(t, "the start", started)
	s := a.Status()
	if s.Controller != c.server.URL+"/" || s.Session == "" || s.Connected.IsZero() || s.Draining || len(s.Attempts) != 1 {
		t.Fatalf("with a build: %+v", s)
	}
	if since := time.Since(s.Answered); s.Answered.IsZero() || since < 0 || since > time.Minute {
		t.Errorf("answered %v ago", since)
	}
	answered := s.Answered
	eventually(t, "a heartbeat is answered", func() bool { return a.Status().Answered.After(answered) })
	if b := s.Attempts[0]; b.Build != first || b.Epoch != 1 || b.Stage != wire.StageRunning || b.Since.IsZero() || b.Lease <= 0 || b.LogBytes != 5 {
		t.Errorf("the attempt: %+v", b)
	}
	a.Drain()
	a.Drain()
	if !a.Status().Draining {
		t.Error("after Drain the status does not say so")
	}
	second := w.submit(nil)
	close(finish)
	if b := w.end(first); b.State != queue.Succeeded {
		t.Errorf("the build that ran ended as %v", b.State)
	}
	if err := receive(t, "the end of Run", ended); err != nil {
		t.Errorf("Run: %v", err)
	}
	if b := w.build(second); b.State == queue.Running || b.State.Terminal() {
		t.Errorf("the build that waited is %v", b.State)
	}
	if len(started) != 0 {
		t.Error("a build was begun by an agent that drains")
	}
}

// TestDrainBeforeRun has an agent end that was drained before it began.
func TestDrainBeforeRun(t *testing.T) {
	t.Parallel()
	a, err := worker.NewAgent(worker.AgentOptions{
		URLs: []string{"http://127.0.0.1:1"}, Credential: "any", Worker: "one", Executor: executor(succeed), Dir: t.TempDir(),
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	a.Drain()
	if err := a.Run(t.Context()); err != nil {
		t.Errorf("Run: %v", err)
	}
}
