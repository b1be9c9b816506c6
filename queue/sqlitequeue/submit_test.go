package sqlitequeue_test

import (
	"context"
	"database/sql"
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/sqlitedialect"

	"github.com/slipway-build/slipway/internal/testenv"
	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/queue/memqueue"
	"github.com/slipway-build/slipway/queue/sqlitequeue"
)

// fullParams set every field, with values that are awkward inside SQL text.
func fullParams() queue.Params {
	id := queue.NewID()
	return queue.Params{
		ID: id, Project: "project", Pool: "pool", Labels: queue.Labels{"os": "linux", "gpu/kind": "A-100"},
		Spec:   []byte("it's {\"?\": 0x00\x00\xff \\ ?0 ?1 ;--}"),
		Source: &queue.Source{Digest: queue.Digest{1, 2, 3}, Size: 1<<62 + 1}, QueueTimeout: time.Hour, RunTimeout: time.Minute, MaxAttempts: 7,
		Backoff: queue.Backoff{Base: time.Millisecond, Max: queue.MaxTimeout}, RetryFailed: true, Priority: -queue.MaxPriority,
		NotBefore: time.Date(2199, 12, 31, 23, 59, 59, 999999000, time.UTC), ConcurrencyKey: `it's ?1 {"?"}`,
		IdempotencyKey: `it's ?1 {"?"} ` + id.String(), Metadata: map[string]string{"it's": "{\"?1\": \u2028 \\}", "?0": ""},
	}
}

// transactions are the forms in which a service may have its transaction.
var transactions = map[string]func(ctx context.Context, db *sql.DB) (conn bun.IConn, commit, rollback func() error, err error){
	"sql.Tx": func(ctx context.Context, db *sql.DB) (bun.IConn, func() error, func() error, error) {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return nil, nil, nil, err
		}
		return tx, tx.Commit, tx.Rollback, nil
	},
	"bun.Tx": func(ctx context.Context, db *sql.DB) (bun.IConn, func() error, func() error, error) {
		tx, err := bun.NewDB(db, sqlitedialect.New()).BeginTx(ctx, nil)
		return tx, tx.Commit, tx.Rollback, err
	},
}

func TestSubmitInCallersTransaction(t *testing.T) {
	for name, begin := range transactions {
		t.Run(name, func(t *testing.T) {
			db := openDB(t, testenv.SQLite(t), nil)
			q := queue.New(migrated(t, db, nil), nil)
			run(t, db, "CREATE TABLE orders (id INTEGER PRIMARY KEY, build BLOB)")
			orders := func() (n int) {
				t.Helper()
				if err := db.QueryRowContext(t.Context(), "SELECT count(*) FROM orders").Scan(&n); err != nil {
					t.Fatal(err)
				}
				return n
			}
			for _, ending := range []string{"rollback", "commit"} {
				tx, commit, rollback, err := begin(t.Context(), db)
				if err != nil {
					t.Fatal(err)
				}
				params := []queue.Params{fullParams(), {Project: "project"}}
				ids, err := sqlitequeue.Submit(t.Context(), q, tx, params...)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := tx.ExecContext(t.Context(), "INSERT INTO orders (build) VALUES (?)", ids[0][:]); err != nil {
					t.Fatal(err)
				}
				if _, err := q.Get(t.Context(), "project", ids[0]); !errors.Is(err, queue.ErrNotFound) {
					t.Errorf("the build before the end of the transaction: %v, want %v", err, queue.ErrNotFound)
				}
				if ending == "rollback" {
					if err := rollback(); err != nil {
						t.Fatal(err)
					}
					if _, err := q.Get(t.Context(), "project", ids[1]); !errors.Is(err, queue.ErrNotFound) || orders() != 0 {
						t.Errorf("after the rollback: %v, %d orders", err, orders())
					}
					continue
				}
				if err := commit(); err != nil {
					t.Fatal(err)
				}
				for i, id := range ids {
					wantSubmitted(t, q, id, params[i])
				}
				if orders() != 1 {
					t.Errorf("%d orders after the commit, want 1", orders())
				}
			}
		})
	}
}

