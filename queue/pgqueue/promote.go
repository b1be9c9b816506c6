package pgqueue

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/slipway-build/slipway/queue"
)

// lasts holds for a held build b that need not expire: one whose time in the queue is over is not queued, even if it could not be ended.
const lasts = `(b.expires_at IS NULL OR b.expires_at > {now})`

// withoutClass and withClassZero are the first builds b whose class is not known: those that are queued when it is, and those that have to be
// admitted then, or wait for their time. That a column is null does not tell the planner that it changes nothing about the order; so the
// order names it.
const (
	withoutClass  = `b.state = {held} AND b.class_id IS NULL AND ` + lasts + ` ORDER BY b.class_id, b.rank, b.id LIMIT 512`
	withClassZero = `b.state = {held} AND b.class_id = 0 AND ` + lasts + ` ORDER BY b.rank, b.id LIMIT 512`
)

// unclassed are those of which there is no class yet.
const unclassed = `(
	SELECT y.pool, y.labels FROM (SELECT b.pool, b.labels FROM {schema}build b WHERE ` + withoutClass + `) y
	UNION ALL
	SELECT z.pool, z.labels FROM (SELECT b.pool, b.labels FROM {schema}build b WHERE ` + withClassZero + `) z
	LIMIT $2) u
WHERE NOT EXISTS (SELECT FROM {schema}class c WHERE c.pool = u.pool AND c.labels = u.labels OFFSET 0)`

// unclassedSQL looks for classes to be made, among those builds that the same round gives theirs.
const unclassedSQL = `SELECT EXISTS (SELECT FROM ` + unclassed + `)`

// internSQL runs under a lock, and after it in a snapshot of its own: numbers then become visible in the order in which they grow.
const internSQL = `
INSERT INTO {schema}class (pool, labels)
SELECT DISTINCT u.pool, u.labels FROM ` + unclassed + `
ORDER BY u.pool, u.labels`

// gated holds for a build b that has to be admitted.
const gated = `(b.limit_key <> ''
	OR EXISTS (SELECT FROM {schema}pool g WHERE g.name = b.pool AND g.fair)
	OR EXISTS (SELECT FROM {schema}project g WHERE g.name = b.project AND g.paused))`

// classifySQL looks up the class of each build on its own, and finds what it has locked by its place in the table: a join would compare all with
// all if the planner knows of few.
const classifySQL = `
WITH picked AS MATERIALIZED (
	SELECT y.place, y.class_id FROM (` + classed + withoutClass + ` FOR NO KEY UPDATE OF b SKIP LOCKED) y
	UNION ALL
	SELECT z.place, z.class_id FROM (` + classed + withClassZero + ` FOR NO KEY UPDATE OF b SKIP LOCKED) z
	LIMIT $2
)
UPDATE {schema}build b SET
	class_id = p.class_id,
	not_before = CASE WHEN b.not_before > {now} THEN b.not_before END,
	state = CASE WHEN b.not_before > {now} OR ` + gated + ` THEN {held} ELSE {queued} END
FROM picked p
WHERE b.ctid = p.place
RETURNING b.class_id, b.rank, b.state = {queued}`

const classed = `
		SELECT b.ctid AS place, c.id AS class_id
		FROM {schema}build b
		CROSS JOIN LATERAL (SELECT c.id FROM {schema}class c WHERE c.pool = b.pool AND c.labels = b.labels OFFSET 0) c
		WHERE `

// dueSQL leaves builds of unknown classes to classifySQL. What was ranked by the virtual time of a fair pool has its own rank again, by which
// it is admitted anew.
const dueSQL = `
WITH picked AS MATERIALIZED (
	SELECT z.id FROM (
		SELECT b.id FROM {schema}build b
		WHERE b.state = {held} AND b.not_before IS NOT NULL AND b.not_before <= {now} AND b.class_id > 0 AND ` + lasts + `
		ORDER BY b.not_before LIMIT 512 FOR NO KEY UPDATE SKIP LOCKED) z
	LIMIT $2
)
UPDATE {schema}build b SET state = CASE WHEN ` + gated + ` THEN {held} ELSE {queued} END, not_before = NULL,
	admitted = false, rank = ` + ownRank + `
WHERE b.id = ANY(ARRAY(SELECT id FROM picked))
RETURNING b.class_id, b.rank, b.state = {queued}`

