package queuetest

import (
	"time"

	"github.com/slipway-build/slipway/queue"
)

// retryCases are of attempts after which a build is attempted again.
var retryCases = []testCase{
	{
		"LostIsAttemptedAgain",
		"An outcome of Lost makes a Running build pending again after its back-off, avoiding the worker.",
		func(s *subject) {
			b := s.draft()
			s.queued(b)
			facts := s.facts()
			session := s.open(facts)
			id := s.running(b, session)
			started := s.now
			s.pass(time.Minute)
			ended := s.now
			s.ends(report(id, queue.Lost), queue.Pending)
			got := s.get(b)
			if got.State != queue.Pending || got.AttemptsUsed != 1 || got.Epoch != 1 || !got.FinishedAt.IsZero() ||
				!got.NotBefore.Equal(s.now.Add(backoff.Base)) || got.Reason != "" || got.Worker != facts.Worker || !got.StartedAt.Equal(started) {
				s.Errorf("build is %s", describe(got))
			}
			s.maintain(s.rules())
			s.wantIDs("claim before the back-off is over", s.claimIDs(b, s.worker()), nil)
			s.pass(backoff.Base + time.Second)
			if done := s.maintain(s.rules()); done.Queued != 1 {
				s.Errorf("Maintain queued %d builds after the back-off, want 1", done.Queued)
			}
			if got := s.get(b); !got.NotBefore.IsZero() {
				s.Errorf("build is queued and still held until %v", got.NotBefore)
			}
			s.wantIDs("claim by the worker that lost it", s.claimIDs(b, session), nil)
			s.running(b, s.worker())
			if rows := s.attempts(b); len(rows) != 2 || rows[0].Outcome != queue.Lost || !rows[0].EndedAt.Equal(ended) || rows[1].Outcome != 0 || rows[1].Epoch != 2 {
				s.Errorf("attempts are %v", rows)
			}
		},
	},
	{
		"LostTooOften",
		"An outcome of Lost makes a Running build Lost if its attempts are used up.",
		func(s *subject) {
			b := s.draft()
			b.MaxAttempts = 2
			s.queued(b)
			first := s.running(b, s.worker())
			s.ends(report(first, queue.Lost), queue.Pending)
			s.pass(time.Minute)
			s.maintain(s.rules())
			second := s.running(b, s.worker())
			s.ends(report(second, queue.Lost), queue.Lost)
			got := s.get(b)
			if got.State != queue.Lost || got.AttemptsUsed != 2 || !got.FinishedAt.Equal(s.now) || got.Reason != "as reported" || !got.NotBefore.IsZero() {
				s.Errorf("build is %s", describe(got))
			}
			s.unchanged("finishing both attempts again", func() {
				s.ends(report(first, queue.Lost), queue.Pending)
				s.ends(report(second, queue.Lost), queue.Lost)
				s.ends(report(second, queue.Succeeded), queue.Lost)
			}, b)
		},
	},
	{
		"BackOffGrows",
		"The wait after each further lost attempt is doubled, up to the longest.",
		func(s *subject) {
			b := s.draft()
			b.MaxAttempts = 5
			b.Backoff = queue.Backoff{Base: 10 * time.Second, Max: 35 * time.Second}
			s.queued(b)
			for used, want := range []time.Duration{10 * time.Second, 20 * time.Second, 35 * time.Second, 35 * time.Second} {
				id := s.running(b, s.worker())
				s.ends(report(id, queue.Lost), queue.Pending)
				if got := s.get(b).NotBefore; !got.Equal(s.now.Add(want)) {
					s.Errorf("after %d lost attempts held for %v, want %v", used+1, got.Sub(s.now), want)
				}
				s.pass(time.Minute)
				s.maintain(s.rules())
			}
		},
	},
	{
		"NoBackOff",
		"A wait of zero queues the build at once, and avoiding for no time avoids nobody.",
		func(s *subject) {
			b := s.draft()
			b.Backoff = queue.Backoff{}
			s.queued(b)
			session := s.worker()
			id := s.running(b, session)
			_, err := s.Finish(s.ctx, []queue.Completion{report(id, queue.Lost)}, 0, s.now)
			s.must(err)
			if got := s.get(b); got.State != queue.Pending || !got.NotBefore.IsZero() {
				s.Errorf("build is %s", describe(got))
			}
			s.wantIDs("claim at once", s.claimIDs(b, session), []queue.ID{b.ID})
		},
	},
	{
		"BackOffOfTheBuild",
		"The back-off is the build's own, whoever ends its attempt.",
		func(s *subject) {
			builds := s.drafts(4)
			for i := range builds {
				builds[i].Backoff = queue.Backoff{Base: time.Duration(i+1) * time.Hour, Max: long}
			}
			s.queued(builds...)
			sweeper := s.fresh()
			session := s.worker()
			var ends []queue.Completion
			for _, b := range builds {
				ends = append(ends, report(s.running(b, session), queue.Lost))
			}
			want := func(builds []queue.NewBuild) {
				s.Helper()
				for _, b := range builds {
					if got := s.get(b); !got.NotBefore.Equal(s.now.Add(b.Backoff.Base)) {
						s.Errorf("held for %v, want %v", got.NotBefore.Sub(s.now), b.Backoff.Base)
					}
				}
			}
			_, err := s.Finish(s.ctx, ends[:2], avoid, s.now)
			s.must(err)
			want(builds[:2])
			s.must(s.LoseSessions(s.ctx, []queue.SessionID{session}, s.now))
			s.sweep(sweeper, 2*grace)
			want(builds[2:])
		},
	},
	{
		"RetryFailed",
		"An outcome of Failed makes a Running build that is to be attempted again when it fails pending after its back-off, avoiding the worker.",
		func(s *subject) {
			b := s.draft()
			b.RetryFailed, b.MaxAttempts = true, 2
			s.queued(b)
			session := s.worker()
			first := s.running(b, session)
			started := s.now
			s.pass(time.Minute)
			end := report(first, queue.Failed)
			end.ExitCode, end.Signal = new(3), "terminated"
			s.ends(end, queue.Pending)
			s.unchanged("finishing again", func() {
				s.ends(end, queue.Pending)
				s.ends(report(first, queue.Succeeded), queue.Pending)
			}, b)
			got := s.get(b)
			if got.State != queue.Pending || got.AttemptsUsed != 1 || !got.NotBefore.Equal(s.now.Add(backoff.Base)) || got.Reason != "" || got.ExitCode != nil {
				s.Errorf("build is %s", describe(got))
			}
			s.wantAttempts(b, queue.Attempt{
				AttemptID: first, Worker: got.Worker, StartedAt: started, EndedAt: s.now, Outcome: queue.Failed, Reason: end.Reason,
				ExitCode: end.ExitCode, Signal: end.Signal, LogComplete: true,
			})
			s.pass(backoff.Base)
			s.maintain(s.rules())
			s.wantIDs("claim by the worker on which it failed", s.claimIDs(b, session), nil)
			second := s.running(b, s.worker())
			s.ends(report(second, queue.Failed), queue.Failed)
			s.unchanged("finishing both again", func() {
				s.ends(end, queue.Pending)
				s.ends(report(second, queue.Lost), queue.Failed)
			}, b)
			if got := s.get(b); got.State != queue.Failed || got.AttemptsUsed != 2 || !got.FinishedAt.Equal(s.now) || got.Reason != "as reported" {
				s.Errorf("build is %s", describe(got))
			}
		},
	},
	{
		"RetryFailedOnly",
		"A build that is to be attempted again when it fails ends with any other outcome, and with a failure after its cancel.",
		func(s *subject) {
			for _, outcome := range []queue.State{queue.Succeeded, queue.Canceled, queue.TimedOut} {
				b := s.draft()
				b.RetryFailed = true
				s.queued(b)
				s.ends(report(s.running(b, s.worker()), outcome), outcome)
				s.wantState(b, outcome)
			}
			b := s.draft()
			b.RetryFailed = true
			s.queued(b)
			id := s.running(b, s.worker())
			s.cancel(b, queue.Cancelling)
			s.ends(report(id, queue.Failed), queue.Failed)
			s.wantState(b, queue.Failed)
		},
	},
	{
		"KeepsItsRank",
		"A build that is attempted again keeps its rank: it is claimed before those that were submitted after it.",
		func(s *subject) {
			builds := s.drafts(3)
			s.queued(builds...)
			id := s.running(builds[0], s.worker())
			s.ends(report(id, queue.Lost), queue.Pending)
			s.pass(time.Minute)
			s.maintain(s.rules())
			s.wantIDs("next", s.claimIDs(builds[0], s.worker()), ids(builds[:1]))
		},
	},
}
