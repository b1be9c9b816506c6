package queue_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/queue/memqueue"
)

// A lookout is a backend that counts looks, and lets something happen right after one has seen what there is.
type lookout struct {
	queue.Backend
	mu    sync.Mutex
	looks int
	then  func()
}

func (l *lookout) Probe(ctx context.Context, reaches []queue.Reach, max int) ([]queue.Front, error) {
	fronts, err := l.Backend.Probe(ctx, reaches, max)
	l.mu.Lock()
	l.looks++
	then := l.then
	l.then = nil
	l.mu.Unlock()
	if then != nil {
		then()
	}
	return fronts, err
}

// A yard is a queue with a session that serves the pools a, b and c, and another process, which it hears nothing of.
type yard struct {
	*fleet
	backend *lookout
	session queue.SessionID
	other   *fleet
}

// inYard tests in a yard, where no time passes but what the test waits.
func inYard(t *testing.T, test func(t *testing.T, y *yard)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := &lookout{Backend: memqueue.New()}
		y := &yard{fleet: newFleet(t, b, nil), backend: b, other: newFleet(t, b.Backend, nil)}
		for _, pool := range []string{"a", "b", "c"} { // makes the classes
			id := y.submit(1, queue.Params{Pool: pool})[0]
			if _, err := y.Cancel(t.Context(), "project", id, ""); err != nil {
				t.Fatal(err)
			}
		}
		y.session = y.fleet.session("worker", nil, "a", "b", "c")
		test(t, y)
	})
}

// one submits a build and returns it. A moment passes, so that the next comes after it.
func (f *fleet) one(pool string, priority int) queue.ID {
	f.t.Helper()
	<-time.After(time.Microsecond)
	return f.submit(1, queue.Params{Pool: pool, Priority: priority})[0]
}

// next claims for so many slots and reports builds other than the wanted, or in another order of their classes.
func (y *yard) next(slots int, want ...queue.ID) {
	y.t.Helper()
	offers, err := y.Claim(y.t.Context(), []queue.Idle{{Session: y.session, Slots: slots}})
	if err != nil {
		y.t.Fatal(err)
	}
	var got []queue.ID
	for _, o := range offers {
		got = append(got, o.Build)
	}
	if !slices.Equal(got, want) {
		y.t.Errorf("builds given are %v, want %v", got, want)
	}
}

// looks reports more looks than there should have been since it was last called.
func (y *yard) looks(most int) {
	y.t.Helper()
	if y.backend.looks > most {
		y.t.Errorf("%d looks, want %d at the most", y.backend.looks, most)
	}
	y.backend.looks = 0
}

// While there is work, a claim in a few dozens looks first, at the class that has given what was seen, and the order is exact.
func TestClaimSeldomLooks(t *testing.T) {
	inYard(t, func(t *testing.T, y *yard) {
		var builds []queue.ID
		for i := range 150 {
			builds = append(builds, y.one([]string{"a", "b", "c", "a", "a"}[i%5], 0))
		}
		for _, id := range builds {
			y.next(1, id)
		}
		y.looks(6)
		y.next(1)
		y.looks(1)
	})
}

// Builds of a batch have one rank. What is left of them comes before what was submitted later.
func TestClaimCountsEqualRanks(t *testing.T) {
	inYard(t, func(t *testing.T, y *yard) {
		builds := y.submit(5, queue.Params{Pool: "a"})
		builds = append(builds, y.one("b", 0), y.one("a", 0))
		y.next(2, builds[:2]...)
		for _, id := range builds[2:] {
			y.next(1, id)
		}
		y.looks(1)
	})
}

// What this process is told of counts at once, before a look, after it and while one is under way.
func TestClaimHeedsHints(t *testing.T) {
	inYard(t, func(t *testing.T, y *yard) {
		first, second, third, fourth := y.one("a", 0), y.one("a", 0), y.one("a", 0), y.one("b", 0)
		var during queue.ID
		y.backend.then = func() { during = y.one("c", 7) }
		y.next(1, first)
		y.next(1, during)
		y.looks(1)
		y.next(1, second)
		y.looks(1) // at c, which may have more than was told of
		urgent, err := y.SubmitMany(t.Context(), []queue.Params{
			{Project: "project", Pool: "b", Priority: 5}, {Project: "project", Pool: "b", Priority: 4},
		})
		if err != nil {
			t.Fatal(err)
		}
		y.next(1, urgent[0])
		y.looks(0)
		for _, id := range []queue.ID{urgent[1], third, fourth} {
			y.next(1, id)
		}
	})
}

