package worker_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/slipway-build/slipway/internal/ws"
	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/worker/wire"
)

func (b *faultyBackend) Claim(
	ctx context.Context, demand []queue.Demand, offer time.Duration, now time.Time,
) ([]queue.Claimed, error) {
	return do(b, "Claim", func() ([]queue.Claimed, error) { return b.Backend.Claim(ctx, demand, offer, now) })
}

// TestNoOffersForEndingConnection has a connection that is being closed and whose worker does not confirm that: no build is claimed for it.
func TestNoOffersForEndingConnection(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.controller(nil)
	conn := c.connect(t, "one")
	welcomed, proceed := make(chan struct{}), make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		_ = conn.Run(context.Background(), func(context.Context, ws.Kind, []byte) error {
			close(welcomed)
			<-proceed // reads nothing more, not even the close
			return ws.ErrClosed
		})
	})
	defer running.Wait()
	defer close(proceed)
	data, err := wire.Encode(hello("one", queue.NewID()))
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range [][]byte{data, []byte("nonsense")} {
		if err := conn.SendControl(t.Context(), text); err != nil {
			t.Fatal(err)
		}
	}
	receive(t, "the welcome", welcomed)
	eventually(t, "the hub closes", func() bool { return strings.Contains(w.log.String(), "message not understood") })

	var ids []queue.ID
	for range 20 {
		ids = append(ids, w.submit(nil))
	}
	w.agent("two", succeed, nil, c.server.URL)
	for _, id := range ids {
		if b := w.end(id); b.Epoch != 1 {
			t.Errorf("build %v was claimed %d times", id, b.Epoch)
		}
	}
}

// TestUnsentOffer has a connection end while a build is claimed for it. The offer was never sent, so the build need not avoid the worker.
func TestUnsentOffer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	faulty := newFaultyBackend(w.backend)
	w.backend = faulty
	options := quickQueue
	options.Avoid = time.Hour
	c := w.controllerOn(options, nil)
	instance := queue.NewID()
	p := c.dial(t, "one")
	p.enter("one", instance)
	faulty.fail("LoseSessions", func() error { return errDatabase }, nil) // which would release the offer
	faulty.fail("Claim", nil, func() error {
		faulty.fail("Claim", nil, nil)
		p.conn.CloseNow()
		eventually(t, "the hub has noticed", func() bool { return faulty.called("LoseSessions") > 0 })
		return nil
	})
	id := w.submit(nil)
	eventually(t, "the build was claimed and given back", func() bool {
		b := w.build(id)
		return b.Epoch == 1 && b.State == queue.Pending
	})
	p = c.dial(t, "one")
	p.enter("one", instance)
	if offer := expect[*wire.Offer](p); offer.Build != id || offer.Epoch != 2 {
		t.Errorf("offered %v, want build %v under epoch 2", offer.Ref, id)
	}
}

// runElsewhere fails unless worker "two" alone is offered all of some builds.
func (w *world) runElsewhere() {
	w.t.Helper()
	var ids []queue.ID
	for range 10 {
		ids = append(ids, w.submit(nil))
	}
	for _, id := range ids {
		if b := w.end(id); b.Worker != "two" || b.Epoch != 1 {
			w.t.Errorf("build %v ran on %q under epoch %d", id, b.Worker, b.Epoch)
		}
	}
}

// TestPause has a worker that wants nothing until it says so, whatever its heartbeats say.
func TestPause(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.controller(nil)
	p := c.dial(t, "one")
	p.enter("one", queue.NewID())
	p.send(&wire.Pause{})
	p.sync(1)
	quit := w.agent("two", succeed, nil, c.server.URL)
	w.runElsewhere()
	p.sync(2)
	w.runElsewhere()
	if err := quit(); err != nil {
		t.Fatal(err)
	}
	p.send(&wire.Resume{})
	w.submit(nil)
	expect[*wire.Offer](p)
}

// TestNoSlot has a worker decline for want of a slot: it gets no other offer, and no other build avoids it, until it says that it has one.
func TestNoSlot(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	options := quickQueue
	options.Avoid = time.Hour
	c := w.controllerOn(options, nil)
	p := c.dial(t, "one")
	p.enter("one", queue.NewID())
	declined := w.submit(nil)
	offer := expect[*wire.Offer](p)
	p.send(&wire.Decline{Ref: offer.Ref, Reason: wire.DeclineNoSlot})
	w.await(declined, queue.Pending)
	quit := w.agent("two", succeed, nil, c.server.URL)
	w.runElsewhere()
	p.send(&wire.Heartbeat{Seq: 1, Leases: []wire.Ref{offer.Ref}}) // one that still kills a build that it has lost
	expect[*wire.HeartbeatOK](p)
	w.runElsewhere()
	if err := quit(); err != nil {
		t.Fatal(err)
	}
	p.sync(2)
	id := w.submit(nil)
	if offer := expect[*wire.Offer](p); offer.Build != id {
		t.Errorf("offered build %v, want %v", offer.Build, id)
	}
}
