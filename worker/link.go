package worker

import (
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/slipway-build/slipway/internal/ws"
	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/worker/wire"
)

// maxUnanswered bounds how many heartbeats are remembered that were not answered.
const maxUnanswered = 16

// errNoWelcome says that a controller did not answer hello.
var errNoWelcome = errors.New("worker: the controller did not say welcome in time")

// errUnanswered says that a controller did not answer heartbeats, whatever else it may have said.
var errUnanswered = errors.New("worker: the controller did not answer heartbeats in time")

// A link is one connection to a controller.
type link struct {
	agent *Agent
	conn  *ws.Conn
	base  *url.URL
	log   *slog.Logger
	hello moment        // when hello was sent
	beats chan struct{} // asks for a heartbeat before its time

	ready   chan struct{} // closed when welcome has been set
	welcome *wire.Welcome

	guard      *time.Timer // ends the connection when heartbeats are not answered; set with welcome
	unanswered atomic.Bool // it has

	mu   sync.Mutex
	seq  int64
	sent map[int64]moment // heartbeats that were not answered yet
}

// connect opens a connection and serves it to its end. It reports whether the connection has lasted.
func (a *Agent) connect(ctx context.Context, base *url.URL) (lasted bool, err error) {
	target := base.JoinPath("/v1/worker/connect")
	target.Scheme = "ws" + target.Scheme[len("http"):]
	header := http.Header{"Authorization": {"Bearer " + string(a.opts.Credential)}}
	conn, err := ws.Dial(ctx, target.String(), header, a.opts.TLS, &ws.Options{
		Subprotocols:     wire.Subprotocols(),
		MaxMessage:       wire.MaxMessage,
		ReadTimeout:      a.opts.ReadTimeout,
		WriteTimeout:     a.opts.WriteTimeout,
		HandshakeTimeout: a.opts.DialTimeout,
	})
	if err != nil {
		return false, err
	}
	l := &link{
		agent: a, conn: conn, base: base, log: a.log.With("controller", base.Host),
		beats: make(chan struct{}, 1), ready: make(chan struct{}), sent: make(map[int64]moment),
	}
	hello := a.hello()
	hello.Running = append(hello.Running, a.lingering()...)
	l.hello = thisMoment()
	l.send(ctx, hello)

	ctx, end := context.WithCancelCause(ctx)
	impatience := time.AfterFunc(a.opts.DialTimeout, func() {
		select {
		case <-l.ready:
		default:
			end(errNoWelcome)
		}
	})
	defer impatience.Stop()
	var beating sync.WaitGroup
	beating.Go(func() { l.beat(ctx) })
	begun := time.Now()
	err = conn.Run(ctx, l.receive)
	if l.guard != nil {
		l.guard.Stop()
	}
	if l.unanswered.Load() {
		err = errUnanswered
	}
	end(err)
	a.link.CompareAndSwap(l, nil)
	beating.Wait()
	return l.welcome != nil && time.Since(begun) > a.opts.ReconnectMax, err
}

// frame returns how many log bytes go into a frame.
func (l *link) frame() int { return int(l.welcome.Limits.LogFrame) }

// flush returns how long log bytes are gathered.
func (l *link) flush() time.Duration { return l.welcome.Limits.LogFlush.Duration() }

// send encodes and sends a message. A connection that cannot take it is on its way out; what matters is said again.
func (l *link) send(ctx context.Context, m wire.Message) {
	data, err := wire.Encode(m)
	if err != nil {
		l.log.Error("message not sent", "type", string(m.Type()), "error", err)
		return
	}
	_ = l.conn.SendControl(ctx, data)
}

// A pace is how an agent and a controller keep in touch.
type pace struct {
	idle bool
	// every is the time between heartbeats, give or take a fifth.
	every time.Duration
	// silence is how long the controller may say nothing, and patience how long it may leave heartbeats unanswered.
	silence, patience time.Duration
}

