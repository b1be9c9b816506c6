package pgqueue

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// forget is how long ended sessions and dead controllers are remembered.
const forget = 10 * time.Minute

const forgetSessionsSQL = `
DELETE FROM {schema}session WHERE id = ANY(ARRAY(
	SELECT z.id FROM (
		SELECT s.id FROM {schema}session s
		WHERE s.ended_at <= {now} - $3::bigint * interval '1 microsecond'
			AND NOT EXISTS (SELECT FROM {schema}build b WHERE b.session_id IS NOT NULL AND b.session_id = s.id)
		ORDER BY s.ended_at LIMIT 512 FOR UPDATE SKIP LOCKED) z
	LIMIT $2))`

const forgetControllersSQL = `
DELETE FROM {schema}controller WHERE id = ANY(ARRAY(
	SELECT z.id FROM (
		SELECT c.id FROM {schema}controller c
		WHERE c.alive_until <= {now} - $3::bigint * interval '1 microsecond'
			AND NOT EXISTS (SELECT FROM {schema}session s WHERE s.controller_id = c.id)
		LIMIT 512 FOR UPDATE SKIP LOCKED) z
	LIMIT $2))`

const forgetKeysSQL = `
WITH picked AS MATERIALIZED (
	SELECT z.id FROM (
		SELECT b.id FROM {schema}build b
		WHERE b.idem_key IS NOT NULL AND b.finished_at IS NOT NULL AND b.finished_at <= {now} - $3::bigint * interval '1 microsecond'
		ORDER BY b.finished_at LIMIT 512 FOR NO KEY UPDATE SKIP LOCKED) z
	LIMIT $2
)
UPDATE {schema}build b SET idem_key = NULL, idem_hash = NULL
WHERE b.id = ANY(ARRAY(SELECT id FROM picked))`

// refund gives projects back what artifacts took of their quotas that were deleted as the relation "gone". Projects are locked in order.
const refund = `, freed AS MATERIALIZED (
	SELECT g.project, sum(g.size) AS bytes FROM gone g WHERE g.charged GROUP BY g.project
), payee AS MATERIALIZED (
	SELECT p.name, f.bytes
	FROM {schema}project p JOIN freed f ON f.project = p.name
	WHERE p.name = ANY(ARRAY(SELECT project FROM freed))
	ORDER BY p.name FOR NO KEY UPDATE OF p
), credited AS (
	UPDATE {schema}project p SET artifact_bytes = greatest(p.artifact_bytes - y.bytes, 0) FROM payee y WHERE p.name = y.name
)`

// unreserveSQL takes back the reservations of attempts that have ended. It walks over those of attempts that last, of which there are as many
// as uploads.
const unreserveSQL = `
WITH gone AS (
	DELETE FROM {schema}artifact WHERE ctid = ANY(ARRAY(
		SELECT z.ctid FROM (
			SELECT a.ctid FROM {schema}artifact a
			WHERE NOT a.committed AND NOT EXISTS (
				SELECT FROM {schema}build b WHERE b.id = a.build_id AND b.epoch = a.epoch AND b.state IN ({running}, {cancelling}) OFFSET 0)
			ORDER BY a.created_at LIMIT 512 FOR UPDATE SKIP LOCKED) z
		LIMIT $1))
	RETURNING project, size, charged
)` + refund + `
SELECT count(*) FROM gone`

// retireBytes bounds how many bytes of logs are deleted at once, and with it how long that takes. A longer log goes alone.
const retireBytes = 16 << 20

// retireMost is how many builds are deleted at once. The fewer, the less a claim waits for them, on a processor or behind their log at a
// commit: with 512 the p99 of claims was 4 times that of before, with 64 twice.
const retireMost = 64

