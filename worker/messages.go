package worker

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/worker/wire"
)

// repeatCancel is how long a worker that was told to cancel is left alone.
const repeatCancel = 3 * time.Second

// leastRest and mostRest are how long a worker whose machine is not fit is left alone.
const (
	leastRest = time.Second
	mostRest  = 30 * time.Second
)

// receive answers a control message.
func (s *session) receive(ctx context.Context, data []byte) error {
	m, err := wire.Decode(data)
	if err != nil {
		return s.malformed(ctx, err)
	}
	switch m := m.(type) {
	case *wire.Heartbeat:
		s.heartbeat(ctx, m)
	case *wire.Accept:
		return s.later(m.Ref, m, func(ctx context.Context) { s.accept(ctx, m) })
	case *wire.Decline:
		return s.later(m.Ref, m, func(ctx context.Context) { s.decline(ctx, m) })
	case *wire.Finished:
		return s.later(m.Ref, m, func(ctx context.Context) { s.finished(ctx, m) })
	case *wire.Drain:
		s.log.Info("worker drains", "reason", string(m.Reason))
		s.set(&s.draining, true)
	case *wire.Pause:
		s.log.Info("worker pauses", "reason", string(m.Reason))
		s.set(&s.paused, true)
	case *wire.Resume:
		s.log.Info("worker resumes", "reason", string(m.Reason))
		s.set(&s.paused, false)
		s.hub.claims.Ring()
	case *wire.Bye:
		s.log.Info("worker leaves", "reason", string(m.Reason))
	case *wire.StateReport:
		s.log.Debug("worker reports", "build", m.Build, "epoch", m.Epoch, "phase", m.Phase)
	case *wire.Error:
		s.log.Warn("worker reports an error", "code", string(m.Code), "re", string(m.Re), "build", m.Build, "message", string(m.Message))
	}
	return nil // the rest asks for nothing
}

// set changes one of the reasons for which s gets no offers.
func (s *session) set(reason *bool, holds bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	*reason = holds
	s.stir()
}

// leaveAlone gives a worker no offers for a while, after which its machine may be fit: a disk does not get empty because it is asked more
// often. Each such decline without an accept in between doubles the while.
func (s *session) leaveAlone() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.resting {
		return
	}
	s.rest = min(max(2*s.rest, leastRest), mostRest)
	s.resting = true
	s.stir()
	s.rested = time.AfterFunc(s.rest, func() {
		s.set(&s.resting, false)
		s.hub.claims.Ring()
	})
}

// fit forgets that the worker's machine was not.
func (s *session) fit() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rest = 0
}

// heartbeat renews leases from memory. It is not answered once this process may be taken for dead: then the worker's leases run out
// before anybody else can be given its builds.
func (s *session) heartbeat(ctx context.Context, m *wire.Heartbeat) {
	if !s.hub.alive() {
		return
	}
	ok := &wire.HeartbeatOK{Seq: m.Seq, Lease: wire.MillisOf(s.hub.opts.Lease)}
	s.mu.Lock()
	s.draining, s.busy = m.Draining, max(0, s.slots-m.FreeSlots-len(m.Leases))
	s.full = s.full && m.FreeSlots == 0
	s.conn.SetReadTimeout(s.patience())
	s.stir()
	for _, ref := range m.Leases {
		l := s.leases[queue.AttemptID(ref)]
		if l == nil {
			ok.Lost = append(ok.Lost, ref)
			continue
		}
		ok.Kept = append(ok.Kept, ref)
		if l.canceled != nil {
			ok.Cancel = append(ok.Cancel, *l.canceled)
		}
	}
	s.mu.Unlock()
	s.send(ctx, ok)
}

// offer sends a claimed build to the worker, and reports whether it could.
func (s *session) offer(data []byte, id queue.AttemptID) bool {
	s.remember(id)
	if s.conn.TryControl(data) != nil {
		s.forget(id)
		return false
	}
	s.log.Debug("build offered", "build", id.Build, "epoch", id.Epoch)
	return true
}

// encodeOffer returns the message with which a claimed build is offered.
func (h *Hub) encodeOffer(o queue.Offer) ([]byte, error) {
	m := &wire.Offer{
		Ref: wire.Ref(o.AttemptID), Expires: wire.MillisOf(o.Expires), Project: o.Project, Pool: o.Pool, Spec: o.Spec,
		Limits: wire.AttemptLimits{
			RunTimeout: wire.MillisOf(o.RunTimeout), CancelGrace: wire.MillisOf(h.opts.CancelGrace), LogCap: h.opts.LogCap,
		},
	}
	if o.Source != nil {
		m.Source = &wire.Source{URL: sourcePath(o.AttemptID), Size: o.Source.Size, SHA256: o.Source.Digest}
	}
	return wire.Encode(m)
}

