package pgqueue_test

import (
	"context"
	"database/sql"
	"errors"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/queue/memqueue"
	"github.com/slipway-build/slipway/queue/pgqueue"
)

// A finishingTx is a transaction of a caller in which attempts can be finished.
type finishingTx struct {
	finish           func(ends ...queue.Completion) ([]queue.Finished, error)
	submit           func(params ...queue.Params) ([]queue.ID, error)
	exec             func(sql string) error
	commit, rollback func() error
}

// finishingTxs begin transactions in every way in which a service may.
var finishingTxs = map[string]func(ctx context.Context, s *stage, q *queue.Queue) (finishingTx, error){
	"sql.Tx": func(ctx context.Context, s *stage, q *queue.Queue) (finishingTx, error) {
		tx, err := s.service().BeginTx(ctx, nil)
		if err != nil {
			return finishingTx{}, err
		}
		return bunForm(ctx, q, tx, tx), nil
	},
	"bun.Tx": func(ctx context.Context, s *stage, q *queue.Queue) (finishingTx, error) {
		tx, err := bun.NewDB(s.service(), pgdialect.New()).BeginTx(ctx, nil)
		if err != nil {
			return finishingTx{}, err
		}
		return bunForm(ctx, q, tx, tx.Tx), nil
	},
	"pgx.Tx": func(ctx context.Context, s *stage, q *queue.Queue) (finishingTx, error) {
		tx, err := s.db.Pool.Begin(ctx)
		if err != nil {
			return finishingTx{}, err
		}
		return finishingTx{
			finish: func(ends ...queue.Completion) ([]queue.Finished, error) {
				return pgqueue.FinishPgx(ctx, q, tx, ends...)
			},
			submit: func(params ...queue.Params) ([]queue.ID, error) { return pgqueue.SubmitPgx(ctx, q, tx, params...) },
			exec: func(sql string) error {
				_, err := tx.Exec(ctx, sql)
				return err
			},
			commit:   func() error { return tx.Commit(ctx) },
			rollback: func() error { return tx.Rollback(ctx) },
		}, nil
	},
}

func bunForm(ctx context.Context, q *queue.Queue, conn bun.IConn, tx *sql.Tx) finishingTx {
	return finishingTx{
		finish: func(ends ...queue.Completion) ([]queue.Finished, error) { return pgqueue.Finish(ctx, q, conn, ends...) },
		submit: func(params ...queue.Params) ([]queue.ID, error) { return pgqueue.Submit(ctx, q, conn, params...) },
		exec: func(sql string) error {
			_, err := tx.ExecContext(ctx, sql)
			return err
		},
		commit: tx.Commit, rollback: tx.Rollback,
	}
}

// service returns a service's own access to the database.
func (s *stage) service() *sql.DB {
	db := stdlib.OpenDBFromPool(s.db.Pool)
	s.Cleanup(func() { db.Close() })
	return db
}

// An attempt that is finished in a transaction has ended exactly if that commits, and as it does when it is finished alone.
func TestFinishInTransaction(t *testing.T) {
	for name, begin := range finishingTxs {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			q := queue.New(s.Backend, nil)
			first, second, lost, alone := s.running(), s.running(), s.running(), s.running()
			other, stale := s.running(), queue.AttemptID{Build: first.Build, Epoch: 7}
			for _, id := range []queue.AttemptID{first, alone} {
				_, err := s.appendLog(t.Context(), id, 0, "hello")
				s.must(err)
			}
			end := queue.Completion{
				Outcome: queue.Failed, Reason: `it's ?0 "$1" \ {}, %`, ExitCode: new(3), Signal: "quit", LogLength: 5, LogSHA256: queue.Digest{0xff, '\''},
			}
			finish := func(ends ...queue.Completion) (finishingTx, []queue.Finished) {
				tx, err := begin(t.Context(), s, q)
				s.must(err)
				done, err := tx.finish(ends...)
				s.must(err)
				return tx, done
			}
			ends := []queue.Completion{
				end,
				{AttemptID: second, Session: s.session, Outcome: queue.Succeeded, LogPartial: true},
				{AttemptID: lost, Outcome: queue.Lost},
				{AttemptID: other, Session: s.session + 1, Outcome: queue.Succeeded},
				{AttemptID: stale, Outcome: queue.Succeeded},
			}
			ends[0].AttemptID = first

			tx, done := finish(ends...)
			s.wantEnds(done, map[queue.AttemptID]queue.State{first: queue.Failed, second: queue.Succeeded, lost: queue.Pending})
			s.wantState(first, queue.Running) // to others
			s.must(tx.rollback())
			s.wantState(first, queue.Running)
			if length, err := s.appendLog(t.Context(), second, 0, "goes on"); err != nil || length != 7 {
				t.Errorf("append after the rollback: length %d, %v", length, err)
			}

			tx, _ = finish(ends...)
			s.must(tx.commit())
			s.wantState(first, queue.Failed)
			s.wantState(second, queue.Succeeded)
			s.wantState(lost, queue.Pending)
			s.wantState(other, queue.Running)
			s.wantLog(first, "hello", true)
			s.wantLog(second, "goes on", false)

			end.AttemptID = alone
			_, err := q.Finish(t.Context(), end)
			s.must(err)
			got, want := s.attempt(first), s.attempt(alone)
			if got.Outcome != want.Outcome || got.Reason != want.Reason || *got.ExitCode != *want.ExitCode || got.Signal != want.Signal ||
				got.LogSHA256 != want.LogSHA256 || got.LogLength != want.LogLength {
				t.Errorf("finished in a transaction: %+v; finished alone: %+v", got, want)
			}

			// The worker's own report, later, and another in a transaction.
			if state, err := q.Finish(t.Context(), queue.Completion{AttemptID: first, Outcome: queue.Succeeded}); err != nil || state != queue.Failed {
				t.Errorf("finished again: %v, %v; want failed as before", state, err)
			}
			tx, done = finish(queue.Completion{AttemptID: first, Outcome: queue.Succeeded}, queue.Completion{AttemptID: lost, Outcome: queue.Failed})
			s.wantEnds(done, map[queue.AttemptID]queue.State{first: queue.Failed, lost: queue.Pending})
			s.must(tx.commit())
		})
	}
}

