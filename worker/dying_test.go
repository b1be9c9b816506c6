package worker_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/worker"
	"github.com/slipway-build/slipway/worker/wire"
)

// undying is a build that goes on, whatever it is told, until release is closed.
func undying(started chan<- worker.Job, release <-chan struct{}) executor {
	return func(_ context.Context, job worker.Job) (worker.Result, error) {
		started <- job
		<-release
		return worker.Result{ExitCode: -1, Signal: "SIGKILL"}, nil
	}
}

// run has an agent run what it is offered.
func (p *peer) run(offer *wire.Offer, started <-chan worker.Job) worker.Job {
	p.t.Helper()
	p.send(offer)
	expect[*wire.Accept](p)
	p.send(&wire.Start{Ref: offer.Ref, Lease: 10_000})
	return receive(p.t, "the start", started)
}

// refuse says that an attempt is not the agent's any more.
func (p *peer) refuse(ref wire.Ref) {
	p.t.Helper()
	p.send(&wire.Error{Code: wire.CodeStaleLease, Re: wire.TypeFinished, Build: ref.Build, Epoch: ref.Epoch})
}

// TestDyingTakesItsSlot looks at an attempt that the agent has lost and that is not dead yet: it has its slot, which a heartbeat says
// long before its time, as one does after a decline; it is in hello; and nothing is reported of it when it is dead.
func TestDyingTakesItsSlot(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := newFakeController(t)
	started, released := make(chan worker.Job, 1), make(chan struct{})
	c.agent(w, undying(started, released), func(o *worker.AgentOptions) { o.ReadTimeout = time.Hour })
	release := sync.OnceFunc(func() { close(released) })
	t.Cleanup(release)
	p := newPeer(t, receive(t, "a connection", c.conns))
	expect[*wire.Hello](p)
	p.send(&wire.Welcome{
		Session: "1", Heartbeat: wire.MillisOf(time.Minute), Lease: wire.MillisOf(time.Hour), KillTime: 2000, ServerTime: time.Now().UTC(),
		Limits: wire.SessionLimits{MaxMessage: wire.MaxMessage, LogFrame: 1000, LogWindow: 5000, LogFlush: 1},
	})
	offer := newOffer()
	job := p.run(offer, started)

	p.refuse(offer.Ref)
	if beat := expect[*wire.Heartbeat](p); len(beat.Leases) > 0 || beat.FreeSlots != 0 {
		t.Errorf("heartbeat of a worker with one dying attempt: %+v", beat)
	}
	receive(t, "the kill", job.Kill)
	p.send(newOffer())
	if declined := expect[*wire.Decline](p); declined.Reason != wire.DeclineNoSlot {
		t.Errorf("declined with %s", declined.Reason)
	}
	if beat := expect[*wire.Heartbeat](p); beat.FreeSlots != 0 {
		t.Errorf("heartbeat after a decline: %+v", beat)
	}
	p.conn.CloseNow()

	p, hello := c.welcome(t, func(r wire.Running) wire.Decision { return wire.Decision{Ref: r.Ref, Action: wire.ActionAbandon} })
	if len(hello.Running) != 1 || hello.Running[0].Ref != offer.Ref {
		t.Errorf("hello has %+v, want what is not dead", hello.Running)
	}
	release()
	for {
		switch m := receive(t, "a heartbeat", p.got).(type) {
		case *wire.Finished:
			t.Errorf("finished %+v", m)
		case *wire.Heartbeat:
			if m.FreeSlots == 1 {
				return
			}
		}
	}
}

// TestDyingReprieved has a controller that keeps what another one had said was lost: the attempt is reported, but only when it is dead.
func TestDyingReprieved(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := newFakeController(t)
	started, released := make(chan worker.Job, 1), make(chan struct{})
	c.agent(w, undying(started, released), nil)
	release := sync.OnceFunc(func() { close(released) })
	t.Cleanup(release)
	p, _ := c.welcome(t, keep)
	offer := newOffer()
	job := p.run(offer, started)
	p.refuse(offer.Ref)
	receive(t, "the kill", job.Kill)
	p.conn.CloseNow()

	p, _ = c.welcome(t, keep)
	if beat := expect[*wire.Heartbeat](p); len(beat.Leases) != 1 || beat.FreeSlots != 0 {
		t.Errorf("heartbeat of a worker with one attempt: %+v", beat)
	}
	release()
	for range 2 {
		if end := expect[*wire.Finished](p); end.Ref != offer.Ref || end.Outcome != wire.OutcomeLost {
			t.Errorf("finished %+v", end)
		}
	}
}

// TestKeepsWhatIsGone has a controller that keeps an attempt that the agent has forgotten since its hello: it gets it back.
func TestKeepsWhatIsGone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := newFakeController(t)
	started, released := make(chan worker.Job, 1), make(chan struct{})
	c.agent(w, undying(started, released), nil)
	release := sync.OnceFunc(func() { close(released) })
	t.Cleanup(release)
	p, _ := c.welcome(t, keep)
	offer := newOffer()
	p.run(offer, started)
	p.refuse(offer.Ref)
	expect[*wire.Heartbeat](p)
	p.conn.CloseNow()

	p, _ = c.welcome(t, func(r wire.Running) wire.Decision {
		release()
		eventually(t, "the attempt is forgotten", func() bool { return strings.Contains(w.log.String(), "build ended") })
		return keep(r)
	})
	if end := expect[*wire.Finished](p); end.Ref != offer.Ref || end.Outcome != wire.OutcomeLost {
		t.Errorf("finished %+v", end)
	}
}

// TestNotKilled looks at a build that cannot be killed: it is not given to anybody else, and ends when its time is over.
func TestNotKilled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	options := quickQueue
	options.Slack = 200 * time.Millisecond
	c := w.controllerOn(options, nil)
	tried := make(chan struct{}, 2)
	w.agent("one", func(context.Context, worker.Job) (worker.Result, error) {
		tried <- struct{}{}
		return worker.Result{}, fmt.Errorf("pid 7: %w", worker.ErrNotKilled)
	}, nil, c.server.URL)
	id := w.submit(func(p *queue.Params) { p.RunTimeout = 300 * time.Millisecond })
	receive(t, "the attempt", tried)
	if b := w.end(id); b.State != queue.TimedOut || b.Epoch != 1 {
		t.Errorf("the build is %v at epoch %d, want it timed out at its first", b.State, b.Epoch)
	}
}
