package queue_test

import (
	"context"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/queue/memqueue"
)

// run returns a queue with a build that runs.
func run(t *testing.T) (*fleet, queue.AttemptID, queue.SessionID) {
	t.Helper()
	f := newFleet(t, memqueue.New(), nil)
	f.submit(1, queue.Params{})
	s := f.session("worker", nil)
	offers, err := f.Claim(t.Context(), []queue.Idle{{Session: s, Slots: 1}})
	if err != nil || len(offers) != 1 {
		t.Fatalf("Claim = %v, %v", offers, err)
	}
	id := offers[0].AttemptID
	if err := f.Accept(t.Context(), s, id, queue.Digest{1}); err != nil {
		t.Fatal(err)
	}
	return f, id, s
}

// Every method wraps what goes wrong once, in an *Error that names the operation and the build.
func TestErrorsAreWrappedOnce(t *testing.T) {
	f, id, s := run(t)
	ctx, unknown := t.Context(), queue.NewID()
	stale := queue.AttemptID{Build: id.Build, Epoch: 7}
	for _, c := range []struct {
		op   string
		id   queue.ID
		want error
		err  error
	}{
		{"submit", queue.ID{}, queue.ErrInvalid, second(f.Submit(ctx, queue.Params{}))},
		{"submit", id.Build, queue.ErrConflict, second(f.Submit(ctx, queue.Params{Project: "project", ID: id.Build}))},
		{"cancel", unknown, queue.ErrNotFound, second(f.Cancel(ctx, "project", unknown, ""))},
		{"cancel", unknown, queue.ErrInvalid, second(f.Cancel(ctx, "", unknown, ""))},
		{"get", unknown, queue.ErrNotFound, second(f.Get(ctx, "project", unknown))},
		{"get", id.Build, queue.ErrNotFound, second(f.Get(ctx, "elsewhere", id.Build))},
		{"get", unknown, queue.ErrInvalid, second(f.Get(ctx, "..", unknown))},
		{"attempts", unknown, queue.ErrNotFound, second(f.Attempts(ctx, "project", unknown))},
		{"attempts", unknown, queue.ErrInvalid, second(f.Attempts(ctx, "A", unknown))},
		{"list", queue.ID{}, queue.ErrInvalid, second(f.List(ctx, queue.Filter{}))},
		{"list", queue.ID{}, queue.ErrInvalid, second(f.List(ctx, queue.Filter{Project: "project", Pool: "A"}))},
		{"list", queue.ID{}, queue.ErrInvalid, second(f.List(ctx, queue.Filter{Project: "project", Limit: queue.MaxPage + 1}))},
		{"list", queue.ID{}, queue.ErrInvalid, second(f.List(ctx, queue.Filter{Project: "project", Limit: -1}))},
		{"list", queue.ID{}, queue.ErrInvalid, second(f.List(ctx, queue.Filter{Project: "project", States: []queue.State{99}}))},
		{"accept", id.Build, queue.ErrStaleLease, f.Accept(ctx, s, stale, queue.Digest{})},
		{"release", id.Build, queue.ErrStaleLease, f.Release(ctx, id)},
		{"finish", id.Build, queue.ErrStaleLease, second(f.Finish(ctx, queue.Completion{AttemptID: stale, Outcome: queue.Failed}))},
		{"finish", id.Build, queue.ErrInvalid, second(f.Finish(ctx, queue.Completion{AttemptID: id}))},
		{"finish", id.Build, queue.ErrInvalid, second(f.Finish(ctx, queue.Completion{AttemptID: id, Outcome: queue.Expired}))},
		{"finish", id.Build, queue.ErrInvalid, second(f.Finish(ctx, queue.Completion{AttemptID: id, Outcome: queue.Failed, LogLength: -1}))},
		{"finish", id.Build, queue.ErrInvalid, second(f.Finish(ctx, queue.Completion{AttemptID: id, Outcome: queue.Failed, ExitCode: new(math.MinInt64)}))},
		{"lease", id.Build, queue.ErrStaleLease, second(f.Lease(ctx, stale))},
		{"append log", id.Build, queue.ErrStaleLease, second(f.AppendLog(ctx, queue.LogChunk{AttemptID: stale}))},
		{"append log", id.Build, queue.ErrGap, second(f.AppendLog(ctx, queue.LogChunk{AttemptID: id, Offset: 1, Data: []byte("x")}))},
		{"append log", id.Build, queue.ErrInvalid, second(f.AppendLog(ctx, queue.LogChunk{AttemptID: id, Offset: -1}))},
		{"append log", id.Build, queue.ErrInvalid, second(f.AppendLogs(ctx, []queue.LogChunk{{AttemptID: id, Offset: math.MaxInt64, Data: []byte("x")}}))},
		{"append log", id.Build, queue.ErrInvalid, second(f.AppendLogs(ctx, []queue.LogChunk{{AttemptID: id}, {AttemptID: id}}))},
		{"read log", unknown, queue.ErrNotFound, second(f.ReadLog(ctx, "project", queue.AttemptID{Build: unknown}, 0, 1))},
		{"read log", id.Build, queue.ErrInvalid, second(f.ReadLog(ctx, "project", id, -1, 1))},
		{"read log", id.Build, queue.ErrInvalid, second(f.ReadLog(ctx, "project", queue.AttemptID{Build: id.Build, Epoch: -1}, 0, 1))},
		{"read log", id.Build, queue.ErrInvalid, second(f.ReadLog(ctx, "project", id, 0, 0))},
		{"read log", id.Build, queue.ErrInvalid, second(f.ReadLog(ctx, "project", id, 0, queue.MaxLogRead+1))},
		{"reserve artifact", id.Build, queue.ErrStaleLease, second(f.ReserveArtifact(ctx, queue.NewArtifact{AttemptID: stale, Name: "a"}))},
		{"reserve artifact", id.Build, queue.ErrInvalid, second(f.ReserveArtifact(ctx, queue.NewArtifact{AttemptID: id, Name: "../a"}))},
		{"reserve artifact", id.Build, queue.ErrInvalid, second(f.ReserveArtifact(ctx, queue.NewArtifact{AttemptID: id, Name: "a", Size: -1}))},
		{"commit artifact", id.Build, queue.ErrNotFound, second(f.CommitArtifact(ctx, id, "a"))},
		{"commit artifact", id.Build, queue.ErrInvalid, second(f.CommitArtifact(ctx, id, "\x00"))},
		{"release artifact", id.Build, queue.ErrStaleLease, f.ReleaseArtifact(ctx, stale, "a")},
		{"release artifact", id.Build, queue.ErrInvalid, f.ReleaseArtifact(ctx, id, "")},
		{"retry", id.Build, queue.ErrConflict, second(f.Retry(ctx, "project", id.Build))},
		{"explain", unknown, queue.ErrNotFound, second(f.Explain(ctx, "project", unknown))},
		{"explain", unknown, queue.ErrInvalid, second(f.Explain(ctx, "A", unknown))},
		{"find line", id.Build, queue.ErrInvalid, second(f.FindLine(ctx, "project", id, 0))},
		{"stats", queue.ID{}, queue.ErrInvalid, second(f.Stats(ctx, "A", time.Now(), time.Now()))},
		{"stats", queue.ID{}, queue.ErrInvalid, second(f.Stats(ctx, "", time.Now(), time.Now().Add(-24*time.Hour)))},
		{"change pool", queue.ID{}, queue.ErrInvalid, f.ChangePool(ctx, "A", queue.PoolChange{})},
		{"change pool", queue.ID{}, queue.ErrInvalid, f.ChangePool(ctx, "a", queue.PoolChange{Weights: map[string]int{"p": -1}})},
		{"change project", queue.ID{}, queue.ErrInvalid, f.ChangeProject(ctx, "a", queue.ProjectChange{ArtifactQuota: new(int64(-1))})},
		{"set limit", queue.ID{}, queue.ErrInvalid, f.SetLimit(ctx, "a", "", 1)},
		{"set limit", queue.ID{}, queue.ErrInvalid, f.SetLimit(ctx, "a", "key", queue.MaxLimit+1)},
		{"limits", queue.ID{}, queue.ErrInvalid, second(f.Limits(ctx, "a", "", 0))},
		{"projects", queue.ID{}, queue.ErrInvalid, second(f.Projects(ctx, "", queue.MaxPage+1))},
		{"artifacts", unknown, queue.ErrNotFound, second(f.Artifacts(ctx, "project", queue.AttemptID{Build: unknown}))},
		{"artifacts", id.Build, queue.ErrInvalid, second(f.Artifacts(ctx, "project", queue.AttemptID{Build: id.Build, Epoch: -1}))},
		{"open session", queue.ID{}, queue.ErrInvalid, second(f.OpenSession(ctx, queue.NewSession{}))},
		{"adopt", queue.ID{}, queue.ErrNotFound, second(f.Adopt(ctx, 999, nil))},
		{"adopt", queue.ID{}, queue.ErrInvalid, second(f.Adopt(ctx, s, make([]queue.AttemptID, queue.MaxSlots+1)))},
	} {
		wrapped, ok := errors.AsType[*queue.Error](c.err)
		if !ok || wrapped.Op != c.op || wrapped.ID != c.id || !errors.Is(c.err, c.want) {
			t.Errorf("%s of %v: error is %v, want one that wraps %v", c.op, c.id, c.err, c.want)
			continue
		}
		if _, twice := errors.AsType[*queue.Error](wrapped.Err); twice || strings.Count(c.err.Error(), "queue: ") != 1 {
			t.Errorf("error is wrapped twice: %v", c.err)
		}
		if shown := strings.Contains(c.err.Error(), c.id.String()); shown == c.id.IsZero() {
			t.Errorf("error names the build: %t: %v", shown, c.err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

// Whatever a backend meets reaches the caller, from every method.
func TestBackendErrorsReachTheCaller(t *testing.T) {
	f, id, s := run(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, err := range map[string]error{
		"Submit":          second(f.Submit(ctx, queue.Params{Project: "project"})),
		"Cancel":          second(f.Cancel(ctx, "project", id.Build, "")),
		"Get":             second(f.Get(ctx, "project", id.Build)),
		"List":            second(f.List(ctx, queue.Filter{Project: "project"})),
		"Attempts":        second(f.Attempts(ctx, "project", id.Build)),
		"Accept":          f.Accept(ctx, s, id, queue.Digest{1}),
		"Release":         f.Release(ctx, id),
		"Withdraw":        f.Withdraw(ctx, id),
		"Finish":          second(f.Finish(ctx, queue.Completion{AttemptID: id, Outcome: queue.Failed})),
		"Lease":           second(f.Lease(ctx, id)),
		"AppendLog":       second(f.AppendLog(ctx, queue.LogChunk{AttemptID: id})),
		"AppendLogs":      second(f.AppendLogs(ctx, []queue.LogChunk{{AttemptID: id}})),
		"ReadLog":         second(f.ReadLog(ctx, "project", id, 0, 1)),
		"ReserveArtifact": second(f.ReserveArtifact(ctx, queue.NewArtifact{AttemptID: id, Name: "a"})),
		"CommitArtifact":  second(f.CommitArtifact(ctx, id, "a")),
		"ReleaseArtifact": f.ReleaseArtifact(ctx, id, "a"),
		"Explain":         second(f.Explain(ctx, "project", id.Build)),
		"Retry":           second(f.Retry(ctx, "project", id.Build)),
		"Wait":            second(f.Wait(ctx, "project", id.Build)),
		"Stats":           second(f.Stats(ctx, "", time.Now(), time.Now())),
		"ChangePool":      f.ChangePool(ctx, "a", queue.PoolChange{Paused: new(true)}),
		"Pools":           second(f.Pools(ctx)),
		"ChangeProject":   f.ChangeProject(ctx, "a", queue.ProjectChange{Paused: new(true)}),
		"Projects":        second(f.Projects(ctx, "", 1)),
		"SetLimit":        f.SetLimit(ctx, "a", "key", 1),
		"Limits":          second(f.Limits(ctx, "a", "", 1)),
		"Artifacts":       second(f.Artifacts(ctx, "project", id)),
		"Claim":           second(f.Claim(ctx, []queue.Idle{{Session: s, Slots: 1}})),
		"Beat":            second(f.Beat(ctx)),
		"OpenSession":     second(f.OpenSession(ctx, queue.NewSession{Worker: "w", Instance: "1", Pools: []string{"default"}, Slots: 1})),
		"Adopt":           second(f.Adopt(ctx, s, nil)),
		"Leases":          second(f.Leases(ctx)),
		"Cancels":         second(f.Cancels(ctx)),
		"Maintain":        second(f.Maintain(ctx)),
		"LoseSessions":    f.LoseSessions(ctx, s),
		"Ping":            f.Ping(ctx),
	} {
		if _, wrapped := errors.AsType[*queue.Error](err); !wrapped || !errors.Is(err, context.Canceled) {
			t.Errorf("%s: error is %v, want the context's", name, err)
		}
	}
}

func TestOpenSessionChecks(t *testing.T) {
	q := queue.New(memqueue.New(), nil)
	for name, change := range map[string]func(s *queue.NewSession){
		"worker":        func(s *queue.NewSession) { s.Worker = "A" },
		"no instance":   func(s *queue.NewSession) { s.Instance = "" },
		"long instance": func(s *queue.NewSession) { s.Instance = strings.Repeat("x", queue.MaxName+1) },
		"NUL instance":  func(s *queue.NewSession) { s.Instance = "a\x00" },
		"utf8 instance": func(s *queue.NewSession) { s.Instance = "\xff" },
		"labels":        func(s *queue.NewSession) { s.Labels = queue.Labels{"a": "b c"} },
		"no pools":      func(s *queue.NewSession) { s.Pools = nil },
		"bad pool":      func(s *queue.NewSession) { s.Pools = []string{"a", "a,b"} },
		"many pools":    func(s *queue.NewSession) { s.Pools = make([]string, 65) },
		"no slots":      func(s *queue.NewSession) { s.Slots = 0 },
		"many slots":    func(s *queue.NewSession) { s.Slots = queue.MaxSlots + 1 },
	} {
		s := queue.NewSession{Worker: "w", Instance: "0198c2f0-7d4e-7cc3-98c4-dc0c0c07398f", Pools: []string{"default"}, Slots: 1}
		if _, err := q.OpenSession(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		change(&s)
		wantInvalid(t, name, second(q.OpenSession(t.Context(), s)))
	}
}

// Texts that people read are kept as one bounded line of valid UTF-8, whatever a worker or a user sends.
func TestReasonsAreLegible(t *testing.T) {
	for reason, want := range map[string]string{
		"":                             "",
		"exit status 1":                "exit status 1",
		"two\nlines\t\x1b[31m\x00":     "two lines  [31m ",
		"a\xffb":                       "a\uFFFDb",
		strings.Repeat("x", 1000):      strings.Repeat("x", 200),
		strings.Repeat("\x80", 1000):   "\uFFFD",
		strings.Repeat("é", 150):       strings.Repeat("é", 100),
		"x" + strings.Repeat("é", 150): "x" + strings.Repeat("é", 99),
		strings.Repeat("日", 10_000):    strings.Repeat("日", 66),
	} {
		f, id, _ := run(t)
		if _, err := f.Finish(t.Context(), queue.Completion{AttemptID: id, Outcome: queue.Failed, Reason: reason, Signal: reason}); err != nil {
			t.Fatal(err)
		}
		b, err := f.Get(t.Context(), "project", id.Build)
		if err != nil || b.Reason != want || b.Signal != want || !utf8.ValidString(b.Reason) {
			t.Errorf("reason %.20q is kept as %q and %q, %v, want %q", reason, b.Reason, b.Signal, err, want)
		}
		f, id, _ = run(t)
		if _, err := f.Cancel(t.Context(), "project", id.Build, reason); err != nil {
			t.Fatal(err)
		}
		if b, err := f.Get(t.Context(), "project", id.Build); err != nil || b.Reason != want {
			t.Errorf("reason %.20q is kept as %q, %v, want %q", reason, b.Reason, err, want)
		}
	}
}

func TestAppendLog(t *testing.T) {
	f, id, _ := run(t)
	for _, c := range []struct {
		offset int64
		data   string
		length int64
		err    error
	}{{0, "abc", 3, nil}, {0, "abc", 3, nil}, {2, "cde", 5, nil}, {6, "x", 5, queue.ErrGap}, {5, "", 5, nil}, {5, "f", 6, nil}} {
		stored, err := f.AppendLog(t.Context(), queue.LogChunk{AttemptID: id, Offset: c.offset, Data: []byte(c.data)})
		if stored.Length != c.length || !errors.Is(err, c.err) {
			t.Errorf("append of %q at %d = %d, %v, want %d, %v", c.data, c.offset, stored.Length, err, c.length, c.err)
		}
	}
	page, err := f.ReadLog(t.Context(), "project", queue.AttemptID{Build: id.Build}, 1, 3)
	if err != nil || string(page.Data) != "bcd" || page.Length != 6 || page.Closed || page.Epoch != 1 {
		t.Errorf("page is %+v, %v", page, err)
	}
}

func TestListDefaultsToFifty(t *testing.T) {
	f := newFleet(t, memqueue.New(), nil)
	f.submit(60, queue.Params{})
	for limit, want := range map[int]int{0: 50, 7: 7, queue.MaxPage: 60} {
		if builds, err := f.List(t.Context(), queue.Filter{Project: "project", Limit: limit}); err != nil || len(builds) != want {
			t.Errorf("list with limit %d has %d builds, %v, want %d", limit, len(builds), err, want)
		}
	}
}

func TestSubmitNothing(t *testing.T) {
	q := queue.New(memqueue.New(), nil)
	if ids, err := q.SubmitMany(t.Context(), nil); err != nil || len(ids) != 0 {
		t.Errorf("SubmitMany(nil) = %v, %v", ids, err)
	}
	if err := q.LoseSessions(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestErrorText(t *testing.T) {
	id := queue.NewID()
	err := error(&queue.Error{Op: "finish", ID: id, Err: io.ErrUnexpectedEOF})
	if got, want := err.Error(), "queue: finish "+id.String()+": unexpected EOF"; got != want || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("error is %q, want %q", got, want)
	}
	err = &queue.Error{Op: "beat", Err: io.ErrUnexpectedEOF}
	if got, want := err.Error(), "queue: beat: unexpected EOF"; got != want {
		t.Errorf("error is %q, want %q", got, want)
	}
}
