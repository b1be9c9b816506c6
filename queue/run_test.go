package queue_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/queue/memqueue"
)

// keepGoing runs a queue until the test ends or the function that it returns is called.
func keepGoing(t *testing.T, q *queue.Queue) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := q.Run(ctx); err != nil {
			t.Errorf("Run returned %v", err)
		}
	})
	stop = func() {
		cancel()
		running.Wait()
	}
	t.Cleanup(stop)
	return stop
}

// within fails the test unless cond comes true within a time of the bubble's clock.
func within(t *testing.T, limit time.Duration, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(max(time.Millisecond, limit/1000))
	defer tick.Stop()
	for begun := time.Now(); !cond(); <-tick.C {
		if time.Since(begun) > limit {
			t.Fatalf("it was not within %v that %s", limit, what)
		}
	}
}

// A build of a class that nobody knew is claimed at once, and so is one that was admitted when another ended.
func TestRunQueuesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, memqueue.New(), nil)
		s := f.session("worker", queue.Labels{"os": "linux"})
		keepGoing(t, f.Queue)
		claims := waitFor(t, f.Queue, queue.ForClaims)
		var got []queue.Offer
		claim := func() bool {
			if !claims.rung() {
				return false
			}
			offers, err := f.Claim(t.Context(), []queue.Idle{{Session: s, Slots: 5}})
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, offers...)
			return len(offers) > 0
		}
		for i, params := range []queue.Params{
			{Project: "project", Labels: queue.Labels{"os": "linux"}},
			{Project: "project", Labels: queue.Labels{"os": "linux"}},
			{Project: "project", ConcurrencyKey: "deploy"},
		} {
			if _, err := f.Submit(t.Context(), params); err != nil {
				t.Fatal(err)
			}
			within(t, 20*time.Millisecond, fmt.Sprintf("build %d was claimed", i), claim)
		}
		if err := f.SetLimit(t.Context(), "project", "deploy", 1); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Submit(t.Context(), queue.Params{Project: "project", ConcurrencyKey: "deploy"}); err != nil {
			t.Fatal(err)
		}
		if claims.rung() && claim() {
			t.Error("a build was claimed beyond the limit")
		}
		if err := f.Accept(t.Context(), s, got[2].AttemptID, queue.Digest{}); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Finish(t.Context(), queue.Completion{AttemptID: got[2].AttemptID, Outcome: queue.Succeeded}); err != nil {
			t.Fatal(err)
		}
		within(t, 20*time.Millisecond, "the next build of the key was claimed", claim)
	})
}

// What one process does reaches the others by hints, which are few however much it does.
func TestRunPassesHintsOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		backend := &radio{memqueue.New(), newWaves()}
		here, there := newFleet(t, backend, nil), newFleet(t, backend, nil)
		s := there.session("worker", nil)
		here.submit(1, queue.Params{})
		keepGoing(t, here.Queue)
		keepGoing(t, there.Queue)
		synctest.Wait()
		claims, cancels := waitFor(t, there.Queue, queue.ForClaims), waitFor(t, there.Queue, queue.ForCancels)
		if _, err := there.Claim(t.Context(), []queue.Idle{{Session: s, Slots: 1}}); err != nil {
			t.Fatal(err)
		}
		rung := func(w waiting, what string) {
			t.Helper()
			begun := time.Now()
			if !w.rung() {
				t.Errorf("there was no hint of %s", what)
			} else if took := time.Since(begun); took > 20*time.Millisecond {
				t.Errorf("the hint of %s took %v", what, took)
			}
		}
		backend.waves.hints()
		id := here.submit(1, queue.Params{})[0]
		rung(claims, "a build")
		offers, err := there.Claim(t.Context(), []queue.Idle{{Session: s, Slots: 1}})
		if err != nil || len(offers) != 1 {
			t.Fatalf("Claim = %v, %v", offers, err)
		}
		if err := there.Accept(t.Context(), s, offers[0].AttemptID, queue.Digest{}); err != nil {
			t.Fatal(err)
		}
		if _, err := here.Cancel(t.Context(), "project", id, ""); err != nil {
			t.Fatal(err)
		}
		rung(cancels, "a cancel")

		waitFor(t, here.Queue, queue.ForClaims).rung() // until all is quiet
		backend.waves.hints()
		for range 1000 {
			if _, err := here.Submit(t.Context(), queue.Params{Project: "project"}); err != nil {
				t.Fatal(err)
			}
		}
		rung(claims, "a thousand builds")
		waitFor(t, here.Queue, queue.ForClaims).rung()
		if n := len(backend.waves.hints()); n < 1 || n > 3 {
			t.Errorf("a thousand builds at once made %d hints", n)
		}
	})
}

