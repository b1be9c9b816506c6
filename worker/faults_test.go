package worker_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/worker"
	"github.com/slipway-build/slipway/worker/wire"
)

// fullBlobs is a storage that can be full, and says when it is given something.
type fullBlobs struct {
	worker.Blobs
	full  atomic.Bool
	begun chan struct{}
}

func (b *fullBlobs) Put(ctx context.Context, project string, digest queue.Digest, size int64, r io.Reader) error {
	if b.full.Load() {
		return worker.ErrNoSpace
	}
	if b.begun != nil {
		b.begun <- struct{}{}
	}
	return b.Blobs.Put(ctx, project, digest, size, r)
}

var errDatabase = errors.New("the database is down")

// A faultyBackend is a queue's backend whose methods fail, before or after they did their work, when a test says so.
type faultyBackend struct {
	queue.Backend
	mu     sync.Mutex
	before map[string]func() error
	after  map[string]func() error
	calls  map[string]int
}

func newFaultyBackend(b queue.Backend) *faultyBackend {
	return &faultyBackend{
		Backend: b, before: make(map[string]func() error), after: make(map[string]func() error), calls: make(map[string]int),
	}
}

// fail has a method fail, from now on.
func (b *faultyBackend) fail(method string, before, after func() error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.before[method], b.after[method] = before, after
}

func (b *faultyBackend) called(method string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.calls[method]
}

// do calls a method with its faults.
func do[T any](b *faultyBackend, method string, call func() (T, error)) (T, error) {
	b.mu.Lock()
	b.calls[method]++
	before, after := b.before[method], b.after[method]
	b.mu.Unlock()
	var none T
	if before != nil {
		if err := before(); err != nil {
			return none, err
		}
	}
	result, err := call()
	if err == nil && after != nil {
		if err := after(); err != nil {
			return none, err
		}
	}
	return result, err
}

func (b *faultyBackend) Beat(ctx context.Context, controller queue.ID, ttl time.Duration, now time.Time) (queue.Beat, error) {
	return do(b, "Beat", func() (queue.Beat, error) { return b.Backend.Beat(ctx, controller, ttl, now) })
}

func (b *faultyBackend) OpenSessions(ctx context.Context, s []queue.NewSession, now time.Time) ([]queue.Opened, error) {
	return do(b, "OpenSession "+s[0].Worker, func() ([]queue.Opened, error) { return b.Backend.OpenSessions(ctx, s, now) })
}

func (b *faultyBackend) Accept(ctx context.Context, accepts []queue.Acceptance, now time.Time) ([]queue.AttemptID, error) {
	return do(b, "Accept", func() ([]queue.AttemptID, error) { return b.Backend.Accept(ctx, accepts, now) })
}

func (b *faultyBackend) Finish(
	ctx context.Context, ends []queue.Completion, avoid time.Duration, now time.Time,
) ([]queue.Finished, error) {
	return do(b, "Finish", func() ([]queue.Finished, error) { return b.Backend.Finish(ctx, ends, avoid, now) })
}

func (b *faultyBackend) AppendLogs(
	ctx context.Context, chunks []queue.LogChunk, limit queue.LogLimit, now time.Time,
) ([]queue.LogLength, error) {
	return do(b, "AppendLogs", func() ([]queue.LogLength, error) { return b.Backend.AppendLogs(ctx, chunks, limit, now) })
}

func (b *faultyBackend) CommitArtifact(ctx context.Context, id queue.AttemptID, name string, now time.Time) (queue.Artifact, error) {
	return do(b, "CommitArtifact", func() (queue.Artifact, error) { return b.Backend.CommitArtifact(ctx, id, name, now) })
}

func (b *faultyBackend) Lease(ctx context.Context, id queue.AttemptID) (queue.Lease, error) {
	return do(b, "Lease", func() (queue.Lease, error) { return b.Backend.Lease(ctx, id) })
}

func (b *faultyBackend) LoseSessions(ctx context.Context, ids []queue.SessionID, now time.Time) error {
	_, err := do(b, "LoseSessions", func() (struct{}, error) { return struct{}{}, b.Backend.LoseSessions(ctx, ids, now) })
	return err
}

// times returns a fault that happens n times.
func times(n int64) func() error {
	var left atomic.Int64
	left.Store(n)
	return func() error {
		if left.Add(-1) >= 0 {
			return errDatabase
		}
		return nil
	}
}

