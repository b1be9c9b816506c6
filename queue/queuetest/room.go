package queuetest

import (
	"slices"
	"time"

	"github.com/slipway-build/slipway/queue"
)

// roomCases are of builds with a key that take up room of its limit, and of those that do not.
var roomCases = []testCase{
	{
		"BackOffGivesUpItsRoom",
		"A build with a key gave up its place when it began to wait for its back-off, and has to be admitted anew.",
		func(s *subject) {
			s.limit("key", 1)
			builds := s.sharing("key", 2)
			s.wantAdmitted(s.ready(builds...), 1)
			lost, err := s.Finish(s.ctx, []queue.Completion{report(s.running(builds[0], s.worker()), queue.Lost)}, avoid, s.now)
			s.must(err)
			if len(lost) != 1 || lost[0].State != queue.Pending || !lost[0].Admitted {
				s.Errorf("Finish returned %+v, want a build that is pending and has made room", lost)
			}
			s.wantUsed("key", 1, 0)
			s.wantAdmitted(s.admit(), 1)
			second := s.running(builds[1], s.worker())
			s.pass(backoff.Base)
			if done := s.maintain(s.rules()); done.Queued != 0 {
				s.Errorf("Maintain queued %d builds that have to be admitted", done.Queued)
			}
			if got := s.get(builds[0]); !got.NotBefore.IsZero() {
				s.Errorf("build that waits only to be admitted is %s", describe(got))
			}
			s.wantAdmitted(s.admit(), 0)
			s.ends(report(second, queue.Succeeded), queue.Succeeded)
			s.wantAdmitted(s.admit(), 1)
			s.pass(avoid)
			s.wantIDs("claims", s.taken(builds[0]), ids(builds[:1]))
		},
	},
	{
		"QueuedAtOnceKeepsItsRoom",
		"A build with a key that is queued again at once, by a release or without back-off, keeps its room.",
		func(s *subject) {
			s.limit("key", 1)
			builds := s.sharing("key", 2)
			builds[0].Backoff = queue.Backoff{}
			s.wantAdmitted(s.ready(builds...), 1)
			s.releases(s.offered(builds[0], s.worker()))
			s.wantAdmitted(s.admit(), 0)
			s.ends(report(s.running(builds[0], s.worker()), queue.Lost), queue.Pending)
			s.wantAdmitted(s.admit(), 0)
			session := s.worker()
			s.offered(builds[0], session)
			s.must(s.LoseSessions(s.ctx, []queue.SessionID{session}, s.now))
			s.wantAdmitted(s.admit(), 0)
			s.wantUsed("key", 1, 1)
			s.running(builds[0], s.worker())
		},
	},
	{
		"Scheduled",
		"A build that has a key and a time waits for the time first: until then it takes up no room.",
		func(s *subject) {
			s.limit("key", 1)
			builds := s.sharing("key", 2)
			builds[0] = s.at(builds[0], time.Hour)
			s.wantAdmitted(s.ready(builds...), 1)
			s.ends(report(s.running(builds[1], s.worker()), queue.Succeeded), queue.Succeeded)
			s.wantAdmitted(s.admit(), 0)
			s.pass(time.Hour)
			if done := s.maintain(s.rules()); done.Queued != 0 {
				s.Errorf("Maintain queued %d builds that have to be admitted", done.Queued)
			}
			s.wantAdmitted(s.admit(), 1)
			s.running(builds[0], s.worker())
		},
	},
	{
		"Unserved",
		"Builds with a key stay held while no live session serves their class, and take up no room meanwhile.",
		func(s *subject) {
			s.limit("key", 1)
			unserved, served := s.sharing("key", 2), s.sharing("key", 1)
			s.submit(unserved...)
			s.submit(served...)
			s.maintain(s.rules())
			s.wantAdmitted(s.admit(), 0)
			s.serve(served...)
			s.wantAdmitted(s.admit(), 1)
			s.ends(report(s.running(served[0], s.worker()), queue.Succeeded), queue.Succeeded)
			s.wantAdmitted(s.admit(), 0)
			s.serve(unserved...)
			s.wantAdmitted(s.admit(), 1)
			s.running(unserved[0], s.worker())
		},
	},
	{
		"UnservedIsHeldAgain",
		"Where builds of a key wait, those of it that are queued and that no live session serves are held again.",
		func(s *subject) {
			s.limit("key", 2)
			first, second := s.sharing("key", 2), s.sharing("key", 2)
			s.submit(slices.Concat(first, second)...)
			s.maintain(s.rules())
			s.serveFor(time.Minute, first...)
			s.wantAdmitted(s.admit(), 2)
			s.running(first[0], s.worker())
			s.pass(time.Minute)
			s.serve(second...)
			if done := s.admit(); done.Held != 1 || done.Queued != 1 {
				s.Errorf("Admit held %d builds again and queued %d, want one that is not served and one that is", done.Held, done.Queued)
			}
			s.wantHead(first[0], 0)
			s.wantHead(second[0], 1)
			s.wantUsed("key", 2, 2)
			s.limit("key", 5)
			s.wantAdmitted(s.admit(), 1)
			s.serve(first...)
			s.wantAdmitted(s.admit(), 1)
			s.wantIDs("claims", s.taken(first[0]), ids(first[1:]))
		},
	},
	{
		"Serve",
		"Serve says that sessions serve classes until now+ttl. What was said before for longer stays.",
		func(s *subject) {
			builds := s.sharing("key", 3)
			s.submit(builds[0])
			s.maintain(s.rules())
			s.serveFor(time.Hour, builds[0])
			s.serveFor(time.Minute, builds[0])
			s.must(s.Serve(s.ctx, []queue.ClassID{1 << 30}, time.Hour, s.now))
			s.must(s.Serve(s.ctx, nil, time.Hour, s.now))
			s.pass(59 * time.Minute)
			s.wantAdmitted(s.admit(), 1)
			s.submit(builds[1])
			s.pass(time.Minute)
			s.submit(builds[2])
			s.running(builds[0], s.worker()) // or else it would be held again
			s.wantAdmitted(s.admit(), 0)
			s.serveFor(time.Minute, builds[0])
			s.wantAdmitted(s.admit(), 2)
		},
	},
	{
		"Canceled",
		"Cancel says of a build that had come by way of Admit that it made room if this call has ended it, and only then.",
		func(s *subject) {
			s.limit("key", 5)
			builds := s.sharing("key", 6)
			s.wantAdmitted(s.ready(builds...), 5)
			running, waits := s.running(builds[0], s.worker()), s.running(builds[1], s.worker())
			offered := s.offered(builds[2], s.worker())
			s.releases(s.offered(builds[3], s.worker()))
			s.ends(report(waits, queue.Lost), queue.Pending)
			plain := s.draft()
			s.queued(plain)
			for i, made := range []bool{false, false, true, true, true, false} {
				s.wantRoom(builds[i], made)
			}
			s.wantRoom(plain, false)
			ended, err := s.Finish(s.ctx, []queue.Completion{report(running, queue.Canceled), report(offered, queue.Canceled)}, avoid, s.now)
			s.must(err)
			if len(ended) != 1 || !ended[0].Admitted {
				s.Errorf("Finish returned %+v, want the build that was running and has made room", ended)
			}
			for _, b := range append(builds, plain) {
				s.wantRoom(b, false)
			}
		},
	},
	{
		"HeldEnds",
		"A build that waits to be admitted is Pending: it can be canceled, and expires.",
		func(s *subject) {
			s.limit("key", 1)
			builds := s.sharing("key", 4)
			builds[2].QueueTimeout = time.Minute
			s.wantAdmitted(s.ready(builds...), 1)
			s.cancel(builds[1], queue.Canceled)
			s.pass(time.Hour)
			if done := s.maintain(s.rules()); done.Expired != 1 {
				s.Errorf("Maintain expired %d builds, want 1", done.Expired)
			}
			s.ends(report(s.running(builds[0], s.worker()), queue.Succeeded), queue.Succeeded)
			s.wantAdmitted(s.admit(), 1)
			s.wantIDs("claims", s.taken(builds[0]), ids(builds[3:]))
		},
	},
}

// wantRoom cancels a build and reports whether that says it made room, if it should not, or the other way round.
func (s *subject) wantRoom(b queue.NewBuild, made bool) {
	s.Helper()
	done, err := s.Cancel(s.ctx, b.Project, []queue.ID{b.ID}, "not wanted", force, s.now)
	s.must(err)
	if len(done) != 1 || done[0].Admitted != made {
		s.Errorf("Cancel returned %+v, want one with admitted %t", done, made)
	}
}