// Ends of builds alone make few hints, and yet each is shown elsewhere soon.
func TestRunPassesChangesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		backend := &radio{memqueue.New(), newWaves()}
		here, there := newFleet(t, backend, nil), newFleet(t, backend, nil)
		ids := here.submit(100, queue.Params{})
		keepGoing(t, here.Queue)
		keepGoing(t, there.Queue)
		waitFor(t, here.Queue, queue.ForClaims).rung() // until all is quiet
		backend.waves.hints()
		begun := time.Now()
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for _, id := range ids {
			<-tick.C
			if _, err := here.Cancel(t.Context(), "project", id, ""); err != nil {
				t.Fatal(err)
			}
		}
		took := time.Since(begun)
		if n := len(backend.waves.hints()); n < 5 || n > 25 {
			t.Errorf("in %v there were %d hints", took, n)
		}
	})
}

// A process that cannot listen, or has lost its connection, listens again when it can.
func TestRunListensAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		backend := &radio{memqueue.New(), newWaves()}
		var text safeBuffer
		here, there := newFleet(t, backend, nil), newFleet(t, backend, &queue.Options{Logger: slog.New(slog.NewTextHandler(&text, nil))})
		there.session("worker", nil)
		here.submit(1, queue.Params{})
		keepGoing(t, here.Queue)
		keepGoing(t, there.Queue)
		claims := waitFor(t, there.Queue, queue.ForClaims)
		claims.rung()
		backend.waves.fail(errBroken)
		here.submit(1, queue.Params{})
		claims.rung()
		if claims.rung() {
			t.Error("a hint passed over a broken connection")
		}
		backend.waves.fail(nil)
		within(t, 10*time.Second, "there was a hint after the connection was made again", claims.rung)
		claims.rung()
		here.submit(1, queue.Params{})
		within(t, time.Second, "hints passed again", claims.rung)
		if n := strings.Count(text.String(), "listen for hints"); n != 2 {
			t.Errorf("the log tells of it %d times, not of its begin and its end:\n%s", n, text.String())
		}
	})
}

// An outage is a backend that does not answer for a while.
type outage struct {
	queue.Backend
	mu  sync.Mutex
	err error
}

func (o *outage) set(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.err = err
}

func (o *outage) now() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}

func (o *outage) Maintain(ctx context.Context, rules queue.Rules, now time.Time) (queue.Maintained, error) {
	if err := o.now(); err != nil {
		return queue.Maintained{}, err
	}
	return o.Backend.Maintain(ctx, rules, now)
}

func (o *outage) Classes(ctx context.Context, after queue.ClassID, max int) ([]queue.Class, error) {
	if err := o.now(); err != nil {
		return nil, err
	}
	return o.Backend.Classes(ctx, after, max)
}

func (o *outage) Admit(ctx context.Context, after queue.Lane, max int, now time.Time) (queue.Admitted, error) {
	if err := o.now(); err != nil {
		return queue.Admitted{}, err
	}
	return o.Backend.Admit(ctx, after, max, now)
}

// A safeBuffer may be written and read at once.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// Run survives an outage, says once that it began and once that it is over, and goes on with its work.
func TestRunSurvivesOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &outage{Backend: memqueue.New()}
		var text safeBuffer
		q := queue.New(b, &queue.Options{Logger: slog.New(slog.NewTextHandler(&text, nil))})
		b.set(fmt.Errorf("no route: %w", queue.ErrUnavailable))
		keepGoing(t, q)
		time.AfterFunc(time.Minute, func() { b.set(nil) })
		id, err := q.Submit(t.Context(), queue.Params{Project: "project"})
		if err != nil {
			t.Fatal(err)
		}
		within(t, 70*time.Second, "the build was queued after the outage", func() bool {
			heads, err := b.Probe(t.Context(), []queue.Reach{{Class: 1, Floor: queue.NoFloor}}, 1)
			return err == nil && len(heads) == 1
		})
		within(t, 10*time.Second, "all went on", func() bool { return strings.Count(text.String(), "answers again") == 3 })
		for _, what := range []string{"maintain", "admit", `"say what is served"`} {
			for _, event := range []string{"does not answer", "answers again"} {
				if n := strings.Count(text.String(), event+"; going on trying\" operation="+what) +
					strings.Count(text.String(), event+"\" operation="+what); n != 1 {
					t.Errorf("the log says %d times that the queue %s to %s of build %v:\n%s", n, event, what, id, text.String())
				}
			}
		}
	})
}

