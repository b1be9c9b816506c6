package worker

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/slipway-build/slipway/internal/ws"
	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/worker/wire"
)

// hello opens the session with a worker's first message, and answers with what becomes of what it runs.
func (s *session) hello(ctx context.Context, kind ws.Kind, data []byte) error {
	if kind != ws.Control {
		return closeError(wire.CloseProtocol)
	}
	m, err := wire.Decode(data)
	if err != nil {
		return s.malformed(ctx, err)
	}
	hello, ok := m.(*wire.Hello)
	if !ok {
		return closeError(wire.CloseProtocol)
	}
	s.impatience.Stop()
	if hello.Worker != s.identity.Worker {
		s.log.Warn("a worker's credential was used for another name", "name", hello.Worker)
		return closeError(wire.CloseUnauthorized)
	}
	id, err := s.hub.queue.OpenSession(ctx, queue.NewSession{
		Worker: hello.Worker, Instance: hello.Instance.String(), Labels: hello.Labels, Pools: s.identity.Pools,
		Slots: max(hello.Slots, 1),
	})
	if err != nil {
		return s.failed("session not opened", err)
	}
	s.id, s.worker, s.slots, s.draining = id, hello.Worker, hello.Slots, hello.Draining
	s.most = 4 * (s.slots + len(hello.Running) + 4)
	s.log = s.log.With("session", int64(id))
	s.conn.SetReadTimeout(s.patience())
	s.hub.replace(s)
	decisions, starts, err := s.adopt(ctx, hello.Running)
	if err != nil {
		return s.failed("leases not adopted", err)
	}
	if !s.hub.alive() {
		return s.failed("no leases granted", ErrUnavailable)
	}
	if !s.send(ctx, s.welcome(decisions)) {
		return errGone
	}
	for _, ref := range starts {
		if err := s.later(ref, &wire.Accept{}, func(ctx context.Context) { s.start(ctx, ref) }); err != nil {
			return err
		}
	}
	s.hub.join(s)
	s.log.Info("worker connected", "version", hello.Version, "slots", hello.Slots, "running", len(hello.Running))
	return nil
}

func (s *session) welcome(decisions []wire.Decision) *wire.Welcome {
	o := &s.hub.opts
	return &wire.Welcome{
		Session: strconv.FormatInt(int64(s.id), 10), Heartbeat: wire.MillisOf(o.Heartbeat),
		IdleHeartbeat: wire.MillisOf(o.IdleHeartbeat), Lease: wire.MillisOf(o.Lease),
		KillTime: wire.MillisOf(o.KillTime), ServerTime: time.Now().UTC(), Decisions: decisions,
		Limits: wire.SessionLimits{
			MaxMessage: wire.MaxMessage, LogFrame: wire.MaxLogData, LogWindow: o.LogWindow, LogFlush: wire.MillisOf(o.LogFlush),
		},
	}
}

// adopt decides on each attempt that a worker says it has, and returns those whose start must be sent again.
func (s *session) adopt(ctx context.Context, running []wire.Running) ([]wire.Decision, []wire.Ref, error) {
	ids := make([]queue.AttemptID, len(running))
	for i, r := range running {
		ids[i] = queue.AttemptID(r.Ref)
	}
	leases, err := s.hub.queue.Adopt(ctx, s.id, ids)
	if err != nil {
		return nil, nil, err
	}
	decisions := make([]wire.Decision, 0, len(running))
	var starts []wire.Ref
	for _, r := range running {
		d := wire.Decision{Ref: r.Ref, Action: wire.ActionAbandon}
		i := slices.IndexFunc(leases, func(l queue.Lease) bool { return l.AttemptID == queue.AttemptID(r.Ref) })
		if i >= 0 {
			lease := leases[i]
			d.Action, d.LogOffset = actionFor(lease.State), lease.LogLength
			if !lease.State.Terminal() {
				s.remember(lease.AttemptID)
			}
			if lease.State == queue.Running && r.State == wire.StageAccepted {
				starts = append(starts, r.Ref)
			}
			if lease.State == queue.Cancelling {
				s.noteCancel(lease) // the decision tells it
			}
		}
		decisions = append(decisions, d)
	}
	return decisions, starts, nil
}

func actionFor(state queue.State) wire.Action {
	switch {
	case state.Terminal():
		return wire.ActionResendResult
	case state == queue.Cancelling:
		return wire.ActionCancel
	default:
		return wire.ActionKeep
	}
}

// failed ends a connection that could not be set up.
func (s *session) failed(what string, err error) error {
	s.log.Warn(what, "error", err)
	switch {
	case errors.Is(err, queue.ErrInvalid):
		return closeError(wire.CloseProtocol)
	case errors.Is(err, queue.ErrNotFound): // the session ended meanwhile: the worker has a newer one
		return closeError(wire.CloseReplaced)
	default: // the worker's leases run on: it shall come back before they are over
		return closeError(wire.CloseInternal)
	}
}
