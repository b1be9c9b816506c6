package pgqueue_test

import (
	"context"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/slipway-build/slipway/internal/testenv"
	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/queue/pgqueue"
)

// plans collects the plans of all statements that run on a pool, as the server used them.
type plans struct {
	mu   sync.Mutex
	text []string
}

// watch returns a pool of one connection that reports its plans.
func watch(t *testing.T, db *testenv.Database) (*pgxpool.Pool, *plans) {
	t.Helper()
	var p plans
	pool := db.Open(t, func(c *pgxpool.Config) {
		c.MaxConns = 1 // which keeps its plans
		params := c.ConnConfig.RuntimeParams
		params["session_preload_libraries"] = "auto_explain"
		params["auto_explain.log_min_duration"] = "0"
		params["auto_explain.log_level"] = "notice"
		params["auto_explain.log_analyze"] = "on"
		params["auto_explain.log_buffers"] = "on"
		params["auto_explain.log_timing"] = "off"
		c.ConnConfig.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.text = append(p.text, n.Message)
		}
	})
	return pool, &p
}

// take returns the plans that were seen since the last take.
func (p *plans) take() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	seen := p.text
	p.text = nil
	return seen
}

// fill puts 50,000 builds into the database, of which few have anything due.
func fill(t *testing.T, db *testenv.Database, from, to int) {
	t.Helper()
	const sql = `
INSERT INTO {schema}.class (pool, labels) SELECT 'p' || n, '' FROM generate_series(1, 20) n ON CONFLICT DO NOTHING;
UPDATE {schema}.class SET served_until = now() + interval '1 hour' WHERE id % 3 > 0;
INSERT INTO {schema}.pool (name, fair) VALUES ('p17', true) ON CONFLICT DO NOTHING;
INSERT INTO {schema}.project (name, paused) SELECT 'project' || n, false FROM generate_series(1, 9) n ON CONFLICT DO NOTHING;
INSERT INTO {schema}.build_limit (project, key, max_running) SELECT 'project' || n % 10, 'k' || n, 20 FROM generate_series(0, 49) n ON CONFLICT DO NOTHING;
INSERT INTO {schema}.controller (id, alive_until, fresh_since)
	SELECT gen_random_uuid(), now() + interval '1 hour', now() - interval '1 hour' FROM generate_series(1, 5) WHERE NOT EXISTS (SELECT FROM {schema}.controller);
INSERT INTO {schema}.session (controller_id, worker, instance, labels, pools, slots, direct, opened_at)
	SELECT c.id, 'w' || row_number() OVER (), 'i', '', 'default', 4, row_number() OVER () = 50, now() FROM {schema}.controller c, generate_series(1, 20) WHERE NOT EXISTS (SELECT FROM {schema}.session);
INSERT INTO {schema}.build (id, rank, run_timeout, created_at, max_attempts, state, project, pool, labels, class_id,
	limit_key, admitted, epoch, attempts_used, worker, started_at, session_id, deadline, finished_at, not_before)
SELECT overlay(gen_random_uuid()::text placing '7' from 15)::uuid, n, 60000000, now(), 3, s.state, 'project' || n % 10, 'p' || 1 + n % 20, '', (SELECT c.id FROM {schema}.class c WHERE c.pool = 'p' || 1 + n % 20),
	CASE WHEN s.state = 0 AND n % 3 = 0 OR n % 1000 IN (610, 655) THEN 'k' || n % 50 ELSE '' END, s.state > 0 AND n % 20 = 16,
	CASE WHEN s.state >= 2 THEN 1 ELSE 0 END, CASE WHEN s.state >= 3 THEN 1 ELSE 0 END, CASE WHEN s.state >= 2 THEN 'w1' ELSE '' END,
	CASE WHEN s.state >= 3 THEN now() END, CASE WHEN s.state BETWEEN 2 AND 4 THEN (SELECT min(id) FROM {schema}.session) + (n / 1000) * 7 % 100 END,
	CASE WHEN s.state BETWEEN 2 AND 4 THEN now() + interval '1 hour' END, CASE WHEN s.state >= 5 THEN now() END,
	CASE WHEN s.state = 0 AND n % 3 > 0 THEN now() + interval '1 hour' END
FROM generate_series(FROM, TO) n
CROSS JOIN LATERAL (SELECT CASE WHEN n % 1000 < 600 THEN 5 WHEN n % 1000 < 900 THEN CASE WHEN n % 20 = 16 AND n % 1000 > 640 THEN 5 ELSE 1 END WHEN n % 1000 < 997 THEN 0 ELSE n % 1000 - 995 END AS state) s;
INSERT INTO {schema}.attempt (build_id, epoch, started_at, ended_at, outcome, result, log_complete, worker, reason, signal)
	SELECT id, 1, now(), now(), 5, 5, true, 'w1', '', '' FROM {schema}.build WHERE state = 5 ON CONFLICT DO NOTHING;
INSERT INTO {schema}.log_head (build_id, epoch, length, closed) SELECT id, 1, 100, state >= 5 FROM {schema}.build WHERE state >= 3 AND epoch > 0 ON CONFLICT DO NOTHING;
INSERT INTO {schema}.artifact (build_id, epoch, size, created_at, project, name, digest, committed)
	SELECT id, 1, 1, now(), project, 'a', repeat('x', 32)::bytea, true FROM {schema}.build WHERE state = 5 ON CONFLICT DO NOTHING;
INSERT INTO {schema}.log_chunk (build_id, epoch, start, data) SELECT id, 1, 0, repeat('x', 100)::bytea FROM {schema}.build WHERE state >= 3 AND epoch > 0 ON CONFLICT DO NOTHING;
INSERT INTO {schema}.log_drop (build_id, epoch, project) SELECT gen_random_uuid(), 1, 'project1' FROM generate_series(FROM, TO);
`
	if _, err := db.Pool.Exec(t.Context(), strings.NewReplacer("{schema}", db.Schema, "(FROM", "("+strconv.Itoa(from), "TO)", strconv.Itoa(to)+")").Replace(sql)); err != nil {
		t.Fatal(err)
	}
}

