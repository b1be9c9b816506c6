package sqlitequeue

import (
	"context"
	"database/sql"
	"time"

	"github.com/slipway-build/slipway/queue"
)

// forget is how long the row of an ended session or a dead controller is kept, for whoever still asks.
const forget = 10 * time.Minute

var (
	forgetSessionsSQL = statement(`
DELETE FROM {schema}session WHERE id IN (
	SELECT s.id FROM {schema}session AS s WHERE s.ended_at <= ?1
		AND NOT EXISTS (SELECT 1 FROM {schema}build AS b WHERE b.session_id = s.id AND b.session_id IS NOT NULL)
	ORDER BY s.ended_at LIMIT +?2)`)

	forgetControllersSQL = statement(`
DELETE FROM {schema}controller WHERE id IN (
	SELECT c.id FROM {schema}controller AS c WHERE c.alive_until <= ?1
		AND NOT EXISTS (SELECT 1 FROM {schema}session AS s WHERE s.controller_id = c.id)
	LIMIT +?2)`)

	forgetKeysSQL = statement(`
UPDATE {schema}build SET idem_key = NULL, idem_hash = NULL WHERE id IN (
	SELECT b.id FROM {schema}build AS b INDEXED BY {schema}build_idem_end
	WHERE b.idem_key IS NOT NULL AND b.finished_at <= ?1 ORDER BY b.finished_at LIMIT +?2)`)
)

// forgetSessions removes sessions that have ended and have no leases.
func (r *round) forgetSessions(ctx context.Context) error {
	return r.forget(ctx, forgetSessionsSQL, forget)
}

// forgetControllers removes controllers that are gone and have no sessions.
func (r *round) forgetControllers(ctx context.Context) error {
	return r.forget(ctx, forgetControllersSQL, forget)
}

// forgetKeys gives up idempotency keys that were kept long enough.
func (r *round) forgetKeys(ctx context.Context) error {
	return r.forget(ctx, forgetKeysSQL, r.KeepKeys)
}

// forget removes what was kept long enough.
func (r *round) forget(ctx context.Context, query string, keep time.Duration) error {
	n, err := r.exec(ctx, query, r.now-keep.Microseconds(), r.Limit-r.done.Forgotten)
	r.count(&r.done.Forgotten, n)
	return err
}

// Reservations of attempts that last are passed over; there are as many as uploads.
var unreserveSQL = statement(`
DELETE FROM {schema}artifact WHERE (build_id, epoch, name) IN (
	SELECT a.build_id, a.epoch, a.name FROM {schema}artifact AS a WHERE a.committed = 0 AND NOT EXISTS (
		SELECT 1 FROM {schema}build AS b WHERE b.id = a.build_id AND b.epoch = a.epoch AND b.state IN ({running}, {cancelling}))
	ORDER BY a.created_at LIMIT +?1)`)

// unreserve takes back the reservations of artifacts whose attempts have ended.
func (r *round) unreserve(ctx context.Context) error {
	n, err := r.exec(ctx, unreserveSQL, r.Limit-r.done.Forgotten)
	r.count(&r.done.Forgotten, n)
	return err
}

// retireBytes bounds how many bytes of logs are deleted at once, and with it how long others wait for the lock. A longer log goes alone.
const retireBytes = 64 << 20

var (
	retiredSQL = statement(`
SELECT b.id, coalesce((SELECT sum(h.length) FROM {schema}log_head AS h WHERE h.build_id = b.id AND h.archived = 0), 0)
FROM {schema}build AS b WHERE b.finished_at <= ?1
	AND NOT EXISTS (SELECT 1 FROM {schema}log_head AS h WHERE h.build_id = b.id AND h.archiving_until > ?2)
ORDER BY b.finished_at LIMIT +?3`)

	dropLogsSQL = statement(`
INSERT INTO {schema}log_drop (build_id, epoch, project)
SELECT h.build_id, h.epoch, b.project FROM json_each(?1) AS i
CROSS JOIN {schema}build AS b ON b.id = unhex(i.value, '-')
CROSS JOIN {schema}log_head AS h ON h.build_id = b.id WHERE h.archived = 1 OR h.archiving_until IS NOT NULL
ON CONFLICT DO NOTHING`)

	// deletes are in an order that holds with foreign keys and does without.
	deletes = []string{
		deleteSQL("log_chunk", "build_id"), deleteSQL("log_head", "build_id"), deleteSQL("artifact", "build_id"),
		deleteSQL("attempt", "build_id"), deleteSQL("build", "id"),
	}
)

func deleteSQL(table, column string) string {
	return statement(`DELETE FROM {schema}` + table + ` WHERE ` + column + ` IN (SELECT unhex(value, '-') FROM json_each(?1))`)
}

// retire deletes builds whose retention is over.
func (r *round) retire(ctx context.Context) error {
	if r.Retention <= 0 {
		return nil
	}
	var ids []queue.ID
	var bytes int64
	err := r.each(ctx, func(rows *sql.Rows) error {
		var id queue.ID
		var length int64
		err := rows.Scan(scanID(&id), &length)
		if bytes += length; bytes > retireBytes && len(ids) > 0 {
			r.done.More = true
			return err
		}
		ids = append(ids, id)
		return err
	}, retiredSQL, r.now-r.Retention.Microseconds(), r.now, r.Limit)
	if err != nil || len(ids) == 0 {
		return err
	}
	arg, err := list(ids)
	if err != nil {
		return err
	}
	for _, query := range append([]string{dropLogsSQL}, deletes...) {
		if _, err := r.exec(ctx, query, arg); err != nil {
			return err
		}
	}
	r.count(&r.done.Deleted, len(ids))
	return nil
}
