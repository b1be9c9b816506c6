package pgqueue_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/queue/pgqueue"
)

// impatience is how long a caller waits for what it shall not get.
const impatience = 400 * time.Millisecond

// TestLocksAreNotWaitedForLong has another session hold the rows that methods need. All wait at once, each on a connection of its own:
// with a Timeout that leaves a busy machine the time to see that it was the server that gave up.
func TestLocksAreNotWaitedForLong(t *testing.T) {
	s := newStage(t)
	offered, running, written := s.offered(), s.running(), s.running()
	_, err := s.appendLog(t.Context(), written, 0, "begun")
	s.must(err)
	release := []func(){s.hold("build", offered.Build), s.hold("build", running.Build), s.hold("log_head", written.Build)}
	tests := []struct {
		name string
		id   queue.AttemptID
		call func(ctx context.Context, b *pgqueue.Backend, id queue.AttemptID) error
	}{
		{"Accept", offered, func(ctx context.Context, b *pgqueue.Backend, id queue.AttemptID) error {
			_, err := b.Accept(ctx, []queue.Acceptance{{AttemptID: id, Session: s.session}}, now)
			return err
		}},
		{"Release", offered, func(ctx context.Context, b *pgqueue.Backend, id queue.AttemptID) error {
			_, err := b.Release(ctx, []queue.AttemptID{id}, time.Second, now)
			return err
		}},
		{"Finish", running, func(ctx context.Context, b *pgqueue.Backend, id queue.AttemptID) error {
			_, err := b.Finish(ctx, []queue.Completion{{AttemptID: id, Outcome: queue.Failed}}, avoid, now)
			return err
		}},
		{"FinishWhileAppending", written, func(ctx context.Context, b *pgqueue.Backend, id queue.AttemptID) error {
			_, err := b.Finish(ctx, []queue.Completion{{AttemptID: id, Outcome: queue.Failed}}, avoid, now)
			return err
		}},
		{"Cancel", running, func(ctx context.Context, b *pgqueue.Backend, id queue.AttemptID) error {
			_, err := b.Cancel(ctx, "project", []queue.ID{id.Build}, "", time.Second, now)
			return err
		}},
		{"Append", written, func(ctx context.Context, b *pgqueue.Backend, id queue.AttemptID) error {
			_, err := b.AppendLogs(ctx, []queue.LogChunk{{AttemptID: id, Offset: 5, Data: []byte("more")}}, logLimit, now)
			return err
		}},
		{"FirstAppend", running, func(ctx context.Context, b *pgqueue.Backend, id queue.AttemptID) error {
			_, err := b.AppendLogs(ctx, []queue.LogChunk{{AttemptID: id, Data: []byte("first")}}, logLimit, now)
			return err
		}},
		{"ReserveArtifact", running, func(ctx context.Context, b *pgqueue.Backend, id queue.AttemptID) error {
			_, err := b.ReserveArtifact(ctx, queue.NewArtifact{AttemptID: id, Name: "a"}, now)
			return err
		}},
		{"CommitArtifact", running, func(ctx context.Context, b *pgqueue.Backend, id queue.AttemptID) error {
			_, err := b.CommitArtifact(ctx, id, "a", now)
			return err
		}},
		{"Adopt", running, func(ctx context.Context, b *pgqueue.Backend, id queue.AttemptID) error {
			_, err := b.Adopt(ctx, s.session, []queue.AttemptID{id}, now)
			return err
		}},
		{"LoseSessions", offered, func(ctx context.Context, b *pgqueue.Backend, _ queue.AttemptID) error {
			return b.LoseSessions(ctx, []queue.SessionID{s.session}, now)
		}},
	}
	var calls sync.WaitGroup
	for _, test := range tests {
		s.impatient(&calls, test.name, 0, func(b *pgqueue.Backend) error { return test.call(t.Context(), b, test.id) })
	}
	s.impatient(&calls, "Cancel, when a connection was free", time.Second, func(b *pgqueue.Backend) error {
		_, err := b.Cancel(t.Context(), "project", []queue.ID{running.Build}, "", time.Second, now)
		return err
	})
	calls.Wait()
	s.waiting(0) // on the server, too
	for _, r := range release {
		r()
	}
	for id, want := range map[queue.AttemptID]queue.State{offered: queue.Offered, running: queue.Running, written: queue.Running} {
		if build, err := s.Get(t.Context(), "project", id.Build); err != nil || build.State != want {
			t.Errorf("build is %v, %v; want %v as before", build.State, err, want)
		}
	}
}

