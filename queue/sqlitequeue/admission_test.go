package sqlitequeue

import (
	"testing"
	"time"

	"github.com/slipway-build/slipway/queue"
)

// Looking at a lane costs the same however many builds wait in it that cannot be admitted: those that nobody serves, and those beyond
// a limit. A plan does not show that: SQLite may find the right place of the right index and walk on from there.
func TestAdmitIsFlat(t *testing.T) {
	b := newBackend(t)
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	n := &newest{Backend: b, t: t, now: now}
	stored := func(query string, args ...any) {
		t.Helper()
		if _, err := b.db.DB.ExecContext(t.Context(), names.Expand(query), args...); err != nil {
			t.Fatalf("%v\n%s", err, query)
		}
	}
	stored(`INSERT INTO {schema}class (id, pool, labels) VALUES (1, 'default', ''), (2, 'default', 'os=plan9')`)
	n.must(n.SetLimit(t.Context(), queue.Limit{Project: "project", Key: "full", Max: 1}))
	n.must(n.Serve(t.Context(), []queue.ClassID{1}, time.Hour, now))
	n.submit(queue.NewBuild{ConcurrencyKey: "full"})
	admit := func() time.Duration {
		t.Helper()
		best := time.Hour
		for range 10 {
			begin := time.Now()
			done, err := n.Admit(t.Context(), queue.Lane{}, 100, now)
			n.must(err)
			best = min(best, time.Since(begin))
			if done.Queued+done.Held > 1 || done.Next != (queue.Lane{}) {
				t.Fatalf("Admit did %+v", done)
			}
		}
		return best
	}
	wait := func(builds int) {
		t.Helper()
		for _, lane := range []struct {
			class int
			key   string
		}{
			{1, "full"}, {2, "full"}, {2, "unserved"},
		} {
			stored(`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
				INSERT INTO {schema}build (id, project, pool, labels, class_id, state, rank, max_attempts, run_timeout, created_at, limit_key)
				SELECT randomblob(16), 'project', 'default', '', ?, {held}, i, 3, 1, i, ? FROM n`, builds, lane.class, lane.key)
		}
	}
	wait(10)
	few := admit()
	wait(3_000)
	many := admit()
	t.Logf("%v with few builds, %v with many", few, many)
	if many > 10*few {
		t.Errorf("Admit took %v with 30 builds waiting and %v with 9,000", few, many)
	}
}
