package queuetest

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/slipway-build/slipway/queue"
)

var statsCases = []testCase{
	{
		"Ends",
		"Each end of a build and of an attempt counts once, whoever brings it about.",
		func(s *subject) {
			var want queue.DayStats
			want.Day = today(s.now)
			session := s.worker()
			for outcome, n := range map[queue.State]*int64{
				queue.Succeeded: &want.Succeeded, queue.Failed: &want.Failed, queue.Canceled: &want.Canceled,
				queue.TimedOut: &want.TimedOut, queue.Lost: &want.Lost,
			} {
				for range 2 {
					s.counted(session, outcome, &want)
					*n++
				}
			}
			builds := s.apart(6)
			builds[0].QueueTimeout, builds[3].RunTimeout = time.Minute, time.Second
			s.queued(builds...)
			want.Submitted += 6
			s.cancel(builds[1], queue.Canceled)
			s.offered(builds[2], session)
			s.cancel(builds[2], queue.Canceled)
			s.cancel(builds[2], queue.Canceled)
			want.Canceled += 2
			timedOut, forced, lost := builds[3], builds[4], builds[5]
			s.running(timedOut, session)
			s.running(forced, session)
			lostSession := s.worker()
			s.running(lost, lostSession)
			s.cancel(forced, queue.Cancelling)
			s.pass(force + time.Second)
			s.maintain(s.rules())
			want.TimedOut++
			want.Canceled++
			want.Attempts += 2
			want.Waited += s.waited(timedOut, &want.Ran)
			want.Waited += s.waited(forced, &want.Ran)
			s.must(s.LoseSessions(s.ctx, []queue.SessionID{lostSession}, s.now))
			s.sweep(s.fresh(), 2*grace)
			want.Expired++
			want.Attempts++
			s.wantState(lost, queue.Pending) // to be attempted again: it has not ended
			waits := s.get(lost)
			want.Ran += s.now.Sub(waits.StartedAt)
			s.cancel(lost, queue.Canceled)
			want.Canceled++
			want.Waited += waits.StartedAt.Sub(waits.CreatedAt)
			s.wantDays("project", want)
			s.wantDays("", want)
			s.wantDays("nobody")
			s.maintain(s.rules())
			s.wantDays("project", want)
		},
	},
	{
		"Retries",
		"Attempts counts those after which the build was attempted again, Ran what they took. Finishing again counts nothing.",
		func(s *subject) {
			b := s.draft()
			b.RetryFailed = true
			s.queued(b)
			want := queue.DayStats{Day: today(s.now), Submitted: 1}
			for _, outcome := range []queue.State{queue.Lost, queue.Failed, queue.Succeeded} {
				id := s.running(b, s.worker())
				s.pass(3 * time.Second)
				for range 2 {
					s.finish(report(id, outcome))
				}
				want.Attempts++
				want.Ran += 3 * time.Second
				s.pass(backoff.Max)
				s.maintain(s.rules())
			}
			want.Succeeded++
			got := s.get(b)
			want.Waited = got.StartedAt.Sub(got.CreatedAt)
			s.wantDays("project", want)
		},
	},
	{
		"Midnight",
		"Each change of a build counts on the day of the change, in UTC.",
		func(s *subject) {
			midnight := today(s.now).Add(24 * time.Hour)
			s.now = midnight.Add(-10 * time.Second)
			builds := s.drafts(3)
			s.submit(builds...) // nine seconds before
			s.maintain(s.rules())
			session := s.worker()
			first, second := s.running(builds[0], session), s.running(builds[1], session)
			s.now = midnight.Add(-time.Microsecond)
			s.ends(report(first, queue.Succeeded), queue.Succeeded)
			s.now = midnight
			s.ends(report(second, queue.Failed), queue.Failed)
			s.now = midnight.Add(25 * time.Hour).In(time.FixedZone("east", 10*3600))
			s.cancel(builds[2], queue.Canceled)
			day := 24 * time.Hour
			one := queue.DayStats{Day: midnight.Add(-day), Submitted: 3, Succeeded: 1, Attempts: 1, Ran: 9*time.Second - time.Microsecond}
			two := queue.DayStats{Day: midnight, Failed: 1, Attempts: 1, Ran: 9 * time.Second}
			three := queue.DayStats{Day: midnight.Add(day), Canceled: 1}
			s.wantDays("project", one, two, three)
			s.maintain(s.rules())
			s.wantDays("project", one, two, three)
			for _, c := range []struct {
				first, last time.Time
				want        []queue.DayStats
			}{
				{midnight, midnight, []queue.DayStats{two}},
				{midnight.Add(-day), midnight, []queue.DayStats{one, two}},
				{midnight.Add(day), midnight.Add(100 * day), []queue.DayStats{three}},
				{midnight.Add(2 * day), midnight.Add(100 * day), nil},
			} {
				stats, err := s.Stats(s.ctx, "project", c.first, c.last)
				s.must(err)
				s.wantSame(stats.Days, c.want)
			}
		},
	},
	{
		"Race",
		"The numbers are exact, however many builds end at once.",
		func(s *subject) {
			const n = 1000
			builds := s.drafts(n)
			s.submit(builds...)
			s.maintain(s.rules())
			session := s.worker()
			var ends []queue.Completion
			for len(ends) < n {
				claimed := s.claim(builds[0], slices.Repeat([]queue.SessionID{session}, min(n-len(ends), queue.MaxClaim))...)
				if len(claimed) == 0 {
					s.Fatalf("%d builds are claimed, want %d", len(ends), n)
				}
				var accepts []queue.Acceptance
				for _, c := range claimed {
					accepts = append(accepts, acceptance(c.AttemptID, session))
					ends = append(ends, report(c.AttemptID, pick([]queue.State{queue.Succeeded, queue.Failed, queue.TimedOut}, len(ends))))
				}
				_, err := s.Accept(s.ctx, accepts, s.now)
				s.must(err)
			}
			s.pass(2 * time.Second)
			s.together(func(ctx context.Context, i int) error {
				for part := range slices.Chunk(ends[i*n/crowd:(i+1)*n/crowd], 1+3*i) {
					for range 2 {
						if done, err := s.Finish(ctx, part, avoid, s.now); err != nil || len(done) != len(part) {
							return fmt.Errorf("finish returned %d of %d, %w", len(done), len(part), err)
						}
					}
					if i%4 == 0 {
						if _, err := s.Maintain(ctx, s.rules(), s.now); err != nil {
							return err
						}
					}
				}
				return nil
			})
			want := queue.DayStats{
				Day: today(s.now), Submitted: n, Succeeded: 334, Failed: 333, TimedOut: 333, Attempts: n, Ran: n * 2 * time.Second,
			}
			s.wantDays("project", want)
			s.maintain(s.rules())
			s.wantDays("project", want)
		},
	},
	{
		"Projects",
		"Stats are of one project, or of all.",
		func(s *subject) {
			builds, others := s.between(3)
			s.queued(slices.Concat(builds, others)...)
			s.cancel(builds[0], queue.Canceled)
			s.cancel(others[0], queue.Canceled)
			s.cancel(others[1], queue.Canceled)
			day := today(s.now)
			s.wantDays("project", queue.DayStats{Day: day, Submitted: 3, Canceled: 1})
			s.wantDays("another", queue.DayStats{Day: day, Submitted: 3, Canceled: 2})
			s.wantDays("", queue.DayStats{Day: day, Submitted: 6, Canceled: 3})
		},
	},
	{
		"States",
		"Stats tell how many builds are Pending, Offered, Running and Cancelling now.",
		func(s *subject) {
			builds := s.drafts(8)
			s.queued(builds...)
			held, scheduled, foreign := s.draft(), s.at(s.draft(), time.Hour), s.draft()
			foreign.Project = "elsewhere"
			s.submit(held, scheduled, foreign)
			session := s.worker()
			s.offered(builds[0], session)
			for i, b := range builds[1:6] {
				if id := s.running(b, session); i == 4 {
					s.ends(report(id, queue.Failed), queue.Failed)
				}
			}
			s.cancel(builds[1], queue.Cancelling)
			s.cancel(builds[2], queue.Cancelling)
			want := func(project string, pending int) {
				s.Helper()
				stats, err := s.Stats(s.ctx, project, today(s.now), today(s.now))
				s.must(err)
				if stats.Pending != pending || stats.Offered != 1 || stats.Running != 2 || stats.Cancelling != 2 {
					s.Errorf("stats are %+v, want %d, 1, 2 and 2", stats, pending)
				}
			}
			want("project", 4)
			want("", 5)
		},
	},
	{
		"Submitted",
		"A build counts as submitted when it is inserted: not when its idempotency key is known, nor when nothing is.",
		func(s *subject) {
			b := s.keyed("key")
			s.submit(b, s.keyed("key"), s.keyed("another"))
			s.submit(s.keyed("key"))
			other := s.keyed("key")
			other.IdempotencyHash = queue.Digest{5}
			s.wantErr(s.submitErr(s.draft(), other), queue.ErrConflict)
			s.wantErr(s.submitErr(s.draft(), queue.NewBuild{ID: b.ID, Project: "project", Pool: "pool", MaxAttempts: 1}), queue.ErrConflict)
			s.wantDays("project", queue.DayStats{Day: today(s.now), Submitted: 2})
		},
	},
	{
		"WaitedFromNotBefore",
		"Waited is counted from the time that a build was scheduled for, if it was.",
		func(s *subject) {
			b := s.at(s.draft(), time.Hour)
			s.queued(b)
			s.pass(time.Hour)
			s.maintain(s.rules())
			s.pass(7 * time.Second)
			s.ends(report(s.running(b, s.worker()), queue.Succeeded), queue.Succeeded)
			s.wantDays("project", queue.DayStats{Day: today(s.now), Submitted: 1, Succeeded: 1, Attempts: 1, Waited: 7 * time.Second})
		},
	},
}

