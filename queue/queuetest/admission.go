package queuetest

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/slipway-build/slipway/queue"
)

// serve says that live sessions serve the classes of builds, for a long time.
func (s *subject) serve(builds ...queue.NewBuild) {
	s.Helper()
	s.serveFor(long, builds...)
}

// serveFor says that live sessions serve the classes of builds. Maintain has made these.
func (s *subject) serveFor(ttl time.Duration, builds ...queue.NewBuild) {
	s.Helper()
	var classes []queue.ClassID
	for _, b := range builds {
		id := s.class(b.Pool, b.Labels)
		if id == 0 {
			s.Fatalf("the class of a build is not known")
		}
		if !slices.Contains(classes, id) {
			classes = append(classes, id)
		}
	}
	s.must(s.Serve(s.ctx, classes, ttl, s.now))
}

// ready submits builds, has their classes made and served, and lets in what may be.
func (s *subject) ready(builds ...queue.NewBuild) queue.Admitted {
	s.Helper()
	s.submit(builds...)
	s.maintain(s.rules())
	s.serve(builds...)
	return s.admit()
}

// admit calls Admit until a whole round moves nothing, and returns what was done in all.
func (s *subject) admit() queue.Admitted {
	s.Helper()
	return s.admitInSteps(1000)
}

// admitInSteps is admit with a bound of each call.
func (s *subject) admitInSteps(most int) queue.Admitted {
	s.Helper()
	var sum queue.Admitted
	for range 100 {
		before := sum.Queued + sum.Held
		for lane := (queue.Lane{}); ; {
			done, err := s.Admit(s.ctx, lane, most, s.now)
			s.must(err)
			if done.Queued+done.Held > most {
				s.Errorf("Admit moved %d and %d builds, at most %d were asked for", done.Queued, done.Held, most)
			}
			if done.Next != (queue.Lane{}) && inOrder(done.Next, lane) <= 0 {
				s.Fatalf("Admit after lane %+v says to go on from %+v", lane, done.Next)
			}
			sum.Queued += done.Queued
			sum.Held += done.Held
			sum.Heads = append(sum.Heads, done.Heads...)
			if lane = done.Next; lane == (queue.Lane{}) {
				break
			}
		}
		if sum.Queued+sum.Held == before {
			return sum
		}
	}
	s.Fatalf("Admit still moves builds after 100 rounds")
	return sum
}

func inOrder(x, y queue.Lane) int {
	for _, c := range []int{strings.Compare(x.Pool, y.Pool), strings.Compare(x.Project, y.Project), strings.Compare(x.Key, y.Key)} {
		if c != 0 {
			return c
		}
	}
	return 0
}

// wantAdmitted reports another number of builds let in than the wanted, and any that is held again.
func (s *subject) wantAdmitted(done queue.Admitted, queued int) {
	s.Helper()
	if done.Queued != queued || done.Held != 0 {
		s.Errorf("Admit queued %d builds and held %d again, want %d and none", done.Queued, done.Held, queued)
	}
}

// sharing returns builds of one class with a concurrency key.
func (s *subject) sharing(key string, n int) []queue.NewBuild {
	builds := s.drafts(n)
	for i := range builds {
		builds[i].ConcurrencyKey = key
	}
	return builds
}

// limit sets the limit of a key.
func (s *subject) limit(key string, most int) {
	s.Helper()
	s.must(s.SetLimit(s.ctx, queue.Limit{Project: "project", Key: key, Max: most}))
}

// wantUsed reports a key with another limit, or of which more or less is used.
func (s *subject) wantUsed(key string, most, used int) {
	s.Helper()
	limits, err := s.Limits(s.ctx, "project", "", 100)
	s.must(err)
	i := slices.IndexFunc(limits, func(l queue.Limit) bool { return l.Key == key })
	if want := (queue.Limit{Project: "project", Key: key, Max: most, Used: used}); i < 0 || limits[i] != want {
		s.Errorf("limits are %+v, want %+v among them", limits, want)
	}
}

