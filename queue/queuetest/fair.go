package queuetest

import (
	"math"
	"slices"
	"time"

	"github.com/slipway-build/slipway/queue"
)

var fairCases = []testCase{
	{
		"Rank",
		"The k-th build that a project is admitted begins at the greater of the pool's virtual time and the end of its build before, and ends FairStep/weight later; its rank is its begin.",
		func(s *subject) {
			pool := s.fairPool(map[string]int{"b": 2, "c": 1000})
			a, b := s.of(pool, "a", 3), s.of(pool, "b", 3)
			s.ready(slices.Concat(a, b)...)
			const step = queue.FairStep
			s.wantRanks(pool, map[string][]int64{"a": {0, step, 2 * step}, "b": {0, step / 2, step}})
			s.wantTurns(pool, 3, "a", "b", "b") // at 0, 0 and step/2
			c := s.of(pool, "c", 2)
			s.ready(c...)
			s.wantRanks(pool, map[string][]int64{"a": {step, 2 * step}, "b": {step}, "c": {step, step + step/1000}})
		},
	},
	{
		"Admitted",
		"Builds in a fair pool are held until Admit lets them go, which says so, and tells the classes in which it queued some with their lowest ranks.",
		func(s *subject) {
			pool := s.fairPool(nil)
			b := s.of(pool, "a", 1)[0]
			if done := s.submit(b)[0]; done.Class != 0 || !done.Waiting {
				s.Errorf("Submit returned %+v, want a build that waits", done)
			}
			s.maintain(s.rules())
			again := s.of(pool, "a", 1)[0]
			if done := s.submit(again)[0]; done.Class != 0 || !done.Waiting {
				s.Errorf("Submit returned %+v for a known class, want a build that waits", done)
			}
			s.wantIDs("claims before", s.taken(b), nil)
			s.serve(b)
			done := s.admit()
			s.wantAdmitted(done, 2)
			if len(done.Heads) != 1 || done.Heads[0].Class != s.class(b.Pool, b.Labels) || done.Heads[0].Rank != 0 {
				s.Errorf("Admit returned heads %+v, want the class with rank 0", done.Heads)
			}
			for _, c := range s.take(b) {
				if !c.Admitted {
					s.Errorf("Claim gave %+v, want one that was admitted", c)
				}
			}
		},
	},
	{
		"Position",
		"However many builds a project has submitted, the k-th of another's is claimed at position 2k+4 at the latest, with 4 slots.",
		func(s *subject) {
			pool := s.fairPool(nil)
			big := s.of(pool, "big", 1000)
			s.ready(big...)
			slots := s.slots(4)
			for range 10 {
				s.turn(pool, slots)
			}
			small := s.of(pool, "small", 10)
			s.submit(small...)
			var k, position int
			for k < len(small) && position < 100 {
				for _, c := range s.turn(pool, slots) {
					position++
					if c.Project != "small" {
						continue
					}
					if k++; position > 2*k+4 {
						s.Errorf("build %d of the small project is claimed at position %d, want %d at the latest", k, position, 2*k+4)
					}
				}
			}
			if k < len(small) {
				s.Errorf("%d builds of the small project are claimed after %d others", k, position)
			}
		},
	},
	{
		"Weights",
		"Projects with builds waiting share a fair pool's slots by weight.",
		func(s *subject) {
			pool := s.fairPool(map[string]int{"c": 2})
			shares := map[string]float64{"a": 0.25, "b": 0.25, "c": 0.5}
			for project := range shares {
				s.ready(s.of(pool, project, 230)...)
			}
			got := make(map[string]int)
			slots, n := s.slots(4), 0
			for n < 400 {
				for _, c := range s.turn(pool, slots) {
					got[c.Project]++
					n++
				}
			}
			for project, share := range shares {
				if is := float64(got[project]) / float64(n); math.Abs(is-share) > 0.03 {
					s.Errorf("project %s got %.1f %% of the slots, want %.0f ± 3 %%", project, 100*is, 100*share)
				}
			}
		},
	},
	{
		"NoCredit",
		"A project that was idle has no claim to what it did not use, and one that was alone is not held back for what it got.",
		func(s *subject) {
			pool := s.fairPool(nil)
			slots := s.slots(4)
			s.ready(s.of(pool, "busy", 100)...)
			for range 10 {
				s.turn(pool, slots)
			}
			s.ready(s.of(pool, "idle", 60)...)
			got := make(map[string]int)
			for range 10 {
				for _, c := range s.turn(pool, slots) {
					got[c.Project]++
				}
			}
			if got["busy"] < 18 || got["idle"] < 18 {
				s.Errorf("of 40 slots the projects got %v, want half each", got)
			}
		},
	},
	{
		"EmptyPool",
		"When nothing is queued, the pool's virtual time is the greatest end it gave: a project that was alone begins where another does.",
		func(s *subject) {
			pool := s.fairPool(nil)
			alone := s.of(pool, "alone", 20)
			s.ready(alone...)
			s.take(alone[0])
			s.ready(slices.Concat(s.of(pool, "alone", 5), s.of(pool, "other", 5))...)
			const from, step = 20 * queue.FairStep, queue.FairStep
			five := []int64{from, from + step, from + 2*step, from + 3*step, from + 4*step}
			s.wantRanks(pool, map[string][]int64{"alone": five, "other": five})
		},
	},
	{
		"OrderOfAProject",
		"In a fair pool a project's builds are taken by the ranks they have elsewhere: by priority and time.",
		func(s *subject) {
			pool := s.fairPool(nil)
			builds := s.of(pool, "a", 4)
			builds[1].Priority, builds[2].Priority = -5, 5
			for _, b := range builds {
				s.submit(b)
			}
			s.maintain(s.rules())
			s.serve(builds...)
			s.wantAdmitted(s.admit(), 4)
			s.wantOrder(builds[0], []queue.NewBuild{builds[2], builds[0], builds[3], builds[1]})
		},
	},
	{
		"Window",
		"In a fair pool a project has at most FairWindow builds queued; as they are claimed, more are.",
		func(s *subject) {
			pool := s.fairPool(nil)
			const n = queue.FairWindow + 10
			builds, others := s.of(pool, "a", n), s.of(pool, "b", 5)
			s.wantAdmitted(s.ready(builds...), queue.FairWindow)
			s.wantAdmitted(s.ready(others...), 5)
			s.wantHead(builds[0], queue.FairWindow+5)
			session := s.worker()
			var claimed int
			for _, c := range s.claim(builds[0], session, session, session, session) {
				if c.Project == "a" {
					claimed++
				}
			}
			s.wantAdmitted(s.admit(), claimed)
			for len(s.claim(builds[0], session)) > 0 {
				s.admit()
			}
			for _, b := range slices.Concat(builds, others) {
				s.wantState(b, queue.Offered)
			}
		},
	},
	{
		"Unserved",
		"In a fair pool builds stay held while no live session serves their class. They take up no window, nor do they hold up the pool's virtual time.",
		func(s *subject) {
			pool := s.fairPool(nil)
			unserved, served := s.of(pool, "a", queue.FairWindow+1), s.of(pool, "a", 3)
			for i := range served {
				served[i].Labels = queue.Labels{"os": "plan9"}
			}
			s.submit(unserved...)
			s.submit(served...)
			s.maintain(s.rules())
			s.wantAdmitted(s.admit(), 0)
			s.serveFor(time.Minute, unserved[0])
			s.wantAdmitted(s.admit(), queue.FairWindow)
			s.pass(time.Minute)
			s.serve(served...)
			if done := s.admit(); done.Held != queue.FairWindow || done.Queued != len(served) {
				s.Errorf("Admit held %d builds again and queued %d, want %d that are not served and %d that are",
					done.Held, done.Queued, queue.FairWindow, len(served))
			}
			s.wantHead(unserved[0], 0)
			s.wantIDs("claims", s.taken(served[0]), ids(served))
			s.serve(unserved[0])
			s.wantAdmitted(s.admit(), queue.FairWindow)
			s.wantIDs("first claim", s.claimIDs(unserved[0], s.worker()), ids(unserved[:1]))
		},
	},
	{
		"UnservedDoesNotHoldUp",
		"The pool's virtual time is the lowest rank that is queued in it and served: what nobody serves any more does not hold it up.",
		func(s *subject) {
			pool := s.fairPool(nil)
			gone, busy := s.of(pool, "gone", 1), s.of(pool, "busy", 12)
			gone[0].Labels = queue.Labels{"os": "plan9"}
			s.submit(slices.Concat(gone, busy)...)
			s.maintain(s.rules())
			s.serveFor(time.Minute, gone[0])
			s.serve(busy[0])
			s.wantAdmitted(s.admit(), 13)
			s.claim(busy[0], slices.Repeat(s.slots(1), 10)...)
			s.pass(time.Minute)
			s.ready(s.of(pool, "new", 2)...)
			const from, step = 10 * queue.FairStep, queue.FairStep
			s.wantRanks(pool, map[string][]int64{"busy": {from, from + step}, "new": {from, from + step}})
		},
	},
	{
		"KeepsItsPlace",
		"A build of a fair pool that is given back keeps its place; one that waited for its back-off is admitted anew.",
		func(s *subject) {
			pool := s.fairPool(nil)
			builds := s.of(pool, "a", 3)
			s.ready(builds...)
			s.releases(s.offered(builds[0], s.worker()))
			s.wantAdmitted(s.admit(), 0)
			id := s.running(builds[0], s.worker())
			s.ends(report(id, queue.Lost), queue.Pending)
			s.pass(avoid)
			if done := s.maintain(s.rules()); done.Queued != 0 {
				s.Errorf("Maintain queued %d builds that have to be admitted", done.Queued)
			}
			s.wantHead(builds[0], 2)
			s.wantAdmitted(s.admit(), 1)
			s.wantOrder(builds[0], []queue.NewBuild{builds[1], builds[2], builds[0]})
		},
	},
	{
		"Switched",
		"ChangePool holds what is queued in a pool that becomes fair or ceases to be, so that Admit ranks it anew.",
		func(s *subject) {
			pool := s.name("pool")
			builds := slices.Concat(s.of(pool, "a", 4), s.of(pool, "b", 2))
			for _, b := range builds {
				s.submit(b)
			}
			s.maintain(s.rules())
			s.serve(builds...)
			s.wantHead(builds[0], 6)
			s.makeFair(pool, true)
			s.wantHead(builds[0], 0)
			s.wantAdmitted(s.admit(), 6)
			const step = queue.FairStep
			s.wantRanks(pool, map[string][]int64{"a": {0, step, 2 * step, 3 * step}, "b": {0, step}})
			s.makeFair(pool, true)
			s.wantHead(builds[0], 6)
			session := s.worker()
			s.wantIDs("first of each", sorted(s.claimIDs(builds[0], session, session)), sorted(ids([]queue.NewBuild{builds[0], builds[4]})))
			s.makeFair(pool, false)
			s.wantHead(builds[0], 0)
			s.wantAdmitted(s.admit(), 4)
			s.wantOrder(builds[0], []queue.NewBuild{builds[1], builds[2], builds[3], builds[5]})
		},
	},
	{
		"ComesBack",
		"A build that was claimed when its pool became fair, and comes back, is held by Maintain at the latest, so that Admit ranks it anew.",
		func(s *subject) {
			pool := s.name("pool")
			back := s.of(pool, "a", 2)
			back[1].Backoff = queue.Backoff{}
			s.queued(back...)
			released, lost := s.offered(back[0], s.worker()), s.running(back[1], s.worker())
			s.makeFair(pool, true)
			s.releases(released)
			s.ends(report(lost, queue.Lost), queue.Pending)
			s.maintain(s.rules())
			s.ready(s.of(pool, "b", 2)...)
			s.wantRanks(pool, map[string][]int64{"a": {0, queue.FairStep}, "b": {0, queue.FairStep}})
		},
	},
	{
		"ComesBackWithKey",
		"A build that Admit let in for its key, before its pool became fair, has no virtual time either: it is ranked anew when it comes back.",
		func(s *subject) {
			pool := s.name("pool")
			back := s.of(pool, "a", 1)
			back[0].ConcurrencyKey = "key"
			s.wantAdmitted(s.ready(back...), 1)
			offered := s.offered(back[0], s.worker())
			s.makeFair(pool, true)
			s.releases(offered)
			s.maintain(s.rules())
			s.ready(s.of(pool, "b", 2)...)
			s.wantRanks(pool, map[string][]int64{"a": {0}, "b": {0, queue.FairStep}})
		},
	},
	{
		"Key",
		"A build of a fair pool that has a concurrency key needs room of both.",
		func(s *subject) {
			pool := s.fairPool(nil)
			keyed, plain := s.of(pool, "project", 4), s.of(pool, "project", 2)
			for i := range keyed {
				keyed[i].ConcurrencyKey = "key"
			}
			s.limit("key", 1)
			s.wantAdmitted(s.ready(slices.Concat(keyed, plain)...), 3)
			s.wantUsed("key", 1, 1)
			for i := range keyed {
				for _, c := range s.take(keyed[0]) {
					s.accept(c.AttemptID, c.Session)
					s.ends(report(c.AttemptID, queue.Succeeded), queue.Succeeded)
				}
				s.wantState(keyed[i], queue.Succeeded)
				s.wantAdmitted(s.admit(), min(1, len(keyed)-1-i))
			}
		},
	},
	{
		"Steps",
		"Admit moves at most max builds of a fair pool in one call, and ranks them as if it had moved all at once.",
		func(s *subject) {
			pool := s.fairPool(nil)
			builds := slices.Concat(s.of(pool, "a", 5), s.of(pool, "b", 5))
			s.submit(builds...)
			s.maintain(s.rules())
			s.serve(builds...)
			s.wantAdmitted(s.admitInSteps(2), 10)
			const step = queue.FairStep
			five := []int64{0, step, 2 * step, 3 * step, 4 * step}
			s.wantRanks(pool, map[string][]int64{"a": five, "b": five})
		},
	},
}
