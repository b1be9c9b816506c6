package queuetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/slipway-build/slipway/queue"
)

// Times that cases use where the length does not matter.
const (
	offerTime  = 10 * time.Second
	runTimeout = time.Hour
	slack      = 30 * time.Second
	force      = 40 * time.Second
	avoid      = 30 * time.Second
	grace      = time.Minute
	keepKeys   = 24 * time.Hour
	ttl        = 20 * time.Second
)

// patience bounds how long a case may take, so that a backend that hangs fails.
const patience = time.Minute

// backoff is that of drafts.
var backoff = queue.Backoff{Base: 5 * time.Second, Max: 5 * time.Minute}

// roomy is a limit that no log reaches which is not about it.
var roomy = queue.LogLimit{Bytes: 1 << 30, Lines: 1 << 30}

// A reporter is what a case reports to: a [testing.T], or a rapid.T.
type reporter interface {
	Helper()
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// A subject is the backend under test with a clock that only the case moves.
type subject struct {
	reporter
	queue.Backend
	ctx     context.Context
	now     time.Time
	names   int           // how many names were handed out
	classes []queue.Class // that were read, in order
}

func newSubject(t *testing.T, b queue.Backend) *subject {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return &subject{reporter: t, Backend: b, ctx: ctx, now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
}

// pass lets time pass.
func (s *subject) pass(d time.Duration) { s.now = s.now.Add(d) }

// must ends the case if err is not nil.
func (s *subject) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatalf("unexpected error: %v", err)
	}
}

// wantErr reports an error that does not wrap want.
func (s *subject) wantErr(err, want error) {
	s.Helper()
	if !errors.Is(err, want) {
		s.Errorf("error is %v, want one that wraps %v", err, want)
	}
}

// name returns a name that was not used before.
func (s *subject) name(kind string) string {
	s.names++
	return fmt.Sprintf("%s-%d", kind, s.names)
}

// draft returns a build to be submitted, alone in its class.
func (s *subject) draft() queue.NewBuild {
	return queue.NewBuild{
		ID:          queue.NewID(),
		Project:     "project",
		Pool:        s.name("pool"),
		Labels:      queue.Labels{"os": "linux", "arch": "arm64"},
		Spec:        []byte("spec"),
		RunTimeout:  runTimeout,
		MaxAttempts: 3,
		Backoff:     backoff,
	}
}

// drafts returns builds of one class.
func (s *subject) drafts(n int) []queue.NewBuild {
	builds := make([]queue.NewBuild, n)
	for i := range builds {
		builds[i] = s.draft()
		builds[i].Pool = builds[0].Pool
	}
	return builds
}

// apart returns builds, each alone in its class.
func (s *subject) apart(n int) []queue.NewBuild {
	builds := make([]queue.NewBuild, n)
	for i := range builds {
		builds[i] = s.draft()
	}
	return builds
}

// submit submits builds in a moment of their own, and returns what became of each.
func (s *subject) submit(builds ...queue.NewBuild) []queue.Submitted {
	s.Helper()
	s.pass(time.Second)
	done, err := s.Submit(s.ctx, builds, s.now)
	s.must(err)
	if len(done) != len(builds) {
		s.Fatalf("Submit of %d builds returned %v", len(builds), done)
	}
	return done
}

// submitErr submits builds and returns the error.
func (s *subject) submitErr(builds ...queue.NewBuild) error {
	_, err := s.Submit(s.ctx, builds, s.now)
	return err
}

// queued submits builds, one after the other, and has them queued.
func (s *subject) queued(builds ...queue.NewBuild) {
	s.Helper()
	for _, b := range builds {
		s.submit(b)
	}
	s.maintain(s.rules())
}

// rules returns what Maintain goes by; leases of lost sessions are not swept.
func (s *subject) rules() queue.Rules {
	return queue.Rules{Grace: grace, Avoid: avoid, KeepKeys: keepKeys, Limit: 1000}
}

// maintain calls Maintain until nothing more is due, and returns what was done in all.
func (s *subject) maintain(rules queue.Rules) queue.Maintained {
	s.Helper()
	var sum queue.Maintained
	for range 100 {
		done, err := s.Maintain(s.ctx, rules, s.now)
		s.must(err)
		for _, c := range counts(&done) {
			if *c.n > rules.Limit {
				s.Errorf("Maintain did %d %s, limit %d", *c.n, c.name, rules.Limit)
			}
		}
		for i, c := range counts(&sum) {
			*c.n += *counts(&done)[i].n
		}
		sum.Heads = append(sum.Heads, done.Heads...)
		sum.Archived = append(sum.Archived, done.Archived...)
		if !done.More {
			return sum
		}
	}
	s.Fatalf("Maintain still says More after 100 calls")
	return sum
}

type count struct {
	name string
	n    *int
}

func counts(m *queue.Maintained) []count {
	return []count{
		{"interned", &m.Interned},
		{"queued", &m.Queued},
		{"expired", &m.Expired},
		{"released", &m.Released},
		{"timed out", &m.TimedOut},
		{"canceled", &m.Canceled},
		{"requeued", &m.Requeued},
		{"lost", &m.Lost},
		{"forgotten", &m.Forgotten},
		{"deleted", &m.Deleted},
	}
}

// class returns the class of a build, zero if it has not been made. It reads those that were made since it was last called.
func (s *subject) class(pool string, labels queue.Labels) queue.ClassID {
	s.Helper()
	is := func(c queue.Class) bool { return c.Pool == pool && c.Labels.String() == labels.String() }
	for i := slices.IndexFunc(s.classes, is); ; i = slices.IndexFunc(s.classes, is) {
		if i >= 0 {
			return s.classes[i].ID
		}
		var last queue.ClassID
		if n := len(s.classes); n > 0 {
			last = s.classes[n-1].ID
		}
		page, err := s.Classes(s.ctx, last, 100)
		s.must(err)
		if len(page) == 0 {
			return 0
		}
		s.classes = append(s.classes, page...)
	}
}

// open opens a session.
func (s *subject) open(n queue.NewSession) queue.SessionID {
	s.Helper()
	id, err := s.OpenSession(s.ctx, n, s.now)
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

// get returns a build.
func (s *subject) get(b queue.NewBuild) queue.Build {
	s.Helper()
	got, err := s.Get(s.ctx, b.Project, b.ID)
	s.must(err)
	return got
}

// wantState reports a build that is in another state.
func (s *subject) wantState(b queue.NewBuild, want queue.State) {
	s.Helper()
	if got := s.get(b).State; got != want {
		s.Errorf("build is %v, want %v", got, want)
	}
}

// attempts returns the attempts of a build.
func (s *subject) attempts(b queue.NewBuild) []queue.Attempt {
	s.Helper()
	rows, err := s.Attempts(s.ctx, b.Project, b.ID)
	s.must(err)
	return rows
}

// ids returns the ids of builds.
func ids(builds []queue.NewBuild) []queue.ID {
	var all []queue.ID
	for _, b := range builds {
		all = append(all, b.ID)
	}
	return all
}

// wantIDs reports ids that are not those that are wanted, in their order.
func (s *subject) wantIDs(what string, got, want []queue.ID) {
	s.Helper()
	if !slices.Equal(got, want) {
		s.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// sorted orders ids by their bytes.
func sorted(ids []queue.ID) []queue.ID {
	return slices.SortedFunc(slices.Values(ids), func(x, y queue.ID) int { return slices.Compare(x[:], y[:]) })
}