// What comes back, with a rank that nobody names, counts at once.
func TestClaimHeedsWhatComesBack(t *testing.T) {
	inYard(t, func(t *testing.T, y *yard) {
		first, second, third := y.one("b", 0), y.one("a", 0), y.one("a", 0)
		withdraw := func() {
			if err := y.Withdraw(t.Context(), queue.AttemptID{Build: first, Epoch: 1}); err != nil {
				t.Fatal(err)
			}
		}
		y.next(1, first)
		y.next(1, second)
		withdraw()
		y.next(1, first)
		y.next(1, third)
	})
	inYard(t, func(t *testing.T, y *yard) {
		first, second, third := y.one("b", 0), y.one("a", 0), y.one("a", 0)
		y.next(1, first)
		<-time.After(time.Second) // so that the next claim looks
		y.backend.then = func() {
			if err := y.Withdraw(t.Context(), queue.AttemptID{Build: first, Epoch: 1}); err != nil {
				t.Fatal(err)
			}
		}
		y.next(1, second)
		y.next(1, first)
		y.next(1, third)
	})
}

// What nobody tells of waits for its turn a quarter of a second longer at the most, and not at all if slots are idle.
func TestClaimFindsWhatNobodyTold(t *testing.T) {
	inYard(t, func(t *testing.T, y *yard) {
		first, second, third := y.one("a", 0), y.one("a", 0), y.one("a", 0)
		y.next(1, first)
		urgent := y.other.one("b", 5)
		y.next(1, second)
		<-time.After(251 * time.Millisecond)
		y.next(1, urgent)
		y.next(1, third)
		y.next(1)
		y.next(1, y.other.one("c", 0))
		for range 40 { // more than a look sees
			y.other.one("b", 0)
		}
		last := y.one("a", 0)
		offers, err := y.Claim(t.Context(), []queue.Idle{{Session: y.session, Slots: 50}})
		if err != nil || len(offers) != 41 || !slices.ContainsFunc(offers, func(o queue.Offer) bool { return o.Build == last }) {
			t.Errorf("Claim gave %d builds, %v, want all 41", len(offers), err)
		}
	})
}

// A claim that has less than was remembered, since others were faster, has the builds of other classes at once.
func TestClaimWhereOthersWereFaster(t *testing.T) {
	inYard(t, func(t *testing.T, y *yard) {
		for range 10 {
			y.one("a", 0)
		}
		last := y.one("b", 0)
		y.backend.then = func() {
			rival := y.other.session("rival", nil, "a")
			y.other.want(y.other.claim(queue.Idle{Session: rival, Slots: 100}), rival, "a", 10)
		}
		y.next(1, last)
		y.next(1)
		unseen := y.other.one("c", 0)
		y.next(1, unseen)
		y.next(5)
	})
}

// A class that others claim too comes before its turn once at the most.
func TestClaimIsEarlyOnce(t *testing.T) {
	inYard(t, func(t *testing.T, y *yard) {
		first := y.one("a", 0)
		y.one("a", 0)
		b1, a3, b2, a4 := y.one("b", 0), y.one("a", 0), y.one("b", 0), y.one("a", 0)
		y.next(1, first)
		rival := y.other.session("rival", nil, "a")
		y.other.want(y.other.claim(queue.Idle{Session: rival, Slots: 1}), rival, "a", 1)
		for _, id := range []queue.ID{a3, b1, b2, a4} {
			y.next(1, id)
		}
	})
}

// A pool that is paused and goes on does so for what is remembered, too.
func TestClaimHeedsPauses(t *testing.T) {
	inYard(t, func(t *testing.T, y *yard) {
		a1, a2, b1, b2 := y.one("a", 0), y.one("a", 0), y.one("b", 0), y.one("b", 0)
		y.next(1, a1)
		pause := func(by *fleet, paused bool) {
			if err := by.ChangePool(t.Context(), "a", queue.PoolChange{Paused: &paused}); err != nil {
				t.Fatal(err)
			}
		}
		pause(y.other, true)
		y.next(1, b1)
		pause(y.fleet, false)
		y.next(1, a2)
		y.next(1, b2)
	})
}

// Of what several processes claim with many goroutines nothing is given twice, and none gives up while there is work.
func TestClaimOfManyClassesByManyAtOnce(t *testing.T) {
	b := memqueue.New()
	pools := []string{"a", "b", "c", "d"}
	here, there := newFleet(t, b, nil), newFleet(t, b, nil)
	for i := range 400 {
		here.submit(1, queue.Params{Pool: pools[i%4]})
	}
	var given tally
	for i := range 8 {
		f := []*fleet{here, there}[i%2]
		given.claimAll(f, f.session(fmt.Sprintf("worker-%d", i), nil, pools...), 1+i/2)
	}
	given.want(t, 400)
}
