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