// analyze does what autovacuum would do after a while.
func analyze(t *testing.T, db *testenv.Database) {
	t.Helper()
	for _, table := range []string{"build", "attempt", "log_head", "log_chunk", "log_drop", "artifact", "session", "controller", "class"} {
		if _, err := db.Pool.Exec(t.Context(), "VACUUM ANALYZE "+db.Schema+"."+table); err != nil {
			t.Fatal(err)
		}
	}
}

// An operation is a call of a method.
type operation struct {
	name string
	run  func(context.Context) error
}

// cached reports whether a connection keeps the plan of the operation: those of lists are made anew each time.
func (o operation) cached() bool { return !strings.HasPrefix(o.name, "List") }

// everyStatement returns calls of the methods of a backend, on builds that fill made if it did.
func everyStatement(t *testing.T, db *testenv.Database, b *pgqueue.Backend) []operation {
	t.Helper()
	var controller, running, queued queue.ID
	var session, direct int64
	q := queue.New(b, nil)
	row := db.Pool.QueryRow(t.Context(), strings.ReplaceAll(`SELECT s.controller_id, s.id, b.id,
		coalesce((SELECT id FROM {schema}.build WHERE state = 1 LIMIT 1), b.id), (SELECT id FROM {schema}.session WHERE direct LIMIT 1)
		FROM {schema}.build b JOIN {schema}.session s ON s.id = b.session_id WHERE b.state = 3 LIMIT 1`, "{schema}", db.Schema))
	if err := row.Scan((*[16]byte)(&controller), &session, (*[16]byte)(&running), (*[16]byte)(&queued), &direct); err != nil {
		controller, running, queued = queue.NewID(), queue.NewID(), queue.NewID()
	}
	id := queue.AttemptID{Build: running, Epoch: 1}
	ended, canceled := batchOf(t, db, "state = 3"), batchOf(t, db, "project = 'project0' AND state < 2")
	rules := queue.Rules{Controller: controller, Grace: time.Minute, Avoid: avoid, KeepKeys: time.Hour, Retention: time.Hour, Limit: 100}
	var now time.Time
	return []operation{
		{"Probe", func(ctx context.Context) error { _, err := b.Probe(ctx, reaches(1, 2, 3), 4); return err }},
		{"Claim", func(ctx context.Context) error {
			_, err := b.Claim(ctx, demand(2, queue.SessionID(session)), time.Second, now)
			return err
		}},
		{"Accept", func(ctx context.Context) error {
			_, err := b.Accept(ctx, []queue.Acceptance{{AttemptID: id, Session: queue.SessionID(session)}}, now)
			return err
		}},
		{"Release", func(ctx context.Context) error {
			_, err := b.Release(ctx, []queue.AttemptID{id}, time.Second, now)
			return err
		}},
		{"AppendLogs", func(ctx context.Context) error {
			_, err := b.AppendLogs(ctx, []queue.LogChunk{{AttemptID: id, Offset: 100, Data: []byte("more")}}, logLimit, now)
			return err
		}},
		{"Lease", func(ctx context.Context) error { _, err := b.Lease(ctx, id); return ignore(err, queue.ErrStaleLease) }},
		{"Leases", func(ctx context.Context) error { _, err := b.Leases(ctx, controller, false); return err }},
		{"Cancels", func(ctx context.Context) error { _, err := b.Leases(ctx, controller, true); return err }},
		{"ReadLog", func(ctx context.Context) error {
			_, err := b.ReadLog(ctx, "project0", id, 50, 100)
			return ignore(err, queue.ErrNotFound)
		}},
		{"Get", func(ctx context.Context) error {
			_, err := b.Get(ctx, "project0", queued)
			return ignore(err, queue.ErrNotFound)
		}},
		{"List", func(ctx context.Context) error {
			_, err := b.List(ctx, queue.Filter{Project: "project1", Limit: 50})
			return err
		}},
		{"ListPage", func(ctx context.Context) error {
			_, err := b.List(ctx, queue.Filter{Project: "project1", Limit: 50, Before: queued})
			return err
		}},
		{"Attempts", func(ctx context.Context) error {
			_, err := b.Attempts(ctx, "project0", running)
			return ignore(err, queue.ErrNotFound)
		}},
		{"Specs", func(ctx context.Context) error { _, err := b.Specs(ctx, []queue.ID{running, queued}); return err }},
		{"ClosedLogs", func(ctx context.Context) error { _, err := b.ClosedLogs(ctx, 4, time.Minute, now); return err }},
		{"ArchiveLog", func(ctx context.Context) error { return ignore(b.ArchiveLog(ctx, id), queue.ErrNotFound) }},
		{"DroppedLogs", func(ctx context.Context) error { _, err := b.DroppedLogs(ctx, 4, time.Minute, now); return err }},
		{"ForgetLogs", func(ctx context.Context) error { return b.ForgetLogs(ctx, []queue.AttemptID{id}) }},
		{"Reserve", func(ctx context.Context) error {
			_, err := b.ReserveArtifact(ctx, queue.NewArtifact{AttemptID: id, Name: "a"}, now)
			return ignore(err, queue.ErrStaleLease)
		}},
		{"Commit", func(ctx context.Context) error {
			_, err := b.CommitArtifact(ctx, id, "a", now)
			return ignore(err, queue.ErrStaleLease)
		}},
		{"Adopt", func(ctx context.Context) error {
			_, err := b.Adopt(ctx, queue.SessionID(session), []queue.AttemptID{id}, now)
			return ignore(err, queue.ErrNotFound)
		}},
		{"Lose", func(ctx context.Context) error {
			return b.LoseSessions(ctx, []queue.SessionID{queue.SessionID(session) + 1}, now)
		}},
		{"Serve", func(ctx context.Context) error { return b.Serve(ctx, []queue.ClassID{1, 2, 3}, time.Minute, now) }},
		{"Admit", func(ctx context.Context) error { _, err := b.Admit(ctx, queue.Lane{}, 1, now); return err }},
		{"AdmitMore", func(ctx context.Context) error {
			_, err := b.Admit(ctx, queue.Lane{Pool: "p17", Project: "project6", Key: "k36"}, 2, now)
			return err
		}},
		{"ChangePool", func(ctx context.Context) error {
			return b.ChangePool(ctx, "p3", queue.PoolChange{Paused: new(false), Weights: map[string]int{"project1": 5}})
		}},
		{"Pools", func(ctx context.Context) error { _, err := b.Pools(ctx); return err }},
		{"ChangeProject", func(ctx context.Context) error {
			return b.ChangeProject(ctx, "project1", queue.ProjectChange{ArtifactQuota: new(int64(0))})
		}},
		{"Projects", func(ctx context.Context) error { _, err := b.Projects(ctx, "project3", 5); return err }},
		{"SetLimit", func(ctx context.Context) error {
			return b.SetLimit(ctx, queue.Limit{Project: "project1", Key: "k1", Max: 20})
		}},
		{"Limits", func(ctx context.Context) error { _, err := b.Limits(ctx, "project1", "", 5); return err }},
		{"Notify", func(ctx context.Context) error { return b.Notify(ctx, queue.Hint{Any: true}) }},
		{"Maintain", func(ctx context.Context) error { _, err := b.Maintain(ctx, rules, now); return err }},
		{"Finish", func(ctx context.Context) error {
			_, err := b.Finish(ctx, []queue.Completion{{AttemptID: id, Outcome: queue.Failed}}, avoid, now)
			return err
		}},
		{"Cancel", func(ctx context.Context) error {
			_, err := b.Cancel(ctx, "project0", []queue.ID{queued}, "", time.Second, now)
			return err
		}},
		{"FinishMany", func(ctx context.Context) error {
			var ends []queue.Completion
			for _, build := range ended {
				ends = append(ends, queue.Completion{AttemptID: queue.AttemptID{Build: build, Epoch: 1}, Outcome: queue.Failed})
			}
			_, err := b.Finish(ctx, ends, avoid, now)
			return err
		}},
		{"CancelMany", func(ctx context.Context) error {
			_, err := b.Cancel(ctx, "project0", canceled, "", time.Second, now)
			return err
		}},
		{"SubmitMany", func(ctx context.Context) error { _, err := b.Submit(ctx, newBuilds(batch, ""), now); return err }},
		{"SubmitKey", func(ctx context.Context) error { _, err := b.Submit(ctx, newBuilds(1, "key"), now); return err }},
		{"SubmitKeys", func(ctx context.Context) error { _, err := b.Submit(ctx, newBuilds(batch, "key"), now); return err }},
		{"Copy", func(ctx context.Context) error {
			params := make([]queue.Params, batch)
			for i := range params {
				params[i] = queue.Params{Project: "project1", Pool: "p" + strconv.Itoa(1+i)}
			}
			_, err := pgqueue.SubmitCopy(ctx, q, params...)
			return err
		}},
		{"SubmitSlots", func(ctx context.Context) error {
			builds := make([]queue.NewBuild, 3)
			for i := range builds {
				builds[i] = queue.NewBuild{ID: queue.NewID(), Project: "p", Pool: "p" + strconv.Itoa(2+i), RunTimeout: 1, MaxAttempts: 1}
				builds[i].Slot = queue.Slot{Session: queue.SessionID(direct), Floor: int64(i-1) << 40} // one is above all that is queued
			}
			_, err := b.Submit(ctx, builds, now)
			return err
		}},
		{"Submit", func(ctx context.Context) error {
			_, err := b.Submit(ctx, []queue.NewBuild{{ID: queue.NewID(), Project: "p", Pool: "p1", RunTimeout: 1, MaxAttempts: 1}}, now)
			return err
		}},
		// Without classes, what was submitted waits for them. Let it not be there when the tables have grown.
		{"MaintainAgain", func(ctx context.Context) error { _, err := b.Maintain(ctx, rules, now); return err }},
	}
}

