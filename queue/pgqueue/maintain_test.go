package pgqueue_test

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/queue/pgqueue"
)

const classSQL = `INSERT INTO {schema}.class (pool, labels) VALUES ('pool', '')`

// endedSQL makes builds that have ended an hour ago, each with an attempt, a log and an artifact of so many bytes.
const endedSQL = `
WITH made AS (
	INSERT INTO {schema}.build (id, rank, run_timeout, created_at, max_attempts, state, project, pool, labels, class_id, epoch, attempts_used,
		worker, started_at, finished_at, idem_key, idem_hash)
	SELECT overlay(gen_random_uuid()::text placing '7' from 15)::uuid, n, 1, now() - interval '2 hours', 1, 5, 'project' || n % 5, 'pool', '', 1, 1, 1,
		'w', now() - interval '2 hours', now() - interval '1 hour' + n * interval '1 microsecond', 'key' || n, repeat('x', 32)::bytea
	FROM generate_series(1, $1::int) n
	RETURNING id, project
), attempts AS (
	INSERT INTO {schema}.attempt (build_id, epoch, started_at, ended_at, outcome, result, log_complete, worker, reason, signal)
	SELECT id, 1, now(), now(), 5, 5, true, 'w', '', '' FROM made
), heads AS (
	INSERT INTO {schema}.log_head (build_id, epoch, length, closed) SELECT id, 1, $2::bigint, true FROM made
), chunks AS (
	INSERT INTO {schema}.log_chunk (build_id, epoch, start, data) SELECT id, 1, 0, 'x' FROM made
), artifacts AS (
	INSERT INTO {schema}.artifact (build_id, epoch, size, created_at, project, name, digest, committed, charged)
	SELECT id, 1, $2, now(), project, 'a' || n, repeat('x', 32)::bytea, n = 1, true FROM made, generate_series(1, 2) n
)
INSERT INTO {schema}.project AS p (name, artifact_bytes) SELECT project, sum(2 * $2) FROM made GROUP BY project
ON CONFLICT (name) DO UPDATE SET artifact_bytes = p.artifact_bytes + excluded.artifact_bytes`

// left counts the rows of tables.
func (s *stage) left(tables ...string) (n int) {
	s.Helper()
	for _, table := range tables {
		var rows int
		s.must(s.db.Pool.QueryRow(s.Context(), "SELECT count(*) FROM "+s.db.Schema+"."+table).Scan(&rows))
		n += rows
	}
	return n
}

