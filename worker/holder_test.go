package worker_test

import (
	"testing"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/worker/wire"
)

// TestForeignFinished has a worker report the end of what another one runs: that is refused, and changes nothing. The report of the worker
// that runs it counts, however often it comes, also over a connection that never had the build.
func TestForeignFinished(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.controller(nil)
	instance := queue.NewID()
	one, two := c.dial(t, "one"), c.dial(t, "two")
	one.enter("one", instance)
	id := w.submit(nil)
	offer, _ := one.take()
	two.enter("two", queue.NewID())

	two.send(finished(offer.Ref, ""))
	if refused := expect[*wire.Error](two); refused.Code != wire.CodeStaleLease || refused.Ref() != offer.Ref {
		t.Errorf("the report was answered with %+v", refused)
	}
	if b := w.build(id); b.State != queue.Running {
		t.Errorf("another worker's report made the build %v", b.State)
	}

	one.send(finished(offer.Ref, ""))
	expect[*wire.FinishedOK](one)
	one.send(finished(offer.Ref, ""))
	expect[*wire.FinishedOK](one)
	one.conn.CloseNow()
	one = c.dial(t, "one")
	one.enter("one", instance, wire.Running{Ref: offer.Ref, State: wire.StageFinished})
	one.send(finished(offer.Ref, ""))
	expect[*wire.FinishedOK](one)
	if b := w.build(id); b.State != queue.Succeeded || b.AttemptsUsed != 1 {
		t.Errorf("the build is %v after %d attempts", b.State, b.AttemptsUsed)
	}
}

// TestForeignDecline has a worker give back what another one was offered: the offer stands.
func TestForeignDecline(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.controller(nil)
	one, two := c.dial(t, "one"), c.dial(t, "two")
	one.enter("one", queue.NewID())
	w.submit(nil)
	offer := expect[*wire.Offer](one)
	two.enter("two", queue.NewID())

	two.send(&wire.Decline{Ref: offer.Ref, Reason: wire.DeclineNoSlot})
	two.send(finished(offer.Ref, "")) // is answered after the decline, which is not
	if refused := expect[*wire.Error](two); refused.Code != wire.CodeStaleLease {
		t.Errorf("the report was answered with %+v", refused)
	}
	one.send(&wire.Accept{Ref: offer.Ref, TokenHash: queue.Digest{1}})
	expect[*wire.Start](one)
}
