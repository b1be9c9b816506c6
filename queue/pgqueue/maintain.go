package pgqueue

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/slipway-build/slipway/internal/sqlqueue"
	"github.com/slipway-build/slipway/queue"
)

// sweepLimit is the limit that stands in the statements of Maintain, where the planner can see it.
const sweepLimit = 512

// forget is how long ended sessions and dead controllers are remembered.
const forget = 10 * time.Minute

// The statements of Maintain find what is due by an index and leave alone what others have locked, so that any number of processes may
// run them. Each is a transaction of its own.

const expireSQL = `
WITH picked AS MATERIALIZED (
	SELECT z.id FROM (
		SELECT b.id FROM {schema}build b
		WHERE b.state < {offered} AND b.expires_at IS NOT NULL AND b.expires_at <= {now}
		ORDER BY b.expires_at LIMIT 512 FOR NO KEY UPDATE SKIP LOCKED) z
	LIMIT $2
)
UPDATE {schema}build b SET state = {expired}, finished_at = {now}, not_before = NULL, reason = $3
FROM picked p
WHERE b.id = p.id`

const takeBackSQL = `
WITH picked AS MATERIALIZED (
	SELECT z.id FROM (
		SELECT b.id FROM {schema}build b
		WHERE b.session_id IS NOT NULL AND b.state = {offered} AND b.deadline <= {now}
		ORDER BY b.deadline LIMIT 512 FOR NO KEY UPDATE SKIP LOCKED) z
	LIMIT $2
)
UPDATE {schema}build b SET
	state = {queued}, session_id = NULL, deadline = NULL,
	avoid_worker = b.worker, avoid_until = {now} + $3::bigint * interval '1 microsecond'
FROM picked p
WHERE b.id = p.id`

// orphansSQL takes back offers whose session has ended while they were made.
const orphansSQL = `
WITH picked AS MATERIALIZED (
	SELECT z.id FROM (
		SELECT b.id FROM {schema}build b
		WHERE b.session_id IS NOT NULL AND b.state = {offered} AND b.deadline > {now}
			AND b.session_id = ANY(ARRAY(SELECT s.id FROM {schema}session s WHERE s.ended_at IS NOT NULL))
		LIMIT 512 FOR NO KEY UPDATE SKIP LOCKED) z
	LIMIT $2
)
UPDATE {schema}build b SET state = {queued}, session_id = NULL, deadline = NULL
FROM picked p
WHERE b.id = p.id`

const timeOutSQL = `
WITH ending AS MATERIALIZED (
	SELECT z.*, {timed_out} AS outcome, $4::text AS reason FROM (
		SELECT ` + endingColumns + ` FROM {schema}build b
		WHERE b.session_id IS NOT NULL AND b.state = {running} AND b.deadline <= {now}
		ORDER BY b.deadline LIMIT 512 FOR NO KEY UPDATE SKIP LOCKED) z
	LIMIT $3
)` + endSQL

const forceSQL = `
WITH ending AS MATERIALIZED (
	SELECT z.*, {canceled} AS outcome, $4::text AS reason FROM (
		SELECT ` + endingColumns + ` FROM {schema}build b
		WHERE b.session_id IS NOT NULL AND b.state = {cancelling} AND b.deadline <= {now}
		ORDER BY b.deadline LIMIT 512 FOR NO KEY UPDATE SKIP LOCKED) z
	LIMIT $3
)` + endSQL

// sweepSQL does nothing unless the controller that asks has been fresh for the grace.
const sweepSQL = `
WITH gone AS MATERIALIZED (
	SELECT s.id FROM {schema}session s WHERE s.ended_at <= {now} - $6::bigint * interval '1 microsecond'
	UNION
	SELECT s.id
	FROM {schema}controller c JOIN {schema}session s ON s.controller_id = c.id
	WHERE c.alive_until <= {now} - $6::bigint * interval '1 microsecond'
), ending AS MATERIALIZED (
	SELECT z.*, {lost} AS outcome, $4::text AS reason FROM (
		SELECT ` + endingColumns + ` FROM {schema}build b
		WHERE b.session_id IS NOT NULL AND b.session_id = ANY(ARRAY(SELECT id FROM gone)) AND b.state = {running} AND b.deadline > {now}
			AND EXISTS (SELECT FROM {schema}controller c WHERE c.id = $5 AND c.alive_until >= {now}
				AND c.fresh_since <= {now} - $6::bigint * interval '1 microsecond')
		LIMIT 512 FOR NO KEY UPDATE SKIP LOCKED) z
	LIMIT $3
)` + endSQL

