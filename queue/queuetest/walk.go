package queuetest

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/slipway-build/slipway/queue"
)

// enoughWalks are as many as take every event of the table, however they are drawn: in fewer some are missing now and then.
const enoughWalks = 100

// walkRandomly makes calls that were drawn at random and checks after each that what always holds holds.
func walkRandomly(t *testing.T, b queue.Backend) {
	s := newSubject(t, b)
	walks := 0
	events, met := make(map[queue.Event]int), make(map[string]int)
	rapid.Check(t, func(rt *rapid.T) {
		ctx, cancel := context.WithTimeout(t.Context(), patience) // of one walk; there are a hundred
		defer cancel()
		s.ctx = ctx
		walks++
		s.pass(long) // what an earlier walk has left behind is over
		s.reporter = rt
		w := &walk{
			subject: s, project: fmt.Sprintf("walk-%d", walks), seen: make(map[queue.ID]*sight), events: events, met: met,
			limits: make(map[string]int), used: make(map[string]int),
		}
		w.sweeper = s.fresh()
		for _, worker := range []string{"a", "b"} {
			facts := s.facts()
			facts.Worker = fmt.Sprintf("walker-%d-%s", walks, worker)
			if worker == "a" {
				facts.Controller, facts.Direct = w.sweeper, walks%4 == 0 // the other's controller is soon dead
			}
			w.workers = append(w.workers, facts)
			w.sessions = append(w.sessions, s.open(facts))
		}
		if walks%2 == 0 {
			w.setLimit(walkKeys[0], 1)
		}
		if walks%4 == 0 { // builds of a class that is known may start in a slot
			first := w.draft()
			first.Pool = w.project
			w.queued(first)
			w.cancel(first, queue.Canceled)
		}
		for _, g := range rapid.SliceOfN(genes, 20, 30).Draw(rt, "steps") {
			st := w.decode(g)
			rt.Logf("%s", st.name)
			w.take(st)
		}
		for _, sight := range w.seen {
			w.checkAttempts(sight, w.attempts(queue.NewBuild{Project: w.project, ID: sight.build.ID}))
		}
	})
	for _, e := range queue.Events() {
		if walks >= enoughWalks && events[e] == 0 {
			t.Errorf("%v never happened in %d walks", e, walks)
		}
	}
	for _, what := range []string{"admitted", "held again", "limit reached", "deleted", "cut", "started"} {
		if walks >= enoughWalks && met[what] == 0 {
			t.Errorf("no build was ever met that was %q in %d walks", what, walks)
		}
	}
}

// A gene is a step that was drawn before it is known what there will be to choose from: each number chooses among what there is.
type gene struct{ Call, Build, Attempt, Session, Detail int }

var genes = rapid.Custom(func(t *rapid.T) gene {
	return gene{
		Call:    rapid.IntRange(0, len(calls)-1).Draw(t, "call"),
		Build:   rapid.IntRange(0, 3).Draw(t, "build"),
		Attempt: rapid.IntRange(0, 5).Draw(t, "attempt"),
		Session: rapid.IntRange(0, 7).Draw(t, "session"),
		Detail:  rapid.IntRange(0, 9).Draw(t, "detail"),
	}
})

// A step is one call of a backend.
type step struct {
	name string
	// fence is the attempt that the call writes for, zero if it is not fenced, and needs the states in which it may.
	fence queue.AttemptID
	needs []queue.State
	do    func()
}

// A walk knows what its steps have made.
type walk struct {
	*subject
	project  string
	builds   []queue.NewBuild
	workers  []queue.NewSession
	sessions []queue.SessionID
	claims   []queue.Claimed
	sweeper  queue.ID
	seen     map[queue.ID]*sight
	events   map[queue.Event]int // how often each has happened, in all walks
	met      map[string]int      // how often else something was seen

	limits map[string]int // of concurrency keys; what is not there is not limited
	used   map[string]int // how many builds of each key there were where its limit counts them, after the last step
	paused bool           // the pool or the project
	fair   bool
}

// A sight is a build as it was seen last.
type sight struct {
	build queue.Build
	text  string
	ended map[int64]string // attempts that have ended
	logs  map[int64]queue.Attempt
}

// take makes a call and checks what always holds.
func (w *walk) take(st step) {
	w.Helper()
	if old := w.seen[st.fence.Build]; old != nil && (old.build.Epoch != st.fence.Epoch || !slices.Contains(st.needs, old.build.State)) {
		i := slices.IndexFunc(w.builds, func(b queue.NewBuild) bool { return b.ID == st.fence.Build })
		w.unchanged(st.name+", which is stale,", st.do, w.builds[i])
		return
	}
	st.do()
	builds := w.list(queue.Filter{Project: w.project, Limit: queue.MaxPage})
	if len(builds) != len(w.builds) {
		w.Fatalf("there are %d builds, want %d", len(builds), len(w.builds))
	}
	for _, b := range builds {
		w.look(b)
	}
	w.checkPlaces(builds)
}

