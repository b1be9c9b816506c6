package sqlitequeue

import (
	"context"
	"database/sql"
	"time"

	"github.com/slipway-build/slipway/internal/sqlqueue"
	"github.com/slipway-build/slipway/queue"
)

const cancelIDs = `b.id IN (SELECT unhex(value, '-') FROM json_each(?1)) AND b.project = ?2`

var (
	cancelSQL = statement(`
UPDATE {schema}build AS b SET
	state = CASE state WHEN {running} THEN {cancelling} ELSE {canceled} END,
	session_id = CASE state WHEN {running} THEN session_id END,
	deadline = CASE state WHEN {running} THEN ?3 + ?5 END,
	finished_at = CASE state WHEN {running} THEN NULL ELSE ?3 END,
	not_before = NULL, reason = ?4
WHERE ` + cancelIDs + ` AND b.state <= {running}`)

	// canceledSQL tells before cancelSQL what that leads to.
	canceledSQL = statement(`
SELECT b.id, CASE WHEN b.state < {running} THEN {canceled} WHEN b.state = {running} THEN {cancelling} ELSE b.state END,
	b.admitted AND b.state IN ({queued}, {offered})
FROM {schema}build AS b WHERE ` + cancelIDs)
)

// Cancel implements [queue.Transitions].
func (b *Backend) Cancel(
	ctx context.Context, project string, ids []queue.ID, reason string, force time.Duration, now time.Time,
) (canceled []queue.CanceledBuild, err error) {
	arg, err := list(ids)
	if err != nil {
		return nil, err
	}
	err = b.change(ctx, now, func(ctx context.Context, c *change) error {
		err := c.each(ctx, func(rows *sql.Rows) error {
			var done queue.CanceledBuild
			var state sqlqueue.State
			err := rows.Scan(scanID(&done.ID), &state, &done.Admitted)
			done.State = state.Public()
			canceled = append(canceled, done)
			return err
		}, canceledSQL, arg, project)
		if err != nil {
			return err
		}
		_, err = c.exec(ctx, cancelSQL, arg, project, c.now, reason, force.Microseconds())
		return err
	})
	return alone(canceled, err)
}