// unclassedSQL looks for classes to be made, among those builds that the same round queues.
const unclassedSQL = `
SELECT EXISTS (
	SELECT FROM (
		SELECT z.pool, z.labels FROM (
			SELECT b.pool, b.labels FROM {schema}build b WHERE b.state = {held} AND b.class_id IS NULL
			ORDER BY b.rank, b.id LIMIT 512) z
		LIMIT $1) u
	WHERE NOT EXISTS (SELECT FROM {schema}class c WHERE c.pool = u.pool AND c.labels = u.labels))`

// internSQL runs under a lock, and after it in a snapshot of its own: numbers then become visible in the order in which they grow.
const internSQL = `
INSERT INTO {schema}class (pool, labels)
SELECT DISTINCT u.pool, u.labels
FROM (
	SELECT z.pool, z.labels FROM (
		SELECT b.pool, b.labels FROM {schema}build b WHERE b.state = {held} AND b.class_id IS NULL
		ORDER BY b.rank, b.id LIMIT 512) z
	LIMIT $1) u
WHERE NOT EXISTS (SELECT FROM {schema}class c WHERE c.pool = u.pool AND c.labels = u.labels)
ORDER BY u.pool, u.labels`

const classifySQL = `
WITH picked AS MATERIALIZED (
	SELECT z.id, z.class_id FROM (
		SELECT b.id, c.id AS class_id
		FROM {schema}build b JOIN {schema}class c ON c.pool = b.pool AND c.labels = b.labels
		WHERE b.state = {held} AND b.class_id IS NULL
		ORDER BY b.rank, b.id LIMIT 512 FOR NO KEY UPDATE OF b SKIP LOCKED) z
	LIMIT $1
)
UPDATE {schema}build b SET state = {queued}, class_id = p.class_id
FROM picked p
WHERE b.id = p.id`

const dueSQL = `
WITH picked AS MATERIALIZED (
	SELECT z.id FROM (
		SELECT b.id FROM {schema}build b
		WHERE b.state = {held} AND b.not_before IS NOT NULL AND b.not_before <= {now} AND b.class_id IS NOT NULL
		ORDER BY b.not_before LIMIT 512 FOR NO KEY UPDATE SKIP LOCKED) z
	LIMIT $2
)
UPDATE {schema}build b SET state = {queued}, not_before = NULL
FROM picked p
WHERE b.id = p.id`

const forgetSessionsSQL = `
DELETE FROM {schema}session WHERE id = ANY(ARRAY(
	SELECT z.id FROM (
		SELECT s.id FROM {schema}session s
		WHERE s.ended_at <= {now} - $3::bigint * interval '1 microsecond'
			AND NOT EXISTS (SELECT FROM {schema}build b WHERE b.session_id IS NOT NULL AND b.session_id = s.id)
		ORDER BY s.ended_at LIMIT 512 FOR UPDATE SKIP LOCKED) z
	LIMIT $2))`

const forgetControllersSQL = `
DELETE FROM {schema}controller WHERE id = ANY(ARRAY(
	SELECT z.id FROM (
		SELECT c.id FROM {schema}controller c
		WHERE c.alive_until <= {now} - $3::bigint * interval '1 microsecond'
			AND NOT EXISTS (SELECT FROM {schema}session s WHERE s.controller_id = c.id)
		LIMIT 512 FOR UPDATE SKIP LOCKED) z
	LIMIT $2))`