// batch is how many builds the operations on several have.
const batch = 8

// batchOf returns builds where a condition holds, or ids of none if there are too few.
func batchOf(t *testing.T, db *testenv.Database, where string) []queue.ID {
	t.Helper()
	rows, err := db.Pool.Query(t.Context(), "SELECT id FROM "+db.Schema+".build WHERE "+where+" ORDER BY id DESC LIMIT $1", batch)
	if err != nil {
		t.Fatal(err)
	}
	ids, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (id queue.ID, err error) {
		err = row.Scan((*[16]byte)(&id))
		return id, err
	})
	if err != nil {
		t.Fatal(err)
	}
	for len(ids) < batch {
		ids = append(ids, queue.NewID())
	}
	return ids
}

// newBuilds returns builds of several classes, which have keys that begin with prefix unless it is empty: half of them are known from the second
// call on.
func newBuilds(n int, prefix string) []queue.NewBuild {
	builds := make([]queue.NewBuild, n)
	for i := range builds {
		builds[i] = queue.NewBuild{
			ID: queue.NewID(), Project: "project1", Pool: "p" + strconv.Itoa(1+i), RunTimeout: time.Minute, MaxAttempts: 1,
		}
		if prefix != "" {
			builds[i].IdempotencyKey = prefix + strconv.Itoa(i)
			if i%2 == 0 {
				builds[i].IdempotencyKey = prefix + builds[i].ID.String()
			}
		}
	}
	return builds
}