func (s *stage) wantEnds(done []queue.Finished, want map[queue.AttemptID]queue.State) {
	s.Helper()
	got := make(map[queue.AttemptID]queue.State)
	for _, f := range done {
		got[f.AttemptID] = f.State
	}
	if len(got) != len(want) {
		s.Errorf("Finish returned %v, want %v", got, want)
	}
	for id, state := range want {
		if got[id] != state {
			s.Errorf("Finish returned %v for %v, want %v", got[id], id, state)
		}
	}
}

func (s *stage) wantState(id queue.AttemptID, want queue.State) {
	s.Helper()
	b, err := s.Get(s.Context(), "project", id.Build)
	if err != nil || b.State != want {
		s.Errorf("build is %v, %v; want %v", b.State, err, want)
	}
}

func (s *stage) attempt(id queue.AttemptID) queue.Attempt {
	s.Helper()
	rows, err := s.Attempts(s.Context(), "project", id.Build)
	s.must(err)
	if len(rows) != 1 {
		s.Fatalf("attempts are %v, want one", rows)
	}
	return rows[0]
}

// Whoever reports the attempt while a transaction that has ended it is open learns what becomes of that.
func TestFinishDuringAnOpenFinish(t *testing.T) {
	for _, commit := range []bool{true, false} {
		s := newStage(t)
		q := queue.New(s.Backend, nil)
		id := s.running()
		tx, err := finishingTxs["pgx.Tx"](t.Context(), s, q)
		s.must(err)
		_, err = tx.finish(queue.Completion{AttemptID: id, Outcome: queue.Failed})
		s.must(err)
		var call sync.WaitGroup
		var state queue.State
		call.Go(func() { state, err = q.Finish(t.Context(), queue.Completion{AttemptID: id, Outcome: queue.Succeeded}) })
		s.waiting(1)
		want := queue.Succeeded
		if commit {
			want = queue.Failed
			s.must(tx.commit())
		} else {
			s.must(tx.rollback())
		}
		if call.Wait(); err != nil || state != want {
			t.Errorf("Finish beside a transaction that commits %v: %v, %v; want %v", commit, state, err, want)
		}
	}
}

// A sweep leaves alone what is being ended.
func TestSweepDuringAnOpenFinish(t *testing.T) {
	s := newStage(t)
	q := queue.New(s.Backend, nil)
	id := s.running()
	tx, err := finishingTxs["sql.Tx"](t.Context(), s, q)
	s.must(err)
	_, err = tx.finish(queue.Completion{AttemptID: id, Outcome: queue.Succeeded})
	s.must(err)
	late := time.Now().Add(48 * time.Hour)
	if done, err := s.Maintain(t.Context(), queue.Rules{Limit: 10}, late); err != nil || done.TimedOut != 0 {
		t.Errorf("Maintain did %+v, %v", done, err)
	}
	s.must(tx.commit())
	s.wantState(id, queue.Succeeded)
}

