package pgqueuetest_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/slipway-build/slipway/internal/testenv"
	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/queue/pgqueue/pgqueuetest"
)

// Queues of tests are usable at once, know nothing of each other, and leave nothing behind.
func TestNew(t *testing.T) {
	pool := testenv.Postgres(t).Pool
	t.Run("queues", func(t *testing.T) {
		for _, name := range []string{"one", "two"} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				q := pgqueuetest.New(t, pool, &queue.Options{RunTimeout: time.Minute})
				other := pgqueuetest.New(t, pool, nil)
				id, err := q.Submit(t.Context(), queue.Params{Project: "site", Spec: []byte("make")})
				if err != nil {
					t.Fatal(err)
				}
				if b, err := q.Get(t.Context(), "site", id); err != nil || b.State != queue.Pending || b.RunTimeout != time.Minute {
					t.Errorf("build is %+v, %v", b, err)
				}
				if _, err := other.Get(t.Context(), "site", id); !errors.Is(err, queue.ErrNotFound) {
					t.Errorf("another queue has the build: %v", err)
				}
			})
		}
	})
	if left := schemas(t, pool); len(left) != 0 {
		t.Errorf("schemas %q are left behind", left)
	}
}

// schemas returns the names of temporary queues' schemas.
func schemas(t *testing.T, pool *pgxpool.Pool) []string {
	t.Helper()
	rows, err := pool.Query(t.Context(), "SELECT nspname FROM pg_namespace WHERE starts_with(nspname, 'slipway_queue_')")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var names []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return names
}

// A tester is a test that only notes that it failed.
type tester struct {
	testing.TB
	said []string
}

func (t *tester) Helper() {}
func (t *tester) Fatal(args ...any) {
	for _, a := range args {
		if err, ok := a.(error); ok {
			t.said = append(t.said, err.Error())
		}
	}
	panic(t)
}
func (t *tester) Errorf(format string, _ ...any) { t.said = append(t.said, format) }

// A database that cannot be reached ends the test.
func TestNewUnreachable(t *testing.T) {
	pool := testenv.Postgres(t).Pool
	pool.Close()
	failed := &tester{TB: t}
	defer func() {
		if recover() != failed || len(failed.said) != 1 || !strings.Contains(failed.said[0], "migrate") {
			t.Errorf("the test failed with %q, want why the tables could not be made", failed.said)
		}
	}()
	pgqueuetest.New(failed, pool, nil)
}
