package modeltest

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/slipway-build/slipway/internal/testenv"
	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/queue/memqueue"
	"github.com/slipway-build/slipway/queue/pgqueue"
	"github.com/slipway-build/slipway/queue/queuetest"
	"github.com/slipway-build/slipway/queue/sqlitequeue"
)

var (
	seed = flag.Uint64("seed", 0, "of the first run; 0 draws one")
	runs = flag.Int("runs", 2, "how many sequences of calls to compare")
)

// TestQueue makes the same calls, drawn at random, on every backend, and compares each result, the builds after each, and
// now and then all that can be read. It costs seconds; -runs=100 is a long look.
func TestQueue(t *testing.T) {
	first := *seed
	if first == 0 {
		first = uint64(rand.Uint32())
	}
	for i := range *runs {
		n := first + uint64(i)
		t.Run(fmt.Sprintf("seed=%d", n), func(t *testing.T) { compare(t, n) })
	}
}

// A subject is a backend and the sessions that it opened: their numbers may differ from those of other backends.
type subject struct {
	queue.Backend
	name     string
	sessions []queue.SessionID
}

// A comparison makes calls on all subjects. The first is the model.
type comparison struct {
	*testing.T
	*rand.Rand
	subjects    []*subject
	now         time.Time
	controllers []queue.ID
	sessions    int
	builds      []queue.ID
	claims      []claim
	calls       []string // that were made
}

// A claim is an attempt and which session it was given to.
type claim struct {
	queue.AttemptID
	session int
}

const (
	project = "project"
	steps   = 150
	ttl     = 20 * time.Second
	offer   = 10 * time.Second
	avoid   = 30 * time.Second
)

func compare(t *testing.T, seed uint64) {
	c := &comparison{
		T: t, Rand: rand.New(rand.NewPCG(seed, 0)),
		subjects:    []*subject{{Backend: memqueue.New(), name: "memqueue"}, openSQLite(t), openPostgres(t)},
		now:         time.Date(2026, 3, 1, 23, 30, 0, 0, time.UTC),
		controllers: []queue.ID{queue.NewID(), queue.NewID(), queue.NewID()},
	}
	c.makeClasses()
	ops := []func(){
		c.submit, c.submit, c.claim, c.claim, c.claim, c.accept, c.accept, c.release, c.finish, c.cancel, c.maintain, c.maintain,
		c.beat, c.open, c.open, c.adopt, c.lose, c.write, c.write,
		c.admit, c.admit, c.serve, c.setLimit, c.changePool, c.changeProject, c.cancelMany, c.archive, c.probe,
	}
	for i := range steps {
		if c.IntN(3) == 0 {
			c.pass()
		}
		ops[c.IntN(len(ops))]()
		c.same("", c.list)
		if i%10 == 9 {
			c.same("", c.everything)
		}
	}
}

