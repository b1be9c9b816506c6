package worker_test

import (
	"bytes"
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/worker"
	"github.com/slipway-build/slipway/worker/wire"
)

// TestSessionNotOpened has the database fail while a worker says hello. The worker must not be told to stay away for longer than its
// leases last.
func TestSessionNotOpened(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	faulty := newFaultyBackend(w.backend)
	w.backend = faulty
	c := w.controller(nil)
	faulty.fail("OpenSession one", times(1), nil)
	p := c.dial(t, "one")
	p.send(hello("one", queue.NewID()))
	if code := p.closed(); code != wire.CloseInternal || code.Retry() != wire.RetryBackoff {
		t.Errorf("closed with %d, after which a worker retries %v", code, code.Retry())
	}
	c.dial(t, "one").enter("one", queue.NewID())
}

// TestNoLeaseFromDeadController has a controller that cannot say that it is alive, so that the others count its grace already: it grants no
// lease, neither by a start nor by a welcome.
func TestNoLeaseFromDeadController(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	faulty := newFaultyBackend(w.backend)
	w.backend = faulty
	options := quickQueue
	options.OfferTimeout = time.Minute
	c := w.controllerOn(options, func(o *worker.HubOptions) { o.ReadTimeout = patient })
	p, late := c.dial(t, "one"), c.dial(t, "late")
	p.enter("one", queue.NewID())
	w.submit(nil)
	offer := expect[*wire.Offer](p)
	faulty.fail("Beat", func() error { return errDatabase }, nil)
	faulty.fail("OpenSession late", func() error { // it takes that long
		eventually(t, "the controller is not alive", func() bool { return c.hub.Ready() != nil })
		return nil
	}, nil)
	late.send(hello("late", queue.NewID()))
	if code := late.closed(); code != wire.CloseInternal {
		t.Errorf("closed with %d", code)
	}

	p.send(&wire.Accept{Ref: offer.Ref, TokenHash: queue.Digest{1}})
	for answered := false; !answered; {
		switch m := receive(t, "the answer to accept", p.got).(type) {
		case *wire.Start:
			t.Fatalf("a build was started with a lease of %v", m.Lease.Duration())
		case *wire.Error:
			if answered = true; m.Code != wire.CodeInternal {
				t.Errorf("accept was answered with %+v", m)
			}
		}
	}
	faulty.fail("Beat", nil, nil)
	eventually(t, "the controller is alive", func() bool { return c.hub.Ready() == nil })
	p.send(&wire.Accept{Ref: offer.Ref, TokenHash: queue.Digest{1}})
	expect[*wire.Start](p)
}

// A poisonedBackend stores no log that has poison in it, nor what comes with it, until it is cured.
type poisonedBackend struct {
	queue.Backend
	cured atomic.Bool
}

func (b *poisonedBackend) AppendLogs(
	ctx context.Context, chunks []queue.LogChunk, limit queue.LogLimit, now time.Time,
) ([]queue.LogLength, error) {
	poisoned := func(c queue.LogChunk) bool { return bytes.Contains(c.Data, []byte("poison")) }
	if !b.cured.Load() && slices.ContainsFunc(chunks, poisoned) {
		return nil, errDatabase
	}
	return b.Backend.AppendLogs(ctx, chunks, limit, now)
}

// TestPoisonedLog has one log that cannot be stored: the others are, also those in the same batches, and nothing of it is lost.
func TestPoisonedLog(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	poisoned := &poisonedBackend{Backend: w.backend}
	w.backend = poisoned
	c := w.controller(func(o *worker.HubOptions) { o.ReadTimeout = patient })
	var peers []*peer
	var refs []wire.Ref
	for _, name := range []string{"one", "two", "three"} {
		p := c.dial(t, name)
		p.enter(name, queue.NewID())
		w.submit(nil)
		offer, _ := p.take()
		peers, refs = append(peers, p), append(refs, offer.Ref)
	}
	peers[0].sendLog(refs[0], 0, "poison")
	for i := range int64(3) {
		for j := 1; j < len(peers); j++ {
			peers[j].sendLog(refs[j], 4*i, "good")
		}
		peers[0].sendLog(refs[0], 6+i, ".")
		for j := 1; j < len(peers); j++ {
			if ack := expect[*wire.LogAck](peers[j]); ack.Offset != 4*(i+1) {
				t.Errorf("acknowledged %d bytes, want %d", ack.Offset, 4*(i+1))
			}
		}
	}
	poisoned.cured.Store(true)
	eventually(t, "the log is stored when it can be", func() bool { return string(w.readLog(refs[0].Build)) == "poison..." })
}