// settleSQL holds what is queued and should not be: in fair pools what was not admitted by virtual time, because it was on its way when the
// pool became fair, or was admitted for its key before, and has a rank that may be behind all others for good: those that the pool gave
// are below its virtual end. And what a program of version 1 has queued without a class.
const settleSQL = `
WITH found AS MATERIALIZED (
	SELECT z.id FROM (
		SELECT y.id
		FROM {schema}pool p JOIN {schema}class c ON c.pool = p.name COLLATE "default"
		CROSS JOIN LATERAL (
			SELECT FROM (
				SELECT b.admitted, b.rank FROM {schema}build b
				WHERE b.state = {queued} AND b.class_id = c.id ORDER BY b.rank DESC, b.id DESC LIMIT 4) x
			WHERE NOT x.admitted OR x.rank >= p.virtual_end LIMIT 1) last
		CROSS JOIN LATERAL (
			SELECT b.id, b.admitted, b.rank FROM {schema}build b
			WHERE b.state = {queued} AND b.class_id = c.id ORDER BY b.rank DESC, b.id DESC LIMIT 512) y
		WHERE p.fair AND (NOT y.admitted OR y.rank >= p.virtual_end)
		UNION ALL
		SELECT y.id FROM (
			SELECT b.id FROM {schema}build b WHERE b.state = {queued} AND b.class_id = 0 ORDER BY b.rank, b.id LIMIT 512) y) z
	LIMIT $1
), picked AS MATERIALIZED (
	SELECT b.id FROM {schema}build b
	WHERE b.id = ANY(ARRAY(SELECT id FROM found)) AND b.state IS NOT DISTINCT FROM {queued}
	FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE {schema}build b SET state = {held}, admitted = false, rank = ` + ownRank + `
WHERE b.id = ANY(ARRAY(SELECT id FROM picked))`

// classify queues held builds whose class is new, or leaves them to Admit.
func (r *round) classify(ctx context.Context) error {
	queued, err := r.queue(ctx, &r.promoted, r.sql.classify)
	r.done.Queued += queued
	return err
}

// due queues held builds whose time has come, or leaves them to Admit.
func (r *round) due(ctx context.Context) error {
	queued, err := r.queue(ctx, &r.promoted, r.sql.due)
	r.done.Queued += queued
	return err
}

// queue runs a statement that queues builds of a kind, or leaves them held, if there is room for more of them: present and room are its
// first arguments. It returns how many are queued.
func (r *round) queue(ctx context.Context, kind *int, sql string, args ...any) (queued int, err error) {
	if *kind >= r.Limit {
		return 0, nil
	}
	type row struct {
		class  queue.ClassID
		rank   int64
		queued bool
	}
	rows, err := collect(ctx, r.Backend, func(c pgx.CollectableRow) (x row, err error) {
		err = c.Scan(&x.class, &x.rank, &x.queued)
		return x, err
	}, sql, append([]any{present(r.now), r.Limit - *kind}, args...)...)
	for _, x := range rows {
		if x.queued {
			r.head(x.class, x.rank)
			queued++
		}
	}
	r.count(kind, len(rows))
	return queued, err
}

// head notes that a build was queued.
func (r *round) head(class queue.ClassID, rank int64) {
	at := slices.IndexFunc(r.done.Heads, func(h queue.Head) bool { return h.Class == class })
	if at < 0 {
		at = len(r.done.Heads)
		r.done.Heads = append(r.done.Heads, queue.Head{Class: class, Rank: rank})
	}
	r.done.Heads[at].Rank = min(r.done.Heads[at].Rank, rank)
	r.done.Heads[at].Count++
}

// intern makes the classes that held builds need. Submitters never wait for its lock.
func (r *round) intern(ctx context.Context) error {
	missing, err := collect(ctx, r.Backend, pgx.RowTo[bool], r.sql.unclassed, present(r.now), r.Limit)
	if err != nil || !missing[0] {
		return err
	}
	var made int
	err = r.sendAll(ctx, func(results pgx.BatchResults) error {
		tag, err := results.Exec()
		made = int(tag.RowsAffected())
		return err
	}, command{r.sql.takeLock, []any{r.lockName("intern")}}, command{r.sql.intern, []any{present(r.now), r.Limit}})
	if err != nil {
		return err
	}
	r.done.Interned = made
	return nil
}

// settle holds what should not be queued. It counts as nothing.
func (r *round) settle(ctx context.Context) error {
	held, err := r.change(ctx, r.sql.settle, r.Limit)
	r.done.More = r.done.More || held > 0
	return err
}
