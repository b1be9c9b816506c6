package pgqueue

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/slipway-build/slipway/internal/sqlqueue"
	"github.com/slipway-build/slipway/queue"
)

// cancelSQL returns the states before: what a cancel does follows from them alone. What is held has no room any more that it could make. That the project is compared as it is keeps the planner
// from the indexes of projects: a walk over a project that has few builds looks cheap to it.
const cancelSQL = `
WITH found AS MATERIALIZED (
	SELECT b.id, b.state, b.admitted, ` + waited + ` AS waited FROM {schema}build b
	WHERE b.id = ANY($2::uuid[]) AND b.project IS NOT DISTINCT FROM $3
	ORDER BY b.id FOR NO KEY UPDATE
), counted AS (
	INSERT INTO {schema}stat_delta (project, day, canceled, waited)
	SELECT $3, ({now} AT TIME ZONE 'UTC')::date, count(*), sum(f.waited) FROM found f WHERE f.state <= {offered} HAVING count(*) > 0
), changed AS (
	UPDATE {schema}build b SET
		state = CASE WHEN b.state = {running} THEN {cancelling} ELSE {canceled} END,
		reason = $4,
		deadline = CASE WHEN b.state = {running} THEN {now} + $5::bigint * interval '1 microsecond' END,
		session_id = CASE WHEN b.state = {running} THEN b.session_id END,
		finished_at = CASE WHEN b.state = {running} THEN NULL ELSE {now} END,
		not_before = NULL
	WHERE b.id = ANY(ARRAY(SELECT f.id FROM found f WHERE f.state <= {running}))
)
SELECT id, state, admitted AND state IN ({queued}, {offered}) FROM found`

// Cancel implements [queue.Transitions].
func (b *Backend) Cancel(
	ctx context.Context, project string, ids []queue.ID, reason string, force time.Duration, now time.Time,
) ([]queue.CanceledBuild, error) {
	builds := make([]pgtype.UUID, len(ids))
	for i, id := range ids {
		builds[i] = uuid(id)
	}
	return collect(ctx, b, scanCanceled, b.sql.cancel, present(now), builds, project, reason, force.Microseconds())
}

// scanCanceled reads a build as it was before its cancel.
func scanCanceled(row pgx.CollectableRow) (c queue.CanceledBuild, err error) {
	var before sqlqueue.State
	err = row.Scan((*[16]byte)(&c.ID), (*int16)(&before), &c.Admitted)
	switch before {
	case sqlqueue.Held, sqlqueue.Queued, sqlqueue.Offered:
		c.State = queue.Canceled
	case sqlqueue.Running:
		c.State = queue.Cancelling
	default:
		c.State = before.Public()
	}
	return c, err
}
