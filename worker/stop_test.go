package worker_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/worker"
)

func TestCancel(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.controller(nil)
	started, stopped := make(chan worker.Job, 1), make(chan error, 1)
	w.agent("one", untilStopped(started, stopped), nil, c.server.URL)
	id := w.submit(nil)
	receive(t, "the start", started)
	if state, err := w.queue.Cancel(t.Context(), project, id, "not needed"); err != nil || state != queue.Cancelling {
		t.Fatalf("Cancel: %v, %v", state, err)
	}
	if cause := receive(t, "the stop", stopped); !errors.Is(cause, worker.ErrCanceled) {
		t.Errorf("the executor was told %v, want ErrCanceled", cause)
	}
	if b := w.end(id); b.State != queue.Canceled || b.Reason != "not needed" || b.Signal != "SIGTERM" {
		t.Errorf("the build ended as %v, reason %q, signal %q", b.State, b.Reason, b.Signal)
	}
}

// TestCancelKills has a build that does not stop when it is told to.
func TestCancelKills(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.controller(nil)
	started := make(chan worker.Job, 1)
	run := func(_ context.Context, job worker.Job) (worker.Result, error) {
		started <- job
		<-job.Kill
		return worker.Result{ExitCode: -1, Signal: "SIGKILL"}, nil
	}
	w.agent("one", run, nil, c.server.URL)
	id := w.submit(nil)
	receive(t, "the start", started)
	if _, err := w.queue.Cancel(t.Context(), project, id, ""); err != nil {
		t.Fatal(err)
	}
	if b := w.end(id); b.State != queue.Canceled || b.Signal != "SIGKILL" {
		t.Errorf("the build ended as %v, signal %q", b.State, b.Signal)
	}
}

func TestRunTimeout(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.controller(nil)
	started, stopped := make(chan worker.Job, 1), make(chan error, 1)
	w.agent("one", untilStopped(started, stopped), nil, c.server.URL)
	id := w.submit(func(p *queue.Params) { p.RunTimeout = 300 * time.Millisecond })
	receive(t, "the start", started)
	if cause := receive(t, "the stop", stopped); !errors.Is(cause, worker.ErrTimeout) {
		t.Errorf("the executor was told %v, want ErrTimeout", cause)
	}
	if b := w.end(id); b.State != queue.TimedOut || b.Reason != "ran longer than 300ms" {
		t.Errorf("the build ended as %v: %q", b.State, b.Reason)
	}
}

// TestShutdown ends an agent that runs a build, which another one then gets at once, with the first one's log kept.
func TestShutdown(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.controller(nil)
	started, stopped := make(chan worker.Job, 1), make(chan error, 1)
	quit := w.agent("one", untilStopped(started, stopped), nil, c.server.URL)
	id := w.submit(nil)
	job := receive(t, "the start", started)
	_, _ = io.WriteString(job.Log, "as far as it got")
	if err := quit(); err != nil {
		t.Errorf("Agent.Run: %v", err)
	}
	if cause := receive(t, "the stop", stopped); !errors.Is(cause, worker.ErrShutdown) {
		t.Errorf("the executor was told %v, want ErrShutdown", cause)
	}
	if a := w.attempt(id); a.Outcome != queue.Lost || a.Reason != "the worker was stopped" || a.LogLength != 16 || !a.LogComplete {
		t.Errorf("the attempt ended as %+v", a)
	}
	w.agent("two", succeed, nil, c.server.URL)
	if b := w.end(id); b.State != queue.Succeeded || b.Epoch != 2 || b.Worker != "two" {
		t.Errorf("the build ended as %v by %q under epoch %d", b.State, b.Worker, b.Epoch)
	}
}

// TestBusy has more builds than slots: a slot that becomes free is filled at once, and no offer is declined.
func TestBusy(t *testing.T) {
	t.Parallel()
	const builds = 200
	w := newWorld(t)
	patience := quickQueue // for all that goes on at once on a machine that may be busy
	patience.OfferTimeout, patience.Grace, patience.ControllerTTL = patient, 2*time.Minute, time.Minute
	c := w.controllerOn(patience, func(o *worker.HubOptions) { o.Heartbeat, o.Lease, o.ReadTimeout = time.Second, patient, patient })
	for _, slots := range []int{3, 150} {
		quit := w.agent("one", succeed, func(o *worker.AgentOptions) { o.Slots = slots }, c.server.URL)
		var ids []queue.ID
		for range builds {
			ids = append(ids, w.submit(nil))
		}
		begun := time.Now()
		for _, id := range ids {
			if b := w.end(id); b.State != queue.Succeeded || b.Epoch != 1 {
				t.Errorf("a build ended as %v under epoch %d", b.State, b.Epoch)
			}
		}
		t.Logf("%d builds took %v with %d slots", builds, time.Since(begun), slots)
		if err := quit(); err != nil {
			t.Errorf("Agent.Run: %v", err)
		}
	}
}
