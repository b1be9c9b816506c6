package queuetest

import (
	"slices"
	"time"

	"github.com/slipway-build/slipway/queue"
)

var orderCases = []testCase{
	{
		"Priority",
		"A build of priority p is claimed as if it had been submitted p steps earlier.",
		func(s *subject) {
			builds := s.drafts(6)
			for i, priority := range []int{0, 0, 2, 2, -1, 1} {
				builds[i].Priority = priority
			}
			s.queued(builds[0]) // a second after the beginning
			s.pass(queue.PriorityStep)
			s.queued(builds[1])
			s.queued(builds[4]) // as if it were submitted a step later
			s.pass(queue.PriorityStep - 4*time.Second)
			s.queued(builds[2]) // a second before the first, by its priority
			s.pass(time.Second)
			s.queued(builds[3]) // a second after the first
			s.queued(builds[5]) // two seconds after the second
			s.wantOrder(builds[0], []queue.NewBuild{builds[2], builds[0], builds[3], builds[1], builds[5], builds[4]})
		},
	},
	{
		"PriorityInABatch",
		"Builds that are submitted together are claimed by their priorities, and in the order of their ids where those are equal.",
		func(s *subject) {
			builds := s.drafts(6)
			for i, priority := range []int{-queue.MaxPriority, 0, queue.MaxPriority, 0, 1, queue.MaxPriority} {
				builds[i].Priority = priority
			}
			s.submit(builds...)
			s.maintain(s.rules())
			s.wantOrder(builds[0], []queue.NewBuild{builds[2], builds[5], builds[4], builds[1], builds[3], builds[0]})
		},
	},
	{
		"Ageing",
		"Whatever waits long enough comes first in the end: a build of the lowest priority is not behind those of the highest that come later than all their steps.",
		func(s *subject) {
			builds := s.drafts(3)
			builds[0].Priority, builds[1].Priority, builds[2].Priority = -queue.MaxPriority, queue.MaxPriority, queue.MaxPriority
			s.queued(builds[0])
			s.pass(2*queue.MaxPriority*queue.PriorityStep - 2*time.Second)
			s.queued(builds[1])
			s.pass(time.Second)
			s.queued(builds[2])
			s.wantOrder(builds[0], []queue.NewBuild{builds[1], builds[0], builds[2]})
		},
	},
	{
		"KeepsItsPriority",
		"A build that is attempted again keeps its rank, of which its priority is a part.",
		func(s *subject) {
			builds := s.drafts(3)
			builds[0].Priority, builds[2].Priority = -1, 1
			s.queued(builds[0])
			first := s.running(builds[0], s.worker())
			s.queued(builds[1:]...)
			s.ends(report(first, queue.Lost), queue.Pending)
			s.pass(backoff.Base)
			s.maintain(s.rules())
			s.wantOrder(builds[0], []queue.NewBuild{builds[2], builds[1], builds[0]})
		},
	},
	{
		"Rank",
		"The rank that NewBuild.Rank says is that of Submit, Probe and Claim.",
		func(s *subject) {
			builds := s.drafts(2)
			s.queued(builds[0])
			s.running(builds[0], s.worker())
			for _, priority := range []int{-queue.MaxPriority, 0, 7} {
				b := s.draft()
				b.Pool, b.Priority = builds[0].Pool, priority
				done, want := s.submit(b)[0], b.Rank(s.now)
				if done.Rank != want {
					s.Errorf("Submit returned rank %d, want %d", done.Rank, want)
				}
				class := s.class(b.Pool, b.Labels)
				if fronts := s.probe(reach(class)); len(fronts) != 1 || fronts[0].Ranks[0] != want {
					s.Errorf("Probe returned %v, want rank %d", fronts, want)
				}
				if claimed := s.claim(b, s.worker()); len(claimed) != 1 || claimed[0].Rank != want {
					s.Errorf("Claim returned %+v, want rank %d", claimed, want)
				}
			}
		},
	},
	{
		"Floor",
		"A reach is of a class, from a rank on: builds below the floor are neither counted nor claimed.",
		func(s *subject) {
			builds := s.drafts(4)
			var ranks []int64
			for _, b := range builds {
				s.queued(b)
				ranks = append(ranks, b.Rank(s.now))
			}
			class, session := s.class(builds[0].Pool, builds[0].Labels), s.worker()
			for i, c := range []struct {
				floor int64
				left  int
			}{{queue.NoFloor, 4}, {ranks[0], 4}, {ranks[0] + 1, 3}, {ranks[2], 2}, {ranks[3] + 1, 0}} {
				fronts := s.probe(queue.Reach{Class: class, Floor: c.floor})
				if c.left == 0 && len(fronts) != 0 || c.left > 0 && (len(fronts) != 1 || !slices.Equal(fronts[0].Ranks, ranks[4-c.left:])) {
					s.Errorf("probe %d returned %v, want ranks %d", i, fronts, ranks[4-c.left:])
				}
			}
			claim := func(floor int64, want ...queue.ID) {
				s.Helper()
				var got []queue.ID
				demand := queue.Demand{Reach: queue.Reach{Class: class, Floor: floor}, Slots: []queue.SessionID{session, session}}
				claimed, err := s.Claim(s.ctx, []queue.Demand{demand}, offerTime, s.now)
				s.must(err)
				for _, c := range claimed {
					got = append(got, c.Build)
				}
				s.wantIDs("claim", sorted(got), sorted(want))
			}
			claim(ranks[3] + 1)
			claim(ranks[1]+1, builds[2].ID, builds[3].ID)
			claim(ranks[1], builds[1].ID)
			claim(queue.NoFloor, builds[0].ID)
		},
	},
}

// probe probes classes, for 10 builds of each.
func (s *subject) probe(reaches ...queue.Reach) []queue.Front {
	s.Helper()
	fronts, err := s.Probe(s.ctx, reaches, 10)
	s.must(err)
	return fronts
}

// wantOrder claims all queued builds of b's class, one after the other, and reports another order than the wanted.
func (s *subject) wantOrder(b queue.NewBuild, want []queue.NewBuild) {
	s.Helper()
	var got []queue.ID
	for session := s.worker(); ; {
		next := s.claimIDs(b, session)
		if len(next) == 0 {
			break
		}
		got = append(got, next...)
	}
	s.wantIDs("claims in turn", got, ids(want))
}
