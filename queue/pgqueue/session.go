package pgqueue

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/slipway-build/slipway/internal/sqlqueue"
	"github.com/slipway-build/slipway/queue"
)

const beatSQL = `
WITH beating AS (
	INSERT INTO {schema}controller AS c (id, alive_until, fresh_since)
	VALUES ($2, {now} + $3::bigint * interval '1 microsecond', {now})
	ON CONFLICT (id) DO UPDATE SET
		alive_until = greatest(c.alive_until, excluded.alive_until),
		fresh_since = CASE WHEN c.alive_until < {now} THEN {now} ELSE c.fresh_since END
	RETURNING c.fresh_since
)
SELECT (extract(epoch FROM {now} - fresh_since) * 1000000)::bigint,
	ARRAY(SELECT s.id FROM {schema}session s WHERE s.controller_id = $2 AND s.replaced ORDER BY s.id)
FROM beating`

// Beat implements [queue.Sessions].
func (b *Backend) Beat(ctx context.Context, controller queue.ID, ttl time.Duration, now time.Time) (queue.Beat, error) {
	beats, err := collect(ctx, b, func(row pgx.CollectableRow) (beat queue.Beat, err error) {
		var fresh int64
		err = row.Scan(&fresh, &beat.Ended)
		beat.Fresh = sqlqueue.Duration(fresh)
		return beat, err
	}, b.sql.beat, present(now), uuid(controller), ttl.Microseconds())
	if err != nil {
		return queue.Beat{}, err
	}
	return beats[0], nil
}

// openSessionSQL counts the sessions that it ends, so that they are ended before the new one is inserted: there is a unique index on
// those that live.
const openSessionSQL = `
WITH holder AS (
	INSERT INTO {schema}controller (id, alive_until, fresh_since) VALUES ($2, {now}, {now}) ON CONFLICT (id) DO NOTHING
), ended AS (
	UPDATE {schema}session SET ended_at = {now}, replaced = true WHERE worker = $3 AND ended_at IS NULL RETURNING id
)
INSERT INTO {schema}session (controller_id, worker, instance, labels, pools, slots, direct, opened_at)
SELECT $2, $3, $4, $5, $6, $7, $8, {now} FROM (SELECT count(*) FROM ended) e
RETURNING id`

// OpenSession implements [queue.Sessions]. Of two sessions of one worker that are opened at once, one wins first and is then
// replaced by the other.
func (b *Backend) OpenSession(ctx context.Context, s queue.NewSession, now time.Time) (queue.SessionID, error) {
	ctx, cancel := b.bounded(ctx)
	defer cancel()
	for {
		ids, err := collect(ctx, b, pgx.RowTo[queue.SessionID], b.sql.openSession, present(now), uuid(s.Controller), s.Worker,
			s.Instance, s.Labels.String(), strings.Join(s.Pools, ","), s.Slots, s.Direct)
		if err == nil {
			return ids[0], nil
		}
		if ctx.Err() != nil || !overtaken(err) {
			return 0, err
		}
	}
}

// overtaken reports whether OpenSession failed because of what was not there yet when its statement began and is now: another's session
// of the worker, or the end of a controller that was about to be forgotten.
func overtaken(err error) bool {
	reply, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (reply.ConstraintName == "session_live" || reply.ConstraintName == "session_controller_id_fkey")
}

// loseSessionsSQL locks builds in the order of their ids, as all do, in a way of saying so that does not have the planner walk over the index
// of all ids because it has that order.
const loseSessionsSQL = `
WITH live AS MATERIALIZED (
	SELECT s.id FROM {schema}session s WHERE s.id = ANY($2::bigint[]) AND s.ended_at IS NULL ORDER BY s.id FOR NO KEY UPDATE
), lost AS (
	UPDATE {schema}session s SET ended_at = {now} WHERE s.id = ANY(ARRAY(SELECT id FROM live))
), offered AS MATERIALIZED (
	SELECT b.id FROM {schema}build b
	WHERE b.session_id IS NOT NULL AND b.session_id = ANY(ARRAY(SELECT id FROM live)) AND b.state = {offered}
	ORDER BY b.id::text COLLATE "C" FOR NO KEY UPDATE
)
UPDATE {schema}build b SET state = {queued}, session_id = NULL, deadline = NULL
WHERE b.id = ANY(ARRAY(SELECT id FROM offered))`

// LoseSessions implements [queue.Sessions]. An offer that is being made to one of the sessions at this moment is taken back by Maintain.
func (b *Backend) LoseSessions(ctx context.Context, sessions []queue.SessionID, now time.Time) error {
	ids := make([]int64, len(sessions))
	for i, id := range sessions {
		ids[i] = int64(id)
	}
	_, err := b.change(ctx, b.sql.loseSessions, present(now), ids)
	return err
}

// serveSQL takes the classes in order, as every process does that says so at the same time.
const serveSQL = `
WITH served AS MATERIALIZED (
	SELECT c.id FROM {schema}class c
	WHERE c.id = ANY($2::int[]) AND (c.served_until IS NULL OR c.served_until < {now} + $3::bigint * interval '1 microsecond')
	ORDER BY c.id FOR NO KEY UPDATE
)
UPDATE {schema}class c SET served_until = greatest(c.served_until, {now} + $3::bigint * interval '1 microsecond')
WHERE c.id = ANY(ARRAY(SELECT s.id FROM served s))`

// Serve implements [queue.Sessions].
func (b *Backend) Serve(ctx context.Context, classes []queue.ClassID, ttl time.Duration, now time.Time) error {
	ids := make([]int32, len(classes))
	for i, id := range classes {
		ids[i] = int32(id)
	}
	_, err := b.change(ctx, b.sql.serve, present(now), ids, ttl.Microseconds())
	return err
}
