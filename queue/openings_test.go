package queue_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/queue/memqueue"
)

// A reception is a backend that notes which sessions are opened together and how often leases are adopted.
type reception struct {
	queue.Backend
	takes   time.Duration // how long it takes to open some
	mu      sync.Mutex
	opened  [][]queue.NewSession
	adopted int
}

func (r *reception) OpenSessions(ctx context.Context, sessions []queue.NewSession, now time.Time) ([]queue.Opened, error) {
	r.mu.Lock()
	r.opened = append(r.opened, sessions)
	r.mu.Unlock()
	<-time.After(r.takes)
	return r.Backend.OpenSessions(ctx, sessions, now)
}

func (r *reception) Adopt(ctx context.Context, session queue.SessionID, held []queue.AttemptID, now time.Time) (queue.Adopted, error) {
	r.mu.Lock()
	r.adopted++
	r.mu.Unlock()
	return r.Backend.Adopt(ctx, session, held, now)
}

func TestSessionsAreOpenedTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &reception{Backend: memqueue.New(), takes: time.Second}
		q := queue.New(r, nil)
		ids := make([]queue.SessionID, 100)
		var calls sync.WaitGroup
		for i := range ids {
			calls.Go(func() {
				s := queue.NewSession{Worker: fmt.Sprint("worker-", i), Instance: "1", Pools: []string{"pool"}, Slots: 1}
				if i == 50 {
					s.Slots = -1
				}
				var err error
				ids[i], err = q.OpenSession(t.Context(), s)
				if errors.Is(err, queue.ErrInvalid) != (i == 50) || i != 50 && err != nil {
					t.Errorf("worker %d: %v", i, err)
				}
			})
			synctest.Wait()
		}
		calls.Wait()
		if len(r.opened) != 2 || len(r.opened[0]) != 1 || len(r.opened[1]) != 98 {
			t.Errorf("sessions were opened in %d calls, want 2: of the first, and of all the others", len(r.opened))
		}
		if slices.Sort(ids); len(slices.Compact(ids)) != 100 { // one of them is zero
			t.Error("workers share a session")
		}
	})
}

// A session that nobody waits for when it has begun is ended again.
func TestSessionOfWhoHasGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := queue.New(&reception{Backend: memqueue.New(), takes: time.Second}, nil)
		session := queue.NewSession{Instance: "1", Pools: []string{queue.DefaultPool}, Slots: 1, Labels: queue.Labels{}}
		ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		defer cancel()
		var calls sync.WaitGroup
		for i, own := range []context.Context{t.Context(), ctx, t.Context()} {
			session.Worker = fmt.Sprint("worker-", i)
			calls.Go(func() {
				if _, err := q.OpenSession(own, session); (err != nil) != (own == ctx) {
					t.Errorf("worker %d: %v", i, err)
				}
			})
			synctest.Wait()
		}
		calls.Wait()
		if _, err := q.Submit(t.Context(), queue.Params{Project: "project"}); err != nil {
			t.Fatal(err)
		}
		builds, err := q.List(t.Context(), queue.Filter{Project: "project"})
		if err != nil || len(builds) != 1 {
			t.Fatalf("%d builds, %v", len(builds), err)
		}
		if _, err := q.Beat(t.Context()); err != nil {
			t.Fatal(err)
		}
		why, err := q.Explain(t.Context(), "project", builds[0].ID)
		if err != nil || len(why.Facts.Workers) != 2 {
			t.Errorf("the workers are %+v, %v; want the two who waited", why.Facts.Workers, err)
		}
	})
}

// A worker that comes back with nothing running has what was offered to it pending again at once; if there was nothing, nobody asks.
func TestComeBackEmptyHanded(t *testing.T) {
	r := &reception{Backend: memqueue.New()}
	f := newFleet(t, r, nil)
	adopt := func(session queue.SessionID, calls int) {
		t.Helper()
		r.adopted = 0
		if leases, err := f.Adopt(t.Context(), session, nil); err != nil || len(leases) != 0 || r.adopted != calls {
			t.Errorf("adopt returned %v, %v, after %d calls of the backend, want %d", leases, err, r.adopted, calls)
		}
	}
	session := f.session("worker", nil)
	adopt(session, 0)
	id := f.submit(1, queue.Params{})[0]
	offer := func() {
		t.Helper()
		offered, err := f.Claim(t.Context(), []queue.Idle{{Session: session, Slots: 1}})
		if err != nil || len(offered) != 1 || offered[0].Build != id {
			t.Fatalf("offered %v, %v", offered, err)
		}
	}
	offer()
	session = f.session("worker", nil)
	adopt(session, 1)
	if b, err := f.Get(t.Context(), "project", id); err != nil || b.State != queue.Pending {
		t.Errorf("the build is %v, %v, want it pending", b.State, err)
	}
	offer()
	adopt(f.session("worker", nil), 1)
}
