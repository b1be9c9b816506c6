package queuetest

import (
	"fmt"
	"slices"

	"github.com/slipway-build/slipway/queue"
)

// fairLaneCases are of projects that have several lanes in a fair pool.
var fairLaneCases = []testCase{
	{
		"ByRank",
		"In a fair pool the lanes of a project share its window by rank: builds with a key do not wait behind all those without one, nor before them.",
		func(s *subject) {
			const plain, slots = 2*queue.FairWindow + 60, 30
			pool := s.fairPool(nil)
			s.limit("key", 2)
			older, newer := s.inLane(pool, "key", 3), s.inLane(pool, "key", 3)
			s.submit(older...)
			s.submit(s.of(pool, "project", plain)...)
			s.submit(newer...)
			s.maintain(s.rules())
			s.serve(older...)
			workers := s.slots(slots)
			place := make(map[queue.ID]int)
			for len(place) < 2*plain {
				claimed := s.turn(pool, workers)
				if len(claimed) == 0 {
					s.Fatalf("nothing is claimed after %d builds, many wait", len(place))
				}
				for _, c := range claimed {
					place[c.Build] = len(place) + 1
				}
				s.submit(s.of(pool, "project", len(claimed))...)
			}
			const late = queue.FairWindow + slots // one waits for the end of another, and is queued behind the window then
			for i := range older {
				if got := place[older[i].ID]; got == 0 || got > late {
					s.Errorf("build %d of those that came first is claimed at position %d, want %d at the latest", i, got, late)
				}
				first, last := len(older)+plain, len(older)+plain+len(newer)+late
				if got := place[newer[i].ID]; got <= first-slots || got > last {
					s.Errorf("build %d of those behind %d others is claimed at position %d, want between %d and %d", i, first, got, first-slots, last)
				}
			}
		},
	},
	{
		"MoreThanACall",
		"Where a project has more lanes in a fair pool than a call of Admit looks at, each has its turn in another call, however full the others are.",
		func(s *subject) {
			pool := s.fairPool(nil)
			plain := s.of(pool, "project", 3*queue.FairWindow)
			s.ready(plain[:queue.FairWindow]...)
			var keys []string
			for i := range 5 {
				keys = append(keys, fmt.Sprint("key ", i))
				s.limit(keys[i], 1)
				s.submit(s.inLane(pool, keys[i], 2)...) // of which one always waits
			}
			s.submit(plain[queue.FairWindow:]...)
			workers := s.slots(1)
			for range queue.FairWindow {
				limits, err := s.Limits(s.ctx, "project", "", 10)
				s.must(err)
				if !slices.ContainsFunc(limits, func(l queue.Limit) bool { return l.Used == 0 }) {
					return
				}
				s.turnInSteps(pool, 2, workers)
			}
			s.Errorf("after %d builds some that came before them are not admitted", queue.FairWindow)
		},
	},
	{
		"NotTorn",
		"A call of Admit that has looked at other lanes leaves to the next those of a project in a fair pool that it cannot look at together.",
		func(s *subject) {
			pool := s.fairPool(nil)
			first := s.of(pool, "a", 1)
			builds := slices.Concat(s.inLane(pool, "key 1", 2), s.inLane(pool, "key 2", 2), s.inLane(pool, "key 3", 2))
			s.submit(first...)
			for _, i := range []int{4, 0, 2, 5, 3, 1} {
				s.submit(builds[i])
			}
			s.maintain(s.rules())
			s.serve(first...)
			for lane, want := (queue.Lane{}), 1; want > 0; {
				done, err := s.Admit(s.ctx, lane, 3, s.now)
				s.must(err)
				if done.Queued != want {
					s.Errorf("Admit after %+v queued %d builds, want %d", lane, done.Queued, want)
				}
				lane = done.Next
				if want = 3; lane == (queue.Lane{}) {
					break
				}
			}
			s.wantOrder(first[0], []queue.NewBuild{first[0], builds[4], builds[0], builds[2]})
		},
	},
}

// inLane returns builds of a pool, of the project of drafts, with a concurrency key.
func (s *subject) inLane(pool, key string, n int) []queue.NewBuild {
	builds := s.of(pool, "project", n)
	for i := range builds {
		builds[i].ConcurrencyKey = key
	}
	return builds
}
