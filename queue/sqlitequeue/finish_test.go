package sqlitequeue_test

import (
	"context"
	"database/sql"
	"errors"
	"testing"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/sqlitedialect"

	"github.com/slipway-build/slipway/internal/testenv"
	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/queue/memqueue"
	"github.com/slipway-build/slipway/queue/sqlitequeue"
)

// A job is a queue with a direct session and running builds.
type job struct {
	*queue.Queue
	db      *sql.DB
	session queue.SessionID
	running []queue.AttemptID
}

func newJob(t *testing.T, builds int) *job {
	t.Helper()
	db := openDB(t, testenv.SQLite(t), nil)
	j := &job{Queue: queue.New(migrated(t, db, nil), nil), db: db}
	facts := newSession("worker", builds)
	facts.Direct = true
	var err error
	if j.session, err = j.OpenSession(t.Context(), facts); err != nil {
		t.Fatal(err)
	}
	params := make([]queue.Params, builds)
	for i := range params {
		params[i].Project = "project"
	}
	if _, err := j.SubmitMany(t.Context(), params); err != nil {
		t.Fatal(err)
	}
	if _, err := j.Maintain(t.Context()); err != nil {
		t.Fatal(err)
	}
	offers, err := j.Claim(t.Context(), []queue.Idle{{Session: j.session, Slots: builds}})
	if err != nil || len(offers) != builds {
		t.Fatalf("%d builds were claimed, %v", len(offers), err)
	}
	for _, o := range offers {
		j.running = append(j.running, o.AttemptID)
	}
	return j
}

func (j *job) want(t *testing.T, id queue.AttemptID, want queue.State) {
	t.Helper()
	b, err := j.Get(t.Context(), "project", id.Build)
	if err != nil || b.State != want {
		t.Errorf("build is %v, %v, want %v", b.State, err, want)
	}
}

func succeeded(id queue.AttemptID) queue.Completion {
	return queue.Completion{AttemptID: id, Outcome: queue.Succeeded}
}

// What a build has led to and its end are stored together.
func TestFinishInCallersTransaction(t *testing.T) {
	for name, begin := range transactions {
		t.Run(name, func(t *testing.T) {
			j := newJob(t, 2)
			run(t, j.db, "CREATE TABLE orders (build BLOB)")
			for _, commits := range []bool{false, true} {
				tx, commit, rollback, err := begin(t.Context(), j.db)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := tx.ExecContext(t.Context(), "INSERT INTO orders VALUES (?)", j.running[0].Build[:]); err != nil {
					t.Fatal(err)
				}
				stale := queue.AttemptID{Build: j.running[1].Build, Epoch: 7}
				done, err := sqlitequeue.Finish(t.Context(), j.Queue, tx, succeeded(j.running[0]), succeeded(stale), queue.Completion{
					AttemptID: j.running[1], Session: j.session + 1, Outcome: queue.Succeeded,
				})
				if err != nil || len(done) != 1 || done[0].AttemptID != j.running[0] || done[0].State != queue.Succeeded {
					t.Fatalf("Finish returned %+v, %v, want the one attempt that is not stale", done, err)
				}
				j.want(t, j.running[0], queue.Running) // to others
				if !commits {
					if err := rollback(); err != nil {
						t.Fatal(err)
					}
					j.want(t, j.running[0], queue.Running)
					continue
				}
				if err := commit(); err != nil {
					t.Fatal(err)
				}
				j.want(t, j.running[0], queue.Succeeded)
				j.want(t, j.running[1], queue.Running)
			}
			var orders int
			if err := j.db.QueryRowContext(t.Context(), "SELECT count(*) FROM orders").Scan(&orders); err != nil || orders != 1 {
				t.Errorf("%d orders, %v, want 1", orders, err)
			}
			if state, err := j.Finish(t.Context(), succeeded(j.running[0])); err != nil || state != queue.Succeeded {
				t.Errorf("finished again: %v, %v", state, err)
			}
		})
	}
}

// After an error of any statement the caller's transaction goes on as if nothing had been asked for.
func TestFinishErrorLeavesTransactionUsable(t *testing.T) {
	j := newJob(t, 1)
	run(t, j.db, "CREATE TABLE orders (build BLOB)")
	// What ends a build is made to fail after its attempt was ended.
	run(t, j.db, `CREATE TRIGGER refuse BEFORE UPDATE OF state ON slipway_build WHEN NEW.state = 5
		BEGIN SELECT RAISE(ABORT, 'refused'); END`)
	tx, err := j.db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.ExecContext(t.Context(), "INSERT INTO orders VALUES (x'00')"); err != nil {
		t.Fatal(err)
	}
	_, err = sqlitequeue.Finish(t.Context(), j.Queue, tx, succeeded(j.running[0]))
	if e, ok := errors.AsType[*queue.Error](err); !ok || e.Op != "finish" {
		t.Errorf("Finish: %v, want a *queue.Error", err)
	}
	if _, err := tx.ExecContext(t.Context(), "INSERT INTO orders VALUES (x'01')"); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	var orders, attempts int
	row := j.db.QueryRowContext(t.Context(), "SELECT (SELECT count(*) FROM orders), (SELECT count(*) FROM slipway_attempt)")
	if err := row.Scan(&orders, &attempts); err != nil || orders != 2 || attempts != 0 {
		t.Errorf("%d orders and %d ended attempts, %v, want 2 and none", orders, attempts, err)
	}
	run(t, j.db, "DROP TRIGGER refuse")
	if state, err := j.Finish(t.Context(), succeeded(j.running[0])); err != nil || state != queue.Succeeded {
		t.Errorf("Finish after all: %v, %v", state, err)
	}
}

func TestFinishArguments(t *testing.T) {
	j := newJob(t, 1)
	tx, err := j.db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if done, err := sqlitequeue.Finish(t.Context(), j.Queue, tx); done != nil || err != nil {
		t.Errorf("finish of nothing: %v, %v", done, err)
	}
	_, err = sqlitequeue.Finish(t.Context(), j.Queue, tx, queue.Completion{AttemptID: j.running[0], Outcome: queue.Pending})
	if !errors.Is(err, queue.ErrInvalid) {
		t.Errorf("finish with an outcome that is none: %v, want %v", err, queue.ErrInvalid)
	}
	_, err = sqlitequeue.Finish(t.Context(), queue.New(memqueue.New(), nil), tx, succeeded(j.running[0]))
	if _, ok := errors.AsType[*queue.Error](err); !ok {
		t.Errorf("finish by a queue of another backend: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := sqlitequeue.Finish(ended, j.Queue, tx, succeeded(j.running[0])); !errors.Is(err, context.Canceled) {
		t.Errorf("finish with a context that has ended: %v", err)
	}
	if err := tx.Rollback(); err != nil {
		t.Error(err)
	}
	for name, conn := range map[string]bun.IConn{"none": nil, "sql.DB": j.db, "bun.DB": bun.NewDB(j.db, sqlitedialect.New())} {
		_, err := sqlitequeue.Finish(t.Context(), j.Queue, conn, succeeded(j.running[0]))
		if _, ok := errors.AsType[*queue.Error](err); !ok {
			t.Errorf("finish outside of a transaction, with %s: %v", name, err)
		}
	}
	j.want(t, j.running[0], queue.Running)
}
