package pgqueue_test

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/slipway-build/slipway/internal/sqlqueue"
	"github.com/slipway-build/slipway/internal/testenv"
	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/queue/pgqueue"
)

// listed is how many builds fillForLists makes.
const listed = 40_000

// fillForLists makes builds whose ids are in the order of their numbers n, in the states that an expression says. Those of the project old,
// and of the worker retired, are the oldest: whoever walks back from the newest to find them has to pass all others.
func fillForLists(t *testing.T, db *testenv.Database, state string) {
	t.Helper()
	execute(t, db, `INSERT INTO {schema}.class (pool, labels) SELECT 'p' || n, '' FROM generate_series(0, 9) n`)
	execute(t, db, `INSERT INTO {schema}.controller (id, alive_until, fresh_since) VALUES (gen_random_uuid(), now(), now())`)
	execute(t, db, `INSERT INTO {schema}.session (controller_id, worker, instance, labels, pools, slots, direct, opened_at)
		SELECT c.id, 'w' || n, 'boot', '', 'p0', 4, false, now() FROM {schema}.controller c, generate_series(0, 9) n`)
	execute(t, db, strings.NewReplacer("STATE", state, "COUNT", strconv.Itoa(listed)).Replace(`
INSERT INTO {schema}.build (id, rank, run_timeout, created_at, max_attempts, state, project, pool, labels, class_id,
	epoch, attempts_used, worker, started_at, session_id, deadline, finished_at)
SELECT ('019' || lpad(to_hex(n), 9, '0') || '70008000000000000000')::uuid, n, 1, now(), 3, s.state,
	CASE WHEN n <= 4000 THEN 'old' ELSE 'project' || n % 3 END, 'p' || n % 10, '', 1 + n % 10,
	(s.worker <> '')::int, (s.worker <> '')::int, s.worker, CASE WHEN s.worker <> '' THEN now() END,
	CASE WHEN s.state BETWEEN 2 AND 4 THEN (SELECT id FROM {schema}.session WHERE worker = s.worker) END,
	CASE WHEN s.state BETWEEN 2 AND 4 THEN now() END, CASE WHEN s.state >= 5 THEN now() END
FROM generate_series(1, COUNT) n CROSS JOIN LATERAL (SELECT y.state, CASE
	WHEN y.state BETWEEN 2 AND 4 OR y.state < 2 AND n % 50 = 0 THEN 'w' || n / 50 % 10
	WHEN y.state < 2 THEN '' WHEN n <= 4000 THEN 'retired' ELSE 'w' || n % 10 END AS worker
	FROM (SELECT STATE AS state) y) s`))
	analyze(t, db)
}

// A kept is a build as it is looked for.
type kept struct {
	id                    queue.ID
	state                 queue.State
	project, pool, worker string
}

func (k kept) passes(f queue.Filter) bool {
	return (f.AllProjects || k.project == f.Project) && (f.Pool == "" || k.pool == f.Pool) && (f.Worker == "" || k.worker == f.Worker) &&
		(len(f.States) == 0 || slices.Contains(f.States, k.state)) &&
		(f.Before.IsZero() || bytes.Compare(k.id[:], f.Before[:]) < 0) && bytes.Compare(k.id[:], f.Since[:]) >= 0
}

// filters returns filters of all kinds.
func filters(all []kept) (filters []queue.Filter) {
	ended := []queue.State{queue.Succeeded, queue.Failed, queue.Canceled, queue.TimedOut, queue.Expired, queue.Lost}
	bounds := []queue.Filter{{}, {Before: all[listed/2].id}, {Since: all[listed/4].id, Before: all[listed/2].id}, {Since: all[listed/2].id}}
	for _, states := range [][]queue.State{
		nil, {queue.Pending}, {queue.Running}, {queue.Failed}, {queue.Lost}, {queue.Pending, queue.Offered, queue.Succeeded}, ended,
	} {
		for _, project := range []string{"", "old", "project1", "nobody"} {
			for _, worker := range []string{"", "retired", "w3", "nobody"} {
				for _, f := range bounds {
					f.States, f.Project, f.AllProjects, f.Worker, f.Limit = states, project, project == "", worker, 20
					filters = append(filters, f)
				}
			}
		}
	}
	return filters
}

