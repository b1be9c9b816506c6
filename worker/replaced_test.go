package worker_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/worker/wire"
)

func (b *faultyBackend) Adopt(ctx context.Context, id queue.SessionID, held []queue.AttemptID, now time.Time) (queue.Adopted, error) {
	return do(b, "Adopt", func() (queue.Adopted, error) { return b.Backend.Adopt(ctx, id, held, now) })
}

// TestReplacedBeforeAdopting has a worker come back with what it runs: its older connection is closed before the newer one gets that.
func TestReplacedBeforeAdopting(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	faulty := newFaultyBackend(w.backend)
	w.backend = faulty
	options := quickQueue
	options.ControllerTTL, options.Grace = time.Hour, 2*time.Hour // no beat finds out first
	c := w.controllerOn(options, nil)
	instance := queue.NewID()
	older := c.dial(t, "one")
	older.enter("one", instance)
	w.submit(nil)
	offer, _ := older.take()

	closed := make(chan struct{})
	release := sync.OnceFunc(func() { close(closed) })
	t.Cleanup(release)
	faulty.fail("Adopt", func() error {
		<-closed
		return nil
	}, nil)
	newer := c.dial(t, "one")
	newer.send(hello("one", instance, wire.Running{Ref: offer.Ref, State: wire.StageRunning}))
	if code := older.closed(); code != wire.CloseReplaced {
		t.Errorf("the older connection was closed with %d", code)
	}
	release()
	expect[*wire.Welcome](newer)
	newer.sync(1)
}
