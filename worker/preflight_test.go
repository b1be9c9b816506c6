package worker_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"math"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/worker"
	"github.com/slipway-build/slipway/worker/wire"
)

// A choosy executor runs builds only while the machine is fit.
type choosy struct {
	executor
	fit   atomic.Bool
	asked atomic.Int64
}

func (c *choosy) Preflight(context.Context, []byte) error {
	c.asked.Add(1)
	if c.fit.Load() {
		return nil
	}
	return errors.New("the program make is not installed")
}

// TestPreflight has the only worker's machine lack something: the build waits without using an attempt, is offered now and then, and runs
// when the machine is fit.
func TestPreflight(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.controller(nil)
	run := &choosy{executor: succeed}
	w.agent("one", nil, func(o *worker.AgentOptions) { o.Executor = run }, c.server.URL)
	id := w.submit(nil)
	eventually(t, "it was asked twice", func() bool { return run.asked.Load() >= 2 })
	if b := w.build(id); b.AttemptsUsed != 0 || b.State.Terminal() {
		t.Errorf("a build that was declined is %v after %d attempts", b.State, b.AttemptsUsed)
	}
	if !strings.Contains(w.log.String(), "the program make is not installed") {
		t.Error("the controller does not say why the build was declined")
	}
	run.fit.Store(true)
	if b := w.end(id); b.State != queue.Succeeded || b.AttemptsUsed != 1 {
		t.Errorf("the build ended as %v after %d attempts", b.State, b.AttemptsUsed)
	}
}

// TestPreflightElsewhere has another worker's machine be fit.
func TestPreflightElsewhere(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.controller(nil)
	run := &choosy{executor: succeed}
	w.agent("one", nil, func(o *worker.AgentOptions) { o.Executor = run }, c.server.URL)
	id := w.submit(nil)
	eventually(t, "it was asked", func() bool { return run.asked.Load() > 0 })
	w.agent("two", succeed, nil, c.server.URL)
	if b := w.end(id); b.State != queue.Succeeded || b.AttemptsUsed != 1 || b.Worker != "two" {
		t.Errorf("the build ended as %v on %q after %d attempts", b.State, b.Worker, b.AttemptsUsed)
	}
}

// TestMinFree has agents whose disks are as they are ask for more and less than there is.
func TestMinFree(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		minFree, source int64
		declined        bool
	}{
		"nothing is asked for":      {-1, math.MaxInt64 / 4, false},
		"little is asked for":       {1, 1, false},
		"more than any disk":        {math.MaxInt64 / 4, 1, true},
		"the source is too large":   {1, math.MaxInt64 / 4, true},
		"both, and more than 2^63 ": {math.MaxInt64 / 2, math.MaxInt64 / 2, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			c := newFakeController(t)
			c.agent(w, succeed, func(o *worker.AgentOptions) { o.MinFree = test.minFree })
			p := newPeer(t, receive(t, "a connection", c.conns))
			expect[*wire.Hello](p)
			p.send(&wire.Welcome{
				Session: "1", Heartbeat: 1000, Lease: 10_000, KillTime: 2000, ServerTime: time.Now().UTC(),
				Limits: wire.SessionLimits{MaxMessage: wire.MaxMessage, LogFrame: 1000, LogWindow: 5000, LogFlush: 1},
			})
			offer := newOffer()
			offer.Source = &wire.Source{URL: "/v1/none", Size: test.source, SHA256: queue.Digest{1}}
			p.send(offer)
			if !test.declined {
				expect[*wire.Accept](p)
				return
			}
			d := expect[*wire.Decline](p)
			if d.Reason != wire.DeclinePreflight || !strings.Contains(string(d.Message), "MiB are needed") {
				t.Errorf("declined because of %s: %s", d.Reason, d.Message)
			}
		})
	}
}

// TestLeftAlone has a worker decline again and again, for its machine is not fit: the pauses between the offers double, and are short again
// once it has accepted.
func TestLeftAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.controller(func(o *worker.HubOptions) { o.ReadTimeout = patient })
	p := c.dial(t, "one")
	p.enter("one", queue.NewID())
	w.submit(nil)
	pause := func() time.Duration {
		offer := expect[*wire.Offer](p)
		p.send(&wire.Decline{Ref: offer.Ref, Reason: wire.DeclinePreflight, Message: "no disk"})
		declined := time.Now()
		p.got <- expect[*wire.Offer](p) // to be answered next
		return time.Since(declined)
	}
	for i, least := range []time.Duration{time.Second, 2 * time.Second} {
		if got := pause(); got < least {
			t.Errorf("pause %d is %v, want %v at least", i+1, got, least)
		}
	}
	offer, _ := p.take()
	p.send(&wire.Finished{Ref: offer.Ref, Outcome: wire.OutcomeSucceeded, ExitCode: new(0), LogSHA256: sha256.Sum256(nil)})
	expect[*wire.FinishedOK](p)
	w.submit(nil)
	if got := pause(); got > 3*time.Second {
		t.Errorf("the pause after an accept is %v, as if there had been none", got)
	}
}
