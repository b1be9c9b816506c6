package queuetest

import (
	"slices"
	"time"

	"github.com/slipway-build/slipway/queue"
)

var acceptCases = []testCase{
	{
		"Running",
		"Accept makes an Offered attempt Running, counts the attempt, stores the token hash and starts the run timeout.",
		func(s *subject) {
			b := s.draft()
			b.Source = &queue.Source{Digest: queue.Digest{7}, Size: 70}
			s.queued(b)
			facts := s.facts()
			session := s.open(facts)
			id := s.offered(b, session)
			s.pass(3 * time.Second)
			s.accept(id, session)
			got := s.get(b)
			if got.State != queue.Running || got.AttemptsUsed != 1 || !got.StartedAt.Equal(s.now) || got.Worker != facts.Worker || got.Epoch != 1 {
				s.Errorf("build is %s", describe(got))
			}
			lease, err := s.Lease(s.ctx, id)
			s.must(err)
			if lease.AttemptID != id || lease.Session != session || lease.Worker != facts.Worker || lease.Project != b.Project ||
				lease.State != queue.Running || lease.TokenHash != token(id) || lease.Source == nil || *lease.Source != *b.Source || lease.LogLength != 0 {
				s.Errorf("lease is %+v", lease)
			}
			rows := s.attempts(b)
			if len(rows) != 1 || rows[0].AttemptID != id || rows[0].Worker != facts.Worker || !rows[0].StartedAt.Equal(s.now) ||
				!rows[0].EndedAt.IsZero() || rows[0].Outcome != 0 {
				s.Errorf("attempts are %v", rows)
			}
		},
	},
	{
		"Again",
		"Accepting again with the same hash returns the attempt again.",
		func(s *subject) {
			b := s.draft()
			s.queued(b)
			session := s.worker()
			id := s.running(b, session)
			s.pass(time.Second)
			s.unchanged("accepting again", func() { s.accept(id, session) }, b)
			s.cancel(b, queue.Cancelling)
			s.unchanged("accepting again after a cancel", func() { s.accept(id, session) }, b)
		},
	},
	{
		"AgainIsNoExtension",
		"Accept starts the run timeout; accepting again changes nothing.",
		func(s *subject) {
			b := s.draft()
			s.queued(b)
			session := s.worker()
			id := s.running(b, session)
			s.pass(runTimeout)
			s.accept(id, session)
			s.pass(slack + time.Second)
			s.maintain(s.rules())
			s.wantState(b, queue.TimedOut)
		},
	},
	{
		"OtherHash",
		"Accepting again returns the attempt with the same hash only.",
		func(s *subject) {
			b := s.draft()
			s.queued(b)
			session := s.worker()
			id := s.running(b, session)
			other := acceptance(id, session)
			other.TokenHash[31]++
			s.unchanged("accepting with another hash", func() {
				if s.accepts(other) {
					s.Errorf("Accept with another hash counts")
				}
			}, b)
		},
	},
	{
		"OtherSession",
		"Accept makes attempts Running if they are offered to that session.",
		func(s *subject) {
			b := s.draft()
			s.queued(b)
			session, other := s.worker(), s.worker()
			id := s.offered(b, session)
			refuse := func(session queue.SessionID) {
				s.Helper()
				s.unchanged("accepting for another session", func() {
					if s.accepts(acceptance(id, session)) {
						s.Errorf("Accept counts for session %d, which was not offered the build", session)
					}
				}, b)
			}
			refuse(other)
			refuse(0)
			refuse(1 << 40)
			s.accept(id, session)
			refuse(other)
		},
	},
	{
		"Stale",
		"A fenced change is made only if the attempt is the newest of its build and its state admits it.",
		func(s *subject) {
			s.eachStale(func(b queue.NewBuild, id queue.AttemptID, session queue.SessionID) bool {
				return s.accepts(acceptance(id, session))
			})
		},
	},
	{
		"Batch",
		"Items that are stale are left out of the result and do not disturb the other items.",
		func(s *subject) {
			builds := s.drafts(5)
			s.queued(builds...)
			session := s.worker()
			var accepts []queue.Acceptance
			for _, b := range builds {
				accepts = append(accepts, acceptance(s.offered(b, session), session))
			}
			accepts[1].Epoch++
			accepts[2].Build = queue.NewID()
			accepts[3].Session = s.worker()
			done, err := s.Accept(s.ctx, accepts, s.now)
			s.must(err)
			got := []queue.ID{}
			for _, id := range done {
				got = append(got, id.Build)
			}
			s.wantIDs("accepted", sorted(got), sorted([]queue.ID{builds[0].ID, builds[4].ID}))
			for i, b := range builds {
				want := queue.Offered
				if slices.Contains(got, b.ID) {
					want = queue.Running
				}
				if state := s.get(b).State; state != want {
					s.Errorf("build %d is %v, want %v", i, state, want)
				}
			}
		},
	},
	{
		"TimeAlone",
		"Time alone moves nothing: an offer counts until it is taken back.",
		func(s *subject) {
			b := s.draft()
			s.queued(b)
			session := s.worker()
			id := s.offered(b, session)
			s.pass(2 * offerTime)
			s.accept(id, session)
			s.wantState(b, queue.Running)
		},
	},
}

