package queuetest

import (
	"math"
	"time"

	"github.com/slipway-build/slipway/queue"
)

var finishCases = []testCase{
	{
		"Outcomes",
		"Finish ends leased attempts with the outcomes their workers report.",
		func(s *subject) {
			session := s.worker()
			for _, outcome := range []queue.State{queue.Succeeded, queue.Failed, queue.Canceled, queue.TimedOut} {
				b := s.draft()
				s.queued(b)
				id := s.running(b, session)
				started := s.now
				s.pass(time.Minute)
				c := report(id, outcome)
				c.ExitCode, c.Signal, c.LogSHA256 = new(3), "terminated", queue.Digest{5}
				s.ends(c, outcome)
				got := s.get(b)
				if got.State != outcome || got.Reason != c.Reason || code(got.ExitCode) != "3" || got.Signal != c.Signal ||
					!got.FinishedAt.Equal(s.now) || !got.StartedAt.Equal(started) || got.AttemptsUsed != 1 || got.Epoch != id.Epoch || got.Worker == "" {
					s.Errorf("build is %s", describe(got))
				}
				want := queue.Attempt{
					AttemptID: id, Worker: got.Worker, StartedAt: started, EndedAt: s.now, Outcome: outcome, Reason: c.Reason,
					ExitCode: c.ExitCode, Signal: c.Signal, LogSHA256: c.LogSHA256, LogComplete: true,
				}
				s.wantAttempts(b, want)
			}
		},
	},
	{
		"ExitCode",
		"ExitCode is nil unless a command ended by itself.",
		func(s *subject) {
			session := s.worker()
			most := int64(math.MaxUint32) // what Windows has
			for _, exit := range []*int{nil, new(0), new(255), new(-1), new(math.MinInt32), new(int(most))} {
				b := s.draft()
				s.queued(b)
				c := report(s.running(b, session), queue.Failed)
				c.ExitCode = exit
				s.ends(c, queue.Failed)
				if got := s.get(b); code(got.ExitCode) != code(exit) {
					s.Errorf("exit code is %s, want %s", code(got.ExitCode), code(exit))
				}
				if rows := s.attempts(b); len(rows) != 1 || code(rows[0].ExitCode) != code(exit) {
					s.Errorf("attempts are %v, want exit code %s", rows, code(exit))
				}
			}
		},
	},
	{
		"Again",
		"Finishing an attempt again, when Finish ended it before, returns the same result, whatever the second report says, and changes nothing.",
		func(s *subject) {
			session := s.worker()
			for _, outcome := range []queue.State{queue.Succeeded, queue.Failed, queue.Canceled, queue.TimedOut} {
				b := s.draft()
				s.queued(b)
				id := s.running(b, session)
				s.ends(report(id, outcome), outcome)
				s.unchanged("finishing again", func() {
					s.pass(time.Minute)
					for _, other := range []queue.State{outcome, queue.Succeeded, queue.Failed, queue.Lost} {
						again := report(id, other)
						again.Reason, again.ExitCode, again.LogLength = "something else", new(9), 9
						s.ends(again, outcome)
					}
				}, b)
			}
		},
	},
	{
		"OtherSession",
		"An attempt that is leased to another session than the completion names is stale.",
		func(s *subject) {
			b := s.draft()
			s.queued(b)
			facts := s.facts()
			session, other := s.open(facts), s.worker()
			id := s.running(b, session)
			end := report(id, queue.Succeeded)
			refuse := func(session queue.SessionID) {
				s.Helper()
				end.Session = session
				s.unchanged("a report of another session", func() {
					if got := s.finish(end); got != 0 {
						s.Errorf("a report of session %d, which does not hold the lease, led to %v", session, got)
					}
				}, b)
			}
			refuse(other)
			refuse(1 << 40)
			next := s.reconnect(facts)
			refuse(next)
			s.wantAdopted(s.adopt(next, id), id, queue.Running)
			refuse(session)
			s.cancel(b, queue.Cancelling)
			refuse(session)
			end.Session = next
			s.ends(end, queue.Succeeded)
			s.unchanged("reporting again", func() {
				for _, session := range []queue.SessionID{next, 0, session, other} {
					end.Session = session
					s.ends(end, queue.Succeeded)
				}
			}, b)
		},
	},
	{
		"Cancelling",
		"A Cancelling build ends with the outcome its worker reports; if that is Lost it becomes Canceled.",
		func(s *subject) {
			session := s.worker()
			for outcome, want := range map[queue.State]queue.State{
				queue.Succeeded: queue.Succeeded, queue.Failed: queue.Failed, queue.TimedOut: queue.TimedOut,
				queue.Canceled: queue.Canceled, queue.Lost: queue.Canceled,
			} {
				b := s.draft()
				s.queued(b)
				id := s.running(b, session)
				s.cancel(b, queue.Cancelling)
				s.ends(report(id, outcome), want)
				s.ends(report(id, outcome), want)
				got, reason := s.get(b), "as reported"
				if want == queue.Canceled {
					reason = "not wanted"
				}
				if got.State != want || got.Reason != reason || !got.FinishedAt.Equal(s.now) {
					s.Errorf("build that was canceled and reported as %v is %s, want reason %q", outcome, describe(got), reason)
				}
				if rows := s.attempts(b); len(rows) != 1 || rows[0].Outcome != want {
					s.Errorf("attempts are %v, want outcome %v", rows, want)
				}
			}
		},
	},
	{
		"Offered",
		"Finish ends leased attempts: one that is only offered is stale.",
		func(s *subject) {
			first := s.draft()
			s.queued(first)
			firstID := s.offered(first, s.worker())
			again, againID := s.reoffered()
			s.unchanged("finish of an offer", func() {
				for _, id := range []queue.AttemptID{firstID, againID} {
					if got := s.finish(report(id, queue.Succeeded)); got != 0 {
						s.Errorf("Finish of an offer led to %v", got)
					}
				}
			}, first, again)
		},
	},
	{
		"Stale",
		"A fenced change is made only if the attempt is the newest of its build and its state admits it.",
		func(s *subject) {
			s.eachStale(func(b queue.NewBuild, id queue.AttemptID, _ queue.SessionID) bool {
				state := s.finish(report(id, queue.Failed))
				if rows := s.attempts(b); len(rows) > 0 && rows[0].AttemptID == id && rows[0].Outcome != 0 {
					return false // a repeated report has the same result, which other cases check
				}
				return state != 0
			})
		},
	},
	{
		"EndedOtherwise",
		"Finishing an attempt that something else has ended is stale.",
		func(s *subject) {
			session := s.worker()
			late, forced := s.draft(), s.draft()
			late.RunTimeout = time.Minute
			s.queued(late, forced)
			lateID, forcedID := s.running(late, session), s.running(forced, session)
			s.cancel(forced, queue.Cancelling)
			s.pass(time.Minute + slack + force)
			s.maintain(s.rules())
			s.wantState(late, queue.TimedOut)
			s.wantState(forced, queue.Canceled)
			for b, id := range map[*queue.NewBuild]queue.AttemptID{&late: lateID, &forced: forcedID} {
				s.unchanged("a late report", func() {
					for _, outcome := range []queue.State{queue.Succeeded, queue.TimedOut, queue.Canceled, queue.Lost} {
						if got := s.finish(report(id, outcome)); got != 0 {
							s.Errorf("a late report of %v led to %v", outcome, got)
						}
					}
				}, *b)
			}
		},
	},
	{
		"Batch",
		"Items that are stale are left out of the result and do not disturb the other items.",
		func(s *subject) {
			builds := s.drafts(7)
			builds[5].MaxAttempts = 1
			s.queued(builds...)
			session := s.worker()
			outcomes := []queue.State{queue.Succeeded, queue.Failed, queue.Lost, queue.Succeeded, queue.Canceled, queue.Lost, queue.TimedOut}
			var ends []queue.Completion
			for i, b := range builds {
				ends = append(ends, report(s.running(b, session), outcomes[i]))
			}
			s.ends(ends[4], queue.Canceled)
			ends[1].Epoch++
			ends[3].Build = queue.NewID()
			done, err := s.Finish(s.ctx, ends, avoid, s.now)
			s.must(err)
			got := make(map[queue.ID]queue.State)
			for _, f := range done {
				got[f.Build] = f.State
			}
			for i, want := range []queue.State{queue.Succeeded, 0, queue.Pending, 0, queue.Canceled, queue.Lost, queue.TimedOut} {
				if got[builds[i].ID] != want {
					s.Errorf("item %d led to %v, want %v", i, got[builds[i].ID], want)
				}
			}
			s.wantState(builds[1], queue.Running)
			s.wantState(builds[3], queue.Running)
		},
	},
}

// wantAttempts reports attempts that are not those that are wanted.
func (s *subject) wantAttempts(b queue.NewBuild, want ...queue.Attempt) {
	s.Helper()
	got := s.attempts(b)
	if len(got) != len(want) {
		s.Errorf("there are %d attempts, want %d", len(got), len(want))
		return
	}
	for i := range got {
		if describeAttempt(got[i]) != describeAttempt(want[i]) {
			s.Errorf("attempt is\n%s, want\n%s", describeAttempt(got[i]), describeAttempt(want[i]))
		}
	}
}