// Any number of processes may do what is due at once: each thing is done once, and nobody waits for others for good.
func TestMaintainInManyProcesses(t *testing.T) {
	s := newStage(t)
	const builds = 2000
	run(t, s.db, classSQL)
	run(t, s.db, endedSQL, builds, 10)
	run(t, s.db, `
INSERT INTO {schema}.build (id, rank, run_timeout, created_at, max_attempts, state, project, pool, labels, class_id, epoch, attempts_used,
	worker, started_at, session_id, deadline, queue_timeout, expires_at, not_before)
SELECT overlay(gen_random_uuid()::text placing '7' from 15)::uuid, n, 1, now() - interval '2 hours', 2, s, 'project' || n % 5, 'pool', '', 1,
	CASE WHEN s >= 2 THEN 1 ELSE 0 END, CASE WHEN s >= 3 THEN 1 ELSE 0 END, CASE WHEN s >= 2 THEN 'w' ELSE '' END, CASE WHEN s >= 3 THEN now() END,
	CASE WHEN s >= 2 THEN (SELECT min(id) FROM {schema}.session) END, CASE WHEN s >= 2 THEN now() - interval '1 minute' END,
	CASE WHEN s = 1 THEN 1 END, CASE WHEN s = 1 THEN now() - interval '1 minute' END, CASE WHEN s = 0 THEN now() - interval '1 minute' END
FROM generate_series(0, $1::int - 1) n, LATERAL (SELECT n % 5 AS s) x`, builds)
	var mu sync.Mutex
	var sum queue.Maintained
	var processes sync.WaitGroup
	for range 6 {
		b := backend(t, s.db.Open(t, nil), &pgqueue.Options{Schema: s.db.Schema, Timeout: time.Minute})
		processes.Go(func() {
			for more := true; more; {
				done, err := b.Maintain(t.Context(), queue.Rules{Limit: 50, Retention: 30 * time.Minute, KeepKeys: 30 * time.Minute}, now)
				if err != nil {
					t.Error(err)
					return
				}
				more = done.More
				mu.Lock()
				sum.Expired += done.Expired
				sum.Released += done.Released
				sum.TimedOut += done.TimedOut
				sum.Canceled += done.Canceled
				sum.Queued += done.Queued
				sum.Deleted += done.Deleted
				sum.Folded += done.Folded
				mu.Unlock()
			}
		})
	}
	processes.Wait()
	want := queue.Maintained{Expired: builds / 5, Released: builds / 5, TimedOut: builds / 5, Canceled: builds / 5, Queued: builds / 5, Deleted: builds}
	if sum.Folded == 0 {
		t.Error("no statistics were added up")
	}
	if sum.Folded = 0; fmt.Sprint(sum) != fmt.Sprint(want) {
		t.Errorf("all of them did %+v, want %+v", sum, want)
	}
	for range 2 { // what was counted last
		_, err := s.Maintain(t.Context(), queue.Rules{Limit: 50}, now)
		s.must(err)
	}
	if n := s.left("log_chunk", "artifact", "stat_delta"); n != 0 {
		t.Errorf("%d rows are left of deleted builds and folded statistics", n)
	}
	projects, err := s.Projects(t.Context(), "", 10)
	s.must(err)
	for _, p := range projects {
		if p.ArtifactBytes != 0 {
			t.Errorf("of a project without artifacts %d bytes are charged", p.ArtifactBytes)
		}
	}
	stats, err := s.Stats(t.Context(), "", time.Now().AddDate(0, 0, -1), time.Now().AddDate(0, 0, 1))
	s.must(err)
	var total queue.DayStats
	for _, d := range stats.Days {
		total.Expired += d.Expired
		total.TimedOut += d.TimedOut
		total.Canceled += d.Canceled
	}
	if total.Expired != builds/5 || total.TimedOut != builds/5 || total.Canceled != builds/5 {
		t.Errorf("counted %+v", total)
	}
}

// Logs are deleted by the bytes as well as by the builds; one that is too long goes alone.
func TestRetentionGoesByBytes(t *testing.T) {
	s := newStage(t)
	run(t, s.db, classSQL)
	run(t, s.db, endedSQL, 10, 6<<20)
	rules := queue.Rules{Limit: 100, Retention: time.Minute}
	for i, want := range []int{2, 2, 2, 2, 2} {
		done, err := s.Maintain(t.Context(), rules, now)
		if err != nil || done.Deleted != want || done.More != (i < 4) {
			t.Errorf("call %d deleted %d builds of 6 MiB each, more %v, %v; want %d", i, done.Deleted, done.More, err, want)
		}
	}
	run(t, s.db, endedSQL, 2, 100<<20)
	for range 2 {
		if done, err := s.Maintain(t.Context(), rules, now); err != nil || done.Deleted != 1 {
			t.Errorf("deleted %d builds of 100 MiB each, %v; want one at a time", done.Deleted, err)
		}
	}
}