// retireSQL deletes builds with all rows that belong to them, those first that still have an idempotency key: they are found apart. Whoever is about to archive a log has locked its head, or is waited for.
const retireSQL = `
WITH due AS MATERIALIZED (
	SELECT z.id, z.project, z.finished_at
	FROM (VALUES (true), (false)) AS k(keyed) CROSS JOIN LATERAL (
		SELECT b.id, b.project, b.finished_at FROM {schema}build b
		WHERE (b.idem_key IS NOT NULL) = k.keyed AND b.finished_at IS NOT NULL
			AND b.finished_at <= {now} - $3::bigint * interval '1 microsecond'
			AND NOT EXISTS (SELECT FROM {schema}log_head h WHERE h.build_id = b.id AND h.archiving_until > {now} OFFSET 0)
		ORDER BY b.finished_at LIMIT 512 FOR UPDATE SKIP LOCKED) z
	LIMIT $2
), head AS MATERIALIZED (
	SELECT h.build_id, h.epoch, h.length, h.archived, coalesce(h.archiving_until > {now}, false) AS archiving,
		h.archived OR h.archiving_until IS NOT NULL AS dropped
	FROM {schema}log_head h
	WHERE h.build_id = ANY(ARRAY(SELECT d.id FROM due d))
	ORDER BY h.build_id, h.epoch FOR UPDATE
), doomed AS MATERIALIZED (
	SELECT w.id, w.project
	FROM (
		SELECT d.id, d.project, coalesce(l.archiving, false) AS archiving,
			sum(l.bytes) OVER (ORDER BY d.finished_at, d.id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before,
			l.bytes
		FROM due d
		LEFT JOIN (
			SELECT h.build_id, bool_or(h.archiving) AS archiving, sum(h.length) FILTER (WHERE NOT h.archived) AS bytes
			FROM head h GROUP BY h.build_id) l ON l.build_id = d.id) w
	WHERE NOT w.archiving AND (w.before IS NULL OR w.before + coalesce(w.bytes, 0) <= $4::bigint)
), dropped AS (
	INSERT INTO {schema}log_drop (build_id, epoch, project)
	SELECT h.build_id, h.epoch, d.project FROM head h JOIN doomed d ON d.id = h.build_id WHERE h.dropped
	ORDER BY h.build_id, h.epoch
	ON CONFLICT (build_id, epoch) DO NOTHING
), chunks AS (
	DELETE FROM {schema}log_chunk WHERE build_id = ANY(ARRAY(SELECT id FROM doomed))
), heads AS (
	DELETE FROM {schema}log_head WHERE build_id = ANY(ARRAY(SELECT id FROM doomed))
), attempts AS (
	DELETE FROM {schema}attempt WHERE build_id = ANY(ARRAY(SELECT id FROM doomed))
), gone AS (
	DELETE FROM {schema}artifact WHERE build_id = ANY(ARRAY(SELECT id FROM doomed)) RETURNING project, size, charged
)` + refund + `, builds AS (
	DELETE FROM {schema}build WHERE id = ANY(ARRAY(SELECT id FROM doomed))
)
SELECT (SELECT count(*) FROM doomed), (SELECT count(*) FROM due)`

// retire deletes builds whose retention is over.
func (r *round) retire(ctx context.Context) error {
	if r.Retention <= 0 {
		return nil
	}
	type row struct{ deleted, due int }
	rows, err := collect(ctx, r.Backend, func(c pgx.CollectableRow) (x row, err error) {
		err = c.Scan(&x.deleted, &x.due)
		return x, err
	}, r.sql.retire, present(r.now), min(r.Limit, retireMost), r.Retention.Microseconds(), retireBytes)
	if err != nil {
		return err
	}
	done := rows[0]
	r.count(&r.done.Deleted, done.deleted)
	r.done.More = r.done.More || 0 < done.deleted && (done.deleted < done.due || done.due == retireMost)
	return nil
}

// unreserve takes back reservations of artifacts.
func (r *round) unreserve(ctx context.Context) error {
	gone, err := collect(ctx, r.Backend, pgx.RowTo[int], r.sql.unreserve, r.Limit)
	if err != nil {
		return err
	}
	r.count(&r.done.Forgotten, gone[0])
	return nil
}

// forgetSessions removes sessions that have ended and have no leases.
func (r *round) forgetSessions(ctx context.Context) error {
	return r.move(ctx, &r.done.Forgotten, r.sql.forgetSessions, forget.Microseconds())
}

// forgetControllers removes controllers that are gone and have no sessions.
func (r *round) forgetControllers(ctx context.Context) error {
	return r.move(ctx, &r.done.Forgotten, r.sql.forgetControllers, forget.Microseconds())
}

// forgetKeys gives up idempotency keys that were kept long enough.
func (r *round) forgetKeys(ctx context.Context) error {
	return r.move(ctx, &r.done.Forgotten, r.sql.forgetKeys, r.KeepKeys.Microseconds())
}
