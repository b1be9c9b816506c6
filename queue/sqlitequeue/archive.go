package sqlitequeue

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/slipway-build/slipway/queue"
)

var (
	closedLogsSQL = statement(`
UPDATE {schema}log_head SET archiving_until = ?1 + ?2
WHERE (build_id, epoch) IN (
	SELECT l.build_id, l.epoch FROM {schema}log_head AS l
	WHERE l.closed = 1 AND l.archived = 0 AND l.length > 0 AND (l.archiving_until IS NULL OR l.archiving_until <= ?1)
		AND NOT EXISTS (SELECT 1 FROM {schema}log_drop AS d WHERE d.build_id = l.build_id AND d.epoch = l.epoch)
	ORDER BY l.build_id, l.epoch LIMIT +?3)
RETURNING build_id, epoch, length, (SELECT b.project FROM {schema}build AS b WHERE b.id = build_id)`)

	closedSQL = statement(`SELECT 1 FROM {schema}attempt WHERE build_id = ?1 AND epoch = ?2`)

	archiveLogSQL = statement(`
UPDATE {schema}log_head SET archived = 1, archiving_until = NULL WHERE build_id = ?1 AND epoch = ?2 AND length > 0`)

	dropChunksSQL = statement(`DELETE FROM {schema}log_chunk WHERE build_id = ?1 AND epoch = ?2`)

	droppedLogsSQL = statement(`
UPDATE {schema}log_drop SET taken_until = ?1 + ?2
WHERE (build_id, epoch) IN (
	SELECT d.build_id, d.epoch FROM {schema}log_drop AS d
	WHERE d.taken_until <= ?1 ORDER BY d.taken_until, d.build_id, d.epoch LIMIT +?3)
RETURNING build_id, epoch, project`)

	forgetLogsSQL = statement(`
DELETE FROM {schema}log_drop WHERE (build_id, epoch) IN (SELECT i.id, i.epoch FROM ` + attemptIDs + ` AS i)`)
)

// ClosedLogs implements [queue.Logs].
func (b *Backend) ClosedLogs(ctx context.Context, limit int, hold time.Duration, now time.Time) (logs []queue.ClosedLog, err error) {
	err = b.change(ctx, now, func(ctx context.Context, c *change) error {
		return c.each(ctx, func(rows *sql.Rows) error {
			var l queue.ClosedLog
			err := rows.Scan(scanID(&l.Build), &l.Epoch, &l.Length, &l.Project)
			logs = append(logs, l)
			return err
		}, closedLogsSQL, c.now, hold.Microseconds(), limit)
	})
	return alone(logs, err)
}

// ArchiveLog implements [queue.Logs]. An attempt has ended when it has a row. A log that was never written to may have no head.
func (b *Backend) ArchiveLog(ctx context.Context, id queue.AttemptID) error {
	return b.change(ctx, time.Time{}, func(ctx context.Context, c *change) error {
		var closed int
		err := c.tx.QueryRowContext(ctx, closedSQL, id.Build[:], id.Epoch).Scan(&closed)
		if errors.Is(err, sql.ErrNoRows) {
			err = fmt.Errorf("closed log of attempt %d of build %v: %w", id.Epoch, id.Build, queue.ErrNotFound)
		}
		if err != nil {
			return err
		}
		if _, err := c.exec(ctx, archiveLogSQL, id.Build[:], id.Epoch); err != nil {
			return err
		}
		_, err = c.exec(ctx, dropChunksSQL, id.Build[:], id.Epoch)
		return err
	})
}

// DroppedLogs implements [queue.Logs].
func (b *Backend) DroppedLogs(ctx context.Context, limit int, hold time.Duration, now time.Time) (logs []queue.DroppedLog, err error) {
	err = b.change(ctx, now, func(ctx context.Context, c *change) error {
		return c.each(ctx, func(rows *sql.Rows) error {
			var l queue.DroppedLog
			err := rows.Scan(scanID(&l.Build), &l.Epoch, &l.Project)
			logs = append(logs, l)
			return err
		}, droppedLogsSQL, c.now, hold.Microseconds(), limit)
	})
	return alone(logs, err)
}

// ForgetLogs implements [queue.Logs].
func (b *Backend) ForgetLogs(ctx context.Context, ids []queue.AttemptID) error {
	arg, err := list(ids)
	if err != nil {
		return err
	}
	return b.change(ctx, time.Time{}, func(ctx context.Context, c *change) error {
		_, err := c.exec(ctx, forgetLogsSQL, arg)
		return err
	})
}
