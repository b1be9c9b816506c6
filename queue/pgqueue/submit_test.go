package pgqueue_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

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
	}
}

func TestSubmitInTransaction(t *testing.T) {
	q, service := openDB(t)
	ctx := t.Context()
	forms := map[string]func(t *testing.T, submit func(bun.IConn) error, commit bool){
		"sql.Tx": func(t *testing.T, submit func(bun.IConn) error, commit bool) {
			tx, err := service.DB.BeginTx(ctx, nil)
			end(t, err, tx, submit, commit)
		},
		"bun.Tx": func(t *testing.T, submit func(bun.IConn) error, commit bool) {
			tx, err := service.BeginTx(ctx, nil)
			end(t, err, tx, submit, commit)
		},
	}
	for name, run := range forms {
		t.Run(name, func(t *testing.T) {
			for _, commit := range []bool{true, false} {
				params := tricky()
				var ids []queue.ID
				run(t, func(tx bun.IConn) (err error) {
					ids, err = pgqueue.Submit(ctx, q, tx, params...)
					return err
				}, commit)
				for i, id := range ids {
					got, err := q.Get(ctx, params[i].Project, id)
					if !commit {
						if !errors.Is(err, queue.ErrNotFound) {
							t.Errorf("build of a transaction that was rolled back: %v, %v", got, err)
						}
						continue
					}
					if err != nil {
						t.Fatal(err)
					}
					checkBuild(t, q, got, params[i])
				}
			}
		})
	}
	t.Run("bun.DB", func(t *testing.T) {
		ids, err := pgqueue.Submit(ctx, q, service, queue.Params{Project: "plain"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := q.Get(ctx, "plain", ids[0]); err != nil {
			t.Error(err)
		}
	})
}

// end submits in a transaction that was begun, and ends it.
func end(t *testing.T, err error, tx interface {
	bun.IConn
	Commit() error
	Rollback() error
}, submit func(bun.IConn) error, commit bool,
) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if err := submit(tx); err != nil {
		t.Error(err)
	}
	if commit {
		err = tx.Commit()
	} else {
		err = tx.Rollback()
	}
	if err != nil {
		t.Fatal(err)
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
