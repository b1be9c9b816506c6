package worker_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/worker"
)

// TestCutConnections breaks the connection again and again while a log is written.
func TestCutConnections(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.controller(nil)
	p := newProxy(t, c.server.URL)
	output := make([]byte, 3<<20)
	rand.Read(output)
	cut := make(chan struct{})
	run := func(_ context.Context, job worker.Job) (worker.Result, error) {
		for piece := range slices.Chunk(output, 300_000) {
			_, _ = job.Log.Write(piece)
			cut <- struct{}{}
		}
		return worker.Result{}, nil
	}
	w.agent("one", run, nil, p.url())
	id := w.submit(nil)
	for written := 300_000; written < len(output)+300_000; written += 300_000 {
		receive(t, "the next piece", cut)
		eventually(t, "a part of it has arrived", func() bool { return len(w.readLog(id)) > written-300_000 })
		p.cut()
	}
	if b := w.end(id); b.State != queue.Succeeded || b.Epoch != 1 {
		t.Errorf("the build ended as %v under epoch %d", b.State, b.Epoch)
	}
	w.checkComplete(id, output)
}

// TestControllerReplaced ends one controller in the middle of a build; another one takes over.
func TestControllerReplaced(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first, second := w.controller(nil), w.controller(nil)
	p := newProxy(t, first.server.URL)
	started, proceed := make(chan worker.Job, 1), make(chan struct{})
	run := func(_ context.Context, job worker.Job) (worker.Result, error) {
		started <- job
		<-proceed
		_, _ = job.Log.Write([]byte("second part"))
		return worker.Result{}, nil
	}
	w.agent("one", run, nil, p.url(), second.server.URL)
	id := w.submit(nil)
	job := receive(t, "the start", started)
	_, _ = job.Log.Write([]byte("first part, "))
	eventually(t, "the first part is stored", func() bool { return len(w.readLog(id)) == 12 })
	p.shut()
	first.quit()
	if b := w.build(id); b.State != queue.Running {
		t.Fatalf("the build is %v while no controller is there", b.State)
	}
	close(proceed)
	if b := w.end(id); b.State != queue.Succeeded || b.Epoch != 1 || b.AttemptsUsed != 1 {
		t.Errorf("the build ended as %v under epoch %d after %d attempts", b.State, b.Epoch, b.AttemptsUsed)
	}
	w.checkComplete(id, []byte("first part, second part"))
}

// TestCancelAfterReconnect cancels a build while its worker is away.
func TestCancelAfterReconnect(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.controller(nil)
	p := newProxy(t, c.server.URL)
	started, stopped := make(chan worker.Job, 1), make(chan error, 1)
	w.agent("one", untilStopped(started, stopped), nil, p.url())
	id := w.submit(nil)
	receive(t, "the start", started)
	p.shut()
	if _, err := w.queue.Cancel(t.Context(), project, id, "meanwhile"); err != nil {
		t.Fatal(err)
	}
	p.open()
	if cause := receive(t, "the stop", stopped); !errors.Is(cause, worker.ErrCanceled) {
		t.Errorf("the executor was told %v, want ErrCanceled", cause)
	}
	if b := w.end(id); b.State != queue.Canceled || b.Reason != "meanwhile" {
		t.Errorf("the build ended as %v: %q", b.State, b.Reason)
	}
}

// TestLeaseLost keeps a worker away for longer than its lease and the grace: it stops the build in time, another worker runs it under a
// higher epoch, and what the first one says when it is back changes nothing.
func TestLeaseLost(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.controller(nil)
	p := newProxy(t, c.server.URL)
	type end struct {
		cause         error
		told, killed  time.Time
		secondStarted bool
	}
	var second sync.Once
	secondStarted := make(chan struct{})
	started, ended, release := make(chan worker.Job, 1), make(chan end, 1), make(chan struct{})
	stubborn := func(ctx context.Context, job worker.Job) (worker.Result, error) {
		started <- job
		<-ctx.Done()
		e := end{cause: context.Cause(ctx), told: time.Now()}
		<-job.Kill
		e.killed = time.Now()
		select {
		case <-secondStarted:
			e.secondStarted = true
		default:
		}
		ended <- e
		return worker.Result{ExitCode: -1, Signal: "SIGKILL"}, nil
	}
	w.agent("one", stubborn, nil, p.url())
	id := w.submit(nil)
	job := receive(t, "the start", started)
	cutOff := time.Now()
	p.shut()
	w.agent("two", func(context.Context, worker.Job) (worker.Result, error) {
		second.Do(func() { close(secondStarted) })
		<-release
		return worker.Result{}, nil
	}, nil, c.server.URL)

	e := receive(t, "the end of the first attempt", ended)
	lease, kill := quickHub.Lease, quickHub.KillTime
	if !errors.Is(e.cause, worker.ErrLeaseLost) || e.told.Sub(cutOff) > lease+kill/2 || e.killed.Sub(cutOff) > lease+kill || e.secondStarted {
		t.Errorf("told %v after %v, killed after %v, another attempt running: %t", e.cause, e.told.Sub(cutOff), e.killed.Sub(cutOff),
			e.secondStarted)
	}
	receive(t, "the second attempt", secondStarted)
	_, _ = job.Log.Write([]byte("late"))
	p.open()
	eventually(t, "the first worker has come back and was told", func() bool {
		return bytes.Contains([]byte(w.log.String()), []byte(`msg="lease lost: the controller says so"`))
	})
	if b := w.build(id); b.State != queue.Running || b.Epoch != 2 || b.Worker != "two" {
		t.Errorf("the build is %v by %q under epoch %d", b.State, b.Worker, b.Epoch)
	}
	close(release)
	if b := w.end(id); b.State != queue.Succeeded || b.Epoch != 2 {
		t.Errorf("the build ended as %v under epoch %d", b.State, b.Epoch)
	}
	w.checkComplete(id, nil)
}

// TestResultOutlivesLease has a build that ends while its worker is away for longer than the lease: its result counts all the
// same, because nobody else was given the build.
func TestResultOutlivesLease(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.controller(func(o *worker.HubOptions) { o.Lease, o.KillTime = 300*time.Millisecond, 200*time.Millisecond })
	p := newProxy(t, c.server.URL)
	started, proceed := make(chan worker.Job, 1), make(chan struct{})
	run := func(_ context.Context, job worker.Job) (worker.Result, error) {
		started <- job
		<-proceed
		return worker.Result{}, nil
	}
	w.agent("one", run, nil, p.url())
	id := w.submit(nil)
	receive(t, "the start", started)
	p.shut()
	close(proceed)
	away := time.NewTimer(time.Second)
	<-away.C
	p.open()
	if b := w.end(id); b.State != queue.Succeeded || b.Epoch != 1 {
		t.Errorf("the build ended as %v under epoch %d: %q", b.State, b.Epoch, b.Reason)
	}
}
