package queuetest

import (
	"slices"
	"time"

	"github.com/slipway-build/slipway/queue"
)

var adoptCases = []testCase{
	{
		"Held",
		"Adopt gives the session those leases of its worker's earlier sessions that the worker says it holds, and tells how each stands.",
		func(s *subject) {
			builds := s.drafts(3)
			builds[0].Source = &queue.Source{Digest: queue.Digest{4}, Size: 44}
			s.queued(builds...)
			facts := s.facts()
			session := s.open(facts)
			running, cancelling, offered := s.running(builds[0], session), s.running(builds[1], session), s.offered(builds[2], session)
			started := s.now
			s.cancel(builds[1], queue.Cancelling)
			s.append(running, 0, "hello")
			next := s.reconnect(facts)
			s.pass(time.Minute)
			leases := s.adopt(next, running, cancelling, offered)
			want := map[queue.AttemptID]queue.Lease{
				running: {
					State: queue.Running, TokenHash: token(running), Source: builds[0].Source, LogLength: 5,
					RunLeft: runTimeout - s.now.Sub(started),
				},
				cancelling: {State: queue.Cancelling, TokenHash: token(cancelling), Reason: "not wanted"},
				offered:    {State: queue.Offered},
			}
			for _, got := range leases {
				w := want[got.AttemptID]
				if got.Session != next || got.Worker != facts.Worker || got.Project != "project" || got.State != w.State ||
					got.TokenHash != w.TokenHash || (got.Source == nil) != (w.Source == nil) || got.Reason != w.Reason ||
					got.LogLength != w.LogLength || got.RunLeft != w.RunLeft {
					s.Errorf("adopted %+v, want %+v", got, w)
				}
			}
			if len(leases) != len(want) {
				s.Errorf("adopted %d leases, want %d", len(leases), len(want))
			}
			s.accept(offered, next)
			s.ends(report(running, queue.Succeeded), queue.Succeeded)
			s.ends(report(cancelling, queue.Canceled), queue.Canceled)
			s.ends(report(offered, queue.Failed), queue.Failed)
		},
	},
	{
		"EndsTheGrace",
		"An adopted lease is the new session's: the grace of the old one does not count any more.",
		func(s *subject) {
			b := s.draft()
			s.queued(b)
			first := s.facts()
			s.beat(first.Controller)
			sweeper := s.fresh()
			session := s.open(first)
			id := s.running(b, session)
			s.must(s.LoseSessions(s.ctx, []queue.SessionID{session}, s.now))
			s.alive(grace/2, sweeper)
			elsewhere := first
			elsewhere.Controller = s.fresh()
			next := s.open(elsewhere)
			s.wantAdopted(s.adopt(next, id), id, queue.Running)
			s.sweep(sweeper, 3*grace, elsewhere.Controller)
			s.wantState(b, queue.Running)
			leases, err := s.Leases(s.ctx, elsewhere.Controller, false)
			s.must(err)
			if len(leases) != 1 || leases[0].Session != next {
				s.Errorf("the new controller has leases %+v, want the adopted one", leases)
			}
			s.must(s.LoseSessions(s.ctx, []queue.SessionID{next}, s.now))
			s.sweep(sweeper, grace+time.Second, elsewhere.Controller)
			s.wantState(b, queue.Pending)
		},
	},
	{
		"OtherInstance",
		"What the worker says it holds is adopted from any earlier session of the worker, that of another instance too.",
		func(s *subject) {
			b := s.draft()
			s.queued(b)
			facts := s.facts()
			id := s.running(b, s.open(facts))
			facts.Instance = "boot-2"
			s.wantAdopted(s.adopt(s.open(facts), id), id, queue.Running)
		},
	},
	{
		"NotHeld",
		"What the worker does not hold is released if Offered, and left to its grace otherwise.",
		func(s *subject) { s.notHeld("boot-1") },
	},
	{
		"NotHeldByOtherInstance",
		"What the worker does not hold is released if Offered, and left to its grace otherwise: a new instance changes nothing in that.",
		func(s *subject) { s.notHeld("boot-2") },
	},
	{
		"OldList",
		"The list may be older than the attempt, if the worker was given the attempt by another connection meanwhile.",
		func(s *subject) {
			builds := s.drafts(2)
			s.queued(builds...)
			facts := s.facts()
			s.beat(facts.Controller)
			session := s.open(facts)
			kept, ended := s.running(builds[0], session), s.running(builds[1], session)
			late := s.open(facts) // for a hello that was sent before the session above was opened
			s.unchanged("adopting by an old list", func() {
				if leases := s.adopt(late); len(leases) != 0 {
					s.Errorf("adopted %v, want nothing", leases)
				}
			}, builds...)
			s.ends(report(ended, queue.Succeeded), queue.Succeeded)
			s.wantAdopted(s.adopt(s.reconnect(facts), kept), kept, queue.Running)
			s.sweep(s.fresh(), 2*grace, facts.Controller)
			s.ends(report(kept, queue.Succeeded), queue.Succeeded)
		},
	},
	{
		"Stale",
		"An attempt that is stale is left out of what Adopt returns, and Adopt does not touch it.",
		func(s *subject) {
			session := s.worker()
			s.eachStale(func(b queue.NewBuild, id queue.AttemptID, _ queue.SessionID) bool {
				return len(s.adopt(session, id, queue.AttemptID{Build: queue.NewID(), Epoch: 1})) != 0
			})
		},
	},
	{
		"OldEpoch",
		"An attempt that is stale is left out of what Adopt returns, though the worker has a newer one of the build.",
		func(s *subject) {
			b := s.draft()
			s.queued(b)
			facts := s.facts()
			session := s.open(facts)
			old := s.offered(b, session)
			_, err := s.Release(s.ctx, []queue.AttemptID{old}, 0, s.now)
			s.must(err)
			id := s.running(b, session)
			future := queue.AttemptID{Build: b.ID, Epoch: id.Epoch + 1}
			s.unchanged("adopting other epochs", func() {
				if leases := s.adopt(session, old, future); len(leases) != 0 {
					s.Errorf("adopted %+v, want nothing", leases)
				}
			}, b)
			if leases := s.adopt(s.reconnect(facts), old, future); len(leases) != 0 {
				s.Errorf("adopted %+v, want nothing", leases)
			}
			s.wantState(b, queue.Running) // its grace has begun
		},
	},
	{
		"OtherWorkers",
		"Adopt gives leases of the session's own worker only.",
		func(s *subject) {
			builds := s.drafts(3)
			s.queued(builds...)
			victim := s.facts()
			session := s.open(victim)
			held := []queue.AttemptID{s.running(builds[0], session), s.offered(builds[1], session), s.running(builds[2], session)}
			s.ends(report(held[2], queue.Succeeded), queue.Succeeded)
			s.must(s.LoseSessions(s.ctx, nil, s.now))
			thief := s.worker()
			s.unchanged("adopting another worker's builds", func() {
				if leases := s.adopt(thief, held...); len(leases) != 0 {
					s.Errorf("another worker adopted %v", leases)
				}
			}, builds...)
		},
	},
	{
		"Finished",
		"Attempts of the worker that Finish ended come back with their outcome; those that something else ended do not come back.",
		func(s *subject) {
			builds := s.drafts(5)
			builds[3].RunTimeout = time.Minute
			s.queued(builds...)
			facts := s.facts()
			session := s.open(facts)
			var held []queue.AttemptID
			for _, b := range builds {
				held = append(held, s.running(b, session))
			}
			want := map[queue.AttemptID]queue.State{held[0]: queue.Succeeded, held[1]: queue.Failed, held[2]: queue.Lost, held[4]: queue.Running}
			s.ends(report(held[0], queue.Succeeded), queue.Succeeded)
			s.ends(report(held[1], queue.Failed), queue.Failed)
			s.ends(report(held[2], queue.Lost), queue.Pending)
			s.pass(2 * time.Minute)
			s.maintain(s.rules())
			s.wantState(builds[3], queue.TimedOut)
			got := make(map[queue.AttemptID]queue.State)
			for _, l := range s.adopt(s.reconnect(facts), held...) {
				got[l.AttemptID] = l.State
			}
			for _, id := range held {
				if got[id] != want[id] {
					s.Errorf("%v comes back as %v, want %v", id, got[id], want[id])
				}
			}
		},
	},
	{
		"Again",
		"Repeating a call changes nothing that the first one did.",
		func(s *subject) {
			builds := s.drafts(4)
			s.queued(builds...)
			facts := s.facts()
			session := s.open(facts)
			held := []queue.AttemptID{s.running(builds[0], session), s.offered(builds[1], session)}
			s.running(builds[2], session)
			next := s.reconnect(facts)
			first := states(s.adopt(next, held...))
			fresh := s.offered(builds[3], next)
			s.unchanged("adopting again", func() {
				if again := states(s.adopt(next, held...)); !slices.Equal(again, first) {
					s.Errorf("adopted %v the second time, %v the first", again, first)
				}
			}, builds...)
			s.accept(fresh, next)
		},
	},
	{
		"EndedSession",
		"Adopt returns ErrNotFound if the session has ended, and then changes nothing.",
		func(s *subject) {
			builds := s.drafts(2)
			s.queued(builds...)
			facts := s.facts()
			first := s.open(facts)
			held := s.running(builds[0], first)
			s.offered(builds[1], first)
			second := s.open(facts)
			third := s.open(facts)
			s.unchanged("adopting by a session that has ended", func() {
				for _, session := range []queue.SessionID{first, second, 1 << 40} {
					_, err := s.Adopt(s.ctx, session, []queue.AttemptID{held}, s.now)
					s.wantErr(err, queue.ErrNotFound)
				}
			}, builds...)
			s.wantAdopted(s.adopt(third, held), held, queue.Running)
		},
	},
	{
		"OldSessionIsFenced",
		"An offer that a newer session has adopted is not the old session's any more.",
		func(s *subject) {
			b := s.draft()
			s.queued(b)
			facts := s.facts()
			old := s.open(facts)
			id := s.offered(b, old)
			next := s.reconnect(facts)
			s.wantAdopted(s.adopt(next, id), id, queue.Offered)
			if s.accepts(acceptance(id, old)) {
				s.Errorf("the old session can accept what the new one has adopted")
			}
			s.accept(id, next)
		},
	},
}