// pace is such that both sides know that the other is there and, while there are leases, that an answer may be missed long before their end.
func (l *link) pace() pace {
	w, silence := l.welcome, l.agent.opts.ReadTimeout
	busy := pace{
		every: min(w.Heartbeat.Duration(), w.Lease.Duration()/3, silence/3), silence: silence, patience: w.Lease.Duration() * 2 / 3,
	}
	if !l.agent.idle() {
		return busy
	}
	every := max(busy.every, w.IdleHeartbeat.Duration())
	return pace{idle: true, every: every, silence: max(silence, 3*every), patience: max(busy.patience, 3*every)}
}

// watch lets the connection go on for a while after a message was sent that has now been answered. While there are leases that is two thirds
// of them: what is left is for another controller to renew them. Nothing but answers to heartbeats counts: a controller that says other things
// may be unable to renew.
func (l *link) watch(sent moment) {
	if newest := l.agent.answered.Load(); newest == nil || sent.monotonic.After(newest.monotonic) {
		l.agent.answered.Store(&sent)
	}
	left := l.pace().patience - thisMoment().since(sent)
	if l.guard != nil {
		l.guard.Reset(left)
		return
	}
	l.guard = time.AfterFunc(left, func() {
		l.unanswered.Store(true)
		l.conn.CloseNow()
	})
}

// beat sends heartbeats.
func (l *link) beat(ctx context.Context) {
	select {
	case <-ctx.Done():
		return
	case <-l.ready:
	}
	p := l.pace()
	for {
		jitter := 1 + wire.HeartbeatJitter*(2*rand.Float64()-1)
		timer := time.NewTimer(time.Duration(float64(p.every) * jitter))
		select {
		case <-ctx.Done():
		case <-l.beats:
		case <-timer.C:
		}
		timer.Stop()
		if ctx.Err() != nil {
			return
		}
		was := p
		p = l.pace()
		l.conn.SetReadTimeout(p.silence)
		if was.idle && !p.idle {
			l.guard.Reset(p.patience) // there is something to lose now
		}
		heartbeat := l.agent.heartbeat()
		l.mu.Lock()
		l.seq++
		heartbeat.Seq = l.seq
		l.sent[l.seq] = thisMoment()
		delete(l.sent, l.seq-maxUnanswered)
		l.mu.Unlock()
		l.send(ctx, heartbeat)
	}
}

// soon asks for a heartbeat at once.
func (l *link) soon() { wake(l.beats) }

// rouse is soon for an agent that has its first attempt, whose next heartbeat may be far off.
func (l *link) rouse() {
	if l.welcome.IdleHeartbeat > l.welcome.Heartbeat {
		l.soon()
	}
}

// answered returns when the heartbeat was sent that has been answered.
func (l *link) answered(seq int64) (moment, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	sent, ok := l.sent[seq]
	delete(l.sent, seq)
	return sent, ok
}

// receive acts on a message of the controller.
func (l *link) receive(ctx context.Context, kind ws.Kind, data []byte) error {
	if kind != ws.Control {
		return closeError(wire.CloseProtocol)
	}
	m, err := wire.Decode(data)
	switch {
	case errors.Is(err, wire.ErrUnsupported):
		l.log.Warn("message not understood", "error", err)
		l.send(ctx, &wire.Error{Code: wire.CodeUnsupported})
		return nil
	case errors.Is(err, wire.ErrTooLarge):
		l.log.Warn("message not understood", "error", err)
		return closeError(wire.CloseTooBig)
	case err != nil:
		l.log.Warn("message not understood", "error", err)
		return closeError(wire.CloseProtocol)
	}
	if welcome, ok := m.(*wire.Welcome); ok && l.welcome == nil {
		l.welcomed(ctx, welcome)
		return nil
	}
	if l.welcome == nil {
		return closeError(wire.CloseProtocol)
	}
	l.act(ctx, m)
	return nil
}

// welcomed brings what the agent runs in line with what the controller knows, and lets it speak.
func (l *link) welcomed(ctx context.Context, m *wire.Welcome) {
	l.welcome = m
	l.watch(l.hello)
	for _, d := range m.Decisions {
		t := l.agent.attempt(d.Ref)
		known := t != nil && t.decide(l, d)
		if !known && (d.Action == wire.ActionKeep || d.Action == wire.ActionCancel) {
			l.giveBack(ctx, d.Ref, "the attempt had been dropped when the controller decided to keep it")
		}
	}
	l.agent.controller.Store(l.base)
	l.agent.link.Store(l)
	close(l.ready)
	l.agent.pokeAll()
	l.log.Info("connected", "session", m.Session, "running", len(m.Decisions))
	if off := time.Since(m.ServerTime).Abs(); off > time.Minute {
		l.log.Warn("this machine's clock and the controller's differ", "by", off)
	}
}

