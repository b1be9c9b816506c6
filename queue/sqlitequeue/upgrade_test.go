package sqlitequeue

import (
	"database/sql"
	"encoding/json"
	"testing"
	"time"

	"github.com/slipway-build/slipway/internal/migrate"
	"github.com/slipway-build/slipway/internal/sqlqueue"
	"github.com/slipway-build/slipway/internal/testenv"
	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/queue/queuetest"
)

// The statements with which programs of version 1 moved builds.
const (
	submitV1 = `
INSERT INTO {schema}build (
	id, project, pool, labels, class_id, state, rank, source_digest, source_size, max_attempts, run_timeout, queue_timeout,
	created_at, expires_at, spec)
SELECT
	unhex(n.v->>'id', '-'), n.v->>'project', n.v->>'pool', n.v->>'labels',
	c.id, CASE WHEN c.id IS NULL THEN {held} ELSE {queued} END, t.now,
	unhex(n.v->>'digest'), n.v->>'size', n.v->>'attempts', n.v->>'run', n.v->>'queue',
	t.now, t.now + (n.v->>'queue'), unhex(n.v->>'spec')
FROM (SELECT value AS v FROM json_each(?)) AS n CROSS JOIN (SELECT ? AS now) AS t
LEFT JOIN {schema}class AS c ON c.pool = n.v->>'pool' AND c.labels = n.v->>'labels'`

	newBuildsV1 = `(SELECT b.id, b.pool, b.labels FROM {schema}build AS b WHERE b.state = {held} AND b.class_id IS NULL
	ORDER BY b.rank, b.id LIMIT ?1)`

	internV1 = `
INSERT INTO {schema}class (pool, labels) SELECT DISTINCT n.pool, n.labels FROM ` + newBuildsV1 + ` AS n WHERE true
ON CONFLICT DO NOTHING`

	admitNewV1 = `
UPDATE {schema}build AS b SET state = {queued}, class_id = c.id
FROM ` + newBuildsV1 + ` AS n CROSS JOIN {schema}class AS c ON c.pool = n.pool AND c.labels = n.labels
WHERE b.id = n.id`

	admitDueV1 = `
UPDATE {schema}build SET state = {queued}, not_before = NULL
WHERE id IN (SELECT b.id FROM {schema}build AS b WHERE b.state = {held} AND b.not_before <= ?1 ORDER BY b.not_before LIMIT ?2)`

	claimV1 = `
UPDATE {schema}build SET epoch = epoch + 1, session_id = ?1, worker = ?2, state = {running}, deadline = ?3 + run_timeout,
	attempts_used = attempts_used + 1, started_at = ?3
WHERE id = (SELECT q.id FROM {schema}build AS q WHERE q.state = {queued} AND q.class_id = ?4 ORDER BY q.rank, q.id LIMIT 1)
RETURNING id, epoch`

	endAttemptV1 = `
INSERT INTO {schema}attempt (
	build_id, epoch, worker, started_at, ended_at, outcome, result, reason, exit_code, signal, log_sha256, log_complete)
SELECT b.id, b.epoch, b.worker, b.started_at, ?2, {lost}, {held}, 'gone', NULL, '', NULL, 0 FROM {schema}build AS b WHERE b.id = ?1`

	endBuildV1 = `
UPDATE {schema}build SET state = {held}, session_id = NULL, deadline = NULL, token_hash = NULL, not_before = ?2,
	avoid_worker = worker, avoid_until = ?2, expires_at = ?2 + queue_timeout
WHERE id = ?1`

	artifactV1 = `
INSERT INTO {schema}artifact (build_id, epoch, project, name, digest, size, created_at) VALUES (?1, 1, 'project', ?2, zeroblob(32), ?3, 1)`
)

// An old is a program of version 1.
type old struct {
	t  *testing.T
	db *sql.DB
}

func (o old) run(text string, args ...any) int64 {
	o.t.Helper()
	result, err := o.db.ExecContext(o.t.Context(), names.Expand(text), args...)
	if err != nil {
		o.t.Fatalf("%v\n%s", err, text)
	}
	n, err := result.RowsAffected()
	if err != nil {
		o.t.Fatal(err)
	}
	return n
}

func (o old) submit(now time.Time) queue.ID {
	o.t.Helper()
	id := queue.NewID()
	arg, err := json.Marshal([]map[string]any{{
		"id": id, "project": "project", "pool": "default", "labels": "", "attempts": 3, "run": time.Hour.Microseconds(),
	}})
	if err != nil {
		o.t.Fatal(err)
	}
	o.run(submitV1, string(arg), now.UnixMicro())
	return id
}