// wantSubmitted compares a build with what the same submit stores in memory.
func wantSubmitted(t *testing.T, q *queue.Queue, id queue.ID, p queue.Params) {
	t.Helper()
	got, err := q.Get(t.Context(), p.Project, id)
	if err != nil {
		t.Fatal(err)
	}
	p.ID = id
	reference := queue.New(memqueue.New(), nil)
	if _, err := reference.Submit(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	want, err := reference.Get(t.Context(), p.Project, id)
	if err != nil {
		t.Fatal(err)
	}
	if got.CreatedAt.IsZero() || got.CreatedAt.Location() != time.UTC {
		t.Errorf("created at %v", got.CreatedAt)
	}
	same := got.Pool == want.Pool && got.Labels.String() == want.Labels.String() && string(got.Spec) == string(want.Spec) &&
		got.RunTimeout == want.RunTimeout && got.QueueTimeout == want.QueueTimeout && got.MaxAttempts == want.MaxAttempts &&
		got.State == want.State && (got.Source == nil) == (want.Source == nil) && got.Backoff == want.Backoff &&
		got.RetryFailed == want.RetryFailed && got.Priority == want.Priority && got.NotBefore.Equal(want.NotBefore) &&
		got.ConcurrencyKey == want.ConcurrencyKey && got.IdempotencyKey == want.IdempotencyKey && maps.Equal(got.Metadata, want.Metadata)
	if !same || got.Source != nil && *got.Source != *want.Source {
		t.Errorf("stored is\n%+v\nwant\n%+v", got, want)
	}
}

func TestSubmitConflictLeavesTransactionUsable(t *testing.T) {
	for name, begin := range transactions {
		t.Run(name, func(t *testing.T) {
			db := openDB(t, testenv.SQLite(t), nil)
			q := queue.New(migrated(t, db, nil), nil)
			taken, err := q.Submit(t.Context(), queue.Params{Project: "project"})
			if err != nil {
				t.Fatal(err)
			}
			tx, commit, _, err := begin(t.Context(), db)
			if err != nil {
				t.Fatal(err)
			}
			other := queue.Params{ID: queue.NewID(), Project: "project"}
			_, err = sqlitequeue.Submit(t.Context(), q, tx, other, queue.Params{ID: taken, Project: "project"})
			if e, ok := errors.AsType[*queue.Error](err); !ok || e.Op != "submit" || !errors.Is(err, queue.ErrConflict) {
				t.Errorf("submit of a taken id: %v, want %v", err, queue.ErrConflict)
			}
			if _, err := sqlitequeue.Submit(t.Context(), q, tx, other); err != nil {
				t.Errorf("the other build of the batch, alone: %v", err)
			}
			if err := commit(); err != nil {
				t.Fatal(err)
			}
			if _, err := q.Get(t.Context(), "project", other.ID); err != nil {
				t.Error(err)
			}
		})
	}
}

// A key counts from the moment it is used, in the transaction that uses it and, if that commits, everywhere.
func TestSubmitKeyInTransaction(t *testing.T) {
	for name, begin := range transactions {
		t.Run(name, func(t *testing.T) {
			db := openDB(t, testenv.SQLite(t), nil)
			q := queue.New(migrated(t, db, nil), nil)
			push := queue.Params{Project: "project", Spec: []byte("make"), IdempotencyKey: "push 1"}
			other := push
			other.Spec = []byte("make test")
			for _, commits := range []bool{false, true} {
				tx, commit, rollback, err := begin(t.Context(), db)
				if err != nil {
					t.Fatal(err)
				}
				first, err := sqlitequeue.Submit(t.Context(), q, tx, push, push, queue.Params{Project: "project"})
				if err != nil || first[0] != first[1] || first[0] == first[2] {
					t.Fatalf("submitted %v, %v, want the first id twice", first, err)
				}
				again, err := sqlitequeue.Submit(t.Context(), q, tx, queue.Params{Project: "project"}, push)
				if err != nil || again[1] != first[0] || again[0] == first[0] {
					t.Errorf("submitted %v, %v, want the id %v for the known key", again, err, first[0])
				}
				if _, err := sqlitequeue.Submit(t.Context(), q, tx, queue.Params{Project: "project"}, other); !errors.Is(err, queue.ErrConflict) {
					t.Errorf("a build that differs: %v, want %v", err, queue.ErrConflict)
				}
				end, want := rollback, 0
				if commits {
					end, want = commit, 3
				}
				if err := end(); err != nil {
					t.Fatal(err)
				}
				builds, err := q.List(t.Context(), queue.Filter{Project: "project"})
				if err != nil || len(builds) != want {
					t.Errorf("%d builds are stored, %v, want %d", len(builds), err, want)
				}
			}
			if _, err := q.Submit(t.Context(), other); !errors.Is(err, queue.ErrConflict) {
				t.Errorf("a build that differs, after the commit: %v, want %v", err, queue.ErrConflict)
			}
		})
	}
}

func TestSubmitWithoutTransaction(t *testing.T) {
	db := openDB(t, testenv.SQLite(t), nil)
	q := queue.New(migrated(t, db, nil), nil)
	for name, conn := range map[string]bun.IConn{"sql.DB": db, "bun.DB": bun.NewDB(db, sqlitedialect.New())} {
		p := fullParams()
		ids, err := sqlitequeue.Submit(t.Context(), q, conn, p)
		if err != nil || !slices.Equal(ids, []queue.ID{p.ID}) {
			t.Fatalf("%s: %v, %v", name, ids, err)
		}
		wantSubmitted(t, q, p.ID, p)
	}
}

func TestSubmitArguments(t *testing.T) {
	db := openDB(t, testenv.SQLite(t), nil)
	q := queue.New(migrated(t, db, nil), nil)
	if ids, err := sqlitequeue.Submit(t.Context(), q, db); ids != nil || err != nil {
		t.Errorf("submit of nothing: %v, %v", ids, err)
	}
	_, err := sqlitequeue.Submit(t.Context(), q, db, queue.Params{})
	if e, ok := errors.AsType[*queue.Error](err); !ok || e.Op != "submit" || !errors.Is(err, queue.ErrInvalid) {
		t.Errorf("submit without a project: %v, want %v", err, queue.ErrInvalid)
	}
	_, err = sqlitequeue.Submit(t.Context(), queue.New(memqueue.New(), nil), db, queue.Params{Project: "project"})
	if _, ok := errors.AsType[*queue.Error](err); !ok {
		t.Errorf("submit by a queue of another backend: %v", err)
	}
}

// A batch as large as a Queue takes is one statement.
func TestSubmitLargestBatch(t *testing.T) {
	q := queue.New(open(t, testenv.SQLite(t), &sqlitequeue.Options{Timeout: time.Minute}), nil)
	params := make([]queue.Params, queue.MaxBatch)
	for i := range params {
		params[i] = queue.Params{Project: "project", Spec: make([]byte, 100)}
	}
	params[0].Spec = make([]byte, queue.MaxSpec)
	ids, err := q.SubmitMany(t.Context(), params)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range []int{0, 1, len(ids) - 1} {
		build, err := q.Get(t.Context(), "project", ids[i])
		if err != nil || len(build.Spec) != len(params[i].Spec) {
			t.Errorf("build %d has a spec of %d bytes, %v; want %d", i, len(build.Spec), err, len(params[i].Spec))
		}
	}
}
