package memqueue

import (
	"context"
	"slices"
	"time"

	"github.com/slipway-build/slipway/queue"
)

// Maintain implements [queue.Transitions].
func (b *Backend) Maintain(ctx context.Context, rules queue.Rules, now time.Time) (queue.Maintained, error) {
	unlock, err := b.lock(ctx)
	if err != nil {
		return queue.Maintained{}, err
	}
	defer unlock()
	round := round{Rules: rules, now: present(now), sweeps: b.controllers[rules.Controller].fresh(rules.Grace, present(now))}
	for _, bd := range b.open() {
		round.move(bd)
	}
	b.promote(&round)
	b.forget(&round)
	b.clear(&round)
	return round.done, nil
}

// A round is one call of Maintain.
type round struct {
	queue.Rules
	now    time.Time
	sweeps bool // leases of lost sessions too
	done   queue.Maintained

	classed, entered int // held builds that were given a class, and that are held for nothing but to be admitted, if at all
}

// open returns the builds that have not ended, in the order of their ranks.
func (b *Backend) open() []*build {
	var open []*build
	for _, bd := range b.builds {
		if !bd.state.Terminal() {
			open = append(open, bd)
		}
	}
	slices.SortFunc(open, byRank)
	return open
}

// room reports whether the round may move one more build of a kind, and counts it.
func (r *round) room(kind *int) bool {
	if *kind == r.Limit {
		return false
	}
	*kind++
	r.done.More = r.done.More || *kind == r.Limit
	return true
}

// move moves a build along if its time has come.
func (r *round) move(bd *build) {
	switch bd.state {
	case queue.Pending:
		if due(bd.expires, r.now) && r.room(&r.done.Expired) {
			bd.reason = queue.EventQueueTimeout.Reason()
			bd.finish(queue.Expired, r.now)
		}
	case queue.Offered:
		r.release(bd)
	case queue.Running:
		switch {
		case due(bd.due, r.now):
			if r.room(&r.done.TimedOut) {
				bd.end(ending{outcome: queue.TimedOut, reason: queue.EventDeadline.Reason()}, r.now)
			}
		case r.sweeps && bd.session.gone(r.Grace, r.now):
			r.sweep(bd)
		}
	case queue.Cancelling:
		if due(bd.due, r.now) && r.room(&r.done.Canceled) {
			bd.end(ending{outcome: queue.Canceled, reason: queue.EventCancelDeadline.Reason()}, r.now)
		}
	default: // nothing is due for a build that has ended
	}
}

// release takes back an offer that ran out, or whose session has ended.
func (r *round) release(bd *build) {
	ranOut := due(bd.due, r.now)
	if !ranOut && !bd.session.ended() || !r.room(&r.done.Released) {
		return
	}
	if ranOut {
		bd.shun(r.Avoid, r.now)
	}
	bd.release()
	if bd.queued {
		r.done.Heads = lower(r.done.Heads, bd)
	}
}

// sweep ends the attempt of a worker that did not come back.
func (r *round) sweep(bd *build) {
	kind := &r.done.Requeued
	if len(bd.attempts) >= bd.MaxAttempts {
		kind = &r.done.Lost
	}
	if r.room(kind) {
		bd.endAttempt(ending{outcome: queue.Lost, reason: queue.EventSessionLost.Reason()}, r.Avoid, r.now)
	}
	if bd.queued {
		r.done.Heads = lower(r.done.Heads, bd)
	}
}

// promote lets go of held builds whose class is new or whose time has come.
func (b *Backend) promote(r *round) {
	for _, bd := range b.open() {
		if bd.state != queue.Pending || bd.queued || bd.gated {
			continue
		}
		if bd.class == nil && r.room(&r.classed) {
			bd.class = b.classOf(bd, r)
		}
		if bd.class == nil || bd.notBefore.After(r.now) || !r.room(&r.entered) {
			continue
		}
		if bd.enter(); bd.queued {
			r.done.Queued++
			r.done.Heads = lower(r.done.Heads, bd)
		}
	}
}

// classOf returns the class of a build, which it makes if need be.
func (b *Backend) classOf(bd *build, r *round) *class {
	if c := b.find(bd.Pool, bd.Labels); c != nil {
		return c
	}
	r.done.Interned++
	return b.intern(bd.Pool, bd.Labels)
}
