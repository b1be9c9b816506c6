package queue_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/queue/memqueue"
)

// A waiting is somebody who waits for hints, in a bubble.
type waiting struct {
	*queue.Wakes
	t *testing.T
}

// waitFor returns Wakes that have had their first call and poll less often than tests wait.
func waitFor(t *testing.T, q *queue.Queue, purpose queue.Purpose) waiting {
	w := waiting{q.Wakes(purpose, time.Hour), t}
	t.Cleanup(w.Stop)
	if !w.Next(t.Context()) {
		t.Error("the first call did not return at once")
	}
	return w
}

// rung reports whether it was time to look, within a second.
func (w waiting) rung() bool {
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Second)
	defer cancel()
	return w.Next(ctx)
}

// Whatever may make a build claimable in this process wakes whoever claims, and what may have to be stopped whoever looks for
// that; many hints are one.
func TestWakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, id, s := run(t)
		claims, cancels := waitFor(t, f.Queue, queue.ForClaims), waitFor(t, f.Queue, queue.ForCancels)
		ctx := t.Context()
		for _, c := range []struct {
			name            string
			do              func() error
			claims, cancels bool
		}{
			{"get", func() error { return second(f.Get(ctx, "project", id.Build)) }, false, false},
			{"submit", func() error { return second(f.Submit(ctx, queue.Params{Project: "project"})) }, true, false},
			{"submit of what nobody serves", func() error { return second(f.Submit(ctx, queue.Params{Project: "project", Pool: "new"})) }, false, false},
			{"maintain", func() error { return second(f.Maintain(ctx)) }, true, false},
			{"maintain again", func() error { return second(f.Maintain(ctx)) }, false, false},
			{"submit of nothing", func() error { return second(f.SubmitMany(ctx, nil)) }, false, false},
			{"cancel of a running build", func() error { return second(f.Cancel(ctx, "project", id.Build, "")) }, false, true},
			{"finish", func() error { return second(f.Finish(ctx, queue.Completion{AttemptID: id, Outcome: queue.Failed})) }, false, false},
			{"lose sessions", func() error { return f.LoseSessions(ctx, s) }, true, true},
			{"lose none", func() error { return f.LoseSessions(ctx) }, false, false},
			{"wakes", func() error { f.Wake(); f.Wake(); return nil }, true, true},
			{"ring", func() error { claims.Ring(); return nil }, true, false},
		} {
			if err := c.do(); err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
			if got := claims.rung(); got != c.claims {
				t.Errorf("%s wakes who claims: %t, want %t", c.name, got, c.claims)
			}
			if got := cancels.rung(); got != c.cancels {
				t.Errorf("%s wakes who looks for cancels: %t, want %t", c.name, got, c.cancels)
			}
			if claims.rung() || cancels.rung() {
				t.Errorf("%s wakes twice", c.name)
			}
		}
	})
}

// A hint reaches all who wait for it, but for those who have stopped.
func TestWakesReachEverybody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := queue.New(memqueue.New(), nil)
		var all []waiting
		for range 5 {
			all = append(all, waitFor(t, q, queue.ForClaims))
		}
		all[0].Stop()
		q.Wake()
		for i, w := range all {
			if got := w.rung(); got != (i > 0) {
				t.Errorf("number %d was woken: %t", i, got)
			}
		}
	})
}

// Without hints it is time to look more and more seldom, and soon again after something was found.
func TestWakesPoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := queue.New(memqueue.New(), nil)
		w := q.Wakes(queue.ForClaims, time.Second)
		defer w.Stop()
		looks := func(d time.Duration) (n int) {
			ctx, cancel := context.WithTimeout(t.Context(), d)
			defer cancel()
			for w.Next(ctx) {
				n++
			}
			return n
		}
		if n := looks(time.Second); n < 5 || n > 9 {
			t.Errorf("in the first second there were %d looks", n)
		}
		if n := looks(time.Minute); n < 49 || n > 76 {
			t.Errorf("in a minute there were %d looks, want about one a second", n)
		}
		w.Found()
		if n := looks(100 * time.Millisecond); n < 2 {
			t.Errorf("in a tenth of a second after something was found there were %d looks", n)
		}
	})
}

// A radio is a backend that passes hints on between queues.
type radio struct {
	queue.Backend
	waves *waves
}

// Waves carry hints from any radio to all.
type waves struct {
	mu        sync.Mutex
	receivers map[chan queue.Hint]bool
	sent      []queue.Hint
	broken    error // what Notify and Listen fail with
	cut       chan struct{}
}

func newWaves() *waves {
	return &waves{receivers: make(map[chan queue.Hint]bool), cut: make(chan struct{})}
}

// fail breaks all connections; nil lets them be made again.
func (w *waves) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.broken = err
	if err != nil {
		close(w.cut)
		w.cut = make(chan struct{})
	}
}

// hints returns what was sent since it was last called.
func (w *waves) hints() []queue.Hint {
	w.mu.Lock()
	defer w.mu.Unlock()
	sent := w.sent
	w.sent = nil
	return sent
}

func (r *radio) Notify(_ context.Context, h queue.Hint) error {
	r.waves.mu.Lock()
	defer r.waves.mu.Unlock()
	if r.waves.broken != nil {
		return r.waves.broken
	}
	r.waves.sent = append(r.waves.sent, h)
	for c := range r.waves.receivers {
		c <- h
	}
	return nil
}

func (r *radio) Listen(ctx context.Context, wake func(queue.Hint)) error {
	r.waves.mu.Lock()
	if err := r.waves.broken; err != nil {
		r.waves.mu.Unlock()
		return err
	}
	hints, cut := make(chan queue.Hint, 1000), r.waves.cut
	r.waves.receivers[hints] = true
	r.waves.mu.Unlock()
	defer func() {
		r.waves.mu.Lock()
		delete(r.waves.receivers, hints)
		r.waves.mu.Unlock()
	}()
	wake(queue.Hint{Any: true})
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-cut:
			return errBroken
		case h := <-hints:
			wake(h)
		}
	}
}
