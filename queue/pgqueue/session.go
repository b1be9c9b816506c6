package pgqueue

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

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

// openSessionsSQL counts the sessions that it ends, so that they are ended before the new ones are inserted: there is a unique index on
// those that live. Workers are taken in the order of their names, so that calls for the same ones wait for each other in one order. Of
// several sessions for one worker those before the last are replaced from the beginning. All find their controllers among those that are
// there or are made.
const openSessionsSQL = `
WITH given AS MATERIALIZED (
	SELECT n.*, row_number() OVER (PARTITION BY n.worker ORDER BY n.position DESC) > 1 AS replaced
	FROM unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::int[], $8::boolean[])
		WITH ORDINALITY AS n(controller, worker, instance, labels, pools, slots, direct, position)
), holder AS (
	INSERT INTO {schema}controller (id, alive_until, fresh_since)
	SELECT DISTINCT g.controller, {now}, {now} FROM given g ORDER BY g.controller
	ON CONFLICT (id) DO NOTHING
), live AS MATERIALIZED (
	SELECT s.id FROM {schema}session s WHERE s.worker = ANY($3::text[]) AND s.ended_at IS NULL
	ORDER BY s.worker COLLATE "C" FOR NO KEY UPDATE
), ended AS (
	UPDATE {schema}session s SET ended_at = {now}, replaced = true WHERE s.id = ANY(ARRAY(SELECT id FROM live)) RETURNING s.id
)
INSERT INTO {schema}session AS s (controller_id, worker, instance, labels, pools, slots, direct, opened_at, ended_at, replaced)
SELECT g.controller, g.worker, g.instance, g.labels, g.pools, g.slots, g.direct, {now}, CASE WHEN g.replaced THEN {now} END, g.replaced
FROM (SELECT count(*) FROM ended) e, given g
ORDER BY g.worker COLLATE "C", g.position
RETURNING s.worker, s.id, EXISTS (
	SELECT FROM {schema}build b
	WHERE b.session_id IS NOT NULL AND b.session_id = ANY(ARRAY(SELECT o.id FROM {schema}session o WHERE o.worker = s.worker))
		AND b.state = {offered}
)`

// OpenSessions implements [queue.Sessions]. Of two sessions of one worker that are opened by two calls at once, one wins first and is then
// replaced by the other.
func (b *Backend) OpenSessions(ctx context.Context, sessions []queue.NewSession, now time.Time) ([]queue.Opened, error) {
	ctx, cancel := b.bounded(ctx)
	defer cancel()
	n := newSessionArrays(sessions)
	for {
		rows, err := collect(ctx, b, pgx.RowToStructByPos[openedRow], b.sql.openSessions, present(now),
			n.controllers, n.workers, n.instances, n.labels, n.pools, n.slots, n.direct)
		if err == nil {
			return inOrder(rows, sessions)
		}
		if ctx.Err() != nil || !overtaken(err) {
			return nil, err
		}
	}
}

// An openedRow is a session that was opened.
type openedRow struct {
	Worker string
	ID     queue.SessionID
	Offers bool
}

// inOrder gives each of the sessions, in their order, what was opened for it. Those of one worker have ids in that order.
func inOrder(rows []openedRow, sessions []queue.NewSession) ([]queue.Opened, error) {
	slices.SortFunc(rows, func(x, y openedRow) int { return cmp.Compare(x.ID, y.ID) })
	of := make(map[string][]queue.Opened, len(rows))
	for _, row := range rows {
		of[row.Worker] = append(of[row.Worker], queue.Opened{Session: row.ID, Offers: row.Offers})
	}
	opened := make([]queue.Opened, len(sessions))
	for i := range sessions {
		next := of[sessions[i].Worker]
		if len(next) == 0 {
			return nil, fmt.Errorf("no session of %s was opened", sessions[i].Worker)
		}
		opened[i], of[sessions[i].Worker] = next[0], next[1:]
	}
	return opened, nil
}

// sessionArrays are the columns of sessions.
type sessionArrays struct {
	controllers                       []pgtype.UUID
	workers, instances, labels, pools []string
	slots                             []int32
	direct                            []bool
}

func newSessionArrays(sessions []queue.NewSession) (a sessionArrays) {
	for i := range sessions {
		s := &sessions[i]
		a.controllers = append(a.controllers, uuid(s.Controller))
		a.workers = append(a.workers, s.Worker)
		a.instances = append(a.instances, s.Instance)
		a.labels = append(a.labels, s.Labels.String())
		a.pools = append(a.pools, strings.Join(s.Pools, ","))
		a.slots = append(a.slots, int32(s.Slots))
		a.direct = append(a.direct, s.Direct)
	}
	return a
}

// overtaken reports whether OpenSessions failed because of what was not there yet when its statement began and is now: another's session
// of a worker, or the end of a controller that was about to be forgotten; or because another waits for it that it would wait for.
func overtaken(err error) bool {
	reply, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (reply.ConstraintName == "session_live" || reply.ConstraintName == "session_controller_id_fkey" ||
		reply.Code == "40P01")
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
