package memqueue

import (
	"context"
	"fmt"
	"time"

	"github.com/slipway-build/slipway/queue"
)

// Submit implements [queue.Transitions].
func (b *Backend) Submit(ctx context.Context, builds []queue.NewBuild, now time.Time) ([]queue.Submitted, error) {
	unlock, err := b.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	taken := make(map[queue.ID]bool, len(builds))
	for _, n := range builds {
		if b.builds[n.ID] != nil || taken[n.ID] {
			return nil, fmt.Errorf("build %v: %w", n.ID, queue.ErrConflict)
		}
		taken[n.ID] = true
	}
	now = present(now)
	done := make([]queue.Submitted, len(builds))
	for i, n := range builds {
		bd := &build{NewBuild: cloneBuild(n), state: queue.Pending, rank: n.Rank(now), createdAt: now}
		bd.wait(now)
		b.builds[n.ID] = bd
		done[i] = queue.Submitted{ID: n.ID, Rank: bd.rank, Waiting: true}
		if bd.class = b.find(bd.Pool, bd.Labels); bd.class != nil {
			bd.class.add(bd)
			done[i].Class, done[i].Waiting = bd.class.ID, false
		}
	}
	return done, nil
}

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
		if c == nil {
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
				bd.start(queue.Digest{}, 0, now)
			} else {
				bd.offer(now.Add(offer))
			}
			claimed = append(claimed, bd.claimed())
		}
	}
	return claimed, nil
}

// next returns the first queued build that does not avoid the worker, nil if there is none.
func (c *class) next(floor int64, worker string, now time.Time) *build {
	for _, bd := range c.from(floor) {
		if bd.avoid != worker || due(bd.avoidUntil, now) {
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
		AttemptID: queue.AttemptID{Build: bd.ID, Epoch: bd.epoch}, Session: bd.session.id, Class: bd.class.ID,
		Project: bd.Project, Pool: bd.Pool, Spec: n.Spec, SpecSize: len(bd.Spec), Source: n.Source, RunTimeout: bd.RunTimeout,
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
		if bd.leases(e.AttemptID) {
			bd.report(e, avoid, now)
		}
		if led := b.led(e.AttemptID); led != 0 {
			done = append(done, queue.Finished{AttemptID: e.AttemptID, State: led})
		}
	}
	return done, nil
}

// report ends the running attempt as its worker says.
func (bd *build) report(c queue.Completion, avoid time.Duration, now time.Time) {
	e := ending{outcome: c.Outcome, reason: c.Reason, exitCode: c.ExitCode, signal: c.Signal}
	a := bd.current()
	switch {
	case c.Outcome != queue.Lost:
		bd.end(e, now)
	case bd.state == queue.Cancelling:
		e.outcome = queue.Canceled
		bd.end(e, now)
	default:
		bd.lose(e, avoid, now)
	}
	a.led = bd.state
	a.LogSHA256 = c.LogSHA256
	a.LogComplete = !c.LogPartial && c.LogLength == int64(len(a.log))
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
	for _, id := range ids {
		bd, err := b.build(project, id)
		if err != nil {
			continue
		}
		switch bd.state {
		case queue.Pending, queue.Offered:
			bd.reason = reason
			bd.finish(queue.Canceled, now)
		case queue.Running:
			bd.cancel(reason, now.Add(force))
		default: // it is Cancelling already, or has ended
		}
		done = append(done, queue.CanceledBuild{ID: id, State: bd.state})
	}
	return done, nil
}
