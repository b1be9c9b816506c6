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
	for _, bd := range b.pastDue() {
		round.move(bd)
	}
	b.promote(&round)
	b.forget(&round)
	return round.done, nil
}

// A round is one call of Maintain.
type round struct {
	queue.Rules
	now    time.Time
	sweeps bool // leases of lost sessions too
	done   queue.Maintained
}

// pastDue returns the builds that may have something due, in the order in which they were made.
func (b *Backend) pastDue() []*build {
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
}

// sweep ends the attempt of a worker that did not come back.
func (r *round) sweep(bd *build) {
	kind := &r.done.Requeued
	if len(bd.attempts) >= bd.MaxAttempts {
		kind = &r.done.Lost
	}
	if r.room(kind) {
		bd.lose(ending{reason: queue.EventSessionLost.Reason()}, r.Avoid, r.now)
	}
}

// promote queues held builds: those whose class is new and those whose back-off is over.
func (b *Backend) promote(r *round) {
	for _, bd := range b.pastDue() {
		if bd.state != queue.Pending || bd.queued || bd.notBefore.After(r.now) || !r.room(&r.done.Queued) {
			continue
		}
		if bd.class == nil {
			bd.class = b.find(bd.Pool, bd.Labels)
		}
		if bd.class == nil {
			bd.class = b.intern(bd.Pool, bd.Labels)
			r.done.Interned++
		}
		bd.class.add(bd)
	}
}

// forget removes what nothing refers to any more.
func (b *Backend) forget(r *round) {
	inUse := make(map[*session]bool)
	for _, bd := range b.builds {
		inUse[bd.session] = true
	}
	served := make(map[*controller]bool)
	for id, s := range b.sessions {
		if s.ended() && !inUse[s] && due(s.lostAt.Add(forget), r.now) && r.room(&r.done.Forgotten) {
			delete(b.sessions, id)
		} else {
			served[s.controller] = true
		}
	}
	for id, c := range b.controllers {
		if !served[c] && due(c.aliveUntil.Add(forget), r.now) && r.room(&r.done.Forgotten) {
			delete(b.controllers, id)
		}
	}
}
