package queuetest

import (
	"context"
	"fmt"
	"time"

	"github.com/slipway-build/slipway/queue"
)

// Open opens one session.
func Open(ctx context.Context, b queue.Sessions, n queue.NewSession, now time.Time) (queue.SessionID, error) {
	opened, err := b.OpenSessions(ctx, []queue.NewSession{n}, now)
	if err != nil {
		return 0, err
	}
	if len(opened) != 1 {
		return 0, fmt.Errorf("OpenSessions returned %v for one session", opened)
	}
	return opened[0].Session, nil
}

// open opens a session.
func (s *subject) open(n queue.NewSession) queue.SessionID {
	s.Helper()
	id, err := Open(s.ctx, s, n, s.now)
	s.must(err)
	return id
}

// facts describes a worker that was not heard of before, on a controller of its own.
func (s *subject) facts() queue.NewSession {
	return queue.NewSession{
		Controller: queue.NewID(),
		Worker:     s.name("worker"),
		Instance:   "boot-1",
		Labels:     queue.Labels{"os": "linux", "arch": "arm64"},
		Pools:      []string{"pool"},
		Slots:      4,
	}
}

// worker opens a session of a new worker.
func (s *subject) worker() queue.SessionID {
	s.Helper()
	return s.open(s.facts())
}

// claim gives builds of b's class to the sessions, one a slot.
func (s *subject) claim(b queue.NewBuild, slots ...queue.SessionID) []queue.Claimed {
	s.Helper()
	claimed, err := s.Claim(s.ctx, []queue.Demand{demand(s.class(b.Pool, b.Labels), slots...)}, offerTime, s.now)
	s.must(err)
	return claimed
}

// demand asks for builds of a class, wherever they are in its queue.
func demand(class queue.ClassID, slots ...queue.SessionID) queue.Demand {
	return queue.Demand{Reach: reach(class), Slots: slots}
}

// reach is all of a class.
func reach(class queue.ClassID) queue.Reach { return queue.Reach{Class: class, Floor: queue.NoFloor} }

// claimIDs is claim for the ids alone, in the order of ranks.
func (s *subject) claimIDs(b queue.NewBuild, slots ...queue.SessionID) []queue.ID {
	s.Helper()
	var ids []queue.ID
	for _, c := range s.claim(b, slots...) {
		ids = append(ids, c.Build)
	}
	return ids
}

// offered claims b, which is queued, for a session.
func (s *subject) offered(b queue.NewBuild, session queue.SessionID) queue.AttemptID {
	s.Helper()
	claimed := s.claim(b, session)
	if len(claimed) != 1 || claimed[0].Build != b.ID {
		s.Fatalf("Claim returned %v, want the one queued build %v", claimed, b.ID)
	}
	return claimed[0].AttemptID
}

// running claims b, which is queued, for a session, and has it accepted.
func (s *subject) running(b queue.NewBuild, session queue.SessionID) queue.AttemptID {
	s.Helper()
	id := s.offered(b, session)
	s.accept(id, session)
	return id
}

// token is the hash that the session of an attempt accepts it with.
func token(id queue.AttemptID) queue.Digest {
	d := queue.Digest{byte(id.Epoch)}
	copy(d[1:], id.Build[:])
	return d
}

// acceptance is a session's yes to an offer.
func acceptance(id queue.AttemptID, session queue.SessionID) queue.Acceptance {
	return queue.Acceptance{AttemptID: id, Session: session, TokenHash: token(id), Slack: slack}
}

// accept accepts an offer, which must count.
func (s *subject) accept(id queue.AttemptID, session queue.SessionID) {
	s.Helper()
	if !s.accepts(acceptance(id, session)) {
		s.Fatalf("Accept of %v returned nothing, want the attempt", id)
	}
}

// accepts accepts an offer and reports whether it counted.
func (s *subject) accepts(a queue.Acceptance) bool {
	s.Helper()
	done, err := s.Accept(s.ctx, []queue.Acceptance{a}, s.now)
	s.must(err)
	if len(done) > 1 || len(done) == 1 && done[0] != a.AttemptID {
		s.Fatalf("Accept of %v returned %v", a.AttemptID, done)
	}
	return len(done) == 1
}

// releases takes back an offer and reports whether it counted.
func (s *subject) releases(id queue.AttemptID) bool {
	s.Helper()
	done, err := s.Release(s.ctx, []queue.AttemptID{id}, avoid, s.now)
	s.must(err)
	if len(done) > 1 || len(done) == 1 && done[0] != id {
		s.Fatalf("Release of %v returned %v", id, done)
	}
	return len(done) == 1
}

// report is a worker's report of an attempt that wrote no log.
func report(id queue.AttemptID, outcome queue.State) queue.Completion {
	return queue.Completion{AttemptID: id, Outcome: outcome, Reason: "as reported"}
}

// finish reports the end of an attempt and returns the state it led to, zero if it was stale.
func (s *subject) finish(c queue.Completion) queue.State {
	s.Helper()
	done, err := s.Finish(s.ctx, []queue.Completion{c}, avoid, s.now)
	s.must(err)
	if len(done) > 1 || len(done) == 1 && done[0].AttemptID != c.AttemptID {
		s.Fatalf("Finish of %v returned %v", c.AttemptID, done)
	}
	if len(done) == 0 {
		return 0
	}
	return done[0].State
}

// ends reports the end of an attempt, which must lead to a state.
func (s *subject) ends(c queue.Completion, want queue.State) {
	s.Helper()
	if got := s.finish(c); got != want {
		s.Fatalf("Finish of %v with %v led to %v, want %v", c.AttemptID, c.Outcome, got, want)
	}
}

// cancel cancels a build, which must lead to a state.
func (s *subject) cancel(b queue.NewBuild, want queue.State) {
	s.Helper()
	if got := s.cancels(b, "not wanted", force); got != want {
		s.Fatalf("Cancel led to %v, want %v", got, want)
	}
}

// cancels cancels a build and returns the state it led to, zero if there is no such build.
func (s *subject) cancels(b queue.NewBuild, reason string, force time.Duration) queue.State {
	s.Helper()
	done, err := s.Cancel(s.ctx, b.Project, []queue.ID{b.ID}, reason, force, s.now)
	s.must(err)
	if len(done) > 1 || len(done) == 1 && done[0].ID != b.ID {
		s.Fatalf("Cancel of %v returned %v", b.ID, done)
	}
	if len(done) == 0 {
		return 0
	}
	return done[0].State
}