// impatient begins a call that must end because the server says that it took too long, and so costs no connection. The only connection of
// its pool is busy for a while at first.
func (s *stage) impatient(calls *sync.WaitGroup, name string, busy time.Duration, call func(b *pgqueue.Backend) error) {
	s.Helper()
	const timeout = 5 * time.Second
	pool := s.db.Open(s.T, func(c *pgxpool.Config) { c.MaxConns = 1 })
	b := backend(s.T, pool, &pgqueue.Options{Schema: s.db.Schema, Timeout: timeout})
	s.must(b.Ping(s.Context()))
	taken, err := pool.Acquire(s.Context())
	s.must(err)
	calls.Go(func() {
		began := time.Now()
		defer time.AfterFunc(busy, taken.Release).Stop()
		err := call(b)
		if took := time.Since(began); took > 2*timeout {
			s.Errorf("%s took %v, with a Timeout of %v", name, took, timeout)
		}
		if _, said := errors.AsType[*pgconn.PgError](err); !said || !errors.Is(err, context.DeadlineExceeded) {
			s.Errorf("%s: error is %v, want a deadline, in the server's words", name, err)
		}
		if err := b.Ping(s.Context()); err != nil {
			s.Errorf("%s: %v", name, err)
		}
		if made := pool.Stat().NewConnsCount() - 1; made != 0 {
			s.Errorf("%s: the wait cost %d connections", name, made)
		}
	})
}

// TestLockedBuildsArePassedOver checks that what works through many builds leaves alone those that others hold.
func TestLockedBuildsArePassedOver(t *testing.T) {
	s := newStage(t)
	first, second := s.offered(), s.offered()
	if done, err := s.Release(t.Context(), []queue.AttemptID{first, second}, 0, now); err != nil || len(done) != 2 {
		t.Fatalf("Release returned %v, %v", done, err)
	}
	s.hold("build", first.Build)
	claimed, err := s.Claim(t.Context(), demand(1, s.session, s.session), 0, now)
	if err != nil || len(claimed) != 1 || claimed[0].Build != second.Build {
		t.Errorf("Claim returned %v, %v; want the second build", claimed, err)
	}
	s.hold("build", second.Build)
	if done, err := s.Maintain(t.Context(), queue.Rules{Limit: 10}, now); err != nil || done.Released != 0 {
		t.Errorf("Maintain returned %+v, %v; want nothing released", done, err)
	}
}

func TestSameIDInAnOpenTransaction(t *testing.T) {
	q, service := openDB(t)
	b := q.Backend().(*pgqueue.Backend)
	tx, err := service.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	id := queue.NewID()
	if _, err := pgqueue.Submit(t.Context(), q, tx, queue.Params{ID: id, Project: "p"}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), impatience)
	defer cancel()
	builds, err := q.Prepare(queue.Params{ID: id, Project: "p"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Submit(ctx, builds, now); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("submit of an id that may be taken: %v, want a deadline", err)
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Submit(t.Context(), builds, now); err != nil {
		t.Errorf("submit of an id that is free: %v", err)
	}
}

// TestSubmitWhileTheTableIsLocked checks that a submit that was given up, before it even came to set its limit, adds nothing later.
func TestSubmitWhileTheTableIsLocked(t *testing.T) {
	s := newStage(t)
	b := backend(t, s.db.Pool, &pgqueue.Options{Schema: s.db.Schema, Timeout: impatience})
	tx, err := s.db.Pool.Begin(t.Context())
	s.must(err)
	defer tx.Rollback(context.Background())
	_, err = tx.Exec(t.Context(), "LOCK TABLE "+s.db.Schema+".build IN ACCESS EXCLUSIVE MODE")
	s.must(err)
	for _, n := range []int{1, 2} {
		builds := make([]queue.NewBuild, n)
		for i := range builds {
			builds[i] = queue.NewBuild{ID: queue.NewID(), Project: "project", Pool: "pool", RunTimeout: time.Hour, MaxAttempts: 3}
		}
		if _, err := b.Submit(t.Context(), builds, now); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("submit of %d: %v, want a deadline", n, err)
		}
	}
	s.waiting(0)
	s.must(tx.Rollback(t.Context()))
	if builds, err := s.List(t.Context(), queue.Filter{Project: "project", Limit: 10}); err != nil || len(builds) != 0 {
		t.Errorf("there are %d builds, %v; want none", len(builds), err)
	}
}