func TestFinishInTransactionErrors(t *testing.T) {
	s := newStage(t)
	q := queue.New(s.Backend, nil)
	id := s.running()
	tx, err := s.db.Pool.BeginTx(t.Context(), pgx.TxOptions{AccessMode: pgx.ReadOnly})
	s.must(err)
	defer tx.Rollback(context.Background())
	end := queue.Completion{AttemptID: id, Outcome: queue.Succeeded}
	if _, err := pgqueue.FinishPgx(t.Context(), q, tx, queue.Completion{AttemptID: id}); !errors.Is(err, queue.ErrInvalid) {
		t.Errorf("no outcome: %v, want ErrInvalid", err)
	}
	if done, err := pgqueue.FinishPgx(t.Context(), q, tx); err != nil || done != nil {
		t.Errorf("no ends: %v, %v", done, err)
	}
	_, err = pgqueue.FinishPgx(t.Context(), q, tx, end)
	if e, ok := errors.AsType[*queue.Error](err); !ok || e.Op != "finish" || e.ID != id.Build {
		t.Errorf("in a transaction that must not write: %v, want an error of finish", err)
	}
	other := queue.New(memqueue.New(), nil)
	if _, err := pgqueue.Finish(t.Context(), other, s.service(), end); err == nil || !strings.Contains(err.Error(), "*memqueue.Backend") {
		t.Errorf("a queue on another backend: %v, want an error that names it", err)
	}
	s.wantState(id, queue.Running)
}

// A transaction that reads from one snapshot might not see the log of what it ends, and is refused; what it has done before can be committed.
func TestFinishNeedsReadCommitted(t *testing.T) {
	for name, begin := range finishingTxs {
		for level, refused := range map[string]bool{
			"READ UNCOMMITTED": false, "READ COMMITTED": false, "REPEATABLE READ": true, "SERIALIZABLE": true,
		} {
			t.Run(name+"/"+level, func(t *testing.T) {
				s := newStage(t)
				q := queue.New(s.Backend, nil)
				id := s.running()
				tx, err := begin(t.Context(), s, q)
				s.must(err)
				s.must(tx.exec("SET TRANSACTION ISOLATION LEVEL " + level))
				s.must(tx.exec("UPDATE " + s.db.Schema + ".class SET labels = labels")) // takes the snapshot
				_, err = s.appendLog(t.Context(), id, 0, "hello")
				s.must(err)
				done, err := tx.finish(queue.Completion{AttemptID: id, Outcome: queue.Succeeded, LogLength: 5})
				if !refused {
					s.must(err)
					s.wantEnds(done, map[queue.AttemptID]queue.State{id: queue.Succeeded})
					s.must(tx.commit())
					s.wantLog(id, "hello", true)
					return
				}
				if !errors.Is(err, queue.ErrInvalid) || !strings.Contains(err.Error(), "READ COMMITTED") {
					t.Errorf("Finish returned %v, %v; want ErrInvalid that says what to do", done, err)
				}
				if _, err := s.appendLog(t.Context(), id, 5, ", world"); err != nil { // nobody has locked the build
					t.Error(err)
				}
				s.must(tx.commit())
				s.wantState(id, queue.Running)
			})
		}
	}
}

// A submit does in any transaction what it does in others, by what that sees, or fails as everything else does there.
func TestSubmitInASnapshot(t *testing.T) {
	for name, begin := range finishingTxs {
		for _, level := range []string{"REPEATABLE READ", "SERIALIZABLE"} {
			t.Run(name+"/"+level, func(t *testing.T) {
				s := newStage(t)
				q := queue.New(s.Backend, nil)
				snapshot := func() finishingTx {
					t.Helper()
					tx, err := begin(t.Context(), s, q)
					s.must(err)
					s.must(tx.exec("SET TRANSACTION ISOLATION LEVEL " + level))
					s.must(tx.exec("SELECT FROM " + s.db.Schema + ".class"))
					return tx
				}
				// A class that was made since, and a project that was paused, it does not see: Maintain and Admit do.
				tx := snapshot()
				s.offered()
				s.must(s.ChangeProject(t.Context(), "paused", queue.ProjectChange{Paused: new(true)}))
				ids, err := tx.submit(
					queue.Params{Project: "project", Pool: "pool"}, queue.Params{Project: "paused", Pool: "pool"},
					queue.Params{Project: "project", Pool: "pool", IdempotencyKey: "mine"})
				s.must(err)
				s.must(tx.commit())
				done, err := s.Maintain(t.Context(), queue.Rules{Limit: 10}, now)
				if err != nil || done.Queued != 2 || len(ids) != 3 {
					t.Errorf("Maintain did %+v, %v for builds %v; want it to queue two", done, err, ids)
				}
				// A key that was used before it is known, and one that was used since is a failure to serialize.
				tx = snapshot()
				again, err := tx.submit(queue.Params{Project: "project", Pool: "pool", IdempotencyKey: "mine"})
				if err != nil || again[0] != ids[2] {
					t.Errorf("a known key: %v, %v, want %v", again, err, ids[2])
				}
				_, err = q.Submit(t.Context(), queue.Params{Project: "project", Pool: "pool", IdempotencyKey: "theirs"})
				s.must(err)
				_, err = tx.submit(queue.Params{Project: "project", Pool: "pool", IdempotencyKey: "theirs"})
				if reply, ok := errors.AsType[*pgconn.PgError](err); !ok || reply.Code != "40001" { // serialization_failure
					t.Errorf("a key that was used since: %v, want a failure to serialize", err)
				}
				s.must(tx.rollback())
			})
		}
	}
}

