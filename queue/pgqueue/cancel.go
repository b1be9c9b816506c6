package pgqueue

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/slipway-build/slipway/internal/sqlqueue"
	"github.com/slipway-build/slipway/queue"
)

// cancelSQL returns the state before: what a cancel does follows from that alone.
const cancelSQL = `
WITH found AS MATERIALIZED (
	SELECT id, state FROM {schema}build WHERE id = $2 AND project = $3 FOR NO KEY UPDATE
), changed AS (
	UPDATE {schema}build b SET
		state = CASE WHEN b.state = {running} THEN {cancelling} ELSE {canceled} END,
		reason = $4,
		deadline = CASE WHEN b.state = {running} THEN {now} + $5::bigint * interval '1 microsecond' END,
		session_id = CASE WHEN b.state = {running} THEN b.session_id END,
		finished_at = CASE WHEN b.state = {running} THEN NULL ELSE {now} END,
		not_before = NULL
	FROM found f
	WHERE b.id = $2 AND f.state <= {running}
)
SELECT state FROM found`

// Cancel implements [queue.Transitions].
func (b *Backend) Cancel(
	ctx context.Context, project string, id queue.ID, reason string, force time.Duration, now time.Time,
) (queue.State, error) {
	found, err := collect(ctx, b, pgx.RowTo[int16], b.sql.cancel, present(now), uuid(id), project, reason, force.Microseconds())
	if err != nil {
		return 0, err
	}
	if len(found) == 0 {
		return 0, queue.ErrNotFound
	}
	switch sqlqueue.State(found[0]) {
	case sqlqueue.Held, sqlqueue.Queued, sqlqueue.Offered, sqlqueue.Canceled:
		return queue.Canceled, nil
	case sqlqueue.Running, sqlqueue.Cancelling:
		return queue.Cancelling, nil
	default:
		return 0, queue.ErrFinished
	}
}
