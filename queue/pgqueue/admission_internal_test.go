package pgqueue

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/slipway-build/slipway/internal/pgxdb"
	"github.com/slipway-build/slipway/internal/testenv"
	"github.com/slipway-build/slipway/queue"
)

// TestAdmitTakesTurns has two calls of Admit overlap, of which the second sees a build that the first has not seen. They must not both give
// away the last place of a key. Without the lock they do, or the test would prove nothing.
func TestAdmitTakesTurns(t *testing.T) {
	t.Run("Locked", func(t *testing.T) {
		if n := admitTwice(t, func(*Backend) {}); n != 1 {
			t.Errorf("%d builds of a key with limit 1 are admitted", n)
		}
	})
	t.Run("WithoutTheLock", func(t *testing.T) {
		n := admitTwice(t, func(b *Backend) { b.sql.takeLock = strings.ReplaceAll(b.sql.takeLock, "pg_advisory_xact_lock", "") })
		if n != 2 {
			t.Errorf("%d builds are admitted, want the limit of 1 to be broken", n)
		}
	})
}

// admitTwice keeps one Admit from committing until another has begun, and returns how many builds of a key with limit 1 are then admitted.
func admitTwice(t *testing.T, change func(*Backend)) int {
	t.Helper()
	db := testenv.Postgres(t)
	pool := db.Open(t, func(c *pgxpool.Config) { c.ConnConfig.RuntimeParams["application_name"] = db.Schema })
	b, err := newBackend(pool, pgxdb.Open(pool), Options{Schema: db.Schema, Timeout: time.Minute})
	must(t, err)
	must(t, b.Migrate(t.Context()))
	change(b)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	must(t, b.ChangePool(ctx, "pool", queue.PoolChange{Fair: new(true)}))
	must(t, b.SetLimit(ctx, queue.Limit{Project: "project", Key: "key", Max: 1}))
	submit := func(priority int) {
		t.Helper()
		_, err := b.Submit(ctx, []queue.NewBuild{{
			ID: queue.NewID(), Project: "project", Pool: "pool", ConcurrencyKey: "key", Priority: priority, RunTimeout: time.Hour, MaxAttempts: 1,
		}}, time.Time{})
		must(t, err)
		_, err = b.Maintain(ctx, queue.Rules{Limit: 10}, time.Time{})
		must(t, err)
	}
	submit(0)
	must(t, b.Serve(ctx, []queue.ClassID{1}, time.Hour, time.Time{}))

	blocker, err := db.Pool.Begin(ctx)
	must(t, err)
	defer blocker.Rollback(context.Background())
	_, err = blocker.Exec(ctx, "SELECT FROM "+db.Schema+".pool FOR UPDATE") // whose virtual time Admit sets in the end
	must(t, err)
	var calls sync.WaitGroup
	for n := range 2 {
		calls.Go(func() {
			if _, err := b.Admit(ctx, queue.Lane{}, 10, time.Time{}); err != nil {
				t.Error(err)
			}
		})
		waitForLocks(t, db, n+1)
		submit(1 + n) // comes before those that were there
	}
	must(t, blocker.Rollback(ctx))
	calls.Wait()
	limits, err := b.Limits(ctx, "project", "", 1)
	must(t, err)
	return limits[0].Used
}

// waitForLocks waits until n connections of a pool that bears the schema's name wait for locks.
func waitForLocks(t *testing.T, db *testenv.Database, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for got := -1; got != n; {
		const sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name = $1"
		must(t, db.Pool.QueryRow(ctx, sql, db.Schema).Scan(&got))
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%d connections wait for a lock, want %d", got, n)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