func openSQLite(t *testing.T) *subject {
	t.Helper()
	db, err := sqlitequeue.Open(filepath.Join(t.TempDir(), "queue.db"), &sqlitequeue.Options{Relaxed: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	b, err := sqlitequeue.New(db, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return &subject{Backend: b, name: "sqlitequeue"}
}

func openPostgres(t *testing.T) *subject {
	t.Helper()
	db := testenv.Postgres(t)
	b, err := pgqueue.New(db.Pool, &pgqueue.Options{Schema: db.Schema})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return &subject{Backend: b, name: "pgqueue"}
}

// same makes a call on every subject and ends the test if the results, as text, differ. It returns that of the model.
func (c *comparison) same(name string, call func(*subject) string) string {
	c.Helper()
	want := call(c.subjects[0])
	for _, s := range c.subjects[1:] {
		got := call(s)
		if got == want {
			continue
		}
		was, is := strings.Split(want, "\n"), strings.Split(got, "\n")
		for i := range min(len(was), len(is)) {
			if was[i] != is[i] {
				c.Errorf("%s\n%s: %s\n%s: %s", name, c.subjects[0].name, was[i], s.name, is[i])
			}
		}
		c.Fatalf("after\n%s", strings.Join(c.calls[max(0, len(c.calls)-30):], "\n"))
	}
	if name != "" {
		c.calls = append(c.calls, name+" => "+want)
	}
	return want
}

// pass lets time pass, in which the first controller often stays alive.
func (c *comparison) pass() {
	d := []time.Duration{time.Second, 5 * time.Second, 11 * time.Second, ttl, 31 * time.Second, 61 * time.Second, 10 * time.Minute}[c.IntN(7)]
	end := c.now.Add(d)
	for d < 10*time.Minute && c.now.Before(end) {
		c.now = c.now.Add(min(15*time.Second, end.Sub(c.now)))
		c.same("", func(s *subject) string {
			_, err := s.Beat(c.Context(), c.controllers[0], ttl, c.now)
			return text(err)
		})
	}
	c.now = end
}

// pools and labels make six classes, which have the same numbers everywhere because they are made one by one.
var (
	pools  = []string{"x", "y"}
	labels = []queue.Labels{{}, {"a": "0"}, {"a": "1"}}
)

func (c *comparison) makeClasses() {
	for _, pool := range pools {
		for _, l := range labels {
			b := queue.NewBuild{ID: queue.NewID(), Project: "other", Pool: pool, Labels: l, RunTimeout: time.Minute, MaxAttempts: 1}
			c.same("make a class", func(s *subject) string {
				_, err := s.Submit(c.Context(), []queue.NewBuild{b}, c.now)
				_, maintainErr := s.Maintain(c.Context(), queue.Rules{Limit: 500}, c.now)
				_, cancelErr := s.Cancel(c.Context(), b.Project, []queue.ID{b.ID}, "", 0, c.now)
				return text(errors.Join(err, maintainErr, cancelErr))
			})
		}
	}
}

func (c *comparison) submit() {
	var builds []queue.NewBuild
	for range 1 + c.IntN(3) {
		b := queue.NewBuild{
			ID: queue.NewID(), Project: project, Pool: pools[c.IntN(len(pools))], Labels: labels[c.IntN(len(labels))],
			RunTimeout: time.Duration(1+c.IntN(300)) * time.Second, MaxAttempts: 1 + c.IntN(3),
			Backoff: queue.Backoff{Base: time.Duration(c.IntN(3)) * 5 * time.Second, Max: 20 * time.Second}, RetryFailed: c.IntN(4) == 0,
			Priority: c.IntN(3) - 1,
		}
		if c.IntN(3) == 0 {
			b.ConcurrencyKey = keys[c.IntN(len(keys))]
		}
		if c.IntN(4) == 0 {
			b.IdempotencyKey, b.IdempotencyHash = strconv.Itoa(c.IntN(10)), queue.Digest{byte(c.IntN(12) / 11)}
		}
		if c.IntN(5) == 0 {
			b.NotBefore = c.now.Add(time.Duration(c.IntN(60)-10) * time.Second)
		}
		if c.IntN(4) == 0 {
			b.Metadata = map[string]string{"n": strconv.Itoa(c.IntN(10))}
		}
		if c.IntN(3) == 0 {
			b.QueueTimeout = time.Duration(1+c.IntN(100)) * time.Second
		}
		if c.IntN(3) == 0 {
			b.Source = &queue.Source{Digest: queue.Digest{1}, Size: 5}
		}
		if c.IntN(2) == 0 {
			b.Spec = []byte("spec")
		}
		if c.sessions > 0 && c.IntN(2) == 0 {
			b.Slot = queue.Slot{Session: queue.SessionID(1 + c.session(4)), Floor: queue.NoFloor, Slack: 3 * time.Second}
			if c.IntN(4) == 0 {
				b.Slot.Floor = b.Rank(c.now)
			}
		}
		if c.IntN(20) == 0 && len(c.builds) > 0 {
			b.ID = c.builds[c.IntN(len(c.builds))]
		}
		builds = append(builds, b)
	}
	var inserted []queue.ID
	var started []claim
	c.same("submit", func(s *subject) string {
		own := slices.Clone(builds)
		for i := range own {
			if place := own[i].Slot.Session; place > 0 {
				own[i].Slot.Session = s.sessions[place-1]
			}
		}
		done, err := s.Submit(c.Context(), own, c.now)
		inserted, started = nil, nil
		var rows []string
		for i, d := range done {
			if d.ID == builds[i].ID {
				inserted = append(inserted, d.ID)
			}
			if d.Started {
				started = append(started, claim{queue.AttemptID{Build: d.ID, Epoch: 1}, int(builds[i].Slot.Session) - 1})
			}
			if d.Class == 0 {
				d.Rank = 0 // of what is not queued it means nothing
			}
			rows = append(rows, fmt.Sprint(d))
		}
		return text(err) + strings.Join(rows, "; ")
	})
	c.builds, c.claims = append(c.builds, inserted...), append(c.claims, started...)
}

// session returns one of the newest sessions.
func (c *comparison) session(among int) int { return max(0, c.sessions-1-c.IntN(among)) }

// attempt returns one of the newest attempts, or one that there never was.
func (c *comparison) attempt() claim {
	if len(c.claims) == 0 {
		return claim{AttemptID: queue.AttemptID{Build: queue.NewID(), Epoch: 1}}
	}
	a := c.claims[max(0, len(c.claims)-1-c.IntN(6))]
	if c.IntN(15) == 0 {
		a.Epoch += int64(c.IntN(3)) - 1
	}
	return a
}

func (c *comparison) claim() {
	if c.sessions == 0 {
		return
	}
	class := queue.ClassID(1 + c.IntN(6))
	first, second, slots := c.session(4), c.session(4), 1+c.IntN(3)
	var claims []claim
	c.same(fmt.Sprintf("claim %d of class %d for session %d, one for %d", slots, class, first, second), func(s *subject) string {
		demand := []queue.Demand{
			{Reach: reach(class), Slots: slices.Repeat([]queue.SessionID{s.sessions[first]}, slots)},
			{Reach: reach(class%6 + 1), Slots: []queue.SessionID{s.sessions[second]}},
		}
		claimed, err := s.Claim(c.Context(), demand, offer, c.now)
		claims = nil
		var rows []string
		for _, cl := range claimed {
			session := slices.Index(s.sessions, cl.Session)
			claims = append(claims, claim{cl.AttemptID, session})
			rows = append(rows, fmt.Sprint(cl.AttemptID, session, cl.Class, cl.Project, cl.Pool, string(cl.Spec), cl.SpecSize, cl.Source != nil, cl.RunTimeout,
				cl.Rank, cl.Attempt, cl.Metadata, cl.Admitted))
		}
		return text(err) + inOrder(rows)
	})
	c.claims = append(c.claims, claims...)
}

func (c *comparison) accept() {
	a := c.attempt()
	if c.sessions == 0 {
		return
	}
	if c.IntN(8) == 0 {
		a.session = c.IntN(c.sessions)
	}
	token := queue.Digest{byte(c.IntN(8) / 7), 1}
	c.same(fmt.Sprintf("accept %v for session %d", a.AttemptID, a.session), func(s *subject) string {
		accepted, err := s.Accept(c.Context(), []queue.Acceptance{
			{AttemptID: a.AttemptID, Session: s.sessions[a.session], TokenHash: token, Slack: 3 * time.Second},
		}, c.now)
		return text(err) + fmt.Sprint(accepted)
	})
}

func (c *comparison) release() {
	a := c.attempt()
	c.same(fmt.Sprintf("release %v", a.AttemptID), func(s *subject) string {
		released, err := s.Release(c.Context(), []queue.AttemptID{a.AttemptID}, avoid, c.now)
		return text(err) + fmt.Sprint(released)
	})
}

func (c *comparison) finish() {
	outcomes := []queue.State{queue.Succeeded, queue.Failed, queue.Lost, queue.Lost, queue.Canceled, queue.TimedOut}
	end := queue.Completion{
		AttemptID: c.attempt().AttemptID, Outcome: outcomes[c.IntN(len(outcomes))], Reason: strconv.Itoa(c.IntN(100)), Signal: "signal",
		LogLength: int64(c.IntN(5)), LogSHA256: queue.Digest{byte(c.IntN(100))}, LogPartial: c.IntN(4) == 0,
	}
	if c.IntN(2) == 0 {
		end.ExitCode = new(c.IntN(3))
	}
	holder := -1
	if c.IntN(4) == 0 && c.sessions > 0 {
		holder = c.session(4)
	}
	ends := []queue.Completion{end}
	if other := c.attempt().AttemptID; other.Build != end.Build && c.IntN(3) == 0 {
		ends = append(ends, queue.Completion{AttemptID: other, Outcome: queue.Lost, Reason: "second"})
	}
	c.same(fmt.Sprintf("finish %v as %v by session %d and %d more", end.AttemptID, end.Outcome, holder, len(ends)-1), func(s *subject) string {
		ends := slices.Clone(ends)
		if holder >= 0 {
			ends[0].Session = s.sessions[holder]
		}
		finished, err := s.Finish(c.Context(), ends, avoid, c.now)
		for i := range finished {
			finished[i].Admitted = false // is a hint, which may be given once too often
		}
		return text(err) + inOrder(lines(finished))
	})
}

func (c *comparison) cancel() {
	if len(c.builds) == 0 {
		return
	}
	id, reason := c.builds[max(0, len(c.builds)-1-c.IntN(8))], strconv.Itoa(c.IntN(100))
	c.same(fmt.Sprintf("cancel %v", id), func(s *subject) string {
		done, err := s.Cancel(c.Context(), project, []queue.ID{id}, reason, 40*time.Second, c.now)
		return text(err) + canceled(done)
	})
}

func (c *comparison) maintain() {
	rules := queue.Rules{Grace: time.Minute, Avoid: avoid, KeepKeys: 5 * time.Minute, Limit: 500, Controller: c.controllers[c.IntN(4)/3]}
	if c.IntN(10) == 0 {
		rules.Retention = 20 * time.Minute
	}
	c.same(fmt.Sprintf("maintain with retention %v", rules.Retention), func(s *subject) string {
		done, err := s.Maintain(c.Context(), rules, c.now)
		done.Folded, done.More = 0, false // are of how a backend goes about it
		if rules.Retention > 0 {
			done.Forgotten = 0 // what is of a deleted build may be forgotten first
		}
		deltas := heads(done.Heads)
		done.Heads = nil
		return text(err) + fmt.Sprintf("%+v %s", done, deltas)
	})
}

func (c *comparison) beat() {
	controller := c.controllers[c.IntN(3)]
	c.same("beat", func(s *subject) string {
		beat, err := s.Beat(c.Context(), controller, ttl, c.now)
		ended := make([]int, len(beat.Ended))
		for i, id := range beat.Ended {
			ended[i] = slices.Index(s.sessions, id)
		}
		return text(err) + fmt.Sprint(beat.Fresh, ended)
	})
}

func (c *comparison) open() {
	n := queue.NewSession{
		Controller: c.controllers[c.IntN(3)], Worker: "worker" + strconv.Itoa(c.IntN(3)), Instance: strconv.Itoa(c.IntN(2)), Pools: []string{"x"},
		Slots: 3, Direct: c.IntN(4) == 0,
	}
	c.same("open a session of "+n.Worker, func(s *subject) string {
		id, err := queuetest.Open(c.Context(), s, n, c.now)
		s.sessions = append(s.sessions, id)
		return text(err)
	})
	c.sessions++
	if c.IntN(2) == 0 {
		c.adopt()
	}
}

func (c *comparison) adopt() {
	if c.sessions == 0 {
		return
	}
	session := c.session(2)
	var held []queue.AttemptID
	for range c.IntN(4) {
		if a := c.attempt(); !slices.Contains(held, a.AttemptID) {
			held = append(held, a.AttemptID)
		}
	}
	c.same(fmt.Sprintf("adopt %v by session %d", held, session), func(s *subject) string {
		adopted, err := s.Adopt(c.Context(), s.sessions[session], held, c.now)
		return text(err) + fmt.Sprint(adopted.Released) + inOrder(s.leases(adopted.Leases))
	})
	for i := range c.claims {
		if slices.Contains(held, c.claims[i].AttemptID) {
			c.claims[i].session = session
		}
	}
}

func (c *comparison) lose() {
	if c.sessions == 0 {
		return
	}
	session := c.session(4)
	c.same(fmt.Sprintf("lose session %d", session), func(s *subject) string {
		return text(s.LoseSessions(c.Context(), []queue.SessionID{s.sessions[session]}, c.now))
	})
}

// write appends to a log and uploads an artifact.
func (c *comparison) write() {
	a := c.attempt()
	from := c.IntN(4)
	chunk := queue.LogChunk{AttemptID: a.AttemptID, Offset: int64(from), Data: []byte("012\n4\n6\n89")[from : from+c.IntN(7)]}
	limit := queue.LogLimit{Bytes: 3 + int64(c.IntN(20)), Lines: 1 + int64(c.IntN(10))}
	c.same(fmt.Sprintf("append %d bytes to %v at %d, limit %v", len(chunk.Data), a.AttemptID, from, limit), func(s *subject) string {
		lengths, err := s.AppendLogs(c.Context(), []queue.LogChunk{chunk}, limit, c.now)
		return text(err) + fmt.Sprint(lengths)
	})
	n := queue.NewArtifact{AttemptID: a.AttemptID, Name: []string{"a", "B", "c", "d"}[c.IntN(4)], Size: int64(c.IntN(4) / 3 * 5)}
	then := c.IntN(4)
	c.same(fmt.Sprintf("artifact %s of %d bytes, then %d", n.Name, n.Size, then), func(s *subject) string {
		reserved, err := s.ReserveArtifact(c.Context(), n, c.now)
		is := text(err) + fmt.Sprintf("%+v ", reserved)
		switch then {
		case 0:
			return is
		case 1:
			return is + text(s.ReleaseArtifact(c.Context(), n.AttemptID, n.Name, c.now))
		default:
			committed, err := s.CommitArtifact(c.Context(), n.AttemptID, n.Name, c.now)
			return is + text(err) + fmt.Sprintf("%+v", committed)
		}
	})
}

// list is the builds of a backend, a line for each.
func (c *comparison) list(s *subject) string {
	builds, err := s.List(c.Context(), queue.Filter{Project: project, Limit: queue.MaxPage})
	var w strings.Builder
	fmt.Fprintln(&w, text(err))
	for _, b := range builds {
		fmt.Fprintln(&w, pointed(b.ExitCode), pointed(b.Source), fmt.Sprintf("%+v", withoutPointers(b)))
	}
	return w.String()
}

// everything is all that a backend shows, a line for each thing.
func (c *comparison) everything(s *subject) string {
	var w strings.Builder
	for _, id := range c.builds {
		b, err := s.Get(c.Context(), project, id)
		fmt.Fprintln(&w, text(err), pointed(b.ExitCode), pointed(b.Source), fmt.Sprintf("%+v", withoutPointers(b)))
		attempts, err := s.Attempts(c.Context(), project, id)
		fmt.Fprintln(&w, text(err), len(attempts))
		for _, a := range attempts {
			exit := pointed(a.ExitCode)
			a.ExitCode = nil
			page, pageErr := s.ReadLog(c.Context(), project, a.AttemptID, 0, 1000)
			artifacts, artifactsErr := s.ListArtifacts(c.Context(), project, a.AttemptID)
			fmt.Fprintf(&w, "%+v %s %s %q %d %t %t %t %s %+v\n", a, exit, text(pageErr), page.Data, page.Length, page.Closed, page.Cut, page.Archived,
				text(artifactsErr), artifacts)
		}
		page, err := s.ReadLog(c.Context(), project, queue.AttemptID{Build: id}, 2, 3)
		fmt.Fprintf(&w, "%s %d %q %d %t\n", text(err), page.Epoch, page.Data, page.Length, page.Closed)
		l, err := s.Lease(c.Context(), queue.AttemptID{Build: id, Epoch: b.Epoch})
		fmt.Fprintln(&w, text(err), s.leases([]queue.Lease{l}))
	}
	c.settings(s, &w)
	for _, controller := range c.controllers {
		all, err := s.Leases(c.Context(), controller, false)
		cancels, cancelsErr := s.Leases(c.Context(), controller, true)
		fmt.Fprintln(&w, text(err), s.leases(all), text(cancelsErr), s.leases(cancels))
	}
	return w.String()
}

// withoutPointers returns a build without what prints as an address.
func withoutPointers(b queue.Build) queue.Build {
	b.ExitCode, b.Source = nil, nil
	return b
}

// pointed returns what p points to as text.
func pointed[T any](p *T) string {
	if p == nil {
		return "none"
	}
	return fmt.Sprintf("%+v", *p)
}

// leases returns leases as text, without what goes by the backend's own clock.
func (s *subject) leases(leases []queue.Lease) []string {
	var rows []string
	for _, l := range leases {
		rows = append(rows, fmt.Sprint(l.AttemptID, slices.Index(s.sessions, l.Session), l.Worker, l.Project, l.State, l.TokenHash[:2],
			pointed(l.Source), l.Reason, l.LogLength))
	}
	return rows
}

func lines[T any](items []T) []string {
	var rows []string
	for _, item := range items {
		rows = append(rows, fmt.Sprint(item))
	}
	return rows
}

// canceled returns what Cancel did as text, without the hint that room was made, which may be given once too often.
func canceled(done []queue.CanceledBuild) string {
	for i := range done {
		done[i].Admitted = false
	}
	return inOrder(lines(done))
}

// inOrder returns rows, whose order means nothing, as text.
func inOrder(rows []string) string {
	slices.Sort(rows)
	return strings.Join(rows, "; ")
}

// text returns what an error means.
func text(err error) string {
	for _, known := range []error{queue.ErrNotFound, queue.ErrConflict, queue.ErrStaleLease, queue.ErrQuota} {
		if errors.Is(err, known) {
			return known.Error() + " "
		}
	}
	return fmt.Sprint(err, " ")
}
