package queuetest

import (
	"time"

	"github.com/slipway-build/slipway/queue"
)

// A staleItem is an attempt that nothing may be written for any more, or never could.
type staleItem struct {
	what    string
	build   queue.NewBuild
	id      queue.AttemptID
	session queue.SessionID
}

// staleItems returns attempts that are stale for each reason there is.
func (s *subject) staleItems() []staleItem {
	s.Helper()
	var items []staleItem
	add := func(what string, b queue.NewBuild, id queue.AttemptID, session queue.SessionID) {
		items = append(items, staleItem{what, b, id, session})
	}
	session := s.worker()

	b := s.draft()
	s.submit(b)
	add("never claimed, epoch 0", b, queue.AttemptID{Build: b.ID}, session)
	add("never claimed, epoch 1", b, queue.AttemptID{Build: b.ID, Epoch: 1}, session)

	b = s.draft()
	s.queued(b)
	id := s.running(b, session)
	add("future epoch", b, queue.AttemptID{Build: b.ID, Epoch: id.Epoch + 1}, session)
	add("epoch 0 of a running build", b, queue.AttemptID{Build: b.ID}, session)
	add("negative epoch", b, queue.AttemptID{Build: b.ID, Epoch: -1}, session)

	b = s.draft()
	s.queued(b)
	id = s.offered(b, session)
	s.releases(id)
	add("released", b, id, session)

	b = s.draft()
	s.queued(b)
	id = s.offered(b, session)
	s.releases(id)
	other := s.worker()
	s.running(b, other)
	add("old epoch of a running build", b, id, session)
	add("old epoch, new session", b, id, other)

	b = s.draft()
	s.queued(b)
	id = s.running(b, session)
	s.ends(report(id, queue.Lost), queue.Pending)
	add("to be attempted again", b, id, session)

	b = s.draft()
	s.queued(b)
	id = s.running(b, session)
	s.ends(report(id, queue.Lost), queue.Pending)
	s.pass(time.Hour / 2)
	s.maintain(s.rules())
	s.running(b, s.worker())
	add("attempted again", b, id, session)

	b = s.draft()
	s.queued(b)
	id = s.offered(b, session)
	s.cancel(b, queue.Canceled)
	add("canceled while offered", b, id, session)

	for _, end := range []queue.State{queue.Succeeded, queue.Failed, queue.Canceled, queue.TimedOut} {
		b = s.draft()
		s.queued(b)
		id = s.running(b, session)
		s.ends(report(id, end), end)
		add("ended as "+end.String(), b, id, session)
	}

	// Last, because an offer does not last while time passes.
	b = s.draft()
	s.queued(b)
	id = s.offered(b, session)
	s.releases(id)
	s.offered(b, other)
	add("old epoch of an offered build", b, id, session)
	add("old epoch of an offered build, new session", b, id, other)
	add("future epoch of an offered build", b, queue.AttemptID{Build: b.ID, Epoch: id.Epoch + 2}, other)
	return items
}

// reoffered returns a build that is offered again, after an attempt that was lost.
func (s *subject) reoffered() (queue.NewBuild, queue.AttemptID) {
	s.Helper()
	b := s.draft()
	s.queued(b)
	s.ends(report(s.running(b, s.worker()), queue.Lost), queue.Pending)
	s.pass(backoff.Max)
	s.maintain(s.rules())
	return b, s.offered(b, s.worker())
}

// eachStale checks that a fenced change does not count for attempts that are stale, and changes nothing.
func (s *subject) eachStale(change func(b queue.NewBuild, id queue.AttemptID, session queue.SessionID) (counts bool)) {
	s.Helper()
	for _, item := range s.staleItems() {
		s.unchanged(item.what, func() {
			if change(item.build, item.id, item.session) {
				s.Errorf("%s: the change counts", item.what)
			}
		}, item.build)
	}
}
