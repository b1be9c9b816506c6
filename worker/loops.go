package worker

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/worker/wire"
)

// beatLoop says that this process is alive, and holds what it remembers against the rows.
func (h *Hub) beatLoop(ctx context.Context) {
	trouble := trouble{hub: h, what: "heartbeat of the controller"}
	every := h.queue.Options().ControllerTTL / 4
	for {
		err := h.beat(ctx)
		trouble.note(ctx, err)
		if !sleep(ctx, pause(every, err)) {
			return
		}
	}
}

// beat renews this process's row unless the dispatch loop hangs: a hub that hands nothing out must not keep its workers.
func (h *Hub) beat(ctx context.Context) error {
	ttl := h.queue.Options().ControllerTTL
	begun := thisMoment()
	stuck := begun.monotonic.Sub(h.begun) - time.Duration(h.moved.Load())
	if stuck > max(ttl, 30*time.Second)+2*h.opts.Poll { // nothing need move between two polls
		return fmt.Errorf("worker: nothing has been handed out for %v", stuck)
	}
	beat, err := h.queue.Beat(ctx)
	if err != nil {
		return err
	}
	h.mu.Lock()
	h.beaten = begun
	h.mu.Unlock()
	for _, id := range beat.Ended {
		if s := h.session(id); s != nil {
			s.close(wire.CloseReplaced)
		}
	}
	return errors.Join(h.writeLost(ctx), h.reconcile(ctx))
}

// reconcile drops what sessions remember and the rows do not have any more. What was remembered only after the reading began is kept:
// a lease is written down before it is remembered.
func (h *Hub) reconcile(ctx context.Context) error {
	h.mu.Lock()
	h.round++
	round := h.round
	h.mu.Unlock()
	leases, err := h.queue.Leases(ctx)
	if err != nil {
		return err
	}
	held := make(map[queue.SessionID]map[queue.AttemptID]bool)
	for _, l := range leases {
		if held[l.Session] == nil {
			held[l.Session] = make(map[queue.AttemptID]bool)
		}
		held[l.Session][l.AttemptID] = true
	}
	for _, s := range h.all() {
		s.keepOnly(held[s.id], round)
	}
	h.pushCancels(leases)
	return nil
}

// dispatchLoop hands out builds whenever something hints that there are some, and every so often.
func (h *Hub) dispatchLoop(ctx context.Context) {
	trouble := trouble{hub: h, what: "claim"}
	for h.claims.Next(ctx) {
		var err error
		for more := true; more && err == nil && ctx.Err() == nil; {
			more, err = h.dispatch(ctx)
			h.moved.Store(int64(time.Since(h.begun)))
		}
		trouble.note(ctx, err)
		if err != nil {
			sleep(ctx, pause(0, err))
		}
	}
}

// dispatch claims once for all that is idle. It reports whether there may be more.
func (h *Hub) dispatch(ctx context.Context) (bool, error) {
	for s := range h.whatStirred() {
		free := 0
		if h.session(s.id) == s { // else it has left, or has not been welcomed yet
			free = s.tellFree()
		}
		h.idle.Set(s.id, free)
	}
	if !h.alive() {
		return false, nil
	}
	offers, err := h.idle.Claim(ctx)
	if err != nil {
		h.stirAll() // what was claimed beside the error is perhaps not among the offers
	}
	if len(offers) > 0 {
		h.claims.Found()
	}
	var unsent []queue.AttemptID
	for _, o := range offers {
		s := h.session(o.Session)
		if s != nil {
			h.stir(s) // the set has a slot less of it, whatever becomes of the offer
		}
		data, unfit := h.encodeOffer(o)
		if unfit != nil {
			h.reject(ctx, o, unfit)
			continue
		}
		if s == nil || !s.offer(data, o.AttemptID) {
			unsent = append(unsent, o.AttemptID)
		}
	}
	if err := h.queue.Withdraw(ctx, unsent...); err != nil {
		h.opts.Logger.Info("offers not withdrawn; they run out by themselves", "offers", len(unsent), "error", err)
	}
	return len(offers) >= queue.MaxClaim, err
}

// reject ends a build that the protocol cannot express. Nobody could ever run it, and it would be claimed again and again.
func (h *Hub) reject(ctx context.Context, o queue.Offer, reason error) {
	err := h.queue.Accept(ctx, o.Session, o.AttemptID, queue.Digest{})
	if err == nil {
		_, err = h.queue.Finish(ctx, queue.Completion{
			AttemptID: o.AttemptID, Outcome: queue.Failed, Reason: reason.Error(), LogSHA256: sha256.Sum256(nil),
		})
	}
	h.opts.Logger.Error("build rejected", "build", o.Build, "epoch", o.Epoch, "reason", reason, "error", err)
}

// cancelLoop looks for builds to stop, which any process may have been asked to cancel.
func (h *Hub) cancelLoop(ctx context.Context) {
	trouble := trouble{hub: h, what: "look for cancels"}
	wakes := h.queue.Wakes(queue.ForCancels, h.opts.CancelPoll)
	defer wakes.Stop()
	for wakes.Next(ctx) {
		leases, err := h.queue.Cancels(ctx)
		trouble.note(ctx, err)
		if err != nil {
			sleep(ctx, pause(0, err))
			continue
		}
		h.pushCancels(leases)
	}
}

func (h *Hub) pushCancels(leases []queue.Lease) {
	for _, l := range leases {
		if l.State != queue.Cancelling {
			continue
		}
		if s := h.session(l.Session); s != nil {
			s.cancel(l)
		}
	}
}

// A trouble logs the first failure of a row of failures, and their end.
type trouble struct {
	hub   *Hub
	what  string
	since time.Time
}

func (t *trouble) note(ctx context.Context, err error) {
	switch {
	case ctx.Err() != nil:
	case err != nil && t.since.IsZero():
		t.since = time.Now()
		t.hub.opts.Logger.Error("the queue does not answer; going on trying", "operation", t.what, "error", err)
	case err == nil && !t.since.IsZero():
		t.hub.opts.Logger.Info("the queue answers again", "operation", t.what, "after", time.Since(t.since))
		t.since = time.Time{}
	}
}

// pause returns every, give or take a fifth; at least 200 ms after an error, so that a fast loop does not hammer what is down.
func pause(every time.Duration, err error) time.Duration {
	if err != nil {
		every = max(every, 200*time.Millisecond)
	}
	return time.Duration(float64(every) * (0.8 + 0.4*rand.Float64()))
}

// sleep waits, and reports whether ctx has not ended.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