// A build whose log somebody is just about to archive is left alone, also if that was not to be seen yet when its turn came.
func TestRetentionWaitsForWhoeverArchives(t *testing.T) {
	s := newStage(t)
	run(t, s.db, classSQL)
	run(t, s.db, endedSQL, 3, 10)
	tx, err := s.db.Pool.Begin(t.Context())
	s.must(err)
	defer tx.Rollback(context.Background())
	_, err = tx.Exec(t.Context(), "UPDATE "+s.db.Schema+`.log_head SET archiving_until = now() + interval '1 hour'
		WHERE build_id = (SELECT min(build_id::text)::uuid FROM `+s.db.Schema+".log_head)")
	s.must(err)
	var call sync.WaitGroup
	var done queue.Maintained
	call.Go(func() { done, err = s.Maintain(t.Context(), queue.Rules{Limit: 10, Retention: time.Minute}, now) })
	s.waiting(1)
	s.must(tx.Commit(t.Context()))
	if call.Wait(); err != nil || done.Deleted != 2 {
		t.Errorf("deleted %d builds, %v; want those two whose logs nobody archives", done.Deleted, err)
	}
	if n := s.left("log_head"); n != 1 {
		t.Errorf("%d heads of logs are left, want 1", n)
	}
}

// What was queued in a fair pool without having been admitted, and so would stand behind all others for good, is held: however much it is.
func TestPoolWithManyBuildsBecomesFair(t *testing.T) {
	s := newStage(t)
	b := backend(t, s.db.Pool, &pgqueue.Options{Schema: s.db.Schema, Timeout: time.Minute})
	const builds = 12_000
	run(t, s.db, classSQL)
	run(t, s.db, `
INSERT INTO {schema}.build (id, rank, run_timeout, created_at, max_attempts, state, project, pool, labels, class_id)
SELECT overlay(gen_random_uuid()::text placing '7' from 15)::uuid, (extract(epoch FROM now()) * 1000000)::bigint, 1, now(), 1, 1, 'project', 'pool', '', 1
FROM generate_series(1, $1::int) n`, builds)
	s.must(b.ChangePool(t.Context(), "pool", queue.PoolChange{Fair: new(true)}))
	queued := func() (n int) {
		s.must(s.db.Pool.QueryRow(t.Context(), "SELECT count(*) FROM "+s.db.Schema+".build WHERE state = 1").Scan(&n))
		return n
	}
	if n := queued(); n != builds-10_000 {
		t.Errorf("%d builds are queued when the pool has become fair, want those beyond 10,000", n)
	}
	for more := true; more; {
		done, err := b.Maintain(t.Context(), queue.Rules{Limit: 512}, now)
		s.must(err)
		more = done.More
	}
	if n := queued(); n != 0 {
		t.Errorf("%d builds are queued without having been admitted", n)
	}
	s.must(b.Serve(t.Context(), []queue.ClassID{1}, time.Minute, now))
	if done, err := b.Admit(t.Context(), queue.Lane{}, 512, now); err != nil || done.Queued != queue.FairWindow || done.Heads[0].Rank != 0 {
		t.Errorf("Admit did %+v, %v; want the window from rank 0 on", done, err)
	}
	s.must(b.ChangePool(t.Context(), "pool", queue.PoolChange{Fair: new(false)}))
	if n := queued(); n != 0 {
		t.Errorf("%d builds are queued when the pool has ceased to be fair", n)
	}
}

// A program of version 1 queues whatever has come to its time, also without a class. It is held again, and then given its class.
func TestQueuedWithoutAClass(t *testing.T) {
	s := newStage(t)
	later := time.Now().Add(time.Hour).UTC().Truncate(time.Microsecond)
	s.submit(queue.NewBuild{ID: queue.NewID(), Project: "project", Pool: "pool", RunTimeout: time.Hour, MaxAttempts: 1, NotBefore: later})
	run(t, s.db, "UPDATE {schema}.build SET state = 1, not_before = NULL WHERE state = 0 AND not_before IS NOT NULL AND class_id IS NOT NULL")
	for range 2 {
		_, err := s.Maintain(t.Context(), queue.Rules{Limit: 10}, now)
		s.must(err)
	}
	rows, err := s.db.Pool.Query(t.Context(), "SELECT class_id FROM "+s.db.Schema+".build WHERE state = 1")
	s.must(err)
	if class, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[int]); err != nil || class != 1 {
		t.Errorf("the build is queued in class %d, %v; want 1", class, err)
	}
}

