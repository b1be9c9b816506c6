package pgqueue_test

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/queue/memqueue"
	"github.com/slipway-build/slipway/queue/pgqueue"
)

// openDB returns a database of the service's own, over database/sql, and a queue beside it.
func openDB(t *testing.T) (*queue.Queue, *bun.DB) {
	t.Helper()
	b, db := open(t)
	service := bun.NewDB(stdlib.OpenDBFromPool(db.Pool), pgdialect.New())
	t.Cleanup(func() {
		if err := service.Close(); err != nil {
			t.Error(err)
		}
	})
	return queue.New(b, nil), service
}

// tricky returns builds whose values are easily spoiled on their way into a statement.
func tricky() []queue.Params {
	return []queue.Params{
		{Project: "plain"},
		{
			ID: queue.NewID(), Project: "whole", Pool: "pool", Labels: queue.Labels{"os": "linux", "a/b": "C.d-1", "empty": ""},
			Spec: []byte("?0 ?1 '\\' \"{},$1 \x00\xff\n--"), Source: &queue.Source{Digest: queue.Digest{0xff, 0, '\''}, Size: 1 << 40},
			QueueTimeout: 90 * time.Minute, RunTimeout: 1500 * time.Microsecond, MaxAttempts: 7,
		},
		{Project: "large", Spec: bytes.Repeat([]byte{0, '\'', '\\', '"', '?'}, queue.MaxSpec/5)},
		{Project: "empty-source", Source: &queue.Source{}},
		{
			Project: "new", Priority: -7, NotBefore: time.Now().Add(time.Hour), ConcurrencyKey: "deploy é '\\\"{}", RetryFailed: true,
			Backoff: queue.Backoff{Base: time.Second, Max: time.Hour}, Metadata: map[string]string{"commit": "0123", "title": "?0 $1 '\\\"{},é"},
			QueueTimeout: time.Minute,
		},
	}
}

// whole is a service with all ways to submit in a transaction.
type whole struct {
	*testing.T
	queue *queue.Queue
	sql   *bun.DB
	pgx   *pgxpool.Pool
}

func newWhole(t *testing.T) *whole {
	t.Helper()
	b, db := open(t)
	service := bun.NewDB(stdlib.OpenDBFromPool(db.Pool), pgdialect.New())
	t.Cleanup(func() {
		if err := service.Close(); err != nil {
			t.Error(err)
		}
	})
	return &whole{t, queue.New(b, nil), service, db.Pool}
}

// A way submits builds in a transaction and ends that by a commit if end returns nil.
type way func(end error, params ...queue.Params) ([]queue.ID, error)

// ways are those of a service. Only the keyless ones take no idempotency keys.
func (w *whole) ways() (keyed, keyless map[string]way) {
	ctx := w.Context()
	inPgx := func(submit func(pgx.Tx) ([]queue.ID, error), end error) (ids []queue.ID, err error) {
		err = pgx.BeginFunc(ctx, w.pgx, func(tx pgx.Tx) error {
			if ids, err = submit(tx); err != nil {
				return err
			}
			return end
		})
		return ids, err
	}
	keyed = map[string]way{
		"sql.Tx": func(end error, params ...queue.Params) ([]queue.ID, error) {
			tx, err := w.sql.DB.BeginTx(ctx, nil)
			if err != nil {
				return nil, err
			}
			ids, err := pgqueue.Submit(ctx, w.queue, tx, params...)
			if err = cmp.Or(err, end); err != nil {
				return ids, cmp.Or(err, tx.Rollback())
			}
			return ids, tx.Commit()
		},
		"bun.Tx": func(end error, params ...queue.Params) (ids []queue.ID, err error) {
			err = w.sql.RunInTx(ctx, nil, func(ctx context.Context, tx bun.Tx) error {
				if ids, err = pgqueue.Submit(ctx, w.queue, tx, params...); err != nil {
					return err
				}
				return end
			})
			return ids, err
		},
		"wrapped": func(end error, params ...queue.Params) (ids []queue.ID, err error) {
			err = w.sql.RunInTx(ctx, nil, func(ctx context.Context, tx bun.Tx) error {
				if ids, err = pgqueue.Submit(ctx, w.queue, struct{ bun.IConn }{tx}, params...); err != nil {
					return err
				}
				return end
			})
			return ids, err
		},
		"pgx.Tx": func(end error, params ...queue.Params) ([]queue.ID, error) {
			return inPgx(func(tx pgx.Tx) ([]queue.ID, error) { return pgqueue.SubmitPgx(ctx, w.queue, tx, params...) }, end)
		},
	}
	keyless = map[string]way{
		"COPY": func(end error, params ...queue.Params) ([]queue.ID, error) {
			return inPgx(func(tx pgx.Tx) ([]queue.ID, error) { return pgqueue.SubmitCopyPgx(ctx, w.queue, tx, params...) }, end)
		},
	}
	return keyed, keyless
}