// look checks a build, as a list shows it, against what was seen of it last.
func (w *walk) look(got queue.Build) {
	w.Helper()
	old := w.seen[got.ID]
	switch {
	case old == nil:
		old = &sight{ended: make(map[int64]string), logs: make(map[int64]queue.Attempt)}
		w.seen[got.ID] = old
	case describe(got) == old.text:
		return
	default:
		w.checkMove(*old, got)
	}
	old.build, old.text = got, describe(got)
	w.checkAttempts(old, w.attempts(queue.NewBuild{Project: w.project, ID: got.ID}))
}

// checkAttempts checks the attempts of a build, of which those that had ended must be as they were.
func (w *walk) checkAttempts(s *sight, rows []queue.Attempt) {
	w.Helper()
	w.checkBuild(s.build, rows)
	for _, a := range rows {
		if was, ended := s.ended[a.Epoch]; ended && describeAttempt(a) != was {
			w.Fatalf("attempt that had ended was\n%s, is\n%s", was, describeAttempt(a))
		}
		if !a.EndedAt.IsZero() {
			s.ended[a.Epoch] = describeAttempt(a)
		}
		if was := s.logs[a.Epoch]; a.LogLength < was.LogLength || was.LogCut && (!a.LogCut || a.LogLength > was.LogLength) {
			w.Fatalf("the log of an attempt that was\n%s, is\n%s", describeAttempt(was), describeAttempt(a))
		}
		if s.logs[a.Epoch] = a; a.LogCut {
			w.met["cut"]++
		}
	}
}

// checkBuild checks that what is stored of a build fits together.
func (w *walk) checkBuild(b queue.Build, rows []queue.Attempt) {
	w.Helper()
	fail := func(what string) { w.Helper(); w.Fatalf("%s: build is %s, attempts are %+v", what, describe(b), rows) }
	if !b.State.Valid() || b.State.Terminal() == b.FinishedAt.IsZero() {
		fail("a build has an end exactly if its state is terminal")
	}
	if b.AttemptsUsed != len(rows) || b.AttemptsUsed > b.MaxAttempts || int64(b.AttemptsUsed) > b.Epoch {
		fail("attempts used are those that were accepted, never more than allowed or claimed")
	}
	last := int64(0)
	for i, a := range rows {
		if a.Epoch <= last || a.Epoch > b.Epoch {
			fail("epochs of attempts grow, up to the build's")
		}
		last = a.Epoch
		if lasting := i == len(rows)-1 && b.State.Leased(); lasting != a.EndedAt.IsZero() || lasting != (a.Outcome == 0) {
			fail("the newest attempt lasts exactly while it is leased")
		}
	}
	if b.State.Leased() && last != b.Epoch {
		fail("the leased attempt is the one with the build's epoch")
	}
}

// checkMove checks that a build became what it may become.
func (w *walk) checkMove(old sight, got queue.Build) {
	w.Helper()
	switch {
	case got.Epoch < old.build.Epoch:
		w.Fatalf("the epoch fell from %d to %d", old.build.Epoch, got.Epoch)
	case old.build.State.Terminal() && describe(got) != old.text:
		w.Fatalf("a build that had ended as\n%s is\n%s", old.text, describe(got))
	case !reachable(old.build.State, got.State):
		w.Fatalf("a build that was %v became %v", old.build.State, got.State)
	}
}

// reachable reports whether events can lead from one state to another.
func reachable(from, to queue.State) bool {
	found := []queue.State{from}
	for i := 0; i < len(found); i++ {
		for _, next := range queue.States() {
			if found[i].CanBecome(next) && !slices.Contains(found, next) {
				found = append(found, next)
			}
		}
	}
	return slices.Contains(found, to)
}

// pick returns one of all; there must be some.
func pick[T any](all []T, i int) T { return all[i%len(all)] }

// attempt returns an attempt to write for: usually one of the newest, sometimes one that there never was.
func (w *walk) attempt(g gene) (queue.Claimed, bool) {
	if len(w.claims) == 0 {
		return queue.Claimed{}, false
	}
	c := w.claims[max(0, len(w.claims)-1-g.Attempt)]
	if g.Detail == 9 {
		c.Epoch++
	}
	return c, true
}

// session returns a session, usually one of the newest.
func (w *walk) session(g gene) queue.SessionID {
	return w.sessions[max(0, len(w.sessions)-1-g.Session%4)]
}

// delay is a time that lets something run out, or nothing.
func (g gene) delay() time.Duration {
	return []time.Duration{
		backoff.Base + time.Second, grace + time.Second, offerTime + time.Second, force + time.Second, backoff.Max + time.Second, runTimeout + slack, 0,
	}[g.Detail%7]
}
