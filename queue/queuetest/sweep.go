package queuetest

import (
	"time"

	"github.com/slipway-build/slipway/queue"
)

var sweepCases = []testCase{
	{
		"LostSession",
		"A Running build whose session has been lost for longer than Grace is attempted again after its back-off, avoiding the worker.",
		func(s *subject) {
			b := s.draft()
			s.queued(b)
			facts := s.facts()
			session, sweeper := s.open(facts), s.fresh()
			s.alive(2*grace, sweeper, facts.Controller)
			id := s.running(b, session)
			started := s.now
			s.append(id, 0, "partial")
			s.must(s.LoseSessions(s.ctx, []queue.SessionID{session}, s.now))
			if done := s.sweep(sweeper, grace-time.Second, facts.Controller); done.Requeued != 0 {
				s.Errorf("Maintain took a build away within its grace")
			}
			s.wantState(b, queue.Running)
			if done := s.sweep(sweeper, 2*time.Second, facts.Controller); done.Requeued != 1 || done.Lost != 0 {
				s.Errorf("Maintain did %+v, want one build requeued", done)
			}
			got := s.get(b)
			if got.State != queue.Pending || got.AttemptsUsed != 1 || !got.NotBefore.Equal(s.now.Add(backoff.Base)) || got.Reason != "" {
				s.Errorf("build is %s", describe(got))
			}
			s.wantAttempts(b, queue.Attempt{
				AttemptID: id, Worker: facts.Worker, StartedAt: started, EndedAt: s.now, Outcome: queue.Lost,
				Reason: queue.EventSessionLost.Reason(), LogLength: 7,
			})
			if got := s.finish(report(id, queue.Succeeded)); got != 0 {
				s.Errorf("a late report of a lost attempt led to %v", got)
			}
			s.pass(backoff.Base + time.Second)
			s.maintain(s.rules())
			s.wantIDs("claim by the worker that lost it", s.claimIDs(b, s.open(facts)), nil)
			s.running(b, s.worker())
		},
	},
	{
		"LostTooOften",
		"A Running build whose session is lost becomes Lost if its attempts are used up.",
		func(s *subject) {
			b := s.draft()
			b.MaxAttempts = 1
			s.queued(b)
			session, sweeper := s.worker(), s.fresh()
			id := s.running(b, session)
			s.must(s.LoseSessions(s.ctx, []queue.SessionID{session}, s.now))
			if done := s.sweep(sweeper, grace+time.Second); done.Lost != 1 || done.Requeued != 0 {
				s.Errorf("Maintain did %+v, want one build lost", done)
			}
			got := s.get(b)
			if got.State != queue.Lost || got.Reason != queue.EventSessionLost.Reason() || !got.FinishedAt.Equal(s.now) {
				s.Errorf("build is %s", describe(got))
			}
			if got := s.finish(report(id, queue.Lost)); got != 0 {
				s.Errorf("a late report of a lost build led to %v", got)
			}
		},
	},
	{
		"Replaced",
		"A session that was replaced is lost from then on: what was not adopted is swept after its grace.",
		func(s *subject) {
			b := s.draft()
			s.queued(b)
			facts := s.facts()
			sweeper := s.fresh()
			s.running(b, s.open(facts))
			s.open(facts)
			s.sweep(sweeper, grace-time.Second, facts.Controller)
			s.wantState(b, queue.Running)
			s.sweep(sweeper, 2*time.Second, facts.Controller)
			s.wantState(b, queue.Pending)
		},
	},
	{
		"DeadController",
		"Leases are swept when their controller was last alive more than Grace ago, though nobody said that their session is lost.",
		func(s *subject) {
			b := s.draft()
			s.queued(b)
			facts := s.facts()
			s.beat(facts.Controller)
			sweeper := s.fresh()
			s.running(b, s.open(facts))
			s.sweep(sweeper, ttl+grace-2*time.Second)
			s.wantState(b, queue.Running)
			s.sweep(sweeper, 4*time.Second)
			s.wantState(b, queue.Pending)
		},
	},
	{
		"ControllerThatNeverBeat",
		"A controller that has never beaten counts as alive until its session was opened.",
		func(s *subject) {
			b := s.draft()
			s.queued(b)
			sweeper := s.fresh()
			session := s.worker()
			opened := s.now
			s.running(b, session)
			s.sweep(sweeper, grace-time.Second-s.now.Sub(opened))
			s.wantState(b, queue.Running)
			s.sweep(sweeper, 2*time.Second)
			s.wantState(b, queue.Pending)
		},
	},
	{
		"LiveSession",
		"Leases of live sessions on controllers that are alive are left alone, however long they last.",
		func(s *subject) {
			builds := s.drafts(2)
			s.queued(builds...)
			facts := s.facts()
			s.beat(facts.Controller)
			sweeper, session := s.fresh(), s.open(facts)
			s.running(builds[0], session)
			s.running(builds[1], session)
			s.cancel(builds[1], queue.Cancelling)
			s.unchanged("a sweep", func() { s.sweep(sweeper, force-time.Second, facts.Controller) }, builds...)
			s.sweep(sweeper, 5*grace, facts.Controller)
			s.wantState(builds[0], queue.Running)
		},
	},
	{
		"OnlyWhenFresh",
		"Leases are swept only if the controller that asks has been alive without a gap for Grace.",
		func(s *subject) {
			b := s.draft()
			s.queued(b)
			session := s.worker()
			s.running(b, session)
			s.must(s.LoseSessions(s.ctx, []queue.SessionID{session}, s.now))
			s.pass(3 * grace)
			refuse := func(what string, controller queue.ID) {
				s.Helper()
				rules := s.rules()
				rules.Controller = controller
				if done := s.maintain(rules); done.Requeued+done.Lost != 0 {
					s.Errorf("%s swept a lease", what)
				}
				s.wantState(b, queue.Running)
			}
			refuse("the zero ID", queue.ID{})
			refuse("a controller that never beat", queue.NewID())
			sweeper := s.fresh()
			refuse("a controller that just came up", sweeper)
			s.alive(grace-time.Second, sweeper)
			refuse("a controller that came up within Grace", sweeper)
			s.pass(ttl + time.Second)
			refuse("a controller whose last beat ran out", sweeper)
			s.beat(sweeper)
			refuse("a controller that is back after a gap", sweeper)
			if done := s.sweep(sweeper, grace+time.Second); done.Requeued != 1 {
				s.Errorf("a controller that has been alive for Grace did %+v, want one build requeued", done)
			}
		},
	},
	{
		"CancellingIsNotSwept",
		"A Cancelling build of a lost session ends by its cancel's time, not by the grace: it is not attempted again.",
		func(s *subject) {
			b := s.draft()
			s.queued(b)
			session, sweeper := s.worker(), s.fresh()
			s.running(b, session)
			if got := s.cancels(b, "not wanted", 10*grace); got != queue.Cancelling {
				s.Fatalf("Cancel led to %v", got)
			}
			s.must(s.LoseSessions(s.ctx, []queue.SessionID{session}, s.now))
			if done := s.sweep(sweeper, 5*grace); done.Requeued+done.Lost+done.Canceled != 0 {
				s.Errorf("Maintain did %+v before the cancel's time was over", done)
			}
			s.wantState(b, queue.Cancelling)
			s.sweep(sweeper, 6*grace)
			s.wantState(b, queue.Canceled)
		},
	},
	{
		"DeadlineGoesFirst",
		"A Running build that is past its deadline is TimedOut, even if its session is lost as well.",
		func(s *subject) {
			b := s.draft()
			b.RunTimeout = time.Second
			s.queued(b)
			session, sweeper := s.worker(), s.fresh()
			s.running(b, session)
			s.must(s.LoseSessions(s.ctx, []queue.SessionID{session}, s.now))
			if done := s.sweep(sweeper, 2*grace); done.TimedOut != 1 || done.Requeued != 0 {
				s.Errorf("Maintain did %+v, want one build timed out", done)
			}
			s.wantState(b, queue.TimedOut)
		},
	},
	{
		"Limit",
		"Maintain sweeps at most rules.Limit leases of each kind in one call, and says More.",
		func(s *subject) {
			builds := s.drafts(10)
			for i := range 5 {
				builds[i].MaxAttempts = 1
			}
			s.submit(builds...)
			s.maintain(s.rules())
			session, sweeper := s.worker(), s.fresh()
			for _, c := range s.claim(builds[0], session, session, session, session, session, session, session, session, session, session) {
				s.accept(c.AttemptID, session)
			}
			s.must(s.LoseSessions(s.ctx, []queue.SessionID{session}, s.now))
			s.alive(2*grace, sweeper)
			rules := s.rules()
			rules.Controller, rules.Limit = sweeper, 2
			if done := s.maintain(rules); done.Requeued != 5 || done.Lost != 5 {
				s.Errorf("Maintain did %+v in steps of 2, want 5 requeued and 5 lost", done)
			}
		},
	},
}