// A handler that has its attempt's end in an open transaction, which locks the build, does not keep the logs of other jobs of its worker from
// being stored, whatever it writes to its own.
func TestLogsDuringAnOpenFinish(t *testing.T) {
	s := newStage(t)
	q := queue.New(s.Backend, &queue.Options{Logger: slog.New(slog.DiscardHandler)})
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	ids, err := q.SubmitMany(ctx, []queue.Params{{Project: "project"}, {Project: "project"}})
	s.must(err)
	finishing, stored := make(chan struct{}), make(chan struct{})
	await := func(ctx context.Context, c chan struct{}) error {
		select {
		case <-c:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	handler := func(ctx context.Context, job *queue.Job) error {
		if job.Build != ids[0] {
			err := await(ctx, finishing)
			if err == nil {
				_, err = io.WriteString(job.Log(), "of the other")
			}
			return errors.Join(err, await(ctx, stored))
		}
		if _, err := io.WriteString(job.Log(), "before"); err != nil {
			return err
		}
		end, err := job.Completion(ctx, queue.Succeeded, "")
		if err != nil {
			return err
		}
		return pgx.BeginFunc(ctx, s.db.Pool, func(tx pgx.Tx) error {
			if _, err := pgqueue.FinishPgx(ctx, q, tx, end); err != nil {
				return err
			}
			if n, err := io.WriteString(job.Log(), "after"); n > 0 || !errors.Is(err, queue.ErrLogClosed) {
				t.Errorf("the log takes %d bytes after the completion, %v; want ErrLogClosed", n, err)
			}
			close(finishing)
			return await(ctx, stored)
		})
	}
	var working sync.WaitGroup
	defer working.Wait()
	defer stop()
	working.Go(func() {
		if err := queue.NewWorker(q, "both", &queue.WorkerOptions{Slots: 2}).Run(ctx, handler); err != nil {
			t.Error(err)
		}
	})
	wait := func(what string, reached func() bool) {
		t.Helper()
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for !reached() {
			select {
			case <-tick.C:
			case <-ctx.Done():
				t.Errorf("waited in vain until %s", what)
				return
			}
		}
	}
	begun := time.Now()
	wait("the log of the other job is stored", func() bool {
		page, err := q.ReadLog(ctx, "project", queue.AttemptID{Build: ids[1]}, 0, 100)
		return err == nil && string(page.Data) == "of the other"
	})
	if took := time.Since(begun); took > 20*time.Second {
		t.Errorf("that took %v", took)
	}
	close(stored)
	for _, id := range ids {
		wait("the builds have succeeded", func() bool {
			b, err := q.Get(ctx, "project", id)
			return err == nil && b.State == queue.Succeeded
		})
	}
	s.wantLog(queue.AttemptID{Build: ids[0], Epoch: 1}, "before", true)
}

// A database whose transactions see a single snapshot by default makes the backend fail, rather than go by what is over.
func TestDefaultIsolation(t *testing.T) {
	s := newStage(t)
	id := s.running()
	for level, refused := range map[string]bool{"read committed": false, "repeatable read": true, "serializable": true} {
		b := backend(t, s.db.Open(t, func(c *pgxpool.Config) {
			c.ConnConfig.RuntimeParams["default_transaction_isolation"] = level
		}), &pgqueue.Options{Schema: s.db.Schema})
		_, admitErr := b.Admit(t.Context(), queue.Lane{}, 10, now)
		_, maintainErr := b.Maintain(t.Context(), queue.Rules{Limit: 10}, now)
		limitErr := b.SetLimit(t.Context(), queue.Limit{Project: "project", Key: "key", Max: 1})
		_, finishErr := b.Finish(t.Context(), []queue.Completion{{AttemptID: id, Outcome: queue.Lost}}, 0, now)
		for what, err := range map[string]error{"Admit": admitErr, "Maintain": maintainErr, "SetLimit": limitErr, "Finish": finishErr} {
			if (err != nil) != refused {
				t.Errorf("%s by default of %s: %v", what, level, err)
			}
		}
	}
}