// maintain does what is due, but for offers, which there are none of here.
func (o old) maintain(now time.Time) (queued int64) {
	o.t.Helper()
	o.run(internV1, 100)
	return o.run(admitNewV1, 100) + o.run(admitDueV1, now.UnixMicro(), 100)
}

func (o old) claim(session queue.SessionID, class queue.ClassID, now time.Time) (id queue.AttemptID) {
	o.t.Helper()
	row := o.db.QueryRowContext(o.t.Context(), names.Expand(claimV1), session, "worker", now.UnixMicro(), class)
	if err := row.Scan(scanID(&id.Build), &id.Epoch); err != nil {
		o.t.Fatal(err)
	}
	return id
}

// lose ends an attempt as lost, to be attempted again.
func (o old) lose(id queue.AttemptID, again, now time.Time) {
	o.t.Helper()
	o.run(endAttemptV1, id.Build[:], now.UnixMicro())
	o.run(endBuildV1, id.Build[:], again.UnixMicro())
}

// newest is a program of this version, at a time that the test moves.
type newest struct {
	*Backend
	t   *testing.T
	now time.Time
}

func (n *newest) must(err error) {
	n.t.Helper()
	if err != nil {
		n.t.Fatal(err)
	}
}

func (n *newest) maintain() queue.Maintained {
	n.t.Helper()
	done, err := n.Maintain(n.t.Context(), queue.Rules{Limit: 100, KeepKeys: time.Hour}, n.now)
	n.must(err)
	return done
}

func (n *newest) submit(b queue.NewBuild) queue.ID {
	n.t.Helper()
	b.ID, b.Project, b.RunTimeout, b.MaxAttempts = queue.NewID(), "project", time.Hour, 3
	if b.Pool == "" {
		b.Pool = "default"
	}
	_, err := n.Submit(n.t.Context(), []queue.NewBuild{b}, n.now)
	n.must(err)
	return b.ID
}

// wantStored reports a build that is stored in another state, or in another class.
func (n *newest) wantStored(what string, id queue.ID, state sqlqueue.State, class queue.ClassID) {
	n.t.Helper()
	var gotState sqlqueue.State
	var gotClass queue.ClassID
	row := n.db.DB.QueryRowContext(n.t.Context(), "SELECT state, coalesce(class_id, -1) FROM slipway_build WHERE id = ?", id[:])
	n.must(row.Scan(&gotState, &gotClass))
	if gotState != state || gotClass != class {
		n.t.Errorf("%s: build is stored in state %d and class %d, want %d and %d", what, gotState, gotClass, state, class)
	}
}

// oldSchema makes the tables of version 1.
func oldSchema(t *testing.T, b *Backend) {
	t.Helper()
	steps, err := migrate.Load(Migrations())
	if err != nil {
		t.Fatal(err)
	}
	err = migrate.New("slipway_schema_version", steps[:1], names.Expand).Apply(t.Context(), b.db)
	if err != nil {
		t.Fatal(err)
	}
}

