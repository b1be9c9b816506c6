package pgqueue

import (
	"context"
	"errors"
	"time"

	"github.com/slipway-build/slipway/internal/sqlqueue"
	"github.com/slipway-build/slipway/queue"
)

// sweepLimit is the limit that stands in the statements of Maintain, where the planner can see it.
const sweepLimit = 512

// The statements of Maintain find what is due by an index and leave alone what others have locked, so that any number of processes may
// run them. Each is a transaction of its own.

const expireSQL = `
WITH picked AS MATERIALIZED (
	SELECT z.id, z.project, z.waited FROM (
		SELECT b.id, b.project, ` + waited + ` AS waited FROM {schema}build b
		WHERE b.state < {offered} AND b.expires_at IS NOT NULL AND b.expires_at <= {now}
		ORDER BY b.expires_at LIMIT 512 FOR NO KEY UPDATE SKIP LOCKED) z
	LIMIT $2
), counted AS (
	INSERT INTO {schema}stat_delta (project, day, expired, waited)
	SELECT p.project, ({now} AT TIME ZONE 'UTC')::date, count(*), sum(p.waited) FROM picked p GROUP BY p.project
)
UPDATE {schema}build b SET state = {expired}, finished_at = {now}, not_before = NULL, reason = $3
WHERE b.id = ANY(ARRAY(SELECT id FROM picked))`

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
WHERE b.id = ANY(ARRAY(SELECT id FROM picked))
RETURNING b.class_id, b.rank, true`

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
WHERE b.id = ANY(ARRAY(SELECT id FROM picked))
RETURNING b.class_id, b.rank, true`

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

// Maintain implements [queue.Transitions]. It moves at most 512 builds of each kind, even if the rules allow more. Each kind has a
// transaction of its own.
func (b *Backend) Maintain(ctx context.Context, rules queue.Rules, now time.Time) (queue.Maintained, error) {
	r := round{Backend: b, Rules: rules, now: now}
	r.Limit = min(r.Limit, sweepLimit)
	if r.Limit < 1 {
		return r.done, nil
	}
	var failed []error
	for _, step := range []func(context.Context) error{
		r.expire, r.takeBack, r.orphans, r.timeOut, r.force, r.sweep, r.intern, r.classify, r.due, r.settle, r.retire, r.unreserve,
		r.forgetSessions, r.forgetControllers, r.forgetKeys, r.fold,
	} {
		err := step(ctx)
		failed = append(failed, err)
		if err != nil && ctx.Err() != nil {
			break
		}
	}
	return r.done, errors.Join(failed...)
}

// A round is one call of Maintain.
type round struct {
	*Backend
	queue.Rules
	now  time.Time
	done queue.Maintained

	promoted int // held builds that were given a class or whose time has come
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

// takeBack takes back offers that ran out.
func (r *round) takeBack(ctx context.Context) error {
	_, err := r.queue(ctx, &r.done.Released, r.sql.takeBack, r.Avoid.Microseconds())
	return err
}

// orphans takes back offers whose sessions have ended.
func (r *round) orphans(ctx context.Context) error {
	_, err := r.queue(ctx, &r.done.Released, r.sql.orphans)
	return err
}

// timeOut ends what has run too long.
func (r *round) timeOut(ctx context.Context) error {
	late, err := r.endings(ctx, r.sql.timeOut, queue.EventDeadline)
	r.count(&r.done.TimedOut, len(late))
	return err
}

// force ends what was told to stop and has not.
func (r *round) force(ctx context.Context) error {
	late, err := r.endings(ctx, r.sql.force, queue.EventCancelDeadline)
	r.count(&r.done.Canceled, len(late))
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
		switch e.state {
		case sqlqueue.Lost:
			lost++
		case sqlqueue.Queued:
			r.head(e.class, e.rank)
		default: // it waits for its back-off
		}
	}
	r.done.Lost, r.done.Requeued = lost, len(swept)-lost
	r.done.More = r.done.More || len(swept) > 0 && len(swept) >= r.Limit
	return nil
}

func (r *round) endings(ctx context.Context, sql string, event queue.Event, args ...any) ([]end, error) {
	return collect(ctx, r.Backend, scanEnd, sql, ending(r.now, r.Avoid, append([]any{r.Limit, event.Reason()}, args...)...)...)
}
