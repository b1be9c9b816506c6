package memqueue_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/queue/memqueue"
)

// Without a time given the backend goes by the clock, which in a bubble is the bubble's: deadlines pass without anybody waiting.
func TestGoesByTheClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := queue.New(memqueue.New(), &queue.Options{RunTimeout: time.Hour, Slack: time.Minute})
		submitted := time.Now()
		id, err := q.Submit(t.Context(), queue.Params{Project: "project"})
		must(t, err)
		maintain(t, q)
		session, err := q.OpenSession(t.Context(), queue.NewSession{Worker: "worker", Instance: "1", Pools: []string{queue.DefaultPool}, Slots: 1})
		must(t, err)

		pass(time.Minute)
		first := claim(t, q, session)
		pass(q.Options().OfferTimeout + time.Second)
		maintain(t, q)
		want(t, q, id, queue.Pending)
		if offers, err := q.Claim(t.Context(), []queue.Idle{{Session: session, Slots: 1}}); err != nil || len(offers) != 0 {
			t.Errorf("the build does not avoid the worker that let it go: %v, %v", offers, err)
		}

		pass(q.Options().Avoid)
		second := claim(t, q, session)
		if second.Epoch != first.Epoch+1 {
			t.Errorf("epochs are %d and %d", first.Epoch, second.Epoch)
		}
		must(t, q.Accept(t.Context(), session, second, queue.Digest{}))
		started := time.Now()
		pass(20 * time.Minute)
		lease, err := q.Lease(t.Context(), second)
		must(t, err)
		if lease.RunLeft != 40*time.Minute {
			t.Errorf("%v left after 20 minutes of an hour", lease.RunLeft)
		}
		pass(41*time.Minute + time.Second)
		maintain(t, q)
		b := want(t, q, id, queue.TimedOut)
		if !b.CreatedAt.Equal(submitted) || !b.StartedAt.Equal(started) || !b.FinishedAt.Equal(time.Now()) {
			t.Errorf("build is %+v", b)
		}
	})
}

// A worker that comes back within its grace keeps its build; one that does not, loses it.
func TestGraceGoesByTheClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := queue.New(memqueue.New(), nil)
		id, err := q.Submit(t.Context(), queue.Params{Project: "project"})
		must(t, err)
		maintain(t, q)
		facts := queue.NewSession{Worker: "worker", Instance: "1", Pools: []string{queue.DefaultPool}, Slots: 1}
		session, err := q.OpenSession(t.Context(), facts)
		must(t, err)
		attempt := claim(t, q, session)
		must(t, q.Accept(t.Context(), session, attempt, queue.Digest{}))
		run(t, q, 2*q.Options().Grace)

		must(t, q.LoseSessions(t.Context(), session))
		run(t, q, q.Options().Grace-time.Second)
		want(t, q, id, queue.Running)
		session, err = q.OpenSession(t.Context(), facts)
		must(t, err)
		leases, err := q.Adopt(t.Context(), session, []queue.AttemptID{attempt})
		must(t, err)
		if len(leases) != 1 || leases[0].State != queue.Running {
			t.Fatalf("adopted %+v", leases)
		}
		run(t, q, 2*q.Options().Grace)
		want(t, q, id, queue.Running)

		must(t, q.LoseSessions(t.Context(), session))
		run(t, q, q.Options().Grace+time.Second)
		want(t, q, id, queue.Pending)
	})
}

// pass lets the bubble's time pass.
func pass(d time.Duration) { <-time.After(d) }

// run does for a while what a controller does.
func run(t *testing.T, q *queue.Queue, d time.Duration) {
	t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); pass(time.Second) {
		_, err := q.Beat(t.Context())
		must(t, err)
		maintain(t, q)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func maintain(t *testing.T, q *queue.Queue) {
	t.Helper()
	_, err := q.Maintain(t.Context())
	must(t, err)
}

func claim(t *testing.T, q *queue.Queue, session queue.SessionID) queue.AttemptID {
	t.Helper()
	offers, err := q.Claim(t.Context(), []queue.Idle{{Session: session, Slots: 1}})
	must(t, err)
	if len(offers) != 1 {
		t.Fatalf("Claim gave %d offers, want 1", len(offers))
	}
	return offers[0].AttemptID
}

func want(t *testing.T, q *queue.Queue, id queue.ID, state queue.State) queue.Build {
	t.Helper()
	b, err := q.Get(t.Context(), "project", id)
	must(t, err)
	if b.State != state {
		t.Errorf("build is %v, want %v", b.State, state)
	}
	return b
}
