package pgqueue

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/slipway-build/slipway/queue"
)

// admitLimit is the limit that stands in admitSQL, where the planner can see it: of lanes, and of builds that move.
const admitLimit = 512

// takeLockSQL waits until nobody else decides what is admitted, or makes classes. The lock ends with the transaction. What is decided must
// be read by a statement that begins after it: only that sees what the one before has decided.
const takeLockSQL = `SELECT pg_advisory_xact_lock(hashtextextended($1, 0))`

// hastySQL keeps the commit from waiting for the disk, and with it those who wait for the lock. A crash can undo an admission, which is as if
// nobody had looked yet; it cannot undo one that a durable claim relies on, because the log is written in order.
const hastySQL = `SELECT set_config('synchronous_commit', 'off', true)`

// ownRank is the rank that a build b has outside of fair pools: see [queue.NewBuild.Rank].
const ownRank = `(extract(epoch FROM greatest(b.created_at, b.scheduled_at)) * 1000000)::bigint - b.priority * 60000000`

// admitSQL walks over lanes, class by class, each by a look into an index, and goes by what it sees of the settings, of what uses up
// limits and windows, and of how far fair pools have come: nobody else adds to those while it runs.
//
// What it moves it locks, after it has chosen, and lets alone what others hold: they are about to end or to claim it. Where builds are
// found by their ids, states are compared as they are, so that no partial index looks cheap. The inner limits are constants that the
// planner can see.
//
//	step       the lanes, numbered, with a class each, up to the first of the lane after the last
//	lane       those that are not of a paused project, with the classes that may be admitted
//	paused, stopped  projects and pools that are paused
//	above, below  classes with queued builds, on both sides of one that chance takes, if a project is paused
//	found      queued builds that are to be held again: of paused projects, where one comes soon in a class, and those that nobody
//	           serves, or that have a key and are in a paused pool, where others wait for their place
//	key, fair  what is left of the limits of keys, and of the windows of projects in fair pools
//	tempo      how far fair pools have come
//	candidate  the first of each lane; lanes may share what is left
const admitSQL = `
WITH RECURSIVE step AS (
	(SELECT b.pool, b.project, b.limit_key, b.class_id, 1 AS n
	FROM {schema}build b
	WHERE b.state = {held} AND b.class_id > 0 AND b.not_before IS NULL AND (b.pool, b.project, b.limit_key) > ($2::text, $3::text, $4::text)
	ORDER BY b.pool, b.project, b.limit_key, b.class_id LIMIT 1)
	UNION ALL
	SELECT z.pool, z.project, z.limit_key, z.class_id,
		s.n + CASE WHEN z.pool = s.pool AND z.project = s.project AND z.limit_key = s.limit_key THEN 0 ELSE 1 END
	FROM step s CROSS JOIN LATERAL (
		SELECT b.pool, b.project, b.limit_key, b.class_id
		FROM {schema}build b
		WHERE b.state = {held} AND b.class_id > 0 AND b.not_before IS NULL
			AND (b.pool, b.project, b.limit_key, b.class_id) > (s.pool, s.project, s.limit_key, s.class_id)
		ORDER BY b.pool, b.project, b.limit_key, b.class_id LIMIT 1) z
	WHERE s.n <= $5::int
), lane AS MATERIALIZED (
	SELECT s.n, s.pool, s.project, s.limit_key, coalesce(p.fair, false) AS fair,
		array_agg(s.class_id) FILTER (WHERE c.served_until > {now} AND (s.limit_key = '' OR p.paused IS NOT TRUE)
			OR s.limit_key = '' AND p.fair IS NOT TRUE) AS classes
	FROM step s
	JOIN {schema}class c ON c.id = s.class_id
	LEFT JOIN {schema}pool p ON p.name = s.pool
	WHERE s.n <= $5::int AND NOT EXISTS (SELECT FROM {schema}project j WHERE j.name = s.project AND j.paused)
	GROUP BY s.n, s.pool, s.project, s.limit_key, p.fair
), paused AS MATERIALIZED (
	SELECT j.name FROM {schema}project j WHERE j.paused
), stopped AS MATERIALIZED (
	SELECT p.name FROM {schema}pool p WHERE p.paused
), middle AS MATERIALIZED (
	SELECT (max(c.id) * $8::float8)::int AS id FROM {schema}class c
), above AS (
	SELECT z.class_id, 1 AS n
	FROM (
		SELECT b.class_id FROM {schema}build b
		WHERE b.state = {queued} AND b.class_id > (SELECT id FROM middle) AND EXISTS (SELECT FROM paused) ORDER BY b.class_id LIMIT 1) z
	UNION ALL
	SELECT z.class_id, q.n + 1
	FROM above q CROSS JOIN LATERAL (
		SELECT b.class_id FROM {schema}build b WHERE b.state = {queued} AND b.class_id > q.class_id ORDER BY b.class_id LIMIT 1) z
	WHERE q.n < 100
), below AS (
	SELECT z.class_id, 1 AS n
	FROM (
		SELECT b.class_id FROM {schema}build b
		WHERE b.state = {queued} AND b.class_id <= (SELECT id FROM middle) AND EXISTS (SELECT FROM paused) ORDER BY b.class_id DESC LIMIT 1) z
	UNION ALL
	SELECT z.class_id, q.n + 1
	FROM below q CROSS JOIN LATERAL (
		SELECT b.class_id FROM {schema}build b WHERE b.state = {queued} AND b.class_id < q.class_id ORDER BY b.class_id DESC LIMIT 1) z
	WHERE q.n < 100
), found AS MATERIALIZED (
	SELECT y.id
	FROM (SELECT class_id FROM above UNION ALL SELECT class_id FROM below) q
	CROSS JOIN LATERAL (
		SELECT q.class_id FROM (
			SELECT b.project FROM {schema}build b
			WHERE b.state = {queued} AND b.class_id = q.class_id ORDER BY b.rank, b.id LIMIT 20) z
		WHERE z.project IN (SELECT name FROM paused) LIMIT 1) near
	CROSS JOIN LATERAL (
		SELECT b.id, b.project FROM {schema}build b WHERE b.state = {queued} AND b.class_id = near.class_id ORDER BY b.rank, b.id LIMIT 512) y
	WHERE y.project IN (SELECT name FROM paused)
	UNION
	SELECT y.id
	FROM (SELECT DISTINCT l.project, l.limit_key FROM lane l WHERE l.limit_key <> '') k
	CROSS JOIN LATERAL (
		WITH RECURSIVE class AS (
			(SELECT b.class_id FROM {schema}build b
			WHERE b.project = k.project AND b.limit_key = k.limit_key AND b.limit_key <> '' AND b.state = {queued}
			ORDER BY b.class_id LIMIT 1)
			UNION ALL
			SELECT z.class_id FROM class q CROSS JOIN LATERAL (
				SELECT b.class_id FROM {schema}build b
				WHERE b.project = k.project AND b.limit_key = k.limit_key AND b.limit_key <> '' AND b.state = {queued}
					AND b.class_id > q.class_id
				ORDER BY b.class_id LIMIT 1) z
		)
		SELECT q.class_id FROM class q
		WHERE NOT EXISTS (
			SELECT FROM {schema}class c WHERE c.id = q.class_id AND c.served_until > {now} AND c.pool NOT IN (SELECT name FROM stopped))
	) c
	CROSS JOIN LATERAL (
		SELECT b.id FROM {schema}build b
		WHERE b.project = k.project AND b.limit_key = k.limit_key AND b.limit_key <> '' AND b.state = {queued} AND b.class_id = c.class_id
		LIMIT 512) y
	UNION
	SELECT y.id
	FROM (SELECT DISTINCT l.pool FROM lane l WHERE l.fair) k
	JOIN {schema}class c ON c.pool = k.pool AND (c.served_until > {now}) IS NOT TRUE
	CROSS JOIN LATERAL (
		SELECT b.id, b.project FROM {schema}build b WHERE b.state = {queued} AND b.class_id = c.id ORDER BY b.rank, b.id LIMIT 512) y
	WHERE EXISTS (SELECT FROM lane l WHERE l.fair AND l.pool = k.pool AND l.project = y.project)
), idle AS MATERIALIZED (
	SELECT b.id, b.pool, b.project, b.limit_key
	FROM {schema}build b
	WHERE b.id = ANY(ARRAY(SELECT f.id FROM found f LIMIT $5::int)) AND b.state IS NOT DISTINCT FROM {queued}
	FOR NO KEY UPDATE SKIP LOCKED
), key AS MATERIALIZED (
	SELECT k.project, k.limit_key, m.max_running - u.n
		+ (SELECT count(*) FROM idle i WHERE i.project = k.project AND i.limit_key = k.limit_key) AS room
	FROM (SELECT DISTINCT l.project, l.limit_key FROM lane l WHERE l.limit_key <> '') k
	JOIN {schema}build_limit m ON m.project = k.project AND m.key = k.limit_key
	CROSS JOIN LATERAL (
		SELECT count(*) AS n FROM (
			SELECT FROM {schema}build b
			WHERE b.project = k.project AND b.limit_key = k.limit_key AND b.limit_key <> '' AND b.state BETWEEN {queued} AND {cancelling}
			LIMIT 20000) z) u
), fair AS MATERIALIZED (
	SELECT k.pool, k.project, $6::bigint - u.n + (SELECT count(*) FROM idle i WHERE i.pool = k.pool AND i.project = k.project) AS room,
		s.virtual_end, $7::bigint / coalesce(s.weight, 1) AS step
	FROM (SELECT DISTINCT l.pool, l.project FROM lane l WHERE l.fair) k
	LEFT JOIN {schema}share s ON s.pool = k.pool AND s.project = k.project
	CROSS JOIN LATERAL (
		SELECT count(*) AS n FROM (
			SELECT FROM {schema}build b
			WHERE b.pool = k.pool AND b.project = k.project AND b.state = {queued} AND b.admitted LIMIT 1024) z) u
), tempo AS MATERIALIZED (
	SELECT k.pool, coalesce((
		SELECT min(h.rank)
		FROM {schema}class c CROSS JOIN LATERAL (
			SELECT b.rank FROM {schema}build b
			WHERE b.state = {queued} AND b.class_id = c.id AND b.id <> ALL(ARRAY(SELECT i.id FROM idle i))
			ORDER BY b.rank, b.id LIMIT 1) h
		WHERE c.pool = k.pool AND c.served_until > {now}), p.virtual_end) AS at
	FROM (SELECT DISTINCT l.pool FROM lane l WHERE l.fair) k
	JOIN {schema}pool p ON p.name = k.pool
), candidate AS MATERIALIZED (
	SELECT l.n, l.pool, l.project, l.limit_key, l.fair, l.key_room, l.fair_room, z.id, z.rank
	FROM (
		SELECT o.*, k.room AS key_room, f.room AS fair_room, greatest(least($5::int, k.room, f.room), 0) AS room
		FROM lane o
		LEFT JOIN key k ON k.project = o.project AND k.limit_key = o.limit_key
		LEFT JOIN fair f ON o.fair AND f.pool = o.pool AND f.project = o.project
		ORDER BY o.n) l
	CROSS JOIN LATERAL (
		SELECT y.id, y.rank
		FROM unnest(l.classes) AS c(id) CROSS JOIN LATERAL (
			SELECT x.id, x.rank FROM (
				SELECT b.id, b.rank FROM {schema}build b
				WHERE b.state = {held} AND b.class_id > 0 AND b.not_before IS NULL
					AND b.pool = l.pool AND b.project = l.project AND b.limit_key = l.limit_key AND b.class_id = c.id
				ORDER BY b.rank, b.id LIMIT 512) x
			LIMIT l.room) y
		ORDER BY y.rank, y.id LIMIT l.room) z
	ORDER BY l.n LIMIT $5::int - (SELECT count(*) FROM idle)
), chosen AS MATERIALIZED (
	SELECT * FROM (
		SELECT c.*, row_number() OVER (PARTITION BY c.project, c.limit_key ORDER BY c.n, c.rank, c.id) AS key_place,
			row_number() OVER (PARTITION BY c.pool, c.project ORDER BY c.n, c.rank, c.id) AS fair_place
		FROM candidate c) c
	WHERE c.key_place <= coalesce(c.key_room, 512) AND c.fair_place <= coalesce(c.fair_room, 512)
), taken AS MATERIALIZED (
	SELECT c.n, c.pool, c.project, c.fair, z.id, z.class_id, z.rank
	FROM chosen c CROSS JOIN LATERAL (
		SELECT b.id, b.class_id, b.rank FROM {schema}build b
		WHERE b.id = c.id AND b.state IS NOT DISTINCT FROM {held}
		FOR NO KEY UPDATE SKIP LOCKED) z
), ranked AS MATERIALIZED (
	SELECT t.id, t.class_id, t.pool, t.project, t.fair, f.step, CASE WHEN t.fair
		THEN greatest(f.virtual_end, p.at) + (row_number() OVER (PARTITION BY t.pool, t.project ORDER BY t.n, t.rank, t.id) - 1) * f.step
		ELSE t.rank END AS rank
	FROM taken t
	LEFT JOIN fair f ON t.fair AND f.pool = t.pool AND f.project = t.project
	LEFT JOIN tempo p ON t.fair AND p.pool = t.pool
), queued AS (
	UPDATE {schema}build b SET state = {queued}, admitted = true, rank = r.rank
	FROM ranked r
	WHERE b.id = r.id
), again AS (
	UPDATE {schema}build b SET state = {held}, admitted = false, rank = ` + ownRank + `
	WHERE b.id = ANY(ARRAY(SELECT id FROM idle))
), project_end AS (
	INSERT INTO {schema}share (pool, project, virtual_end)
	SELECT r.pool, r.project, max(r.rank + r.step) FROM ranked r WHERE r.fair GROUP BY r.pool, r.project
	ON CONFLICT (pool, project) DO UPDATE SET virtual_end = excluded.virtual_end
), pool_end AS (
	UPDATE {schema}pool p SET virtual_end = greatest(p.virtual_end, e.virtual_end)
	FROM (SELECT r.pool, max(r.rank + r.step) AS virtual_end FROM ranked r WHERE r.fair GROUP BY r.pool) e
	WHERE p.name = e.pool
), head AS MATERIALIZED (
	SELECT r.class_id, min(r.rank) AS rank, count(*) AS n FROM ranked r GROUP BY r.class_id
), last AS MATERIALIZED (
	SELECT CASE WHEN (SELECT count(*) FROM candidate) + (SELECT count(*) FROM idle) < $5::int THEN $5::int
		ELSE coalesce((SELECT max(n) FROM candidate), 1) END AS n
)
SELECT (SELECT count(*) FROM ranked), (SELECT count(*) FROM idle),
	ARRAY(SELECT h.class_id FROM head h ORDER BY h.class_id), ARRAY(SELECT h.rank FROM head h ORDER BY h.class_id),
	ARRAY(SELECT h.n FROM head h ORDER BY h.class_id),
	coalesce((SELECT ARRAY[s.pool, s.project, s.limit_key] FROM step s
		WHERE s.n = last.n AND EXISTS (SELECT FROM step t WHERE t.n > last.n) LIMIT 1), ARRAY['', '', ''])
FROM last`

