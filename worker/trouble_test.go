package worker_test

import (
	"context"
	"testing"
	"time"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/worker/wire"
)

func (b *faultyBackend) Adopt(
	ctx context.Context, session queue.SessionID, held []queue.AttemptID, retry queue.Retry, now time.Time,
) ([]queue.Lease, error) {
	return do(b, "Adopt", func() ([]queue.Lease, error) { return b.Backend.Adopt(ctx, session, held, retry, now) })
}

// TestSessionNotOpened has the database fail while a worker says hello. The worker must not be told to stay away for longer than its
// leases last.
func TestSessionNotOpened(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	faulty := newFaultyBackend(w.backend)
	w.backend = faulty
	c := w.controller(nil)
	for _, method := range []string{"OpenSession one", "Adopt"} {
		faulty.fail(method, times(1), nil)
		p := c.dial(t, "one")
		p.send(hello("one", queue.NewID()))
		if code := p.closed(); code != wire.CloseInternal || code.Retry() != wire.RetryBackoff {
			t.Errorf("%s failed: closed with %d, after which a worker retries %v", method, code, code.Retry())
		}
	}
	c.dial(t, "one").enter("one", queue.NewID())
}
