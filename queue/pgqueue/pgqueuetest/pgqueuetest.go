// Package pgqueuetest makes temporary queues on PostgreSQL, for the tests of services that use one:
//
//	func TestRelease(t *testing.T) {
//		q := pgqueuetest.New(t, pool, nil)
//		…
//	}
//
// Each queue has tables of its own, so that tests may run in parallel on one database, and leaves nothing behind. A test that needs no
// database uses queue.New(memqueue.New(), nil).
package pgqueuetest

import (
	"context"
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/queue/pgqueue"
)

// dropTimeout is how long the end of a test waits for who still uses its queue.
const dropTimeout = 10 * time.Second

// New returns an empty queue in a schema of a random name, which has its tables and is dropped when the test ends, after what the test
// itself has had cleaned up since. The user of pool must have the right to create schemas in its database. The pool stays the caller's; it
// must last as long as the test, and the test must be done with the queue by then. What goes wrong ends the test, or fails it at its end.
//
// Options are those of [queue.New].
func New(tb testing.TB, pool *pgxpool.Pool, o *queue.Options) *queue.Queue {
	tb.Helper()
	schema := "slipway_queue_" + strings.ToLower(rand.Text())
	backend, err := pgqueue.New(pool, &pgqueue.Options{Schema: schema})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), dropTimeout)
		defer cancel()
		if _, err := pool.Exec(ctx, "DROP SCHEMA IF EXISTS "+pgx.Identifier{schema}.Sanitize()+" CASCADE"); err != nil {
			tb.Errorf("pgqueuetest: drop the queue's schema: %v", err)
		}
	})
	if err := backend.Migrate(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	return queue.New(backend, o)
}