var releaseCases = []testCase{
	{
		"Pending",
		"Release makes Offered attempts Pending again, without using up an attempt.",
		func(s *subject) {
			b := s.draft()
			s.queued(b)
			id := s.offered(b, s.worker())
			if !s.releases(id) {
				s.Fatalf("Release returned nothing")
			}
			got := s.get(b)
			if got.State != queue.Pending || got.Epoch != 1 || got.AttemptsUsed != 0 || !got.NotBefore.IsZero() {
				s.Errorf("build is %s", describe(got))
			}
			s.wantHead(b, 1)
		},
	},
	{
		"KeepsItsWorker",
		"A build names the worker that holds it or held it last, if that did no more than decline it.",
		func(s *subject) {
			b := s.draft()
			s.queued(b)
			facts := s.facts()
			s.releases(s.offered(b, s.open(facts)))
			if got := s.get(b).Worker; got != facts.Worker {
				s.Errorf("worker is %q, want %q", got, facts.Worker)
			}
		},
	},
	{
		"KeepsItsRank",
		"A build that is given back keeps its rank: it is claimed before those that were submitted after it.",
		func(s *subject) {
			builds := s.drafts(3)
			s.queued(builds...)
			id := s.offered(builds[0], s.worker())
			s.releases(id)
			s.wantIDs("next", s.claimIDs(builds[0], s.worker()), ids(builds[:1]))
		},
	},
	{
		"AvoidsTheWorker",
		"Release lets the build avoid the worker for the given time.",
		func(s *subject) {
			builds := s.drafts(2)
			s.queued(builds[0])
			facts := s.facts()
			session := s.open(facts)
			s.releases(s.offered(builds[0], session))
			s.wantIDs("claim at once", s.claimIDs(builds[0], session), nil)
			session = s.open(facts)
			s.wantIDs("claim in a new session", s.claimIDs(builds[0], session), nil)
			s.pass(avoid - 2*time.Second)
			s.wantIDs("claim while it avoids", s.claimIDs(builds[0], session), nil)
			s.submit(builds[1])
			s.wantIDs("a younger build that does not avoid", s.claimIDs(builds[1], session), ids(builds[1:]))
			s.pass(3 * time.Second)
			s.wantIDs("claim afterwards", s.claimIDs(builds[0], session), ids(builds[:1]))
		},
	},
	{
		"OthersMayHaveIt",
		"Claim never gives a build to the worker it avoids; others may have it at once.",
		func(s *subject) {
			b := s.draft()
			s.queued(b)
			first, second := s.worker(), s.worker()
			s.releases(s.offered(b, first))
			if id := s.offered(b, second); id.Epoch != 2 {
				s.Errorf("the second offer is %v", id)
			}
		},
	},
	{
		"AvoidedInAMixedDemand",
		"Claim never gives a build to the worker it avoids, whatever sessions are in the demand with it.",
		func(s *subject) {
			builds := s.drafts(6)
			s.queued(builds...)
			first, second := s.worker(), s.worker()
			avoiding := make(map[queue.ID]bool)
			for _, c := range s.claim(builds[0], first, first, first) {
				avoiding[c.Build] = true
				s.releases(c.AttemptID)
			}
			for range 10 {
				for _, c := range s.claim(builds[0], first, second, first, second, first, second) {
					if c.Session == first && avoiding[c.Build] {
						s.Errorf("build %v went to the worker it avoids", c.Build)
					}
				}
			}
		},
	},
	{
		"Stale",
		"A fenced change is made only if the attempt is the newest of its build and its state admits it.",
		func(s *subject) {
			s.eachStale(func(b queue.NewBuild, id queue.AttemptID, _ queue.SessionID) bool { return s.releases(id) })
			b := s.draft()
			s.queued(b)
			id := s.running(b, s.worker())
			s.unchanged("release of a running attempt", func() {
				if s.releases(id) {
					s.Errorf("Release of a running attempt counts")
				}
			}, b)
		},
	},
	{
		"Batch",
		"Items that are stale are left out of the result and do not disturb the other items.",
		func(s *subject) {
			builds := s.drafts(4)
			s.queued(builds...)
			session := s.worker()
			var offers []queue.AttemptID
			for _, b := range builds {
				offers = append(offers, s.offered(b, session))
			}
			offers[1].Epoch = 7
			offers[2].Build = queue.NewID()
			done, err := s.Release(s.ctx, offers, avoid, s.now)
			s.must(err)
			got := []queue.ID{}
			for _, id := range done {
				got = append(got, id.Build)
			}
			s.wantIDs("released", sorted(got), sorted([]queue.ID{builds[0].ID, builds[3].ID}))
			s.wantState(builds[1], queue.Offered)
			s.wantState(builds[2], queue.Offered)
			s.wantHead(builds[0], 2)
		},
	},
}
