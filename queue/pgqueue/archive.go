package pgqueue

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/slipway-build/slipway/queue"
)

const closedLogsSQL = `
WITH picked AS MATERIALIZED (
	SELECT z.build_id, z.epoch FROM (
		SELECT h.build_id, h.epoch FROM {schema}log_head h
		WHERE h.closed AND NOT h.archived AND h.length > 0 AND (h.archiving_until IS NULL OR h.archiving_until <= {now})
			AND NOT EXISTS (SELECT FROM {schema}log_drop d WHERE d.build_id = h.build_id AND d.epoch = h.epoch OFFSET 0)
		ORDER BY h.build_id, h.epoch LIMIT 512 FOR NO KEY UPDATE OF h SKIP LOCKED) z
	LIMIT $2
), held AS (
	UPDATE {schema}log_head h SET archiving_until = {now} + $3::bigint * interval '1 microsecond'
	FROM picked p
	WHERE h.build_id = p.build_id AND h.epoch = p.epoch AND h.build_id = ANY(ARRAY(SELECT build_id FROM picked))
	RETURNING h.build_id, h.epoch, h.length
)
SELECT h.build_id, h.epoch, b.project, h.length
FROM held h JOIN {schema}build b ON b.id = h.build_id AND b.id = ANY(ARRAY(SELECT build_id FROM picked))`

// ClosedLogs implements [queue.Logs]. It returns at most 512.
func (b *Backend) ClosedLogs(ctx context.Context, max int, hold time.Duration, now time.Time) ([]queue.ClosedLog, error) {
	return collect(ctx, b, func(row pgx.CollectableRow) (l queue.ClosedLog, err error) {
		err = row.Scan((*[16]byte)(&l.Build), &l.Epoch, &l.Project, &l.Length)
		return l, err
	}, b.sql.closedLogs, present(now), max, hold.Microseconds())
}

// archiveLogSQL returns a row if the log is closed. Of one without bytes there may be the attempt alone.
const archiveLogSQL = `
WITH head AS MATERIALIZED (
	SELECT h.archived FROM {schema}log_head h
	WHERE h.build_id = $1 AND h.epoch = $2 AND h.closed AND h.length > 0 FOR NO KEY UPDATE
), noted AS (
	UPDATE {schema}log_head h SET archived = true, archiving_until = NULL
	FROM head l WHERE h.build_id = $1 AND h.epoch = $2 AND NOT l.archived
), dropped AS (
	DELETE FROM {schema}log_chunk c USING head WHERE c.build_id = $1 AND c.epoch = $2
)
SELECT true FROM head
UNION ALL
SELECT true FROM {schema}attempt a WHERE a.build_id = $1 AND a.epoch = $2
	AND NOT EXISTS (SELECT FROM {schema}log_head h WHERE h.build_id = $1 AND h.epoch = $2 AND h.length > 0)`

// ArchiveLog implements [queue.Logs].
func (b *Backend) ArchiveLog(ctx context.Context, id queue.AttemptID) error {
	closed, err := collect(ctx, b, pgx.RowTo[bool], b.sql.archiveLog, uuid(id.Build), id.Epoch)
	if err == nil && len(closed) == 0 {
		err = fmt.Errorf("closed log of attempt %d of build %v: %w", id.Epoch, id.Build, queue.ErrNotFound)
	}
	return err
}

const droppedLogsSQL = `
WITH picked AS MATERIALIZED (
	SELECT z.build_id, z.epoch FROM (
		SELECT d.build_id, d.epoch FROM {schema}log_drop d
		WHERE d.taken_until <= {now}
		ORDER BY d.taken_until LIMIT 512 FOR NO KEY UPDATE SKIP LOCKED) z
	LIMIT $2
)
UPDATE {schema}log_drop d SET taken_until = {now} + $3::bigint * interval '1 microsecond'
FROM picked p
WHERE d.build_id = p.build_id AND d.epoch = p.epoch AND d.build_id = ANY(ARRAY(SELECT build_id FROM picked))
RETURNING d.build_id, d.epoch, d.project`

// DroppedLogs implements [queue.Logs]. It returns at most 512.
func (b *Backend) DroppedLogs(ctx context.Context, max int, hold time.Duration, now time.Time) ([]queue.DroppedLog, error) {
	return collect(ctx, b, func(row pgx.CollectableRow) (l queue.DroppedLog, err error) {
		err = row.Scan((*[16]byte)(&l.Build), &l.Epoch, &l.Project)
		return l, err
	}, b.sql.droppedLogs, present(now), max, hold.Microseconds())
}

const forgetLogsSQL = `
DELETE FROM {schema}log_drop d USING unnest($1::uuid[], $2::bigint[]) AS i(build_id, epoch)
WHERE d.build_id = ANY($1::uuid[]) AND d.build_id = i.build_id AND d.epoch = i.epoch`

// ForgetLogs implements [queue.Logs].
func (b *Backend) ForgetLogs(ctx context.Context, ids []queue.AttemptID) error {
	var gone attempts
	for _, id := range ids {
		gone.add(id)
	}
	_, err := b.change(ctx, b.sql.forgetLogs, gone.builds, gone.epochs)
	return err
}
