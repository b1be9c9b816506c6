package worker_test

import (
	"testing"
	"time"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/worker"
	"github.com/slipway-build/slipway/worker/wire"
)

// TestIdleAgentBeatsSeldom has an agent that has nothing to renew say nothing for an hour, say at once when it has its first build, and
// go on as often as it must then. When it gets no answers it leaves long before the hour has passed.
func TestIdleAgentBeatsSeldom(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := newFakeController(t)
	started, release := make(chan worker.Job, 1), make(chan struct{})
	c.agent(w, undying(started, release), nil)
	t.Cleanup(func() { close(release) })
	p := newPeer(t, receive(t, "a connection", c.conns))
	expect[*wire.Hello](p)
	p.send(&wire.Welcome{
		Session: "1", Heartbeat: 50, IdleHeartbeat: wire.MillisOf(time.Hour), Lease: 1500, KillTime: 2000, ServerTime: time.Now().UTC(),
		Limits: wire.SessionLimits{MaxMessage: wire.MaxMessage, LogFrame: 1000, LogWindow: 5000, LogFlush: 1},
	})
	<-time.After(400 * time.Millisecond)
	if n := len(p.got); n > 0 {
		t.Errorf("%d messages of an idle agent, the first is %+v", n, <-p.got)
	}
	offer := newOffer()
	p.run(offer, started)
	for range 3 { // unless an attempt is in them they are those of an idle agent
		if beat := expect[*wire.Heartbeat](p); beat.FreeSlots != 0 {
			t.Errorf("heartbeat of an agent with a build: %+v", beat)
		}
	}
	second := newPeer(t, receive(t, "another connection", c.conns))
	if again := expect[*wire.Hello](second); len(again.Running) != 1 {
		t.Errorf("hello of an agent with a build: %+v", again)
	}
}

// TestIdleWorkerMayBeSilent has a worker say nothing for longer than one with a build may, take a build, and then say nothing again.
func TestIdleWorkerMayBeSilent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.controller(func(o *worker.HubOptions) { o.ReadTimeout, o.IdleHeartbeat = 300*time.Millisecond, time.Minute })
	p := c.dial(t, "one")
	if welcome := p.enter("one", queue.NewID()); welcome.IdleHeartbeat != wire.MillisOf(time.Minute) {
		t.Errorf("welcome asks for a heartbeat every %v while there is no build", welcome.IdleHeartbeat.Duration())
	}
	select {
	case err := <-p.ended:
		t.Fatalf("an idle worker was given up: %v", err)
	case <-time.After(time.Second):
	}
	id := w.submit(nil)
	p.take()
	receive(t, "the end of the connection", p.ended)
	w.await(id, queue.Running)
}
