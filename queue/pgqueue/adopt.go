package pgqueue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/slipway-build/slipway/queue"
)

// lockSessionSQL keeps the session from being replaced while its worker's leases move to it: else they could come to rest at a session
// that has ended, after those of the newest were moved.
const lockSessionSQL = `SELECT worker FROM {schema}session WHERE id = $1 AND ended_at IS NULL FOR SHARE`

// lockLeasesSQL locks all that the statements below change, in one order.
const lockLeasesSQL = `
SELECT b.id FROM {schema}build b
WHERE b.session_id IS NOT NULL AND b.session_id = ANY(ARRAY(SELECT s.id FROM {schema}session s WHERE s.worker = $1))
ORDER BY b.id FOR NO KEY UPDATE OF b`

const adoptSQL = `
UPDATE {schema}build b SET session_id = $2
FROM unnest($3::uuid[], $4::bigint[]) AS i(id, epoch)
WHERE b.id = i.id AND b.epoch = i.epoch AND b.id = ANY($3::uuid[])
	AND b.session_id IN (SELECT s.id FROM {schema}session s WHERE s.worker = $5)
RETURNING ` + leaseColumns

const takeBackUnheldSQL = `
UPDATE {schema}build b SET state = {queued}, session_id = NULL, deadline = NULL
WHERE b.session_id IS NOT NULL AND b.session_id = ANY(ARRAY(SELECT s.id FROM {schema}session s WHERE s.worker = $1 AND s.id <> $2))
	AND b.state = {offered}`

// reportsSQL returns, in the form of leases, attempts of the worker that Finish has ended.
const reportsSQL = `
SELECT a.build_id, a.epoch, 0::bigint, a.worker, b.project, a.outcome, NULL::bytea, NULL::bytea, NULL::bigint, a.reason,
	coalesce((SELECT h.length FROM {schema}log_head h WHERE h.build_id = a.build_id AND h.epoch = a.epoch), 0), 0::bigint
FROM unnest($1::uuid[], $2::bigint[]) AS i(id, epoch)
JOIN {schema}attempt a ON a.build_id = i.id AND a.epoch = i.epoch
JOIN {schema}build b ON b.id = a.build_id
WHERE a.build_id = ANY($1::uuid[]) AND a.worker = $3 AND a.result IS NOT NULL`

// Adopt implements [queue.Sessions]. It is a transaction of a handful of statements, once for each connect of a worker.
func (b *Backend) Adopt(ctx context.Context, session queue.SessionID, held []queue.AttemptID, now time.Time) (queue.Adopted, error) {
	a := adoption{Backend: b, session: session, now: now}
	for _, id := range held {
		a.held.add(id)
	}
	if err := b.transact(ctx, a.run); err != nil {
		return queue.Adopted{}, err
	}
	slices.SortFunc(a.leases, func(x, y queue.Lease) int { return byAttempt(x.AttemptID, y.AttemptID) })
	return queue.Adopted{Leases: a.leases, Released: a.released}, nil
}

// An adoption is one call of Adopt.
type adoption struct {
	*Backend
	session queue.SessionID
	held    attempts
	now     time.Time
	leases  []queue.Lease
	// released is how many offers were taken back.
	released int
}

func (a *adoption) run(ctx context.Context, tx pgx.Tx) error {
	worker, err := a.lock(ctx, tx)
	if err != nil {
		return err
	}
	rows, err := tx.Query(ctx, a.sql.adopt, present(a.now), int64(a.session), a.held.builds, a.held.epochs, worker)
	if err != nil {
		return err
	}
	if a.leases, err = pgx.CollectRows(rows, scanLease); err != nil {
		return err
	}
	tag, err := tx.Exec(ctx, a.sql.takeBackUnheld, worker, int64(a.session))
	if err != nil {
		return err
	}
	a.released = int(tag.RowsAffected())
	rows, err = tx.Query(ctx, a.sql.reports, a.held.builds, a.held.epochs, worker)
	if err != nil {
		return err
	}
	reports, err := pgx.CollectRows(rows, scanLease)
	a.leases = append(a.leases, reports...)
	return err
}

// lock locks the session and all leases of its worker, and returns whose it is.
func (a *adoption) lock(ctx context.Context, tx pgx.Tx) (worker string, err error) {
	rows, err := tx.Query(ctx, a.sql.lockSession, int64(a.session))
	if err != nil {
		return "", err
	}
	worker, err = pgx.CollectExactlyOneRow(rows, pgx.RowTo[string])
	if errors.Is(err, pgx.ErrNoRows) {
		return "", fmt.Errorf("session %d: %w", a.session, queue.ErrNotFound)
	}
	if err != nil {
		return "", err
	}
	_, err = tx.Exec(ctx, a.sql.lockLeases, worker)
	return worker, err
}