// Maintain implements [queue.Transitions]. It moves at most 512 builds of each kind, even if the rules allow more. Each kind has a
// transaction of its own: after an error those before it have been made.
func (b *Backend) Maintain(ctx context.Context, rules queue.Rules, now time.Time) (queue.Maintained, error) {
	r := round{Backend: b, Rules: rules, now: now}
	r.Limit = min(r.Limit, sweepLimit)
	for _, step := range []func(context.Context) error{r.expire, r.takeBack, r.end, r.sweep, r.admit, r.forget} {
		if err := step(ctx); err != nil {
			return r.done, err
		}
	}
	return r.done, nil
}

// A round is one call of Maintain.
type round struct {
	*Backend
	queue.Rules
	now  time.Time
	done queue.Maintained
}

// move runs a statement that moves builds of a kind, if there is room for more of them: present and room are its first arguments.
func (r *round) move(ctx context.Context, kind *int, sql string, args ...any) error {
	if *kind >= r.Limit {
		return nil
	}
	moved, err := r.change(ctx, sql, append([]any{present(r.now), r.Limit - *kind}, args...)...)
	r.count(kind, moved)
	return err
}

// count adds to a kind.
func (r *round) count(kind *int, moved int) {
	*kind += moved
	r.done.More = r.done.More || moved > 0 && *kind >= r.Limit
}

func (r *round) expire(ctx context.Context) error {
	return r.move(ctx, &r.done.Expired, r.sql.expire, queue.EventQueueTimeout.Reason())
}

func (r *round) takeBack(ctx context.Context) error {
	if err := r.move(ctx, &r.done.Released, r.sql.takeBack, r.Avoid.Microseconds()); err != nil {
		return err
	}
	return r.move(ctx, &r.done.Released, r.sql.orphans)
}

// end ends what has lasted too long.
func (r *round) end(ctx context.Context) error {
	late, err := r.endings(ctx, r.sql.timeOut, queue.EventDeadline)
	if err != nil {
		return err
	}
	r.count(&r.done.TimedOut, len(late))
	forced, err := r.endings(ctx, r.sql.force, queue.EventCancelDeadline)
	r.count(&r.done.Canceled, len(forced))
	return err
}

func (r *round) sweep(ctx context.Context) error {
	if r.Controller.IsZero() {
		return nil
	}
	swept, err := r.endings(ctx, r.sql.sweep, queue.EventSessionLost, uuid(r.Controller), r.Grace.Microseconds())
	if err != nil {
		return err
	}
	var lost int
	for _, e := range swept {
		if e.state == sqlqueue.Lost {
			lost++
		}
	}
	r.done.Lost, r.done.Requeued = lost, len(swept)-lost
	r.done.More = r.done.More || len(swept) > 0 && len(swept) >= r.Limit
	return nil
}

func (r *round) endings(ctx context.Context, sql string, event queue.Event, args ...any) ([]end, error) {
	return collect(ctx, r.Backend, scanEnd, sql, ending(r.now, r.Avoid, append([]any{r.Limit, event.Reason()}, args...)...)...)
}

// admit queues held builds: those whose class is new, then those whose back-off is over.
func (r *round) admit(ctx context.Context) error {
	if err := r.intern(ctx); err != nil {
		return err
	}
	classified, err := r.change(ctx, r.sql.classify, r.Limit)
	if err != nil {
		return err
	}
	r.count(&r.done.Queued, classified)
	return r.move(ctx, &r.done.Queued, r.sql.due)
}

// intern makes the classes that held builds need. Submitters never wait for its lock.
func (r *round) intern(ctx context.Context) error {
	missing, err := collect(ctx, r.Backend, pgx.RowTo[bool], r.sql.unclassed, r.Limit)
	if err != nil || !missing[0] {
		return err
	}
	var made int
	err = r.transact(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", r.lockName("intern")); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, r.sql.intern, r.Limit)
		made = int(tag.RowsAffected())
		return err
	})
	if err != nil {
		return err
	}
	r.done.Interned = made
	return nil
}

func (r *round) forget(ctx context.Context) error {
	if err := r.move(ctx, &r.done.Forgotten, r.sql.forgetSessions, forget.Microseconds()); err != nil {
		return err
	}
	return r.move(ctx, &r.done.Forgotten, r.sql.forgetControllers, forget.Microseconds())
}
