package queuetest

import (
	"slices"
	"time"

	"github.com/slipway-build/slipway/queue"
)

var sessionCases = []testCase{
	{
		"Beat",
		"Beat says that a controller is alive until now+ttl; a controller whose row had run out starts being fresh anew.",
		func(s *subject) {
			id := queue.NewID()
			want := func(fresh time.Duration) {
				s.Helper()
				if got := s.beat(id).Fresh; got != fresh {
					s.Errorf("fresh for %v, want %v", got, fresh)
				}
			}
			want(0)
			s.pass(ttl / 2)
			want(ttl / 2)
			s.pass(ttl - time.Second)
			want(ttl/2 + ttl - time.Second)
			s.beat(queue.NewID()) // of another controller
			s.pass(ttl + time.Second)
			want(0)
			s.pass(time.Second)
			want(time.Second)
		},
	},
	{
		"Replace",
		"OpenSessions ends any other session of the same worker, as replaced, and Beat tells its controller.",
		func(s *subject) {
			first, second := s.facts(), s.facts()
			second.Worker = first.Worker
			bystander := s.facts()
			bystander.Controller = first.Controller
			s.beat(first.Controller)
			s.beat(second.Controller)
			old, other := s.open(first), s.open(bystander)
			if ended := s.beat(first.Controller).Ended; len(ended) != 0 {
				s.Errorf("sessions %v have ended, want none", ended)
			}
			next := s.open(second)
			if old == next || old == 0 || next == 0 || other == old {
				s.Errorf("sessions are %d, %d and %d", old, other, next)
			}
			if ended := s.beat(first.Controller).Ended; !slices.Equal(ended, []queue.SessionID{old}) {
				s.Errorf("sessions %v have ended, want %d", ended, old)
			}
			if ended := s.beat(second.Controller).Ended; len(ended) != 0 {
				s.Errorf("sessions %v of the newer controller have ended, want none", ended)
			}
		},
	},
	{
		"ReplaceKeepsLeases",
		"When a session is replaced, leases stay where they are until Adopt.",
		func(s *subject) {
			builds := s.drafts(3)
			s.queued(builds...)
			facts := s.facts()
			session := s.open(facts)
			s.running(builds[0], session)
			s.running(builds[1], session)
			s.cancel(builds[1], queue.Cancelling)
			s.offered(builds[2], session)
			s.unchanged("opening another session", func() { s.open(facts) }, builds...)
		},
	},
	{
		"LoseSessions",
		"When a connection is gone the session's Offered builds are pending at once, and the grace of its Running ones begins.",
		func(s *subject) {
			builds := []queue.NewBuild{s.draft(), s.draft(), s.draft(), s.draft()}
			s.queued(builds...)
			facts := s.facts()
			session, other := s.open(facts), s.worker()
			offer := s.offered(builds[0], session)
			s.running(builds[1], session)
			s.running(builds[2], session)
			s.cancel(builds[2], queue.Cancelling)
			s.offered(builds[3], other)
			s.unchanged("losing a session", func() {
				s.must(s.LoseSessions(s.ctx, []queue.SessionID{session, 1 << 40}, s.now))
			}, builds[1:3]...)
			if got := s.get(builds[0]); got.State != queue.Pending || got.AttemptsUsed != 0 {
				s.Errorf("build is %s", describe(got))
			}
			s.wantHead(builds[0], 1)
			s.wantState(builds[3], queue.Offered)
			if s.accepts(acceptance(offer, session)) {
				s.Errorf("the offer of a lost session can be accepted")
			}
			s.wantIDs("claim by the worker, back again", s.claimIDs(builds[0], s.open(facts)), ids(builds[:1]))
		},
	},
	{
		"LoseAgain",
		"Sessions that have ended or are lost already are left as they are: the grace of their builds does not begin anew.",
		func(s *subject) {
			b := s.draft()
			s.queued(b)
			facts := s.facts()
			session := s.open(facts)
			s.running(b, session)
			sweeper := s.fresh()
			s.alive(grace, sweeper, facts.Controller)
			s.must(s.LoseSessions(s.ctx, []queue.SessionID{session}, s.now))
			s.alive(grace/2, sweeper, facts.Controller)
			s.must(s.LoseSessions(s.ctx, []queue.SessionID{session}, s.now))
			s.sweep(sweeper, grace/2+time.Second, facts.Controller)
			s.wantState(b, queue.Pending)
		},
	},
	{
		"OpenMany",
		"OpenSessions begins sessions as if one after the other, in the order of the argument: of several for one worker the last stays.",
		func(s *subject) {
			b := s.draft()
			s.queued(b)
			first, twin, other := s.facts(), s.facts(), s.facts()
			twin.Worker, other.Controller = first.Worker, first.Controller
			before := s.open(other)
			opened, err := s.OpenSessions(s.ctx, []queue.NewSession{twin, other, first, s.facts()}, s.now)
			s.must(err)
			if len(opened) != 4 {
				s.Fatalf("%d sessions were opened, want 4", len(opened))
			}
			if ended := s.beat(twin.Controller).Ended; !slices.Equal(ended, []queue.SessionID{opened[0].Session}) {
				s.Errorf("sessions %v of the first controller have ended, want %d", ended, opened[0].Session)
			}
			if ended := s.beat(first.Controller).Ended; !slices.Equal(ended, []queue.SessionID{before}) {
				s.Errorf("sessions %v of the second controller have ended, want %d", ended, before)
			}
			s.wantIDs("claim by the twin that is replaced", s.claimIDs(b, opened[0].Session), nil)
			s.wantIDs("claim by the twin that stays", s.claimIDs(b, opened[2].Session), ids([]queue.NewBuild{b}))
			leases, err := s.Leases(s.ctx, first.Controller, false)
			s.must(err)
			if len(leases) != 1 || leases[0].Worker != first.Worker {
				s.Errorf("leases are %v, want one of %s", leases, first.Worker)
			}
		},
	},
	{
		"OpenTellsOfOffers",
		"Opened.Offers says that builds are Offered to earlier sessions of the worker; Adopted.Released is how many became Pending.",
		func(s *subject) {
			builds := s.drafts(3)
			s.queued(builds...)
			facts, bystander := s.facts(), s.facts()
			s.offered(builds[0], s.open(bystander))
			open := func(want bool) queue.SessionID {
				s.Helper()
				opened, err := s.OpenSessions(s.ctx, []queue.NewSession{facts, s.facts()}, s.now)
				s.must(err)
				if opened[0].Offers != want || opened[1].Offers {
					s.Errorf("offers are %t and %t, want %t and none of a new worker", opened[0].Offers, opened[1].Offers, want)
				}
				return opened[0].Session
			}
			adopt := func(session queue.SessionID, want int, held ...queue.AttemptID) {
				s.Helper()
				adopted, err := s.Adopt(s.ctx, session, held, s.now)
				s.must(err)
				if adopted.Released != want {
					s.Errorf("Adopt released %d, want %d", adopted.Released, want)
				}
			}
			session := open(false)
			id := s.running(builds[1], session)
			session = open(false) // what runs has its grace
			s.offered(builds[2], session)
			open(true)
			session = open(true) // nobody has settled it
			adopt(session, 1, id)
			s.wantState(builds[2], queue.Pending)
			session = open(false)
			adopt(session, 0, id)
			offer := s.offered(builds[2], session)
			adopt(open(true), 0, id, offer)
		},
	},
	{
		"ReplaceLost",
		"OpenSessions ends any other session of the worker: it is lost from now on, if it was not already.",
		func(s *subject) {
			b := s.draft()
			s.queued(b)
			facts := s.facts()
			session := s.open(facts)
			s.running(b, session)
			sweeper := s.fresh()
			s.alive(grace, sweeper, facts.Controller)
			s.must(s.LoseSessions(s.ctx, []queue.SessionID{session}, s.now))
			s.alive(grace/2, sweeper, facts.Controller)
			s.open(facts)
			s.sweep(sweeper, grace/2+time.Second, facts.Controller)
			s.wantState(b, queue.Pending)
		},
	},
	{
		"EndedIsReplaced",
		"Beat tells of the sessions that newer sessions of the same workers have replaced, not of those that were lost.",
		func(s *subject) {
			facts := s.facts()
			s.beat(facts.Controller)
			want := func(ended ...queue.SessionID) {
				s.Helper()
				if got := s.beat(facts.Controller).Ended; !slices.Equal(got, ended) {
					s.Errorf("sessions %v have ended, want %v", got, ended)
				}
			}
			s.must(s.LoseSessions(s.ctx, []queue.SessionID{s.open(facts)}, s.now))
			want()
			replaced := s.open(facts)
			want()
			s.open(facts)
			want(replaced)
		},
	},
	{
		"OffersOfEndedSessions",
		"Maintain takes back the offers of sessions that have ended; the build does not avoid the worker.",
		func(s *subject) {
			b := s.draft()
			s.queued(b)
			facts := s.facts()
			s.offered(b, s.open(facts))
			next := s.open(facts)
			if done := s.maintain(s.rules()); done.Released != 1 {
				s.Errorf("Maintain released %d offers, want 1", done.Released)
			}
			s.wantIDs("claim by the same worker", s.claimIDs(b, next), []queue.ID{b.ID})
		},
	},
	{
		"Leases",
		"Leases returns every build that is Offered to, Running or Cancelling on a session of the controller that has not ended.",
		func(s *subject) {
			builds := s.drafts(6)
			s.queued(builds...)
			facts := s.facts()
			session := s.open(facts)
			second := s.facts()
			second.Controller = facts.Controller
			lost := s.open(second)
			want := map[queue.AttemptID]queue.State{
				s.offered(builds[0], session): queue.Offered,
				s.running(builds[1], session): queue.Running,
				s.running(builds[2], session): queue.Cancelling,
			}
			s.cancel(builds[2], queue.Cancelling)
			s.ends(report(s.running(builds[3], session), queue.Failed), queue.Failed)
			s.running(builds[4], s.worker())
			s.running(builds[5], lost)
			s.must(s.LoseSessions(s.ctx, []queue.SessionID{lost}, s.now))
			for _, cancelling := range []bool{false, true} {
				leases, err := s.Leases(s.ctx, facts.Controller, cancelling)
				s.must(err)
				got := make(map[queue.AttemptID]queue.State)
				for _, l := range leases {
					got[l.AttemptID] = l.State
					if l.Session != session || l.Worker != facts.Worker || l.Project != "project" {
						s.Errorf("lease is %+v", l)
					}
				}
				for id, state := range want {
					if wanted := !cancelling || state == queue.Cancelling; wanted && got[id] != state {
						s.Errorf("cancelling %t: %v is %v in the leases, want %v", cancelling, id, got[id], state)
					}
				}
				if n := map[bool]int{false: 3, true: 1}[cancelling]; len(leases) != n {
					s.Errorf("cancelling %t: %d leases, want %d", cancelling, len(leases), n)
				}
			}
			leases, err := s.Leases(s.ctx, queue.NewID(), false)
			s.must(err)
			if len(leases) != 0 {
				s.Errorf("a controller without sessions has leases %v", leases)
			}
		},
	},
	{
		"LeaseIsStale",
		"Lease returns ErrStaleLease unless the attempt is Running or Cancelling.",
		func(s *subject) {
			s.eachStale(func(_ queue.NewBuild, id queue.AttemptID, _ queue.SessionID) bool {
				_, err := s.Lease(s.ctx, id)
				s.wantErr(err, queue.ErrStaleLease)
				return err == nil
			})
			b := s.draft()
			s.queued(b)
			_, err := s.Lease(s.ctx, s.offered(b, s.worker()))
			s.wantErr(err, queue.ErrStaleLease)
			_, err = s.Lease(s.ctx, queue.AttemptID{Build: queue.NewID(), Epoch: 1})
			s.wantErr(err, queue.ErrStaleLease)
		},
	},
	{
		"RunLeft",
		"RunLeft is how much of the run timeout is left, without slack, by the backend's own clock; zero unless Running.",
		func(s *subject) {
			b := s.draft()
			b.RunTimeout = 10 * time.Hour
			s.now = time.Time{}
			s.must(s.submitErr(b))
			s.maintain(s.rules())
			session := s.worker()
			id := s.running(b, session)
			lease, err := s.Lease(s.ctx, id)
			s.must(err)
			if lease.RunLeft > b.RunTimeout || lease.RunLeft < b.RunTimeout-time.Hour {
				s.Errorf("%v of %v left just after the start", lease.RunLeft, b.RunTimeout)
			}
			s.cancel(b, queue.Cancelling)
			if lease, err = s.Lease(s.ctx, id); err != nil || lease.RunLeft != 0 {
				s.Errorf("lease of a cancelling build is %+v, %v", lease, err)
			}
		},
	},
	{
		"Forget",
		"Maintain removes ended sessions without leases and controllers without sessions when they are long gone, and nothing else.",
		func(s *subject) {
			builds := s.drafts(2)
			builds[0].RunTimeout = 48 * time.Hour
			s.queued(builds...)
			facts := s.facts()
			held, live := s.open(facts), s.worker()
			id := s.running(builds[0], held)
			s.must(s.LoseSessions(s.ctx, []queue.SessionID{held, s.worker()}, s.now))
			s.beat(queue.NewID())
			s.pass(24 * time.Hour)
			if done := s.maintain(s.rules()); done.Forgotten < 2 {
				s.Errorf("Maintain removed %d rows, want the session and the controller at least", done.Forgotten)
			}
			s.wantState(builds[0], queue.Running)
			s.wantIDs("claim by the session that is left", s.claimIDs(builds[1], live), ids(builds[1:]))
			s.wantAdopted(s.adopt(s.open(facts), id), id, queue.Running)
		},
	},
}

// beat says that a controller is alive.
func (s *subject) beat(controller queue.ID) queue.Beat {
	s.Helper()
	beat, err := s.Beat(s.ctx, controller, ttl, s.now)
	s.must(err)
	return beat
}

// fresh returns a controller that begins to be alive now.
func (s *subject) fresh() queue.ID {
	s.Helper()
	id := queue.NewID()
	s.beat(id)
	return id
}

// alive lets time pass, in which controllers beat.
func (s *subject) alive(d time.Duration, controllers ...queue.ID) {
	s.Helper()
	for end := s.now.Add(d); s.now.Before(end); {
		s.pass(min(ttl/4, end.Sub(s.now)))
		for _, c := range controllers {
			s.beat(c)
		}
	}
}

// sweep lets time pass, in which the sweeper beats, and has it maintain the queue.
func (s *subject) sweep(sweeper queue.ID, after time.Duration, others ...queue.ID) queue.Maintained {
	s.Helper()
	s.alive(after, append(others, sweeper)...)
	rules := s.rules()
	rules.Controller = sweeper
	return s.maintain(rules)
}