// Admit implements [queue.Admission]. It looks at no more than 512 lanes, and moves no more than 512 builds, even if it may. What is queued
// of paused projects it holds when it comes near the head of its class, as far as it looks: at 200 classes in a call, others each time.
// Until then it is in nobody's way, and no claim takes it.
func (b *Backend) Admit(ctx context.Context, after queue.Lane, max int, now time.Time) (queue.Admitted, error) {
	if max < 1 {
		return queue.Admitted{Next: after}, nil
	}
	var done queue.Admitted
	err := b.sendAll(ctx, func(results pgx.BatchResults) (err error) {
		done, err = scanAdmitted(results.QueryRow())
		return err
	},
		command{hastySQL, nil},
		command{b.sql.takeLock, []any{b.lockName("admit")}},
		command{b.sql.admit, []any{
			present(now), after.Pool, after.Project, after.Key, min(max, admitLimit), queue.FairWindow, queue.FairStep, rand.Float64(),
		}})
	return done, err
}

func scanAdmitted(row pgx.Row) (done queue.Admitted, err error) {
	var classes, counts []int64
	var ranks []int64
	var next []string
	if err := row.Scan(&done.Queued, &done.Held, &classes, &ranks, &counts, &next); err != nil {
		return queue.Admitted{}, err
	}
	for i, class := range classes {
		done.Heads = append(done.Heads, queue.Head{Class: queue.ClassID(class), Rank: ranks[i], Count: int(counts[i])})
	}
	done.Next = queue.Lane{Pool: next[0], Project: next[1], Key: next[2]}
	return done, nil
}
