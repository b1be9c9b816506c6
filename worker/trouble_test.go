package worker_test

import (
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
