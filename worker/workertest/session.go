package workertest

import (
	"crypto/sha256"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/worker/wire"
)

// A Session is a connection of a worker to a [Controller].
type Session struct {
	*Peer

	// Hello is what the worker said first.
	Hello *wire.Hello

	controller *Controller
	greeted    atomic.Bool // welcome was sent

	// Under the Peer's lock.
	manual map[wire.Type]bool
	lost   map[wire.Ref]bool
	cancel []wire.Cancel
}

// TypeLog stands for log frames in [Session.Manual].
const TypeLog wire.Type = "log"

var sessions atomic.Int64

// Manual has the test itself answer what comes of these types: [wire.TypeHeartbeat], [wire.TypeFinished] and [TypeLog], which
// are answered by heartbeat_ok, finished_ok and log_ack otherwise. Log bytes of a type that is manual are not kept.
func (s *Session) Manual(types ...wire.Type) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range types {
		s.manual[t] = true
	}
}

// Automatic ends what Manual began, for what comes from now on.
func (s *Session) Automatic(types ...wire.Type) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range types {
		delete(s.manual, t)
	}
}

// Welcome answers hello.
func (s *Session) Welcome(decisions ...wire.Decision) {
	s.tb.Helper()
	o := &s.controller.opts
	s.greeted.Store(true)
	s.Send(&wire.Welcome{
		Session: strconv.FormatInt(sessions.Add(1), 10), Heartbeat: wire.MillisOf(o.Heartbeat), Lease: wire.MillisOf(o.Lease),
		KillTime: wire.MillisOf(o.KillTime), ServerTime: time.Now().UTC(), Decisions: decisions,
		Limits: wire.SessionLimits{MaxMessage: wire.MaxMessage, LogFrame: o.LogFrame, LogWindow: o.LogWindow, LogFlush: 10},
	})
}

// Offer offers a new build, with a source unless that is nil.
func (s *Session) Offer(spec, source []byte) *wire.Offer {
	s.tb.Helper()
	offer := s.newOffer(spec, source)
	s.Send(offer)
	return offer
}

// newOffer makes an offer, whose source is served from now on, and does not send it.
func (s *Session) newOffer(spec, source []byte) *wire.Offer {
	o := &s.controller.opts
	offer := &wire.Offer{
		Ref: wire.Ref{Build: queue.NewID(), Epoch: 1}, Expires: wire.MillisOf(wire.DefaultOfferTimeout), Project: "acme", Pool: "default", Spec: spec,
		Limits: wire.AttemptLimits{RunTimeout: wire.MillisOf(o.RunTimeout), CancelGrace: wire.MillisOf(o.CancelGrace), LogCap: o.LogCap},
	}
	if source != nil {
		offer.Source = &wire.Source{
			URL:  fmt.Sprintf("/v1/worker/builds/%s/%d/source", offer.Build, offer.Epoch),
			Size: int64(len(source)), SHA256: sha256.Sum256(source),
		}
	}
	s.controller.mu.Lock()
	s.controller.attemptLocked(offer.Ref).source = source
	s.controller.mu.Unlock()
	return offer
}

// Start says that an attempt may run.
func (s *Session) Start(ref wire.Ref) {
	s.tb.Helper()
	s.Send(&wire.Start{Ref: ref, Lease: wire.MillisOf(s.controller.opts.Lease)})
}

// Run offers a build, waits until it is accepted, and starts it.
func (s *Session) Run(spec, source []byte) wire.Ref {
	s.tb.Helper()
	offer := s.Offer(spec, source)
	s.Accepted(offer.Ref)
	s.Start(offer.Ref)
	return offer.Ref
}

// Accepted waits until an offer is accepted.
func (s *Session) Accepted(ref wire.Ref) *wire.Accept {
	s.tb.Helper()
	return Await(s.Peer, func(m *wire.Accept) bool { return m.Ref == ref })
}