// What a program of version 1 has stored goes on where it was, whatever state it is in.
func TestUpgrade(t *testing.T) {
	db, err := Open(testenv.SQLite(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	b, err := New(db, nil)
	if err != nil {
		t.Fatal(err)
	}
	oldSchema(t, b)
	v1, now := old{t, db}, time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	v1.run(`INSERT INTO {schema}controller (id, alive_until, fresh_since) VALUES (zeroblob(16), 1, 1)`)
	v1.run(`INSERT INTO {schema}session (controller_id, worker, instance, labels, pools, slots, direct, opened_at)
		VALUES (zeroblob(16), 'worker', 'boot', '', 'default', 1, 1, 1)`)
	v1.submit(now)
	v1.maintain(now)
	lost := v1.claim(1, 1, now)
	v1.submit(now)
	running := v1.claim(1, 1, now)
	v1.run(artifactV1, running.Build[:], "app", 10)
	v1.run(artifactV1, running.Build[:], "map", 5)
	v1.lose(lost, now.Add(time.Minute), now)
	queued := v1.submit(now)
	v1.run(`DELETE FROM {schema}class`) // so that the next one is of a class that is not known
	fresh := v1.submit(now)
	v1.run(`INSERT INTO {schema}class (id, pool, labels) VALUES (1, 'default', '')`)

	if err := b.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	n := &newest{Backend: b, t: t, now: now.Add(time.Minute)}
	if err := n.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	projects, err := n.Projects(t.Context(), "", 10)
	n.must(err)
	if len(projects) != 1 || projects[0].Name != "project" || projects[0].ArtifactBytes != 15 {
		t.Errorf("projects are %+v, want 15 bytes of artifacts of project", projects)
	}
	if done := n.maintain(); done.Queued != 2 || done.Forgotten != 0 {
		t.Errorf("Maintain did %+v, want to queue what is new and what waited for its time", done)
	}
	for _, id := range []queue.ID{lost.Build, queued, fresh} {
		n.wantStored("after Maintain", id, sqlqueue.Queued, 1)
		build, err := n.Get(t.Context(), "project", id)
		n.must(err)
		if build.Backoff != (queue.Backoff{Base: 5 * time.Second, Max: 5 * time.Minute}) || build.RetryFailed || build.Priority != 0 {
			t.Errorf("build is %+v", build)
		}
	}
	done, err := n.Finish(t.Context(), []queue.Completion{{AttemptID: running, Outcome: queue.Succeeded}}, 0, n.now)
	n.must(err)
	if len(done) != 1 || done[0].State != queue.Succeeded {
		t.Errorf("Finish returned %+v", done)
	}
	if done := n.maintain(); done.Forgotten != 2 {
		t.Errorf("Maintain forgot %d, want the two reservations of the attempt that ended", done.Forgotten)
	}
}

// While a program of version 1 goes on beside this one, it queues nothing that has to be admitted or has no class yet, and what it does
// counts.
func TestOlderProgramGoesOn(t *testing.T) {
	b := newBackend(t)
	v1 := old{t, b.db.DB}
	n := &newest{Backend: b, t: t, now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	session, err := queuetest.Open(t.Context(), n, queue.NewSession{
		Controller: queue.NewID(), Worker: "worker", Instance: "boot", Pools: []string{"default"}, Slots: 1, Direct: true,
	}, n.now)
	n.must(err)
	n.must(n.SetLimit(t.Context(), queue.Limit{Project: "project", Key: "key", Max: 1}))
	n.submit(queue.NewBuild{})
	n.maintain()
	plain := v1.claim(session, 1, n.now)
	n.must(n.Serve(t.Context(), []queue.ClassID{1}, 24*time.Hour, n.now))

	again := n.submit(queue.NewBuild{ConcurrencyKey: "key"})
	admitted, err := n.Admit(t.Context(), queue.Lane{}, 10, n.now)
	n.must(err)
	if admitted.Queued != 1 {
		t.Fatalf("Admit did %+v", admitted)
	}
	lost := v1.claim(session, 1, n.now)
	soon := n.now.Add(time.Minute)
	v1.lose(lost, soon, n.now)
	waiting := n.submit(queue.NewBuild{ConcurrencyKey: "key"})
	later := n.submit(queue.NewBuild{ConcurrencyKey: "key", NotBefore: soon})
	unknown := n.submit(queue.NewBuild{Pool: "other", NotBefore: soon})
	scheduled := n.submit(queue.NewBuild{NotBefore: soon})

	n.now = soon
	if queued := v1.maintain(n.now); queued != 1 {
		t.Errorf("the older program queued %d builds, want the one that was scheduled and waits for nothing else", queued)
	}
	n.wantStored("in back-off, with a key", again, sqlqueue.Held, 1)
	n.wantStored("with a key", waiting, sqlqueue.Held, 1)
	n.wantStored("scheduled with a key", later, sqlqueue.Held, 1)
	n.wantStored("scheduled, of an unknown class", unknown, sqlqueue.Held, 0)
	n.wantStored("scheduled", scheduled, sqlqueue.Queued, 1)

	n.maintain()
	n.wantStored("its class made by this program", unknown, sqlqueue.Queued, 2)
	if admitted, err = n.Admit(t.Context(), queue.Lane{}, 10, n.now); err != nil || admitted.Queued != 1 {
		t.Errorf("Admit did %+v, %v, want one build of the key", admitted, err)
	}
	v1.submit(n.now)
	stats, err := n.Stats(t.Context(), "project", n.now.Truncate(24*time.Hour), n.now.Truncate(24*time.Hour))
	n.must(err)
	if len(stats.Days) != 1 || stats.Days[0].Submitted != 7 || stats.Days[0].Attempts != 1 {
		t.Errorf("stats are %+v, want 7 submits and an attempt", stats.Days)
	}
	v1.run(artifactV1, plain.Build[:], "app", 10)
	if projects, err := n.Projects(t.Context(), "", 10); err != nil || len(projects) != 1 || projects[0].ArtifactBytes != 10 {
		t.Errorf("projects are %+v, %v, want 10 bytes of artifacts", projects, err)
	}
}