// TestPlansOfWhatIsDue checks that what Maintain deletes and adds up is found by indexes, also by plans that were made when there was nothing.
func TestPlansOfWhatIsDue(t *testing.T) {
	_, db := open(t)
	pool, plans := watch(t, db)
	b := backend(t, pool, &pgqueue.Options{Schema: db.Schema})
	rules := queue.Rules{Limit: 5, Retention: 90 * time.Minute, KeepKeys: time.Hour}
	maintain := func() queue.Maintained {
		t.Helper()
		done, err := b.Maintain(t.Context(), rules, now)
		if err != nil {
			t.Fatal(err)
		}
		return done
	}
	maintain()
	fill(t, db, 1, 50_000)
	run(t, db, `UPDATE {schema}.build SET finished_at = now() - interval '2 hours' WHERE id IN (SELECT id FROM {schema}.build WHERE state = 5 ORDER BY id LIMIT 20)`)
	run(t, db, `UPDATE {schema}.build SET finished_at = now() - interval '70 minutes', idem_key = id::text, idem_hash = repeat('x', 32)::bytea
		WHERE id IN (SELECT id FROM {schema}.build WHERE state = 5 AND finished_at > now() - interval '1 hour' ORDER BY id LIMIT 20)`)
	run(t, db, `UPDATE {schema}.artifact SET committed = false WHERE build_id IN (SELECT id FROM {schema}.build WHERE state = 5 ORDER BY id DESC LIMIT 20)`)
	for range 2 { // before and after statistics are there
		plans.take()
		if done := maintain(); done.Deleted != 5 || done.Forgotten != 5 {
			t.Errorf("Maintain did %+v", done)
		}
		for _, plan := range plans.take() {
			if n := pages(plan); n > 3*maxPages { // 5 builds, each with rows in six tables
				t.Errorf("Maintain reads %d pages:\n%s", n, plan)
			}
		}
		analyze(t, db)
	}
}

// TestPlansOfWhatIsClassified checks that of many classes each build looks up its own, also by a plan that was made when there were none.
func TestPlansOfWhatIsClassified(t *testing.T) {
	const builds, perBuild = 500, 25 // pages: a lock, a new version of the row and its entries in six indexes
	_, db := open(t)
	pool, plans := watch(t, db)
	b := backend(t, pool, &pgqueue.Options{Schema: db.Schema})
	analyze(t, db)
	rules := queue.Rules{Limit: builds}
	if _, err := b.Maintain(t.Context(), rules, now); err != nil {
		t.Fatal(err)
	}
	run(t, db, `INSERT INTO {schema}.class (pool, labels) SELECT 'p', 'n=' || n FROM generate_series(1, 5000) n`)
	for range 2 { // before and after statistics are there
		run(t, db, `
INSERT INTO {schema}.build (id, rank, run_timeout, created_at, max_attempts, state, project, pool, labels, class_id)
SELECT overlay(gen_random_uuid()::text placing '7' from 15)::uuid, n, 1, now(), 1, 0, 'project', 'p', 'n=' || n, CASE WHEN n % 2 = 0 THEN 0 END
FROM generate_series(1, $1::int) n`, builds)
		plans.take()
		if done, err := b.Maintain(t.Context(), rules, now); err != nil || done.Queued != builds {
			t.Errorf("Maintain queued %d builds, %v; want %d", done.Queued, err, builds)
		}
		for _, plan := range plans.take() {
			if n := pages(plan); n > maxPages+builds*perBuild {
				t.Errorf("Maintain reads %d pages:\n%s", n, plan)
			}
			for _, m := range regexp.MustCompile(`Rows Removed by Join Filter: (\d+)`).FindAllStringSubmatch(plan, -1) {
				if n, err := strconv.Atoi(m[1]); err != nil || n > builds {
					t.Errorf("Maintain compares too much in vain:\n%s", plan)
				}
			}
		}
		analyze(t, db)
	}
}