// Cancel has the answers to heartbeats say from now on that an attempt is to be canceled, and sends the cancel as well if push is true.
func (s *Session) Cancel(ref wire.Ref, push bool) {
	s.tb.Helper()
	m := wire.Cancel{Ref: ref, Reason: "superseded", Grace: wire.MillisOf(s.controller.opts.CancelGrace)}
	s.mu.Lock()
	s.cancel = append(s.cancel, m)
	s.mu.Unlock()
	if push {
		s.Send(&m)
	}
}

// Lose has the answers to heartbeats say from now on that an attempt is not the worker's any more.
func (s *Session) Lose(ref wire.Ref) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lost[ref] = true
}

// Finished waits for the report of an attempt.
func (s *Session) Finished(ref wire.Ref) *wire.Finished {
	s.tb.Helper()
	return Await(s.Peer, func(m *wire.Finished) bool { return m.Ref == ref })
}

// Logged waits until an attempt's log has that many bytes.
func (s *Session) Logged(ref wire.Ref, length int) {
	s.tb.Helper()
	s.wait(fmt.Sprintf("%d bytes of log", length), func() bool {
		s.controller.mu.Lock()
		defer s.controller.mu.Unlock()
		return len(s.controller.attemptLocked(ref).log) >= length
	})
}

// react does on the connection's own goroutine what needs no decision.
func (s *Session) react(m any) {
	switch m := m.(type) {
	case *wire.Hello:
		if s.Hello == nil {
			s.Hello = m
			s.controller.sessions <- s
		}
		return
	case *wire.Unknown, *wire.Error:
		return
	}
	if !s.greeted.Load() {
		s.fault("the worker said %T before it was welcome", m)
		return
	}
	switch m := m.(type) {
	case *wire.Accept:
		s.controller.mu.Lock()
		s.controller.attemptLocked(m.Ref).hash = m.TokenHash
		s.controller.mu.Unlock()
	case *wire.Heartbeat:
		s.beat(m)
	case *wire.LogFrame:
		s.keep(m)
	case *wire.Finished:
		if !s.isManual(wire.TypeFinished) {
			s.answer(&wire.FinishedOK{Ref: m.Ref})
		}
	}
}

func (s *Session) isManual(t wire.Type) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.manual[t]
}

// answer is Send for the connection's own goroutine.
func (s *Session) answer(m wire.Message) {
	data, err := wire.Encode(m)
	if err != nil {
		s.fault("encode: %v", err)
		return
	}
	_ = s.conn.TryControl(data) // a connection that has ended needs no answer
}

func (s *Session) beat(m *wire.Heartbeat) {
	if s.isManual(wire.TypeHeartbeat) {
		return
	}
	ok := &wire.HeartbeatOK{Seq: m.Seq, Lease: wire.MillisOf(s.controller.opts.Lease)}
	s.mu.Lock()
	for _, ref := range m.Leases {
		if s.lost[ref] {
			ok.Lost = append(ok.Lost, ref)
		} else {
			ok.Kept = append(ok.Kept, ref)
		}
	}
	ok.Cancel = append(ok.Cancel, s.cancel...)
	s.mu.Unlock()
	s.answer(ok)
}

// keep adds to a log, and answers.
func (s *Session) keep(frame *wire.LogFrame) {
	o := &s.controller.opts
	if int64(len(frame.Data)) > o.LogFrame {
		s.fault("a log frame has %d bytes, more than the %d that welcome allows", len(frame.Data), o.LogFrame)
	}
	if s.isManual(TypeLog) {
		return
	}
	s.controller.mu.Lock()
	kept := s.controller.attemptLocked(frame.Ref)
	length, end := int64(len(kept.log)), frame.Offset+int64(len(frame.Data))
	gap := frame.Offset > length
	if !gap && end > length {
		kept.log = append(kept.log, frame.Data[length-frame.Offset:]...)
		length = end
	}
	s.controller.mu.Unlock()
	if gap {
		s.answer(&wire.LogNack{Ref: frame.Ref, Expected: length})
		return
	}
	s.answer(&wire.LogAck{Ref: frame.Ref, Offset: length, Window: o.LogWindow})
}
