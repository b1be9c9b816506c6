package queuetest

import (
	"maps"
	"time"

	"github.com/slipway-build/slipway/queue"
)

// idle reports whether nothing was done.
func idle(m queue.Maintained) bool {
	for _, c := range counts(&m) {
		if *c.n > 0 {
			return false
		}
	}
	return len(m.Heads) == 0
}

var maintainCases = []testCase{
	{
		"QueueTimeout",
		"A pending build that waits longer than its queue timeout becomes Expired, whether it is held or queued.",
		func(s *subject) {
			builds := s.drafts(3)
			builds[0].QueueTimeout, builds[1].QueueTimeout = time.Minute, time.Hour
			s.queued(builds...)
			held := s.draft()
			held.QueueTimeout = time.Minute
			s.submit(held)
			s.pass(30 * time.Second)
			if done := s.maintain(s.rules()); done.Expired != 0 {
				s.Errorf("Maintain expired %d builds before their time", done.Expired)
			}
			s.pass(30*time.Second + time.Millisecond)
			if done := s.maintain(s.rules()); done.Expired != 2 {
				s.Errorf("Maintain expired %d builds, want 2", done.Expired)
			}
			for _, b := range []queue.NewBuild{builds[0], held} {
				got := s.get(b)
				if got.State != queue.Expired || !got.FinishedAt.Equal(s.now) || got.Reason != queue.EventQueueTimeout.Reason() {
					s.Errorf("build is %s", describe(got))
				}
			}
			s.wantIDs("claim", sorted(s.claimIDs(builds[0], s.worker(), s.worker(), s.worker())), sorted(ids(builds[1:])))
		},
	},
	{
		"QueueTimeoutOfAnOffer",
		"Offers that come to nothing do not interrupt the wait; an offered or running build does not expire.",
		func(s *subject) {
			builds := s.drafts(2)
			builds[0].QueueTimeout, builds[1].QueueTimeout = time.Minute, time.Minute
			s.queued(builds...)
			session := s.worker()
			offer := s.offered(builds[0], session)
			s.running(builds[1], session)
			s.pass(2 * time.Minute)
			if !s.releases(offer) {
				s.Fatalf("Release returned nothing")
			}
			if done := s.maintain(s.rules()); done.Expired != 1 {
				s.Errorf("Maintain expired %d builds, want 1", done.Expired)
			}
			s.wantState(builds[0], queue.Expired)
			s.wantState(builds[1], queue.Running)
		},
	},
	{
		"QueueTimeoutAnew",
		"The queue timeout is counted anew from the loss of an attempt.",
		func(s *subject) {
			b := s.draft()
			b.QueueTimeout = 10 * time.Minute
			s.queued(b)
			id := s.running(b, s.worker())
			s.pass(30 * time.Minute)
			s.ends(report(id, queue.Lost), queue.Pending)
			s.pass(9 * time.Minute)
			s.maintain(s.rules())
			s.wantState(b, queue.Pending)
			s.pass(2 * time.Minute)
			s.maintain(s.rules())
			s.wantState(b, queue.Expired)
		},
	},
	{
		"OfferRunsOut",
		"An offer that ran out is taken back without using up an attempt, and the build avoids the worker for rules.Avoid.",
		func(s *subject) {
			b := s.draft()
			s.queued(b)
			session := s.worker()
			id := s.offered(b, session)
			s.pass(offerTime - time.Second)
			if done := s.maintain(s.rules()); done.Released != 0 {
				s.Errorf("Maintain released an offer before its time")
			}
			s.pass(2 * time.Second)
			if done := s.maintain(s.rules()); done.Released != 1 {
				s.Errorf("Maintain released %d offers, want 1", done.Released)
			}
			if got := s.get(b); got.State != queue.Pending || got.AttemptsUsed != 0 || got.Epoch != 1 {
				s.Errorf("build is %s", describe(got))
			}
			if s.accepts(acceptance(id, session)) {
				s.Errorf("an offer that ran out can be accepted")
			}
			s.wantIDs("claim by the same worker", s.claimIDs(b, session), nil)
			if next := s.offered(b, s.worker()); next.Epoch != 2 {
				s.Errorf("the next offer is %v", next)
			}
		},
	},
	{
		"RunDeadline",
		"A Running build becomes TimedOut once the run timeout and the slack are over, and is not attempted again.",
		func(s *subject) {
			b := s.draft()
			s.queued(b)
			id := s.running(b, s.worker())
			started := s.now
			s.append(id, 0, "partial")
			s.pass(runTimeout + slack - time.Second)
			if done := s.maintain(s.rules()); done.TimedOut != 0 {
				s.Errorf("Maintain timed a build out before its time")
			}
			s.pass(2 * time.Second)
			if done := s.maintain(s.rules()); done.TimedOut != 1 {
				s.Errorf("Maintain timed %d builds out, want 1", done.TimedOut)
			}
			reason := queue.EventDeadline.Reason()
			got := s.get(b)
			if got.State != queue.TimedOut || !got.FinishedAt.Equal(s.now) || got.Reason != reason || got.ExitCode != nil {
				s.Errorf("build is %s", describe(got))
			}
			s.wantAttempts(b, queue.Attempt{
				AttemptID: id, Worker: got.Worker, StartedAt: started, EndedAt: s.now, Outcome: queue.TimedOut, Reason: reason, LogLength: 7,
			})
			if _, stored := s.appends(id, 7, "late"); stored {
				s.Errorf("the log of a build that timed out takes more")
			}
		},
	},
	{
		"RunDeadlineOfADirectSession",
		"A build of a direct session is Running from its claim until as long after the end of its run timeout as an offer lasts.",
		func(s *subject) {
			b := s.draft()
			s.queued(b)
			facts := s.facts()
			facts.Direct = true
			s.offered(b, s.open(facts))
			s.pass(runTimeout + offerTime - time.Second)
			s.maintain(s.rules())
			s.wantState(b, queue.Running)
			s.pass(2 * time.Second)
			s.maintain(s.rules())
			s.wantState(b, queue.TimedOut)
		},
	},
	{
		"CancelDeadline",
		"A Cancelling build becomes Canceled when its worker has not reported until the cancel's time is over.",
		func(s *subject) {
			b := s.draft()
			s.queued(b)
			id := s.running(b, s.worker())
			started := s.now
			s.cancel(b, queue.Cancelling)
			s.pass(force - time.Second)
			if done := s.maintain(s.rules()); done.Canceled != 0 {
				s.Errorf("Maintain canceled a build before its time")
			}
			s.pass(2 * time.Second)
			if done := s.maintain(s.rules()); done.Canceled != 1 {
				s.Errorf("Maintain canceled %d builds, want 1", done.Canceled)
			}
			got := s.get(b)
			if got.State != queue.Canceled || got.Reason != "not wanted" || !got.FinishedAt.Equal(s.now) {
				s.Errorf("build is %s", describe(got))
			}
			s.wantAttempts(b, queue.Attempt{
				AttemptID: id, Worker: got.Worker, StartedAt: started, EndedAt: s.now, Outcome: queue.Canceled,
				Reason: queue.EventCancelDeadline.Reason(),
			})
		},
	},
	{
		"CancelOutlastsTheRun",
		"A Cancelling build has until its cancel's time is over, even past its run timeout.",
		func(s *subject) {
			b := s.draft()
			b.RunTimeout = time.Second
			s.queued(b)
			s.running(b, s.worker())
			s.pass(slack)
			s.cancel(b, queue.Cancelling)
			s.pass(10 * time.Second)
			s.maintain(s.rules())
			s.wantState(b, queue.Cancelling)
		},
	},
	{
		"Limit",
		"Maintain moves at most rules.Limit builds of each kind, and says More while a limit was reached.",
		func(s *subject) {
			const n = 11
			pending, offers, runs, cancels, queued := s.drafts(n), s.drafts(n), s.drafts(n), s.drafts(n), s.drafts(n)
			for i := range n {
				pending[i].QueueTimeout = time.Hour
			}
			for _, builds := range [][]queue.NewBuild{pending, offers, runs, cancels} {
				s.queued(builds...)
			}
			session := s.worker()
			for i := range n {
				s.running(cancels[i], session)
				s.cancel(cancels[i], queue.Cancelling)
				s.running(runs[i], session)
				s.offered(offers[i], session)
			}
			s.submit(queued...)
			s.pass(2 * runTimeout)
			rules := s.rules()
			rules.Limit = 4
			done := s.maintain(rules)
			if done.Expired != n || done.TimedOut != n || done.Canceled != n || done.Released != n || done.Queued != n || done.Interned != 1 {
				s.Errorf("Maintain did %+v in steps of %d, want %d of each kind", done, rules.Limit, n)
			}
		},
	},
	{
		"ClassesInOrder",
		"A class never becomes visible after one with a higher id; Classes returns those above an id, in order, at most max.",
		func(s *subject) {
			var all []queue.Class
			for range 7 {
				s.submit(s.draft(), s.draft())
				s.maintain(s.rules())
				var last queue.ClassID
				if len(all) > 0 {
					last = all[len(all)-1].ID
				}
				for {
					page, err := s.Classes(s.ctx, last, 1)
					s.must(err)
					if len(page) == 0 {
						break
					}
					if len(page) > 1 || page[0].ID <= last {
						s.Fatalf("Classes after %d returned %v, want one with a higher id", last, page)
					}
					last = page[0].ID
					all = append(all, page[0])
				}
			}
			if len(all) != 14 {
				s.Errorf("a reader who remembers the highest class found %d, want 14", len(all))
			}
			page, err := s.Classes(s.ctx, 0, 5)
			s.must(err)
			for i, c := range page {
				if c.ID != all[i].ID || c.Pool != all[i].Pool || c.Labels.String() != all[i].Labels.String() {
					s.Errorf("class %d is %v now, was %v", i, c, all[i])
				}
			}
			if len(page) != 5 {
				s.Errorf("Classes returned %d, want 5", len(page))
			}
		},
	},
	{
		"OwnClock",
		"The zero time stands for the backend's own clock.",
		func(s *subject) {
			s.now = time.Time{}
			begun := time.Now().Add(-time.Hour) // the clock may be another machine's
			late, b := s.draft(), s.draft()
			late.QueueTimeout = time.Millisecond
			s.must(s.submitErr(late, b))
			for s.get(late).State != queue.Expired && s.ctx.Err() == nil {
				s.maintain(s.rules())
			}
			session := s.worker()
			s.beat(queue.NewID())
			id := s.running(b, session)
			s.append(id, 0, "text")
			s.reserve(queue.NewArtifact{AttemptID: id, Name: "name"})
			s.ends(report(id, queue.Succeeded), queue.Succeeded)
			got, rows := s.get(b), s.attempts(b)
			last := begun
			for _, at := range []time.Time{got.CreatedAt, got.StartedAt, got.FinishedAt, begun.Add(2 * time.Hour)} {
				if at.Before(last) {
					s.Errorf("%v comes before %v: build is %s", at, last, describe(got))
				}
				last = at
			}
			if len(rows) != 1 || !rows[0].StartedAt.Equal(got.StartedAt) || !rows[0].EndedAt.Equal(got.FinishedAt) {
				s.Errorf("attempts are %+v, build is %s", rows, describe(got))
			}
		},
	},
	{
		"Heads",
		"Maintain returns the classes in which builds were queued, each with the lowest rank of those.",
		func(s *subject) {
			made, released, scheduled, bystander := s.drafts(2), s.drafts(2), s.drafts(2), s.drafts(1)
			want := make(map[queue.ClassID]int64)
			s.queued(released[0])
			lowest := released[0].Rank(s.now)
			s.offered(released[0], s.worker())
			s.queued(released[1], scheduled[0], bystander[0])
			s.offered(scheduled[0], s.worker()) // known now, and empty
			s.cancel(scheduled[0], queue.Canceled)
			scheduled[1] = s.at(scheduled[1], offerTime)
			s.submit(scheduled[1])
			s.pass(offerTime)
			s.submit(made...)
			first := made[0].Rank(s.now)
			s.pass(time.Second)
			done := s.maintain(s.rules())
			want[s.class(released[0].Pool, released[0].Labels)] = lowest
			want[s.class(scheduled[0].Pool, scheduled[0].Labels)] = scheduled[1].NotBefore.UnixMicro()
			want[s.class(made[0].Pool, made[0].Labels)] = first
			got := make(map[queue.ClassID]int64)
			for _, h := range done.Heads {
				got[h.Class] = h.Rank
			}
			if len(done.Heads) != len(want) || !maps.Equal(got, want) {
				s.Errorf("Maintain returned heads %v, want ranks %v", done.Heads, want)
			}
		},
	},
	{
		"Idle",
		"Maintain moves along whatever is due and nothing else.",
		func(s *subject) {
			builds := s.drafts(5)
			builds[4].MaxAttempts = 2
			s.queued(builds...)
			session := s.worker()
			s.offered(builds[0], session)
			s.running(builds[1], session)
			s.running(builds[2], session)
			s.cancel(builds[2], queue.Cancelling)
			s.unchanged("Maintain", func() {
				if done := s.maintain(s.rules()); !idle(done) {
					s.Errorf("Maintain did %+v, want nothing", done)
				}
			}, builds...)
		},
	},
}
