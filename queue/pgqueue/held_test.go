package pgqueue_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/queue/pgqueue"
)

// heldSQL makes builds that are held. Their CLASS, KEY and LATER, when they may start, say why.
const heldSQL = `
INSERT INTO {schema}.build (id, rank, run_timeout, created_at, max_attempts, state, project, pool, labels, class_id, limit_key, not_before)
SELECT overlay(gen_random_uuid()::text placing '7' from 15)::uuid, n, 1, now(), 1, 0, 'project', 'pool', CASE CLASS WHEN 2 THEN 'a=b' ELSE '' END, CLASS, KEY, LATER
FROM generate_series(1, $1::int) n`

// reasons are what builds wait for: a worker that serves their class, say, so that they may be admitted.
var reasons = map[string][]string{
	"a worker":             {"CLASS", "2", "KEY", "'key'", "LATER", "NULL::timestamptz"},
	"its time":             {"CLASS", "1", "KEY", "''", "LATER", "now() + interval '1 hour'"},
	"its time and a class": {"CLASS", "0", "KEY", "''", "LATER", "now() + interval '1 hour'"},
	"a class":              {"CLASS", "NULL::int", "KEY", "''", "LATER", "NULL::timestamptz"},
	"a class first":        {"CLASS", "0", "KEY", "'key'", "LATER", "NULL::timestamptz"},
	"nothing":              {"CLASS", "1", "KEY", "'key'", "LATER", "NULL::timestamptz"},
	"nothing any more":     {"CLASS", "1", "KEY", "''", "LATER", "now() - interval '1 hour'"},
}

// TestManyHeldForOneReason checks that what is held for one reason is in the way of nothing that is held for another, however much it is: by
// plans that were made when there was nothing as well as by those that know.
func TestManyHeldForOneReason(t *testing.T) {
	for many := range reasons {
		t.Run(many, func(t *testing.T) {
			_, db := open(t)
			pool, plans := watch(t, db)
			b := backend(t, pool, &pgqueue.Options{Schema: db.Schema})
			q := queue.New(b, nil)
			look := func() {
				t.Helper()
				if _, err := b.Maintain(t.Context(), queue.Rules{Limit: 2}, now); err != nil {
					t.Fatal(err)
				}
				if _, err := b.Admit(t.Context(), queue.Lane{}, 2, now); err != nil {
					t.Fatal(err)
				}
			}
			run(t, db, `INSERT INTO {schema}.class (pool, labels, served_until) VALUES ('pool', '', now() + interval '1 hour'), ('pool', 'a=b', NULL)`)
			analyze(t, db)
			look()
			for reason, parts := range reasons {
				n := 6
				if reason == many {
					n = 40_000
				}
				run(t, db, strings.NewReplacer(parts...).Replace(heldSQL), n)
			}
			for range 2 { // before and after statistics are there
				plans.take()
				look()
				for _, id := range batchOf(t, db, "rank = 1 AND state = 0") {
					if _, err := q.Explain(t.Context(), "project", id); err != nil && !errors.Is(err, queue.ErrNotFound) {
						t.Fatal(err)
					}
				}
				for _, plan := range plans.take() {
					if n := pages(plan); n > maxPages {
						t.Errorf("%d pages are read:\n%s", n, plan)
					}
				}
				analyze(t, db)
			}
			var queued int
			if err := db.Pool.QueryRow(t.Context(), "SELECT count(*) FROM "+db.Schema+".build WHERE state = 1").Scan(&queued); err != nil || queued < 4 {
				t.Errorf("%d builds are queued, %v; want some by each call", queued, err)
			}
		})
	}
}
