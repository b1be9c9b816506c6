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

// A crawl is a backend in which a look takes longer the more builds were claimed above its floor, as long as their rows cannot be
// cleared away.
type crawl struct {
	queue.Backend
	mu      sync.Mutex
	pinned  bool
	dead    map[queue.ClassID][]int64 // ranks of builds that were claimed
	demands []queue.Demand            // of the newest Claim
	slowest time.Duration             // of all Claims
}

func (c *crawl) pin(pinned bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pinned = pinned
	if !pinned {
		clear(c.dead)
	}
}

// walk takes the time of a look.
func (c *crawl) walk(r queue.Reach) time.Duration {
	c.mu.Lock()
	var steps int
	for _, rank := range c.dead[r.Class] {
		if rank >= r.Floor {
			steps++
		}
	}
	c.mu.Unlock()
	cost := time.Duration(steps) * 100 * time.Microsecond
	timer := time.NewTimer(cost)
	<-timer.C
	return cost
}

func (c *crawl) Probe(ctx context.Context, reaches []queue.Reach, max int) ([]queue.Front, error) {
	for _, r := range reaches {
		c.walk(r)
	}
	return c.Backend.Probe(ctx, reaches, max)
}

func (c *crawl) Claim(ctx context.Context, demand []queue.Demand, offer time.Duration, now time.Time) ([]queue.Claimed, error) {
	for _, d := range demand {
		cost := c.walk(d.Reach)
		c.mu.Lock()
		c.slowest = max(c.slowest, cost)
		c.mu.Unlock()
	}
	claimed, err := c.Backend.Claim(ctx, demand, offer, now)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.demands = demand
	for _, b := range claimed {
		if c.pinned {
			c.dead[b.Class] = append(c.dead[b.Class], b.Rank)
		}
	}
	return claimed, err
}

// floor returns the floor of the newest Claim.
func (c *crawl) floor() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.demands[0].Floor
}

// A trench is a queue whose looks have become slow.
type trench struct {
	*fleet
	backend *crawl
	session queue.SessionID
}

// dig has builds come and go for a while as long as what was claimed is not cleared away.
func dig(t *testing.T) *trench {
	b := &crawl{Backend: memqueue.New(), dead: make(map[queue.ClassID][]int64)}
	tr := &trench{fleet: newFleet(t, b, nil), backend: b}
	tr.session = tr.fleet.session("worker", nil)
	b.pin(true)
	keepGoing(t, tr.Queue)
	tr.pass(100)
	return tr
}

// pass has n builds come and go, one each 10 ms.
func (tr *trench) pass(n int) {
	tr.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for range n {
		<-tick.C
		tr.submitOne(queue.Params{})
		tr.finish(tr.claimOne(), queue.Succeeded)
	}
}

func (tr *trench) finish(o queue.Offer, outcome queue.State) {
	tr.t.Helper()
	if err := tr.Accept(tr.t.Context(), o.Session, o.AttemptID, queue.Digest{}); err != nil {
		tr.t.Fatal(err)
	}
	if _, err := tr.Finish(tr.t.Context(), queue.Completion{AttemptID: o.AttemptID, Outcome: outcome}); err != nil {
		tr.t.Fatal(err)
	}
}

func (tr *trench) submitOne(p queue.Params) queue.ID {
	tr.t.Helper()
	p.Project = "project"
	id, err := tr.Submit(tr.t.Context(), p)
	if err != nil {
		tr.t.Fatal(err)
	}
	return id
}

// claimOne claims what there is, which is one build soon.
func (tr *trench) claimOne() queue.Offer {
	tr.t.Helper()
	var offers []queue.Offer
	within(tr.t, time.Second, "a build was claimed", func() (ok bool) {
		var err error
		if offers, err = tr.Claim(tr.t.Context(), []queue.Idle{{Session: tr.session, Slots: 100}}); err != nil {
			tr.t.Fatal(err)
		}
		return len(offers) > 0
	})
	return offers[0]
}

// As long as looks from the beginning are slow, they begin where builds are; and then from the beginning again.
func TestFloors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := dig(t)
		tr.pass(2000)
		tr.backend.mu.Lock()
		tr.backend.slowest = 0
		tr.backend.mu.Unlock()
		tr.pass(1000)
		if slowest := tr.backend.slowest; slowest > 30*time.Millisecond {
			t.Errorf("beside 3,000 dead rows a claim took %v", slowest)
		}
		if tr.backend.floor() == queue.NoFloor {
			t.Error("there is no floor while looks are slow")
		}
		tr.backend.pin(false)
		tr.pass(1000) // until the next look from the beginning
		if floor := tr.backend.floor(); floor != queue.NoFloor {
			t.Errorf("the floor is %d when looks are not slow any more", floor)
		}
	})
}

// Nothing that is queued below a floor waits for it.
func TestFloorsGiveWay(t *testing.T) {
	for name, queue := range map[string]func(tr *trench){
		"a submit": func(tr *trench) { tr.submitOne(queue.Params{Priority: 5}) },
		"a release": func(tr *trench) {
			tr.submitOne(queue.Params{})
			o := tr.claimOne()
			tr.pass(300)
			if err := tr.Withdraw(tr.t.Context(), o.AttemptID); err != nil {
				tr.t.Fatal(err)
			}
		},
		"a back-off that is over": func(tr *trench) {
			tr.submitOne(queue.Params{Backoff: queue.Backoff{Base: 10 * time.Second}})
			tr.finish(tr.claimOne(), queue.Lost)
			due := time.NewTimer(11500 * time.Millisecond) // and Maintain has come round
			tr.session = tr.fleet.session("another", nil)
			tr.pass(250)
			<-due.C
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tr := dig(t)
				tr.pass(500)
				if tr.backend.floor() <= 0 {
					t.Fatal("there is no floor")
				}
				queue(tr)
				begun := time.Now()
				tr.claimOne()
				if took := time.Since(begun); took > 200*time.Millisecond {
					t.Errorf("the build was claimed after %v", took)
				}
			})
		})
	}
}

// What nobody tells of is found by the next survey.
func TestSurveyFindsWhatNobodyTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := dig(t)
		tr.pass(500)
		other := newFleet(t, tr.backend.Backend, nil)
		if _, err := other.Submit(t.Context(), queue.Params{Project: "project", Priority: 5}); err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		within(t, 5*time.Second, "the build was claimed", func() bool {
			offers, err := tr.Claim(t.Context(), []queue.Idle{{Session: tr.session, Slots: 100}})
			return err == nil && len(offers) == 1
		})
		if took := time.Since(begun); took > 2500*time.Millisecond {
			t.Errorf("it took %v", took)
		}
	})
}

// A process that has claimed nothing and was told of nothing surveys what others have left.
func TestSurveyOfNewcomer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := dig(t)
		tr.pass(500)
		tr.submitOne(queue.Params{})
		newcomer := newFleet(t, tr.backend, nil)
		newcomer.session("newcomer", nil)
		keepGoing(t, newcomer.Queue)
		<-time.After(10 * time.Second) // several surveys
	})
}