// TestDatabaseFaults fails each operation that a build needs, before and after it has done its work: the build succeeds in one attempt.
func TestDatabaseFaults(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"OpenSession one", "Accept", "AppendLogs", "CommitArtifact", "Lease", "Finish", "LoseSessions"} {
		for name, late := range map[string]bool{"before": false, "after": true} {
			t.Run(method+" "+name, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				faulty := newFaultyBackend(w.backend)
				w.backend = faulty
				fault := times(2)
				if late {
					faulty.fail(method, nil, fault)
				} else {
					faulty.fail(method, fault, nil)
				}
				c := w.controller(nil)
				run := func(_ context.Context, job worker.Job) (worker.Result, error) {
					_, _ = io.WriteString(job.Log, "a line\n")
					path := job.Dir + "/out"
					writeFile(t, path, []byte("artifact"))
					return worker.Result{Artifacts: []worker.File{{Name: "out", Path: path}}}, nil
				}
				w.agent("one", run, nil, c.server.URL)
				id := w.submit(func(p *queue.Params) { p.Source = w.source(map[string]string{"a": "b"}) })
				b := w.end(id)
				if b.State != queue.Succeeded || b.AttemptsUsed != 1 || b.Reason != "" {
					t.Errorf("the build ended as %v after %d attempts: %q", b.State, b.AttemptsUsed, b.Reason)
				}
				w.checkComplete(id, []byte("a line\n"))
				artifacts, err := w.queue.Artifacts(t.Context(), project, queue.AttemptID{Build: id})
				if err != nil || len(artifacts) != 1 {
					t.Errorf("artifacts %v, %v", artifacts, err)
				}
			})
		}
	}
}

// TestNothingAckedUnstored stops the database for a while: log bytes are not acknowledged until they are stored, and heartbeats are
// answered all the same.
func TestNothingAckedUnstored(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	faulty := newFaultyBackend(w.backend)
	w.backend = faulty
	c := w.controller(nil)
	p := c.dial(t, "one")
	p.enter("one", queue.NewID())
	id := w.submit(nil)
	offer, _ := p.take()
	faulty.fail("AppendLogs", func() error { return errDatabase }, nil)
	p.sendLog(offer.Ref, 0, "some bytes")
	eventually(t, "storing them was tried again", func() bool { return faulty.called("AppendLogs") > 2 })
	p.send(&wire.Heartbeat{Seq: 1, Leases: []wire.Ref{offer.Ref}})
	for {
		m := receive(t, "the answer to a heartbeat", p.got)
		if _, ok := m.(*wire.LogAck); ok {
			t.Fatal("bytes were acknowledged that are not stored")
		}
		if _, ok := m.(*wire.HeartbeatOK); ok {
			break
		}
	}
	faulty.fail("AppendLogs", nil, nil)
	if ack := expect[*wire.LogAck](p); ack.Offset != 10 || string(w.readLog(id)) != "some bytes" {
		t.Errorf("acknowledged %d, stored %q", ack.Offset, w.readLog(id))
	}
}

// TestGap leaves a gap behind bytes that wait to be stored.
func TestGap(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	faulty := newFaultyBackend(w.backend)
	w.backend = faulty
	c := w.controller(nil)
	p := c.dial(t, "one")
	p.enter("one", queue.NewID())
	w.submit(nil)
	offer, _ := p.take()
	faulty.fail("AppendLogs", func() error { return errDatabase }, nil)
	p.sendLog(offer.Ref, 0, "0123456789")
	eventually(t, "the first bytes are being stored", func() bool { return faulty.called("AppendLogs") > 0 })
	p.sendLog(offer.Ref, 10, "0123456789")
	p.sendLog(offer.Ref, 30, "0123456789")
	p.sync(1, offer.Ref)
	faulty.fail("AppendLogs", nil, nil)
	if ack := expect[*wire.LogAck](p); ack.Offset != 10 {
		t.Errorf("acknowledged %d of 10 bytes", ack.Offset)
	}
	if nack := expect[*wire.LogNack](p); nack.Expected != 20 {
		t.Errorf("told to go on from %d, want 20", nack.Expected)
	}
}