// notHeld lets a worker come back, as that instance, that holds nothing of what it had.
func (s *subject) notHeld(instance string) {
	s.Helper()
	builds := []queue.NewBuild{s.draft(), s.draft(), s.draft(), s.draft()}
	builds[2].MaxAttempts = 1
	s.queued(builds...)
	facts := s.facts()
	s.beat(facts.Controller)
	sweeper := s.fresh()
	session := s.open(facts)
	s.offered(builds[0], session)
	s.running(builds[1], session)
	s.running(builds[2], session)
	s.running(builds[3], session)
	s.cancel(builds[3], queue.Cancelling)
	facts.Instance = instance
	next := s.open(facts)
	s.unchanged("adopting nothing", func() {
		if leases := s.adopt(next); len(leases) != 0 {
			s.Errorf("adopted %v, want nothing", leases)
		}
	}, builds[1:]...)
	s.wantIDs("claim of what was offered", s.claimIDs(builds[0], next), ids(builds[:1]))
	s.sweep(sweeper, grace-time.Second, facts.Controller)
	s.wantState(builds[1], queue.Running)
	s.wantState(builds[2], queue.Running)
	s.sweep(sweeper, 2*time.Second, facts.Controller)
	s.wantState(builds[1], queue.Pending)
	s.wantState(builds[2], queue.Lost)
	s.wantState(builds[3], queue.Canceled)
}

// reconnect opens another session of a worker, after its last one was lost.
func (s *subject) reconnect(facts queue.NewSession) queue.SessionID {
	s.Helper()
	s.pass(time.Second)
	return s.open(facts)
}

// adopt gives a session what its worker holds.
func (s *subject) adopt(session queue.SessionID, held ...queue.AttemptID) []queue.Lease {
	s.Helper()
	adopted, err := s.Adopt(s.ctx, session, held, s.now)
	s.must(err)
	return adopted.Leases
}

// wantAdopted reports leases that are not one attempt in a state.
func (s *subject) wantAdopted(leases []queue.Lease, id queue.AttemptID, state queue.State) {
	s.Helper()
	if len(leases) != 1 || leases[0].AttemptID != id || leases[0].State != state {
		s.Fatalf("adopted %+v, want %v as %v", leases, id, state)
	}
}

// states returns the leases' states by build, in order.
func states(leases []queue.Lease) []string {
	var all []string
	for _, l := range leases {
		all = append(all, l.Build.String()+" "+l.State.String())
	}
	slices.Sort(all)
	return all
}