// today returns the begin of the day in UTC in which t lies.
func today(t time.Time) time.Time { return t.UTC().Truncate(24 * time.Hour) }

// counted has a build wait, run and end, and counts all but the end.
func (s *subject) counted(session queue.SessionID, outcome queue.State, want *queue.DayStats) {
	s.Helper()
	b := s.draft()
	b.MaxAttempts = 1
	s.queued(b)
	s.pass(3 * time.Second)
	id := s.running(b, session)
	s.pass(2 * time.Second)
	s.ends(report(id, outcome), outcome)
	want.Submitted++
	want.Attempts++
	want.Waited += s.waited(b, &want.Ran)
}

// waited returns how long a build waited, and adds how long it ran.
func (s *subject) waited(b queue.NewBuild, ran *time.Duration) time.Duration {
	s.Helper()
	got := s.get(b)
	*ran += got.FinishedAt.Sub(got.StartedAt)
	return got.StartedAt.Sub(got.CreatedAt)
}

// wantDays reports other numbers of the days around now.
func (s *subject) wantDays(project string, want ...queue.DayStats) {
	s.Helper()
	stats, err := s.Stats(s.ctx, project, today(s.now).Add(-100*24*time.Hour), today(s.now).Add(100*24*time.Hour))
	s.must(err)
	s.wantSame(stats.Days, want)
}

func (s *subject) wantSame(got, want []queue.DayStats) {
	s.Helper()
	same := func(x, y queue.DayStats) bool {
		equal := x.Day.Equal(y.Day)
		x.Day, y.Day = time.Time{}, time.Time{}
		return equal && x == y
	}
	if !slices.EqualFunc(got, want, same) {
		s.Errorf("days are\n%+v, want\n%+v", got, want)
	}
}