// TestLists compares pages with what a look at each build finds, and checks that they are found without one: whatever else there is, a page
// of a project, a state, both, a worker, or a time costs no more than its builds and what workers have at the moment.
func TestLists(t *testing.T) {
	for name, state := range map[string]string{
		"few wait":    "CASE WHEN n <= 40 THEN n % 2 WHEN n % 500 = 0 THEN 2 + n / 500 % 3 WHEN n % 100 = 1 THEN 6 ELSE 5 END",
		"most wait":   "CASE WHEN n % 500 = 0 THEN 2 + n / 500 % 3 WHEN n <= 8000 THEN 5 + n % 2 WHEN n % 4 = 0 THEN 0 ELSE 1 END",
		"one failed":  "CASE WHEN n <= 4000 THEN 6 WHEN n % 500 = 0 THEN 3 ELSE 5 END",
		"none passed": "CASE WHEN n <= 4000 THEN 1 WHEN n % 500 = 0 THEN 3 ELSE 6 + n % 5 END",
	} {
		t.Run(name, func(t *testing.T) {
			_, db := open(t)
			fillForLists(t, db, state)
			rows, err := db.Pool.Query(t.Context(), "SELECT id, state, project, pool, worker FROM "+db.Schema+".build ORDER BY id")
			if err != nil {
				t.Fatal(err)
			}
			all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (k kept, err error) {
				var state int16
				err = row.Scan((*[16]byte)(&k.id), &state, &k.project, &k.pool, &k.worker)
				k.state = sqlqueue.State(state).Public()
				return k, err
			})
			if err != nil {
				t.Fatal(err)
			}
			pool, plans := watch(t, db)
			b := backend(t, pool, &pgqueue.Options{Schema: db.Schema})
			for _, f := range filters(all) {
				var want []queue.ID
				for _, k := range slices.Backward(all) {
					if k.passes(f) && len(want) < f.Limit {
						want = append(want, k.id)
					}
				}
				plans.take()
				page, err := b.List(t.Context(), f)
				if err != nil {
					t.Fatal(err)
				}
				var got []queue.ID
				for _, build := range page {
					got = append(got, build.ID)
				}
				if !slices.Equal(got, want) {
					t.Errorf("%s: got %d builds %v, want %d %v", describe(f), len(got), got, len(want), want)
				}
				if f.Worker == "" || f.AllProjects && len(f.States) == 0 {
					checkList(t, f, plans.take())
				}
			}
		})
	}
}

func describe(f queue.Filter) string {
	return fmt.Sprintf("project %q, states %v, worker %q, from %v to %v", f.Project, f.States, f.Worker, f.Since, f.Before)
}

// checkList reports plans that read more than what workers have, which is 80 builds, and a few pages for each build of the page and each
// part of it.
func checkList(t *testing.T, f queue.Filter, plans []string) {
	t.Helper()
	if len(plans) == 0 {
		t.Fatal("the server reported no plan")
	}
	for _, plan := range plans {
		if n := pages(plan); n > 400 || strings.Contains(plan, "Seq Scan on build") {
			t.Errorf("%s: %d pages are read:\n%s", describe(f), n, plan)
		}
	}
}

// TestLinesCostNothing writes a log of ten million lines, in requests of 64 KiB. What a request reads and changes does not depend on how
// much is there: the log is 2,500 pages in the end, and the margin is what versions of rows that a snapshot elsewhere keeps may cost.
func TestLinesCostNothing(t *testing.T) {
	const lines, size = 10_000_000, 64 << 10
	s := newStage(t)
	id := s.running()
	pool, plans := watch(t, s.db)
	b := backend(t, pool, &pgqueue.Options{Schema: s.db.Schema})
	data := bytes.Repeat([]byte("x\n"), size/2)
	limit := queue.LogLimit{Bytes: 1 << 40, Lines: lines}
	var first, length int64
	for request := int64(0); ; request++ {
		plans.take()
		stored, err := b.AppendLogs(t.Context(), []queue.LogChunk{{AttemptID: id, Offset: length, Data: data}}, limit, now)
		s.must(err)
		length = stored[0].Length
		if stored[0].Cut {
			break
		}
		var read int64
		statements := plans.take()
		for _, plan := range statements {
			read += int64(pages(plan))
		}
		if request == 5 { // when what is kept of the tables' files in memory is there
			first = read
		}
		if length != (request+1)*size || len(statements) != 2 || request > 5 && read > first+100 {
			t.Fatalf("request %d: %d bytes are stored; %d statements read %d pages, the first few %d", request, length, len(statements), read, first)
		}
	}
	var heads, chunks, newlines int64
	row := s.db.Pool.QueryRow(t.Context(), strings.ReplaceAll(`SELECT (SELECT count(*) FROM {schema}.log_head),
		(SELECT count(*) FROM {schema}.log_chunk), (SELECT lines FROM {schema}.log_head)`, "{schema}", s.db.Schema))
	s.must(row.Scan(&heads, &chunks, &newlines))
	if length != 2*lines || newlines != lines || heads != 1 || chunks != (length+size-1)/size {
		t.Errorf("%d bytes and %d lines are stored, in %d heads and %d chunks", length, newlines, heads, chunks)
	}
}