// take claims builds of b's class for a new worker until none is left, and returns the claims in their order.
func (s *subject) take(b queue.NewBuild) []queue.Claimed {
	s.Helper()
	var all []queue.Claimed
	for session := s.worker(); ; {
		claimed := s.claim(b, session)
		if len(claimed) == 0 {
			return all
		}
		all = append(all, claimed...)
	}
}

// taken is take for the ids alone.
func (s *subject) taken(b queue.NewBuild) []queue.ID {
	s.Helper()
	var all []queue.ID
	for _, c := range s.take(b) {
		all = append(all, c.Build)
	}
	return all
}

// fairPool makes a fair pool.
func (s *subject) fairPool(weights map[string]int) string {
	s.Helper()
	name := s.name("pool")
	s.must(s.ChangePool(s.ctx, name, queue.PoolChange{Fair: new(true), Weights: weights}))
	return name
}

func (s *subject) makeFair(pool string, fair bool) {
	s.Helper()
	s.must(s.ChangePool(s.ctx, pool, queue.PoolChange{Fair: &fair}))
}

// of returns builds of a pool and a project.
func (s *subject) of(pool, project string, n int) []queue.NewBuild {
	builds := s.drafts(n)
	for i := range builds {
		builds[i].Pool, builds[i].Project = pool, project
	}
	return builds
}

// slots returns a direct session for each of n slots.
func (s *subject) slots(n int) []queue.SessionID {
	s.Helper()
	var slots []queue.SessionID
	for range n {
		facts := s.facts()
		facts.Direct = true
		slots = append(slots, s.open(facts))
	}
	return slots
}

// turn admits, fills the slots with builds of a pool, and lets them succeed. It returns the claims in the order of their ranks.
func (s *subject) turn(pool string, slots []queue.SessionID) []queue.Claimed {
	s.Helper()
	return s.turnInSteps(pool, 1000, slots)
}

// turnInSteps is turn with a bound of each call of Admit.
func (s *subject) turnInSteps(pool string, most int, slots []queue.SessionID) []queue.Claimed {
	s.Helper()
	s.maintain(s.rules())
	s.admitInSteps(most)
	claimed := s.claim(queue.NewBuild{Pool: pool, Labels: s.draft().Labels}, slots...)
	var ends []queue.Completion
	for _, c := range claimed {
		ends = append(ends, report(c.AttemptID, queue.Succeeded))
	}
	if _, err := s.Finish(s.ctx, ends, avoid, s.now); err != nil {
		s.must(err)
	}
	slices.SortStableFunc(claimed, func(x, y queue.Claimed) int { return int(min(1, max(-1, x.Rank-y.Rank))) })
	return claimed
}

// wantRanks claims all that is queued of drafts in a pool, reports other ranks of projects than the wanted, and gives the builds back.
func (s *subject) wantRanks(pool string, want map[string][]int64) {
	s.Helper()
	b := queue.NewBuild{Pool: pool, Labels: s.draft().Labels}
	got := make(map[string][]int64)
	var given []queue.AttemptID
	for _, c := range s.take(b) {
		got[c.Project] = append(got[c.Project], c.Rank)
		given = append(given, c.AttemptID)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		s.Errorf("ranks are %v, want %v", got, want)
	}
	_, err := s.Release(s.ctx, given, 0, s.now)
	s.must(err)
}

// wantTurns claims n builds of drafts in a pool and reports that they are not of these projects, in order of name.
func (s *subject) wantTurns(pool string, n int, want ...string) {
	s.Helper()
	session := s.worker()
	var got []string
	for range n {
		for _, c := range s.claim(queue.NewBuild{Pool: pool, Labels: s.draft().Labels}, session) {
			got = append(got, c.Project)
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		s.Errorf("%d builds are claimed of %v, want %v", n, got, want)
	}
}
