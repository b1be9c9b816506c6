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
	ctx context.Context, project string, ids []queue.ID, reason string, force time.Duration, now time.Time,
) ([]queue.CanceledBuild, error) {
	var done []queue.CanceledBuild
	for _, id := range ids {
		found, err := collect(ctx, b, pgx.RowTo[int16], b.sql.cancel, present(now), uuid(id), project, reason, force.Microseconds())
		if err != nil {
			return nil, err
		}
		for _, before := range found {
			c := queue.CanceledBuild{ID: id, State: sqlqueue.State(before).Public()}
			switch sqlqueue.State(before) {
			case sqlqueue.Held, sqlqueue.Queued, sqlqueue.Offered:
				c.State = queue.Canceled
			case sqlqueue.Running:
				c.State = queue.Cancelling
			}
			done = append(done, c)
		}
	}
	return done, nil
}