func (l *link) act(ctx context.Context, m wire.Message) {
	switch m := m.(type) {
	case *wire.Offer:
		if reason := l.agent.take(l, m); reason != "" {
			l.send(ctx, &wire.Decline{Ref: m.Ref, Reason: reason})
			l.soon() // the controller has another idea of the slots
		}
	case *wire.Start:
		l.start(ctx, m)
	case *wire.HeartbeatOK:
		l.heartbeatOK(ctx, m)
	case *wire.Cancel:
		l.cancel(ctx, m)
	case *wire.LogAck:
		if t := l.agent.attempt(m.Ref); t != nil {
			t.shipment.ack(m.Offset, m.Window)
			t.poke()
		}
	case *wire.LogNack:
		if t := l.agent.attempt(m.Ref); t != nil {
			t.shipment.goTo(m.Expected)
		}
	case *wire.LogLimit:
		if t := l.agent.attempt(m.Ref); t != nil {
			t.shipment.cap(m.Cap)
			t.poke()
		}
	case *wire.FinishedOK:
		l.agent.settle(m.Ref)
	case *wire.Error:
		l.refused(m)
	case *wire.Drain:
		l.log.Info("asked to drain", "reason", string(m.Reason))
		l.agent.drain()
	case *wire.Pause:
		l.log.Info("the controller offers nothing for a while", "reason", string(m.Reason))
	case *wire.Resume:
		l.log.Info("the controller offers builds again", "reason", string(m.Reason))
	case *wire.Bye:
		l.log.Info("the controller is about to close the connection", "reason", string(m.Reason))
	}
}

// start lets an attempt run. One that is not waited for any more is given back.
func (l *link) start(ctx context.Context, m *wire.Start) {
	if t := l.agent.attempt(m.Ref); t != nil {
		t.start(m.Lease.Duration(), m.Secrets)
		return
	}
	l.giveBack(ctx, m.Ref, "the worker no longer waited for the start")
}

// giveBack has an attempt that this worker does not have attempted again.
func (l *link) giveBack(ctx context.Context, ref wire.Ref, reason wire.Text) {
	l.send(ctx, &wire.Finished{Ref: ref, Outcome: wire.OutcomeLost, Reason: reason, LogSHA256: queue.Digest(sha256.Sum256(nil))})
}

func (l *link) heartbeatOK(ctx context.Context, m *wire.HeartbeatOK) {
	if sent, ok := l.answered(m.Seq); ok {
		l.watch(sent)
		for _, ref := range m.Kept {
			if t := l.agent.attempt(ref); t != nil {
				t.renew(sent, m.Lease.Duration())
			}
		}
	}
	for _, ref := range m.Lost {
		l.stale(ref)
	}
	for i := range m.Cancel {
		l.cancel(ctx, &m.Cancel[i])
	}
}

func (l *link) cancel(ctx context.Context, m *wire.Cancel) {
	if t := l.agent.attempt(m.Ref); t != nil {
		t.cancelBuild(m.Grace.Duration())
		l.send(ctx, &wire.Cancelling{Ref: m.Ref})
	}
}

func (l *link) refused(m *wire.Error) {
	switch m.Code {
	case wire.CodeStaleLease, wire.CodeUnknownBuild:
		l.stale(m.Ref())
	default:
		l.log.Warn("controller reports an error", "code", string(m.Code), "re", string(m.Re), "build", m.Build, "epoch", m.Epoch,
			"message", string(m.Message))
	}
}

// stale stops an attempt that is not this worker's any more. The controller takes its slot for free, which it is not yet.
func (l *link) stale(ref wire.Ref) {
	if t := l.agent.attempt(ref); t != nil {
		t.log.Warn("lease lost: the controller says so")
		t.drop(ErrLeaseLost)
		l.soon()
	}
}
