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
//	place      how their pools are set
//	torn, reach  the first lane of a project in a fair pool that has more of them than there are in step; the last lane to look at: what
//	           shares a window is looked at by one call, or, if it comes first and is too much, with a part of what is left of the window,
//	           so that the lanes behind have their turn
//	lane       those that are not of a paused project, with the classes that may be admitted
//	paused, stopped  projects and pools that are paused
//	above, below  classes with queued builds, on both sides of one that chance takes, if a project is paused
//	found      queued builds that are to be held again: of paused projects, where one comes soon in a class, and those that nobody
//	           serves, or that have a key and are in a paused pool, where others wait for their place
//	open       lanes whose keys have room, and how much, by class
//	bunch      those that share a window, or else single ones
//	share      what is left of their windows, and where their projects are in virtual time
//	tempo      how far fair pools have come
//	candidate  the first of each bunch, of many lanes as far as it looks into each; lanes of several pools may share what is left of a key
const admitSQL = `
WITH RECURSIVE step AS (
	(SELECT b.pool, b.project, b.limit_key, b.class_id, 1 AS n
	FROM {schema}build b
	WHERE b.state = {held} AND b.class_id > 0 AND b.not_before IS NULL AND (b.pool, b.project, b.limit_key) > ($2::text, $3::text, $4::text)
	ORDER BY b.not_before, b.pool, b.project, b.limit_key, b.class_id LIMIT 1)
	UNION ALL
	SELECT z.pool, z.project, z.limit_key, z.class_id,
		s.n + CASE WHEN z.pool = s.pool AND z.project = s.project AND z.limit_key = s.limit_key THEN 0 ELSE 1 END
	FROM step s CROSS JOIN LATERAL (
		SELECT b.pool, b.project, b.limit_key, b.class_id
		FROM {schema}build b
		WHERE b.state = {held} AND b.class_id > 0 AND b.not_before IS NULL
			AND (b.pool, b.project, b.limit_key, b.class_id) > (s.pool, s.project, s.limit_key, s.class_id)
		ORDER BY b.not_before, b.pool, b.project, b.limit_key, b.class_id LIMIT 1) z
	WHERE s.n <= $5::int
), place AS MATERIALIZED (
	SELECT p.name, p.fair, p.paused FROM (SELECT DISTINCT s.pool FROM step s) k JOIN {schema}pool p ON p.name = k.pool
), torn AS MATERIALIZED (
	SELECT (SELECT min(o.n) FROM step o WHERE o.pool = s.pool AND o.project = s.project) AS n
	FROM step s JOIN place p ON p.name = s.pool
	WHERE s.n > $5::int AND p.fair
), reach AS MATERIALIZED (
	SELECT coalesce((SELECT t.n - 1 FROM torn t WHERE t.n > 1), $5::int) AS n
), lane AS MATERIALIZED (
	SELECT s.n, s.pool, s.project, s.limit_key, coalesce(p.fair, false) AS fair,
		array_agg(s.class_id) FILTER (WHERE c.served_until > {now} AND (s.limit_key = '' OR p.paused IS NOT TRUE)
			OR s.limit_key = '' AND p.fair IS NOT TRUE) AS classes
	FROM step s
	JOIN {schema}class c ON c.id = s.class_id
	LEFT JOIN place p ON p.name = s.pool
	WHERE s.n <= (SELECT n FROM reach) AND NOT EXISTS (SELECT FROM {schema}project j WHERE j.name = s.project AND j.paused)
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
), open AS MATERIALIZED (
	SELECT o.n, o.pool, o.project, o.limit_key, o.fair, c.id AS class_id, least($5::int, k.room) AS room
	FROM lane o
	LEFT JOIN LATERAL (
		SELECT m.max_running - u.n + (SELECT count(*) FROM idle i WHERE i.project = o.project AND i.limit_key = o.limit_key) AS room
		FROM {schema}build_limit m
		CROSS JOIN LATERAL (
			SELECT count(*) AS n FROM (
				SELECT FROM {schema}build b
				WHERE b.project = o.project AND b.limit_key = o.limit_key AND b.limit_key <> '' AND b.state BETWEEN {queued} AND {cancelling}
				LIMIT 20000) z) u
		WHERE o.limit_key <> '' AND m.project = o.project AND m.key = o.limit_key) k ON true
	CROSS JOIN LATERAL unnest(o.classes) AS c(id)
	WHERE coalesce(k.room, 1) > 0
), bunch AS MATERIALIZED (
	SELECT min(o.n) AS n, max(o.n) AS last, o.pool, o.project, o.fair, greatest(2048 / count(DISTINCT o.n), 1) AS glance,
		array_agg(o.n) AS lanes, array_agg(o.limit_key) AS keys, array_agg(o.room) AS rooms, array_agg(o.class_id) AS classes
	FROM open o
	GROUP BY o.pool, o.project, o.fair, CASE WHEN o.fair THEN 0 ELSE o.n END
), share AS MATERIALIZED (
	SELECT k.*, greatest(least($5::int, f.room), 0) AS room, f.virtual_end, f.step
	FROM bunch k
	LEFT JOIN LATERAL (
		SELECT CASE WHEN (SELECT t.n FROM torn t) = 1 THEN floor(v.room / 4.0 + $8::float8)::bigint ELSE v.room END AS room,
			s.virtual_end, $7::bigint / coalesce(s.weight, 1) AS step
		FROM (
			SELECT count(*) AS n FROM (
				SELECT FROM {schema}build b
				WHERE b.pool = k.pool AND b.project = k.project AND b.state = {queued} AND b.admitted LIMIT 1024) z) u
		CROSS JOIN LATERAL (
			SELECT $6::bigint - u.n + (SELECT count(*) FROM idle i WHERE i.pool = k.pool AND i.project = k.project) AS room) v
		LEFT JOIN {schema}share s ON s.pool = k.pool AND s.project = k.project
		WHERE k.fair) f ON true
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
	SELECT l.last, l.pool, l.project, l.fair, l.virtual_end, l.step, z.n, z.limit_key, z.key_room, z.id, z.rank
	FROM (SELECT * FROM share ORDER BY n) l
	CROSS JOIN LATERAL (
		SELECT y.n, y.limit_key, y.key_room, y.id, y.rank
		FROM (
			SELECT o.n, o.limit_key, o.key_room, x.id, x.rank, row_number() OVER (PARTITION BY o.n ORDER BY x.rank, x.id) AS place
			FROM unnest(l.lanes, l.keys, l.rooms, l.classes) AS o(n, limit_key, key_room, class_id)
			CROSS JOIN LATERAL (
				SELECT w.id, w.rank FROM (
					SELECT b.id, b.rank FROM {schema}build b
					WHERE b.state = {held} AND b.class_id > 0 AND b.not_before IS NULL
						AND b.pool = l.pool AND b.project = l.project AND b.limit_key = o.limit_key AND b.class_id = o.class_id
					ORDER BY b.not_before, b.rank, b.id LIMIT 512) w
				LIMIT least(l.room, o.key_room, l.glance)) x) y
		WHERE y.place <= y.key_room
		ORDER BY y.rank, y.id LIMIT l.room) z
	ORDER BY l.n LIMIT $5::int - (SELECT count(*) FROM idle)
), chosen AS MATERIALIZED (
	SELECT * FROM (
		SELECT c.*, row_number() OVER (PARTITION BY c.project, c.limit_key ORDER BY c.n, c.rank, c.id) AS key_place FROM candidate c) c
	WHERE c.limit_key = '' OR c.key_place <= c.key_room
), taken AS MATERIALIZED (
	SELECT c.pool, c.project, c.fair, c.virtual_end, c.step, z.id, z.class_id, z.rank
	FROM chosen c CROSS JOIN LATERAL (
		SELECT b.id, b.class_id, b.rank FROM {schema}build b
		WHERE b.id = c.id AND b.state IS NOT DISTINCT FROM {held}
		FOR NO KEY UPDATE SKIP LOCKED) z
), ranked AS MATERIALIZED (
	SELECT t.id, t.class_id, t.pool, t.project, t.fair, t.step, CASE WHEN t.fair
		THEN greatest(t.virtual_end, p.at) + (row_number() OVER (PARTITION BY t.pool, t.project ORDER BY t.rank, t.id) - 1) * t.step
		ELSE t.rank END AS rank
	FROM taken t
	LEFT JOIN tempo p ON t.fair AND p.pool = t.pool
), queued AS (
	UPDATE {schema}build b SET state = {queued}, admitted = true, rank = r.rank
	FROM ranked r
	WHERE b.id = ANY(ARRAY(SELECT id FROM ranked)) AND b.id = r.id
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
	SELECT CASE WHEN (SELECT count(*) FROM candidate) + (SELECT count(*) FROM idle) < $5::int THEN (SELECT n FROM reach)
		ELSE coalesce((SELECT max(last) FROM candidate), (SELECT last FROM bunch ORDER BY n LIMIT 1), 1) END AS n
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