// Of two Runs on a queue one works; the other takes over when it ends.
func TestRunTakesTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &counting{Backend: memqueue.New()}
		q := queue.New(c, nil)
		rounds := func() int {
			before := c.maintained()
			timer := time.NewTimer(100 * time.Second)
			<-timer.C
			return c.maintained() - before
		}
		stop := keepGoing(t, q)
		if n := rounds(); n < 80 || n > 125 {
			t.Errorf("in 100 s there were %d rounds", n)
		}
		stopOther := keepGoing(t, q)
		if n := rounds(); n < 80 || n > 125 {
			t.Errorf("with a second Run there were %d rounds in 100 s", n)
		}
		stop()
		if n := rounds(); n < 80 || n > 125 {
			t.Errorf("when the first Run had ended there were %d rounds in 100 s", n)
		}
		stopOther()
		if n := rounds(); n != 0 {
			t.Errorf("without a Run there were %d rounds", n)
		}
	})
}

// A counting backend notes what Run asks of it.
type counting struct {
	queue.Backend
	mu       sync.Mutex
	maintain int
	serves   []serve
}

type serve struct {
	at      time.Time
	classes []queue.ClassID
	ttl     time.Duration
}

func (c *counting) Maintain(ctx context.Context, rules queue.Rules, now time.Time) (queue.Maintained, error) {
	c.mu.Lock()
	c.maintain++
	c.mu.Unlock()
	return c.Backend.Maintain(ctx, rules, now)
}

func (c *counting) maintained() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.maintain
}

func (c *counting) Serve(ctx context.Context, classes []queue.ClassID, ttl time.Duration, now time.Time) error {
	c.mu.Lock()
	c.serves = append(c.serves, serve{time.Now(), slices.Clone(classes), ttl})
	c.mu.Unlock()
	return c.Backend.Serve(ctx, classes, ttl, now)
}

// servedAt returns which classes are known to be served at a time.
func (c *counting) servedAt(now time.Time) map[queue.ClassID]bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	served := make(map[queue.ClassID]bool)
	for _, s := range c.serves {
		if !s.at.After(now) && s.at.Add(s.ttl).After(now) {
			for _, class := range s.classes {
				served[class] = true
			}
		}
	}
	return served
}

// What sessions serve is known to all within a second, for as long as they live, and not long after.
func TestRunSaysWhatIsServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &counting{Backend: memqueue.New()}
		f := newFleet(t, c, nil)
		keepGoing(t, f.Queue)
		f.submit(1, queue.Params{Pool: "a"})
		f.submit(1, queue.Params{Pool: "b"})
		a := f.session("a", nil, "a")
		served := func() string { return fmt.Sprint(c.servedAt(time.Now())) }
		within(t, time.Second, "the class of pool a was served", func() bool { return served() == "map[1:true]" })
		f.session("b", nil, "b", "c")
		within(t, time.Second, "the class of pool b was served", func() bool { return served() == "map[1:true 2:true]" })
		f.submit(1, queue.Params{Pool: "c"})
		within(t, 50*time.Millisecond, "a new class was served", func() bool { return served() == "map[1:true 2:true 3:true]" })
		for tick := range 300 {
			timer := time.NewTimer(time.Second)
			<-timer.C
			if got := served(); got != "map[1:true 2:true 3:true]" {
				t.Fatalf("after %d s these were served: %v", tick, got)
			}
		}
		if n := len(c.serves); n > 150 {
			t.Errorf("in 300 s it was said %d times what is served", n)
		}
		if err := f.LoseSessions(t.Context(), a); err != nil {
			t.Fatal(err)
		}
		within(t, 21*time.Second, "the class of a lost session was not served", func() bool { return served() == "map[2:true 3:true]" })
	})
}