func reaches(classes ...queue.ClassID) []queue.Reach {
	all := make([]queue.Reach, len(classes))
	for i, class := range classes {
		all[i] = queue.Reach{Class: class, Floor: queue.NoFloor}
	}
	return all
}

// TestPlans checks that no statement reads a table whole that grows with the builds.
func TestPlans(t *testing.T) {
	_, db := open(t)
	fill(t, db, 1, 50000)
	analyze(t, db)
	pool, plans := watch(t, db)
	b := backend(t, pool, &pgqueue.Options{Schema: db.Schema})
	for _, op := range everyStatement(t, db, b) {
		plans.take()
		if err := op.run(t.Context()); err != nil {
			t.Errorf("%s: %v", op.name, err)
		}
		checkPlans(t, op.name, plans.take())
	}
}

// TestPendingBuildsAreListedByAnIndexOfTheirOwn checks that a list of what waits does not walk all that does not.
func TestPendingBuildsAreListedByAnIndexOfTheirOwn(t *testing.T) {
	_, db := open(t)
	fill(t, db, 1, 20000)
	analyze(t, db)
	pool, plans := watch(t, db)
	b := backend(t, pool, &pgqueue.Options{Schema: db.Schema})
	_, err := b.List(t.Context(), queue.Filter{Project: "project1", States: []queue.State{queue.Pending}, Limit: 50})
	if err != nil {
		t.Fatal(err)
	}
	if plan := strings.Join(plans.take(), "\n"); !strings.Contains(plan, "build_open") {
		t.Errorf("the plan is\n%s", plan)
	}
}

