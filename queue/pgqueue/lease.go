package pgqueue

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/slipway-build/slipway/internal/sqlqueue"
	"github.com/slipway-build/slipway/queue"
)

// leaseColumns are those that scanLease reads, of a build b.
const leaseColumns = `b.id, b.epoch, b.session_id, b.worker, b.project, b.state, b.token_hash, b.source_digest, b.source_size, b.reason,
	coalesce((SELECT h.length FROM {schema}log_head h WHERE h.build_id = b.id AND h.epoch = b.epoch), 0),
	CASE WHEN b.state = {running}
		THEN greatest(0, b.run_timeout - (extract(epoch FROM {now} - b.started_at) * 1000000)::bigint) ELSE 0 END`

func scanLease(row pgx.CollectableRow) (l queue.Lease, err error) {
	var state int16
	var token []byte
	var source sourceColumns
	var left int64
	err = row.Scan((*[16]byte)(&l.Build), &l.Epoch, &l.Session, &l.Worker, &l.Project, &state, &token, &source.digest, &source.size,
		&l.Reason, &l.LogLength, &left)
	l.State, l.TokenHash, l.Source = sqlqueue.State(state).Public(), digest(token), source.source()
	l.RunLeft = sqlqueue.Duration(left)
	return l, err
}

const leasesSQL = `
SELECT ` + leaseColumns + `
FROM {schema}build b
WHERE b.session_id IS NOT NULL AND b.session_id = ANY(ARRAY(
	SELECT s.id FROM {schema}session s WHERE s.controller_id = $2 AND s.ended_at IS NULL))`

const cancelsSQL = `
SELECT ` + leaseColumns + `
FROM {schema}build b
WHERE b.session_id IS NOT NULL AND b.state = {cancelling} AND b.session_id = ANY(ARRAY(
	SELECT s.id FROM {schema}session s WHERE s.controller_id = $2 AND s.ended_at IS NULL))`

// Leases implements [queue.Sessions].
func (b *Backend) Leases(ctx context.Context, controller queue.ID, cancelling bool) ([]queue.Lease, error) {
	sql := b.sql.leases
	if cancelling {
		sql = b.sql.cancels
	}
	leases, err := collect(ctx, b, scanLease, sql, nil, uuid(controller))
	slices.SortFunc(leases, func(x, y queue.Lease) int { return byAttempt(x.AttemptID, y.AttemptID) })
	return leases, err
}

const leaseSQL = `
SELECT ` + leaseColumns + `
FROM {schema}build b
WHERE b.id = $2 AND b.epoch = $3 AND b.state IN ({running}, {cancelling})`

// Lease implements [queue.Sessions].
func (b *Backend) Lease(ctx context.Context, id queue.AttemptID) (queue.Lease, error) {
	leases, err := collect(ctx, b, scanLease, b.sql.lease, nil, uuid(id.Build), id.Epoch)
	if err != nil {
		return queue.Lease{}, err
	}
	if len(leases) == 0 {
		return queue.Lease{}, queue.ErrStaleLease
	}
	return leases[0], nil
}