// TestOutage keeps the controller from saying that it is alive: it stops renewing leases, so that its worker stops in time, and
// takes up its work when the database is back.
func TestOutage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	faulty := newFaultyBackend(w.backend)
	w.backend = faulty
	c := w.controller(nil)
	started, stopped := make(chan worker.Job, 10), make(chan error, 10)
	w.agent("one", untilStopped(started, stopped), nil, c.server.URL)
	w.submit(nil)
	receive(t, "the start", started)
	faulty.fail("Beat", func() error { return errDatabase }, nil)
	begun := time.Now()
	if cause := receive(t, "the stop", stopped); !errors.Is(cause, worker.ErrLeaseLost) {
		t.Errorf("the executor was told %v, want ErrLeaseLost", cause)
	}
	if took, most := time.Since(begun), quickQueue.ControllerTTL+quickHub.Lease+quickHub.KillTime/2; took > most {
		t.Errorf("it was told after %v, want less than %v", took, most)
	}
	if err := c.hub.Ready(); !errors.Is(err, worker.ErrUnavailable) {
		t.Errorf("Ready: %v, want ErrUnavailable", err)
	}
	faulty.fail("Beat", nil, nil)
	eventually(t, "the hub is ready", func() bool { return c.hub.Ready() == nil })
	receive(t, "the next attempt", started)
}

// TestPanics has one connection's handling panic, on each of its goroutines: the others do not notice.
func TestPanics(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	faulty := newFaultyBackend(w.backend)
	w.backend = faulty
	c := w.controller(nil)
	good := c.dial(t, "good")
	good.send(&wire.Hello{Worker: "good", Instance: queue.NewID(), Version: "1", OS: "o", Arch: "a", Slots: 0})
	expect[*wire.Welcome](good)

	faulty.fail("OpenSession evil", func() error { panic("at hello") }, nil)
	evil := c.dial(t, "evil")
	evil.send(hello("evil", queue.NewID()))
	if code := evil.closed(); code != wire.CloseInternal {
		t.Errorf("closed with %d", code)
	}
	faulty.fail("OpenSession evil", nil, nil)

	faulty.fail("Accept", func() error { panic("at accept") }, nil)
	evil = c.dial(t, "evil")
	evil.enter("evil", queue.NewID())
	id := w.submit(nil)
	offer := expect[*wire.Offer](evil)
	evil.send(&wire.Accept{Ref: offer.Ref, TokenHash: queue.Digest{1}})
	if code := evil.closed(); code != wire.CloseInternal {
		t.Errorf("closed with %d", code)
	}
	faulty.fail("Accept", nil, nil)

	good.sync(1)
	w.agent("other", succeed, nil, c.server.URL)
	if b := w.end(id); b.State != queue.Succeeded {
		t.Errorf("the build ended as %v", b.State)
	}
	if log := w.log.String(); !strings.Contains(log, "at hello") || !strings.Contains(log, "at accept") {
		t.Error("the panics were not logged")
	}
}

// TestLogWindow sends more than the window allows while nothing can be stored. What is too much is not kept, and asked for again.
func TestLogWindow(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	faulty := newFaultyBackend(w.backend)
	w.backend = faulty
	c := w.controller(func(o *worker.HubOptions) { o.LogWindow = 100_000 })
	p := c.dial(t, "one")
	p.enter("one", queue.NewID())
	id := w.submit(nil)
	offer, _ := p.take()
	faulty.fail("AppendLogs", func() error { return errDatabase }, nil)
	p.sendLog(offer.Ref, 0, strings.Repeat("x", 60_000))
	eventually(t, "the first bytes are being stored", func() bool { return faulty.called("AppendLogs") > 0 })
	for i := range int64(3) {
		p.sendLog(offer.Ref, (i+1)*60_000, strings.Repeat("x", 60_000))
	}
	p.sync(1, offer.Ref)
	faulty.fail("AppendLogs", nil, nil)
	if ack := expect[*wire.LogAck](p); ack.Offset != 60_000 {
		t.Errorf("acknowledged %d bytes, want 60000", ack.Offset)
	}
	if nack := expect[*wire.LogNack](p); nack.Expected != 160_000 {
		t.Errorf("told to go on from %d, want 160000", nack.Expected)
	}
	p.sendLog(offer.Ref, 160_000, strings.Repeat("x", 60_000))
	if ack := expect[*wire.LogAck](p); ack.Offset != 220_000 || len(w.readLog(id)) != 220_000 {
		t.Errorf("acknowledged %d, stored %d bytes, want 220000", ack.Offset, len(w.readLog(id)))
	}
}