// TestPlansMadeWhenTablesWereSmall checks the plans that a connection made when there was little or nothing, and still uses.
func TestPlansMadeWhenTablesWereSmall(t *testing.T) {
	for _, rows := range []int{0, 1000, 5000} {
		t.Run(strconv.Itoa(rows), func(t *testing.T) {
			_, db := open(t)
			pool, plans := watch(t, db)
			b := backend(t, pool, &pgqueue.Options{Schema: db.Schema})
			if rows > 0 {
				fill(t, db, 1, rows)
			}
			analyze(t, db) // so that the server knows how little there is; of a table that it knows nothing of it expects ten pages
			for _, op := range everyStatement(t, db, b) {
				if err := op.run(t.Context()); err != nil {
					t.Errorf("%s: %v", op.name, err)
				}
			}
			fill(t, db, rows+1, 50000)
			for _, op := range everyStatement(t, db, b) {
				plans.take()
				if err := op.run(t.Context()); err != nil {
					t.Errorf("%s: %v", op.name, err)
				}
				if !op.cached() {
					continue
				}
				checkPlans(t, op.name, plans.take())
			}
		})
	}
}

func checkPlans(t *testing.T, name string, plans []string) {
	t.Helper()
	if len(plans) == 0 {
		t.Fatalf("%s: the server reported no plan: is auto_explain installed (postgresql-contrib) and the user a superuser?", name)
	}
	most := maxPages
	if strings.HasPrefix(name, "List") || name == "Leases" {
		most *= 2 // a page is merged from several, and then looked up; of leases there are many, each with a log
	}
	for _, plan := range plans {
		if n := pages(plan); n > most {
			t.Errorf("%s reads %d pages, want at most %d:\n%s", name, n, most, plan)
		}
	}
}

// maxPages is far below what the table of builds in fill has, or the smallest of its whole indexes.
const maxPages = 150

var buffers = regexp.MustCompile(`Buffers: shared(?: hit=(\d+))?(?: read=(\d+))?`)

// pages returns how many pages a plan has read: the first node's count has those of all others in it.
func pages(plan string) int {
	var sum int
	if m := buffers.FindStringSubmatch(plan); m != nil {
		for _, n := range m[1:] {
			count, _ := strconv.Atoi(n)
			sum += count
		}
	}
	return sum
}

// TestExecModes checks that no statement depends on how pgx sends it.
func TestExecModes(t *testing.T) {
	for _, mode := range []pgx.QueryExecMode{
		pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol,
	} {
		t.Run(mode.String(), func(t *testing.T) {
			_, db := open(t)
			fill(t, db, 1, 2000)
			pool := db.Open(t, func(c *pgxpool.Config) { c.ConnConfig.DefaultQueryExecMode = mode })
			b := backend(t, pool, &pgqueue.Options{Schema: db.Schema})
			for _, op := range everyStatement(t, db, b) {
				if err := op.run(t.Context()); err != nil {
					t.Errorf("%s: %v", op.name, err)
				}
			}
		})
	}
}
