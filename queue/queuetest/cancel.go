package queuetest

import (
	"time"

	"github.com/slipway-build/slipway/queue"
)

var cancelCases = []testCase{
	{
		"Pending",
		"Cancel ends a Pending build as Canceled.",
		func(s *subject) {
			builds := s.drafts(3)
			s.queued(builds[0], builds[1])
			id := s.running(builds[0], s.worker())
			s.ends(report(id, queue.Lost), queue.Pending) // backing off
			held := s.draft()
			s.submit(held)
			for _, b := range []queue.NewBuild{builds[0], builds[1], held} {
				s.cancel(b, queue.Canceled)
				got := s.get(b)
				if got.State != queue.Canceled || got.Reason != "not wanted" || !got.FinishedAt.Equal(s.now) || !got.NotBefore.IsZero() {
					s.Errorf("build is %s", describe(got))
				}
			}
			s.pass(time.Hour)
			s.maintain(s.rules())
			s.wantHead(builds[0], 0)
			s.wantHead(held, 0)
		},
	},
	{
		"Offered",
		"Cancel ends an Offered build as Canceled; nothing has run, so there is no attempt.",
		func(s *subject) {
			b := s.draft()
			s.queued(b)
			session := s.worker()
			id := s.offered(b, session)
			s.cancel(b, queue.Canceled)
			if s.accepts(acceptance(id, session)) {
				s.Errorf("the offer of a canceled build can be accepted")
			}
			if got := s.get(b); got.State != queue.Canceled || got.AttemptsUsed != 0 || !got.FinishedAt.Equal(s.now) {
				s.Errorf("build is %s", describe(got))
			}
			s.wantAttempts(b)
		},
	},
	{
		"Running",
		"Cancel makes a Running build Cancelling until now+force.",
		func(s *subject) {
			b := s.draft()
			s.queued(b)
			session := s.worker()
			id := s.running(b, session)
			s.cancel(b, queue.Cancelling)
			got := s.get(b)
			if got.State != queue.Cancelling || got.Reason != "not wanted" || !got.FinishedAt.IsZero() {
				s.Errorf("build is %s", describe(got))
			}
			lease, err := s.Lease(s.ctx, id)
			s.must(err)
			if lease.State != queue.Cancelling || lease.Reason != "not wanted" || lease.Session != session || lease.TokenHash != token(id) || lease.RunLeft != 0 {
				s.Errorf("lease is %+v", lease)
			}
			if rows := s.attempts(b); len(rows) != 1 || rows[0].Outcome != 0 {
				s.Errorf("attempts are %v", rows)
			}
		},
	},
	{
		"Again",
		"Canceling again changes nothing.",
		func(s *subject) {
			builds := s.drafts(3)
			s.queued(builds...)
			session := s.worker()
			s.running(builds[0], session)
			s.cancel(builds[0], queue.Cancelling)
			s.cancel(builds[1], queue.Canceled)
			id := s.running(builds[2], session)
			s.ends(report(id, queue.Canceled), queue.Canceled)
			s.pass(force / 2)
			s.unchanged("canceling again", func() {
				for i, want := range []queue.State{queue.Cancelling, queue.Canceled, queue.Canceled} {
					if got := s.cancels(builds[i], "another reason", force); got != want {
						s.Errorf("Cancel returned %v, want %v", got, want)
					}
				}
			}, builds...)
			s.pass(force/2 + time.Second)
			s.maintain(s.rules())
			s.wantState(builds[0], queue.Canceled)
		},
	},
	{
		"Finished",
		"Cancel returns the state of each build after it: of one that has ended otherwise, the end that it had come to before.",
		func(s *subject) {
			session := s.worker()
			for _, end := range []queue.State{queue.Succeeded, queue.Failed, queue.TimedOut, queue.Lost} {
				b := s.draft()
				b.MaxAttempts = 1
				s.queued(b)
				s.ends(report(s.running(b, session), end), end)
				s.unchanged("cancel", func() {
					if got := s.cancels(b, "too late", force); got != end {
						s.Errorf("Cancel returned %v, want %v", got, end)
					}
				}, b)
			}
		},
	},
	{
		"OfAnotherProject",
		"Cancel leaves out builds that the project does not have.",
		func(s *subject) {
			b := s.draft()
			s.queued(b)
			s.unchanged("cancel from another project", func() {
				done, err := s.Cancel(s.ctx, "elsewhere", []queue.ID{b.ID}, "", force, s.now)
				s.must(err)
				if len(done) != 0 {
					s.Errorf("Cancel returned %v for a build of another project", done)
				}
			}, b)
			if got := s.cancels(queue.NewBuild{Project: b.Project, ID: queue.NewID()}, "", force); got != 0 {
				s.Errorf("Cancel of a build that there never was led to %v", got)
			}
		},
	},
}