var errUndo = errors.New("roll back")

func TestSubmitInTransaction(t *testing.T) {
	w := newWhole(t)
	ctx := t.Context()
	keyed, keyless := w.ways()
	maps.Copy(keyed, keyless)
	for name, submit := range keyed {
		t.Run(name, func(t *testing.T) {
			for _, end := range []error{nil, errUndo} {
				all := tricky()
				batches := [][]queue.Params{all}
				for _, params := range tricky() { // each alone as well
					batches = append(batches, []queue.Params{params})
				}
				for _, params := range batches {
					ids, err := submit(end, params...)
					if !errors.Is(err, end) {
						t.Fatal(err)
					}
					for i, id := range ids {
						got, err := w.queue.Get(ctx, params[i].Project, id)
						if end != nil {
							if !errors.Is(err, queue.ErrNotFound) {
								t.Errorf("build of a transaction that was rolled back: %v, %v", got, err)
							}
							continue
						}
						if err != nil {
							t.Fatal(err)
						}
						checkBuild(t, w.queue, got, params[i])
					}
				}
			}
		})
	}
	t.Run("bun.DB", func(t *testing.T) {
		ids, err := pgqueue.Submit(ctx, w.queue, w.sql, queue.Params{Project: "plain"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.queue.Get(ctx, "plain", ids[0]); err != nil {
			t.Error(err)
		}
	})
	t.Run("SubmitCopy", func(t *testing.T) {
		params := tricky()
		ids, err := pgqueue.SubmitCopy(ctx, w.queue, params...)
		if err != nil {
			t.Fatal(err)
		}
		for i, id := range ids {
			got, err := w.queue.Get(ctx, params[i].Project, id)
			if err != nil {
				t.Fatal(err)
			}
			checkBuild(t, w.queue, got, params[i])
		}
	})
}

// TestKeysInTransaction checks that a key is known to whoever submits it later, in whatever way, and that a transaction that was rolled back
// leaves none.
func TestKeysInTransaction(t *testing.T) {
	w := newWhole(t)
	ways, _ := w.ways()
	ways["own"] = func(_ error, params ...queue.Params) ([]queue.ID, error) {
		return w.queue.SubmitMany(t.Context(), params)
	}
	ways["bun.DB"] = func(_ error, params ...queue.Params) ([]queue.ID, error) {
		return pgqueue.Submit(t.Context(), w.queue, w.sql, params...)
	}
	for name, submit := range ways {
		t.Run(name, func(t *testing.T) {
			a := queue.Params{Project: "p", IdempotencyKey: name + " a", Spec: []byte("a")}
			b := queue.Params{Project: "p", IdempotencyKey: name + " b", Spec: []byte("b")}
			other := queue.Params{Project: "p", IdempotencyKey: name + " a", Spec: []byte("other")}
			fresh := queue.Params{Project: "p", Spec: []byte("fresh"), ID: queue.NewID()}
			if name != "own" && name != "bun.DB" {
				if _, err := submit(errUndo, a, b); !errors.Is(err, errUndo) {
					t.Fatal(err)
				}
			}
			first, err := submit(nil, a)
			if err != nil {
				t.Fatal(err)
			}
			for _, batch := range [][]queue.Params{{a}, {a, b, a}, {b, queue.Params{Project: "p"}, a}} {
				ids, err := submit(nil, batch...)
				if err != nil {
					t.Fatal(err)
				}
				for i, params := range batch {
					build, err := w.queue.Get(t.Context(), "p", ids[i])
					if err != nil || build.IdempotencyKey != params.IdempotencyKey || string(build.Spec) != string(params.Spec) {
						t.Errorf("item %d of %d is %+v, %v", i, len(batch), build, err)
					}
					if params.IdempotencyKey == a.IdempotencyKey && ids[i] != first[0] {
						t.Errorf("item %d of %d is another build than the first of its key", i, len(batch))
					}
				}
			}
			for _, batch := range [][]queue.Params{{other}, {fresh, other}, {fresh, a, other}} {
				if ids, err := submit(nil, batch...); !errors.Is(err, queue.ErrConflict) {
					t.Errorf("another build with the key of the first: %v, %v; want a conflict", ids, err)
				}
				if _, err := w.queue.Get(t.Context(), "p", fresh.ID); !errors.Is(err, queue.ErrNotFound) {
					t.Errorf("a build that was submitted beside a conflict: %v, want none", err)
				}
			}
		})
	}
}

// TestSameKeyAtOnce has many submit builds of few keys at once, in batches that have them in different orders.
func TestSameKeyAtOnce(t *testing.T) {
	w := newWhole(t)
	const keys = 5
	var mu sync.Mutex
	of := make(map[string]queue.ID)
	var calls sync.WaitGroup
	for n := range 24 {
		calls.Go(func() {
			batch := make([]queue.Params, 1+n%3)
			for i := range batch {
				batch[i] = queue.Params{Project: "p", IdempotencyKey: fmt.Sprint("key", (n*7+i*(1+n%2))%keys)}
			}
			ids, err := w.queue.SubmitMany(t.Context(), batch)
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			for i, id := range ids {
				if earlier, ok := of[batch[i].IdempotencyKey]; ok && earlier != id {
					t.Errorf("%s is of builds %v and %v", batch[i].IdempotencyKey, earlier, id)
				}
				of[batch[i].IdempotencyKey] = id
			}
		})
	}
	calls.Wait()
	builds, err := w.queue.List(t.Context(), queue.Filter{Project: "p"})
	if err != nil || len(builds) != len(of) {
		t.Errorf("there are %d builds of %d keys, %v", len(builds), len(of), err)
	}
}

// TestKeyInAnOpenTransaction checks that a submit waits for whoever has submitted its key and may yet undo it, but not forever.
func TestKeyInAnOpenTransaction(t *testing.T) {
	q, service := openDB(t)
	params := queue.Params{Project: "p", IdempotencyKey: "key"}
	tx, err := service.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pgqueue.Submit(t.Context(), q, tx, params); err != nil {
		t.Fatal(err)
	}
	for n := range 2 {
		ctx, cancel := context.WithTimeout(t.Context(), impatience)
		batch := make([]queue.Params, n+1)
		batch[0], batch[n] = queue.Params{Project: "p"}, params
		if _, err := q.SubmitMany(ctx, batch); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("submit of a key that may be known: %v, want a deadline", err)
		}
		cancel()
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	if _, err := q.Submit(t.Context(), params); err != nil {
		t.Errorf("submit of a key that is free: %v", err)
	}
	if builds, err := q.List(t.Context(), queue.Filter{Project: "p"}); err != nil || len(builds) != 1 {
		t.Errorf("there are %d builds, %v; want the last", len(builds), err)
	}
}

// TestCopyRefusesKeys checks that COPY, which cannot leave out what is known, says so.
func TestCopyRefusesKeys(t *testing.T) {
	w := newWhole(t)
	id := queue.NewID()
	_, err := pgqueue.SubmitCopy(t.Context(), w.queue, queue.Params{Project: "p", ID: id}, queue.Params{Project: "p", IdempotencyKey: "key"})
	if e, ok := errors.AsType[*queue.Error](err); !ok || e.Op != "submit" || !errors.Is(err, queue.ErrInvalid) {
		t.Errorf("copy with a key: %v", err)
	}
	if _, err := w.queue.Get(t.Context(), "p", id); !errors.Is(err, queue.ErrNotFound) {
		t.Errorf("the other build is there: %v", err)
	}
	for range 2 {
		_, err = pgqueue.SubmitCopy(t.Context(), w.queue, queue.Params{Project: "p", ID: id})
	}
	if !errors.Is(err, queue.ErrConflict) {
		t.Errorf("copy of an id that is taken: %v", err)
	}
}

// checkBuild compares a build with one that was submitted from the same parameters the plain way.
func checkBuild(t *testing.T, q *queue.Queue, got queue.Build, params queue.Params) {
	t.Helper()
	params.ID = queue.ID{}
	id, err := q.Submit(t.Context(), params)
	if err != nil {
		t.Fatal(err)
	}
	want, err := q.Get(t.Context(), params.Project, id)
	if err != nil {
		t.Fatal(err)
	}
	if age := want.CreatedAt.Sub(got.CreatedAt); age < 0 || age > time.Minute {
		t.Errorf("created %v apart", age)
	}
	want.ID, want.CreatedAt = got.ID, got.CreatedAt
	if !reflect.DeepEqual(got, want) {
		t.Errorf("submitted in a transaction:\n%+v\nsubmitted alone:\n%+v", got, want)
	}
	if !bytes.Equal(got.Spec, params.Spec) {
		t.Errorf("spec of %d bytes is stored as %d others", len(params.Spec), len(got.Spec))
	}
}

func TestSubmitInTransactionErrors(t *testing.T) {
	q, service := openDB(t)
	ctx := t.Context()
	submit := func(q *queue.Queue, params ...queue.Params) ([]queue.ID, error) {
		tx, err := service.BeginTx(ctx, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer tx.Rollback()
		return pgqueue.Submit(ctx, q, tx, params...)
	}
	id := queue.NewID()
	if _, err := submit(q, queue.Params{ID: id, Project: "p"}, queue.Params{ID: id, Project: "p"}); !errors.Is(err, queue.ErrConflict) {
		t.Errorf("an id twice: %v, want a conflict", err)
	}
	if _, err := submit(q, queue.Params{Project: "p"}, queue.Params{Project: "No!"}); !errors.Is(err, queue.ErrInvalid) || !strings.Contains(err.Error(), "item 1") {
		t.Errorf("a bad project: %v, want one that names the item", err)
	}
	if ids, err := submit(q); err != nil || ids != nil {
		t.Errorf("no builds: %v, %v", ids, err)
	}
	other := queue.New(memqueue.New(), nil)
	if _, err := submit(other, queue.Params{Project: "p"}); err == nil || !strings.Contains(err.Error(), "*memqueue.Backend") {
		t.Errorf("a queue on another backend: %v, want an error that names it", err)
	}
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := pgqueue.Submit(canceled, q, service, queue.Params{Project: "p"}); !errors.Is(err, context.Canceled) {
		t.Errorf("a canceled context: %v", err)
	}
	if e, ok := errors.AsType[*queue.Error](mustFail(submit(q, queue.Params{}))); !ok || e.Op != "submit" {
		t.Error("the error is not a *queue.Error of submit")
	}
}

func mustFail[T any](_ T, err error) error { return err }

// A transaction that has submitted and does not end holds up nobody: not those who submit, known class or not, nor Maintain, which
// makes classes, nor Claim.
func TestSubmitHoldsUpNobody(t *testing.T) {
	q, service := openDB(t)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	known := queue.Params{Project: "p", Labels: queue.Labels{"known": "yes"}}
	unknown := queue.Params{Project: "p", Labels: queue.Labels{"known": "no"}}
	if _, err := q.Submit(ctx, known); err != nil {
		t.Fatal(err)
	}
	if _, err := q.Maintain(ctx); err != nil {
		t.Fatal(err)
	}
	var open []*sql.Tx
	for range 3 {
		tx, err := service.DB.BeginTx(ctx, nil)
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, tx)
		if _, err := pgqueue.Submit(ctx, q, tx, known, unknown); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := q.SubmitMany(ctx, []queue.Params{known, unknown}); err != nil {
		t.Fatal(err)
	}
	done, err := q.Maintain(ctx)
	if err != nil || done.Interned != 1 || done.Queued != 1 {
		t.Errorf("Maintain beside open transactions: %+v, %v; want a class and a build", done, err)
	}
	session, err := q.OpenSession(ctx, queue.NewSession{
		Worker: "w", Instance: "i", Pools: []string{queue.DefaultPool}, Labels: unknown.Labels, Slots: 100,
	})
	if err != nil {
		t.Fatal(err)
	}
	claim := func(want int) {
		t.Helper()
		offers, err := q.Claim(ctx, []queue.Idle{{Session: session, Slots: 100}})
		if err != nil || len(offers) != want {
			t.Errorf("Claim returned %d offers, %v; want %d", len(offers), err, want)
		}
	}
	claim(1)
	for _, tx := range open {
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
	}
	if done, err := q.Maintain(ctx); err != nil || done.Interned != 0 || done.Queued != 3 {
		t.Errorf("Maintain after the commits: %+v, %v; want 3 builds", done, err)
	}
	claim(3)
}
