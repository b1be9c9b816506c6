package worker_test

import (
	"testing"

	"github.com/slipway-build/slipway/queue"
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