func (s *session) accept(ctx context.Context, m *wire.Accept) {
	id := queue.AttemptID(m.Ref)
	if err := s.hub.queue.Accept(ctx, s.id, id, m.TokenHash); err != nil {
		s.refuse(ctx, m, m.Ref, err)
		return
	}
	s.remember(id)
	s.fit()
	s.start(ctx, m.Ref)
}

func (s *session) decline(ctx context.Context, m *wire.Decline) {
	id := queue.AttemptID(m.Ref)
	if !s.holds(id) {
		return // not this worker's to give back, or not any more
	}
	s.log.Info("build declined", "build", m.Build, "epoch", m.Epoch, "reason", string(m.Reason), "message", string(m.Message))
	switch m.Reason {
	case wire.DeclineDraining:
		s.set(&s.draining, true)
	case wire.DeclineNoSlot:
		s.set(&s.full, true)
	case wire.DeclinePreflight:
		s.leaveAlone()
	case wire.DeclineUnsupported: // which says something of this build, not of the next
	}
	if err := s.hub.queue.Release(ctx, id); err != nil && !errors.Is(err, queue.ErrStaleLease) {
		s.log.Warn("decline not written down; the offer runs out by itself", "build", m.Build, "epoch", m.Epoch, "error", err)
	}
	s.forget(id)
}

func (s *session) finished(ctx context.Context, m *wire.Finished) {
	outcome, err := queue.ParseState(string(m.Outcome))
	if err != nil {
		s.refuse(ctx, m, m.Ref, err)
		return
	}
	reason := string(m.Reason)
	if m.Partial {
		reason = strings.TrimPrefix(reason+"; "+string(m.PartialReason), "; ")
	}
	held := s.holds(queue.AttemptID(m.Ref)) // or it is a report that was sent again
	state, err := s.hub.queue.Finish(ctx, queue.Completion{
		AttemptID: queue.AttemptID(m.Ref), Session: s.id, Outcome: outcome, Reason: reason, ExitCode: m.ExitCode, Signal: m.Signal,
		LogLength: m.LogLen, LogSHA256: m.LogSHA256, LogPartial: m.Partial,
	})
	if err != nil {
		s.refuse(ctx, m, m.Ref, err)
		return
	}
	s.send(ctx, &wire.FinishedOK{Ref: m.Ref})
	s.forget(queue.AttemptID(m.Ref))
	s.hub.claims.Ring() // a slot is free
	if held {
		s.log.Info("build ended", "build", m.Build, "epoch", m.Epoch, "outcome", outcome.String(), "state", state.String())
	}
}

// refuse tells the worker that what it asked for did not happen. Only a stale lease is final; the worker asks again otherwise.
func (s *session) refuse(ctx context.Context, m wire.Message, ref wire.Ref, err error) {
	code := wire.CodeInternal
	switch {
	case errors.Is(err, queue.ErrStaleLease):
		code = wire.CodeStaleLease
		s.forget(queue.AttemptID(ref))
		s.hub.claims.Ring()
	case errors.Is(err, queue.ErrInvalid):
		code = wire.CodeBadState
	}
	s.log.Info("worker refused", "type", string(m.Type()), "build", ref.Build, "epoch", ref.Epoch, "error", err)
	s.send(ctx, &wire.Error{Code: code, Re: m.Type(), Build: ref.Build, Epoch: ref.Epoch})
}

// cancel tells the worker to stop a build, now and then until the lease is over.
func (s *session) cancel(l queue.Lease) {
	if m := s.noteCancel(l); m != nil {
		s.sendNow(m)
	}
}

// noteCancel makes the answers to heartbeats carry the cancel of a build. It returns the message to send, nil if the worker was told
// a moment ago.
func (s *session) noteCancel(l queue.Lease) *wire.Cancel {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	kept := s.leases[l.AttemptID]
	if kept == nil || now.Sub(kept.told) < repeatCancel {
		return nil
	}
	kept.told = now
	kept.canceled = &wire.Cancel{
		Ref: wire.Ref(l.AttemptID), Reason: wire.Text(l.Reason), Grace: wire.MillisOf(s.hub.opts.CancelGrace),
	}
	return kept.canceled
}

// malformed answers what could not be read. Only what the protocol says may be ignored leaves the connection up.
func (s *session) malformed(ctx context.Context, err error) error {
	s.log.Warn("message not understood", "error", err)
	switch {
	case errors.Is(err, wire.ErrUnsupported):
		s.send(ctx, &wire.Error{Code: wire.CodeUnsupported})
		return nil
	case errors.Is(err, wire.ErrTooLarge):
		return closeError(wire.CloseTooBig)
	default:
		return closeError(wire.CloseProtocol)
	}
}