func TestCanceledCallerDoesNotWait(t *testing.T) {
	s := newStage(t)
	b := backend(t, s.db.Pool, &pgqueue.Options{Schema: s.db.Schema, Timeout: 2 * time.Second})
	id := s.running()
	release := s.hold("build", id.Build)
	ctx, cancel := context.WithCancel(t.Context())
	var call sync.WaitGroup
	var err error
	call.Go(func() { _, err = b.Cancel(ctx, "project", []queue.ID{id.Build}, "", time.Second, now) })
	s.waiting(1)
	cancel()
	call.Wait()
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v, want that of the context", err)
	}
	s.waiting(0) // the server gives up by itself, before the lock is given back
	release()
	if build, err := s.Get(t.Context(), "project", id.Build); err != nil || build.State != queue.Running {
		t.Errorf("build is %v, %v; want it running as before", build.State, err)
	}
}

func TestNoConnectionToBeHad(t *testing.T) {
	s := newStage(t)
	pool := s.db.Open(t, func(c *pgxpool.Config) { c.MaxConns = 1 })
	b := backend(t, pool, &pgqueue.Options{Schema: s.db.Schema, Timeout: 50 * time.Millisecond})
	taken, err := pool.Acquire(t.Context())
	s.must(err)
	for _, op := range everyStatement(t, s.db, b) {
		if err := op.run(t.Context()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s without a connection: %v, want a deadline", op.name, err)
		}
	}
	if err := b.Ping(t.Context()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Ping without a connection: %v, want a deadline", err)
	}
	taken.Release()
	s.must(b.Ping(t.Context()))
}

// TestPoolOfOne has several goroutines share one connection. A method that asked for a second one would wait for itself.
func TestPoolOfOne(t *testing.T) {
	_, db := open(t)
	pool := db.Open(t, func(c *pgxpool.Config) { c.MaxConns = 1 })
	b := backend(t, pool, &pgqueue.Options{Schema: db.Schema, Timeout: time.Minute})
	if err := b.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	q := queue.New(b, nil)
	var workers sync.WaitGroup
	for i := range 4 {
		workers.Go(func() {
			if err := wholeLife(t.Context(), q, fmt.Sprintf("worker%d", i)); err != nil {
				t.Error(err)
			}
		})
	}
	workers.Wait()
	if got := pool.Stat().AcquiredConns(); got != 0 {
		t.Errorf("%d connections are held in the end", got)
	}
}

// wholeLife takes a build of a pool of its own from submit to finish, through every method of a queue.
func wholeLife(ctx context.Context, q *queue.Queue, name string) error {
	id, err := q.Submit(ctx, queue.Params{Project: "project", Pool: name})
	if err != nil {
		return err
	}
	_, beatErr := q.Beat(ctx)
	_, maintainErr := q.Maintain(ctx)
	session, openErr := q.OpenSession(ctx, queue.NewSession{Worker: name, Instance: "i", Pools: []string{name}, Slots: 1})
	if err := errors.Join(beatErr, maintainErr, openErr); err != nil {
		return err
	}
	offers, err := q.Claim(ctx, []queue.Idle{{Session: session, Slots: 1}})
	if err != nil || len(offers) != 1 || offers[0].Build != id {
		return fmt.Errorf("claim: %v, %w", offers, err)
	}
	attempt := offers[0].AttemptID
	errs := []error{q.Accept(ctx, session, attempt, queue.Digest{1})}
	_, err = q.AppendLog(ctx, queue.LogChunk{AttemptID: attempt, Data: []byte("hello")})
	errs = append(errs, err)
	_, err = q.ReserveArtifact(ctx, queue.NewArtifact{AttemptID: attempt, Name: "a"})
	errs = append(errs, err)
	_, err = q.CommitArtifact(ctx, attempt, "a")
	errs = append(errs, err)
	_, err = q.Lease(ctx, attempt)
	errs = append(errs, err)
	_, err = q.Leases(ctx)
	errs = append(errs, err)
	_, err = q.Cancels(ctx)
	errs = append(errs, err)
	_, err = q.Adopt(ctx, session, []queue.AttemptID{attempt})
	errs = append(errs, err)
	_, err = q.Cancel(ctx, "project", id, "enough")
	errs = append(errs, err)
	_, err = q.Finish(ctx, queue.Completion{AttemptID: attempt, Outcome: queue.Canceled, LogLength: 5})
	errs = append(errs, err)
	_, err = q.ReadLog(ctx, "project", attempt, 0, 10)
	errs = append(errs, err)
	_, err = q.Artifacts(ctx, "project", attempt)
	errs = append(errs, err)
	_, err = q.Attempts(ctx, "project", id)
	errs = append(errs, err)
	_, err = q.List(ctx, queue.Filter{Project: "project"})
	errs = append(errs, err, q.LoseSessions(ctx, session))
	build, err := q.Get(ctx, "project", id)
	if err == nil && build.State != queue.Canceled {
		err = fmt.Errorf("build is %v", build.State)
	}
	return errors.Join(append(errs, err)...)
}
