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
		"Batch",
		"Cancel returns the state of each build after it, whatever that was before, and leaves out what the project does not have.",
		func(s *subject) {
			var builds []queue.NewBuild
			var want []queue.State
			for _, st := range stands {
				b := s.draft()
				if st.last {
					b.MaxAttempts = 1
				}
				st.drive(s, b, limits{wait: long, offer: long, run: long, force: long})
				switch {
				case st.state.Terminal():
					want = append(want, st.state)
				case st.state.Leased():
					want = append(want, queue.Cancelling)
				default:
					want = append(want, queue.Canceled)
				}
				builds = append(builds, b)
			}
			foreign := s.draft()
			foreign.Project = "elsewhere"
			s.queued(foreign)
			done, err := s.Cancel(s.ctx, "project", append(ids(builds), foreign.ID, queue.NewID()), "not wanted", force, s.now)
			s.must(err)
			got := make(map[queue.ID]queue.State)
			for _, c := range done {
				got[c.ID] = c.State
			}
			if len(done) != len(builds) || len(got) != len(builds) {
				s.Errorf("Cancel of %d builds, one of another project and one that there never was returned %d", len(builds), len(done))
			}
			for i, b := range builds {
				if got[b.ID] != want[i] || s.get(b).State != want[i] {
					s.Errorf("%s: Cancel returned %v, the build is %v, want %v", stands[i].name, got[b.ID], s.get(b).State, want[i])
				}
			}
			s.wantState(foreign, queue.Pending)
		},
	},
	{
		"LargeBatch",
		"Cancel takes many builds at once; one that stands in the batch twice is canceled as if it stood there once.",
		func(s *subject) {
			builds := s.drafts(500)
			s.submit(builds...)
			s.maintain(s.rules())
			done, err := s.Cancel(s.ctx, "project", append(ids(builds), ids(builds[:10])...), "not wanted", force, s.now)
			s.must(err)
			seen := make(map[queue.ID]bool)
			for _, c := range done {
				seen[c.ID] = true
				if c.State != queue.Canceled {
					s.Errorf("Cancel returned %v", c)
				}
			}
			if len(seen) != len(builds) {
				s.Errorf("Cancel of %d builds returned %d", len(builds), len(seen))
			}
			s.wantHead(builds[0], 0)
		},
	},
	{
		"Nothing",
		"Cancel of no builds does nothing.",
		func(s *subject) {
			done, err := s.Cancel(s.ctx, "project", nil, "not wanted", force, s.now)
			s.must(err)
			if len(done) != 0 {
				s.Errorf("Cancel returned %v", done)
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
