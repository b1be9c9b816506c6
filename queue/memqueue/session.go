package memqueue

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/slipway-build/slipway/queue"
)

// A session is a worker's connection. Ended sessions are kept while builds are leased to them, and a while longer.
type session struct {
	id queue.SessionID
	queue.NewSession
	controller *controller
	lostAt     time.Time // when it ended; zero before
	replaced   bool      // by a newer session of the worker
}

// A controller is a process that holds sessions.
type controller struct {
	freshSince time.Time
	aliveUntil time.Time
}

func (s *session) ended() bool { return !s.lostAt.IsZero() }

// end ends a session that has not ended.
func (s *session) end(now time.Time) { s.lostAt = now }

// gone reports whether a session, or the controller that holds it, has been away for grace.
func (s *session) gone(grace time.Duration, now time.Time) bool {
	return s.ended() && due(s.lostAt.Add(grace), now) || due(s.controller.aliveUntil.Add(grace), now)
}

// fresh reports whether a controller has been alive without a gap for grace. A nil controller has not.
func (c *controller) fresh(grace time.Duration, now time.Time) bool {
	return c != nil && !c.aliveUntil.Before(now) && due(c.freshSince.Add(grace), now)
}

// Beat implements [queue.Sessions].
func (b *Backend) Beat(ctx context.Context, id queue.ID, ttl time.Duration, now time.Time) (queue.Beat, error) {
	unlock, err := b.lock(ctx)
	if err != nil {
		return queue.Beat{}, err
	}
	defer unlock()
	now = present(now)
	c := b.controllers[id]
	if c == nil {
		c = &controller{}
		b.controllers[id] = c
	}
	if c.aliveUntil.Before(now) {
		c.freshSince = now
	}
	c.aliveUntil = now.Add(ttl)
	beat := queue.Beat{Fresh: now.Sub(c.freshSince)}
	for _, s := range b.sessions {
		if s.controller == c && s.replaced {
			beat.Ended = append(beat.Ended, s.id)
		}
	}
	slices.Sort(beat.Ended)
	return beat, nil
}

// OpenSessions implements [queue.Sessions].
func (b *Backend) OpenSessions(ctx context.Context, sessions []queue.NewSession, now time.Time) ([]queue.Opened, error) {
	unlock, err := b.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	now = present(now)
	opened := make([]queue.Opened, len(sessions))
	for i, n := range sessions {
		opened[i].Session = b.begin(n, now)
	}
	offers := make(map[string]bool)
	for _, bd := range b.builds {
		if bd.state == queue.Offered {
			offers[bd.session.Worker] = true
		}
	}
	for i, n := range sessions {
		opened[i].Offers = offers[n.Worker]
	}
	return opened, nil
}

// begin begins a session and ends the one that the worker has.
func (b *Backend) begin(n queue.NewSession, now time.Time) queue.SessionID {
	for _, s := range b.sessions {
		if s.Worker == n.Worker && !s.ended() {
			s.end(now)
			s.replaced = true
		}
	}
	c := b.controllers[n.Controller]
	if c == nil {
		c = &controller{freshSince: now, aliveUntil: now}
		b.controllers[n.Controller] = c
	}
	n.Labels, n.Pools = cloneLabels(n.Labels), slices.Clone(n.Pools)
	b.lastSession++
	b.sessions[b.lastSession] = &session{id: b.lastSession, NewSession: n, controller: c}
	return b.lastSession
}

// LoseSessions implements [queue.Sessions].
func (b *Backend) LoseSessions(ctx context.Context, ids []queue.SessionID, now time.Time) error {
	unlock, err := b.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	now = present(now)
	for _, id := range ids {
		s := b.sessions[id]
		if s == nil || s.ended() {
			continue
		}
		s.end(now)
		for _, bd := range b.builds {
			if bd.session == s && bd.state == queue.Offered {
				bd.release()
			}
		}
	}
	return nil
}

// Adopt implements [queue.Sessions].
func (b *Backend) Adopt(ctx context.Context, id queue.SessionID, held []queue.AttemptID, now time.Time) (queue.Adopted, error) {
	unlock, err := b.lock(ctx)
	if err != nil {
		return queue.Adopted{}, err
	}
	defer unlock()
	s := b.sessions[id]
	if s == nil || s.ended() {
		return queue.Adopted{}, fmt.Errorf("session %d: %w", id, queue.ErrNotFound)
	}
	now = present(now)
	var adopted queue.Adopted
	for _, h := range held {
		bd := b.builds[h.Build]
		switch led := b.led(h); {
		case bd.is(h) && bd.session != nil && bd.session.Worker == s.Worker:
			bd.session = s
			adopted.Leases = append(adopted.Leases, bd.lease(now))
		case led != 0 && bd.attempt(h.Epoch).Worker == s.Worker:
			adopted.Leases = append(adopted.Leases, bd.ended(bd.attempt(h.Epoch)))
		}
	}
	for _, bd := range b.builds {
		if bd.state == queue.Offered && bd.session != s && bd.session.Worker == s.Worker {
			bd.release()
			adopted.Released++
		}
	}
	return adopted, nil
}

// ended returns how an attempt stands that Finish ended.
func (bd *build) ended(a *attempt) queue.Lease {
	return queue.Lease{
		AttemptID: a.AttemptID, Worker: a.Worker, Project: bd.Project, State: a.Outcome, Reason: a.Reason, LogLength: a.log.length,
	}
}

// Leases implements [queue.Sessions].
func (b *Backend) Leases(ctx context.Context, controller queue.ID, cancelling bool) ([]queue.Lease, error) {
	unlock, err := b.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	now := present(noTime)
	var leases []queue.Lease
	for _, bd := range b.builds {
		if bd.session == nil || bd.session.ended() || bd.session.Controller != controller {
			continue
		}
		if !cancelling || bd.state == queue.Cancelling {
			leases = append(leases, bd.lease(now))
		}
	}
	slices.SortFunc(leases, func(x, y queue.Lease) int { return bytes.Compare(x.Build[:], y.Build[:]) })
	return leases, nil
}

// Lease implements [queue.Sessions].
func (b *Backend) Lease(ctx context.Context, id queue.AttemptID) (queue.Lease, error) {
	unlock, err := b.lock(ctx)
	if err != nil {
		return queue.Lease{}, err
	}
	defer unlock()
	bd := b.builds[id.Build]
	if !bd.leases(id) {
		return queue.Lease{}, queue.ErrStaleLease
	}
	return bd.lease(present(noTime)), nil
}
