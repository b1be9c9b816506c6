package memqueue

import (
	"context"
	"slices"
	"time"

	"github.com/slipway-build/slipway/queue"
)

// Claim implements [queue.Transitions].
func (b *Backend) Claim(ctx context.Context, demand []queue.Demand, offer time.Duration, now time.Time) ([]queue.Claimed, error) {
	unlock, err := b.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	now = present(now)
	var claimed []queue.Claimed
	for _, d := range demand {
		c := b.byID(d.Class)
		if c == nil || c.pool.Paused {
			continue
		}
		for _, id := range d.Slots {
			s := b.sessions[id]
			if s == nil || s.ended() {
				continue
			}
			bd := c.next(d.Floor, s.Worker, now)
			if bd == nil {
				continue
			}
			bd.claim(s)
			if s.Direct {
				bd.start(queue.Digest{}, offer, now)
			} else {
				bd.offer(now.Add(offer))
			}
			claimed = append(claimed, bd.claimed())
		}
	}
	return claimed, nil
}

// next returns the first queued build from the floor on that the worker may have, nil if there is none.
func (c *class) next(floor int64, worker string, now time.Time) *build {
	for _, bd := range c.from(floor) {
		if !bd.project.Paused && (bd.avoid != worker || due(bd.avoidUntil, now)) {
			return bd
		}
	}
	return nil
}

// claimed returns what a session is told of a build that was given to it.
func (bd *build) claimed() queue.Claimed {
	n := cloneBuild(bd.NewBuild)
	if len(n.Spec) > queue.InlineSpec {
		n.Spec = nil
	}
	return queue.Claimed{
		AttemptID: queue.AttemptID{Build: bd.ID, Epoch: bd.epoch}, Session: bd.session.id, Class: bd.class.ID, Rank: bd.rank,
		Project: bd.Project, Pool: bd.Pool, Spec: n.Spec, SpecSize: len(bd.Spec), Source: n.Source, RunTimeout: bd.RunTimeout,
		Attempt: len(bd.attempts), Metadata: n.Metadata, Admitted: bd.admitted,
	}
}

// Accept implements [queue.Transitions].
func (b *Backend) Accept(ctx context.Context, accepts []queue.Acceptance, now time.Time) ([]queue.AttemptID, error) {
	unlock, err := b.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	now = present(now)
	var done []queue.AttemptID
	for _, a := range accepts {
		bd := b.builds[a.Build]
		if !bd.is(a.AttemptID) || bd.session == nil || bd.session.id != a.Session {
			continue
		}
		switch {
		case bd.state == queue.Offered:
			bd.start(a.TokenHash, a.Slack, now)
		case bd.state.Leased() && bd.current().token == a.TokenHash:
		default:
			continue
		}
		done = append(done, a.AttemptID)
	}
	return done, nil
}

// Release implements [queue.Transitions].
func (b *Backend) Release(ctx context.Context, ids []queue.AttemptID, avoid time.Duration, now time.Time) ([]queue.AttemptID, error) {
	unlock, err := b.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	now = present(now)
	var done []queue.AttemptID
	for _, id := range ids {
		if bd := b.builds[id.Build]; bd.is(id) && bd.state == queue.Offered {
			bd.shun(avoid, now)
			bd.release()
			done = append(done, id)
		}
	}
	return done, nil
}

// Finish implements [queue.Transitions].
func (b *Backend) Finish(ctx context.Context, ends []queue.Completion, avoid time.Duration, now time.Time) ([]queue.Finished, error) {
	unlock, err := b.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	now = present(now)
	var done []queue.Finished
	for _, e := range ends {
		bd := b.builds[e.Build]
		admitted := bd != nil && bd.admitted // before it gives up its room
		if bd.leases(e.AttemptID) && (e.Session == 0 || bd.session.id == e.Session) {
			bd.report(e, avoid, now)
		}
		if led := b.led(e.AttemptID); led != 0 {
			done = append(done, queue.Finished{AttemptID: e.AttemptID, State: led, Admitted: admitted})
		}
	}
	return done, nil
}

// report ends the running attempt as its worker says.
func (bd *build) report(c queue.Completion, avoid time.Duration, now time.Time) {
	e := ending{outcome: c.Outcome, reason: c.Reason, exitCode: c.ExitCode, signal: c.Signal}
	a := bd.current()
	switch canceled := bd.state == queue.Cancelling; {
	case canceled && c.Outcome == queue.Lost:
		e.outcome = queue.Canceled
		bd.end(e, now)
	case !canceled && (c.Outcome == queue.Lost || c.Outcome == queue.Failed && bd.RetryFailed):
		bd.endAttempt(e, avoid, now)
	default:
		bd.end(e, now)
	}
	a.led = bd.state
	a.LogSHA256 = c.LogSHA256
	a.LogComplete = !c.LogPartial && c.LogLength == a.log.length
}

// led returns the state to which Finish led the build by ending that attempt, zero if it did not.
func (b *Backend) led(id queue.AttemptID) queue.State {
	bd := b.builds[id.Build]
	if bd == nil || id.Epoch < 1 {
		return 0
	}
	a := bd.attempt(id.Epoch)
	if a == nil {
		return 0
	}
	return a.led
}

// Cancel implements [queue.Transitions].
func (b *Backend) Cancel(
	ctx context.Context, project string, ids []queue.ID, reason string, force time.Duration, now time.Time,
) ([]queue.CanceledBuild, error) {
	unlock, err := b.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	now = present(now)
	var done []queue.CanceledBuild
	for i, id := range ids {
		bd, err := b.build(project, id)
		if err != nil || slices.Contains(ids[:i], id) {
			continue
		}
		var room bool
		switch bd.state {
		case queue.Pending, queue.Offered:
			room = bd.admitted
			bd.reason = reason
			bd.finish(queue.Canceled, now)
		case queue.Running:
			bd.cancel(reason, now.Add(force))
		default: // it is Cancelling already, or has ended
		}
		done = append(done, queue.CanceledBuild{ID: id, State: bd.state, Admitted: room})
	}
	return done, nil
}
