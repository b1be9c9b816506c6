package sqlitequeue

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/slipway-build/slipway/internal/sqlqueue"
	"github.com/slipway-build/slipway/queue"
)

// A lease is what is read of a build that is offered, running or cancelling.
type lease struct {
	queue.AttemptID
	state      sqlqueue.State
	session    queue.SessionID
	worker     string
	project    string
	used, most int // attempts
	startedAt  sql.NullInt64
	runTimeout int64
	tokenHash  []byte
	source     sourceColumns
	reason     string
	log        int64 // bytes stored

	// What follows is read of those that may be attempted again.
	class       queue.ClassID
	rank        int64
	admitted    bool
	retryFailed bool
	backoff     queue.Backoff
}

// leaseColumns begins every statement that reads leases from build as b. Whatever narrows the search stands first in its
// FROM: a CROSS JOIN keeps SQLite from turning that round, and INDEXED BY from searching by what narrows less.
const leaseColumns = `SELECT b.id, b.epoch, b.state, b.session_id, b.worker, b.project, b.attempts_used, b.max_attempts,
	b.started_at, b.run_timeout, b.token_hash, b.source_digest, b.source_size, b.reason,
	coalesce((SELECT h.length FROM {schema}log_head AS h WHERE h.build_id = b.id AND h.epoch = b.epoch), 0)
`

// retryColumns are more columns of those leases that may be attempted again. They stand behind the spec.
const retryColumns = leaseColumns + `	, b.class_id, b.rank, b.admitted, b.retry_failed, b.backoff_base, b.backoff_max
`

func (l *lease) columns() []any {
	return []any{
		scanID(&l.Build), &l.Epoch, &l.state, &l.session, &l.worker, &l.project, &l.used, &l.most,
		&l.startedAt, &l.runTimeout, &l.tokenHash, &l.source.digest, &l.source.size, &l.reason, &l.log,
	}
}

func (l *lease) scan(rows *sql.Rows) error { return rows.Scan(l.columns()...) }

func (l *lease) scanRetry(rows *sql.Rows) error {
	var base, most int64
	err := rows.Scan(append(l.columns(), &l.class, &l.rank, &l.admitted, &l.retryFailed, &base, &most)...)
	l.backoff = queue.Backoff{Base: sqlqueue.Duration(base), Max: sqlqueue.Duration(most)}
	return err
}

// public returns the lease as it stands at now.
func (l *lease) public(now int64) queue.Lease {
	p := queue.Lease{
		AttemptID: l.AttemptID, Session: l.session, Worker: l.worker, Project: l.project, State: l.state.Public(),
		TokenHash: digest(l.tokenHash), Source: l.source.source(), Reason: l.reason, LogLength: l.log,
	}
	if l.state == sqlqueue.Running {
		p.RunLeft = time.Duration(max(0, l.startedAt.Int64+l.runTimeout-now)) * time.Microsecond
	}
	return p
}

// leases runs a statement that begins with leaseColumns.
func (c *change) leases(ctx context.Context, query string, args ...any) ([]lease, error) {
	return c.scanLeases(ctx, (*lease).scan, query, args...)
}

// retries runs a statement that begins with retryColumns.
func (c *change) retries(ctx context.Context, query string, args ...any) ([]lease, error) {
	return c.scanLeases(ctx, (*lease).scanRetry, query, args...)
}

func (c *change) scanLeases(
	ctx context.Context, scan func(*lease, *sql.Rows) error, query string, args ...any,
) (found []lease, err error) {
	err = c.each(ctx, func(rows *sql.Rows) error {
		var l lease
		err := scan(&l, rows)
		found = append(found, l)
		return err
	}, query, args...)
	return found, err
}

// This is the fence of everything that a worker writes, its only one: what does not come back is stale. It holds until the change
// ends, because nobody else can write before.
const fence = `FROM ` + attemptIDs + ` AS i CROSS JOIN {schema}build AS b
ON b.id = i.id AND b.epoch = i.epoch AND b.state IN ({running}, {cancelling}) ORDER BY i.n`

var fenceSQL = statement(leaseColumns + fence)

// fence returns those of the attempts that are leased, in their order.
func (c *change) fence(ctx context.Context, ids ...queue.AttemptID) ([]lease, error) {
	arg, err := list(ids)
	if err != nil {
		return nil, err
	}
	return c.leases(ctx, fenceSQL, arg)
}

var (
	leasesSQL = statement(leaseColumns + `FROM {schema}session AS s CROSS JOIN {schema}build AS b ON b.session_id = s.id
WHERE s.controller_id = ? AND s.ended_at IS NULL AND b.session_id IS NOT NULL ORDER BY b.id`)

	cancelsSQL = statement(leaseColumns + `FROM {schema}build AS b INDEXED BY {schema}build_cancelling
CROSS JOIN {schema}session AS s ON s.id = b.session_id
WHERE b.state = {cancelling} AND s.controller_id = ? AND s.ended_at IS NULL ORDER BY b.id`)
)

// Leases implements [queue.Sessions].
func (b *Backend) Leases(ctx context.Context, controller queue.ID, cancelling bool) ([]queue.Lease, error) {
	query := leasesSQL
	if cancelling {
		query = cancelsSQL
	}
	return b.readLeases(ctx, query, controller[:])
}

// Lease implements [queue.Sessions].
func (b *Backend) Lease(ctx context.Context, id queue.AttemptID) (queue.Lease, error) {
	arg, err := list([]queue.AttemptID{id})
	if err != nil {
		return queue.Lease{}, err
	}
	leases, err := b.readLeases(ctx, fenceSQL, arg)
	if err != nil {
		return queue.Lease{}, err
	}
	if len(leases) == 0 {
		return queue.Lease{}, fmt.Errorf("attempt %d of build %v: %w", id.Epoch, id.Build, queue.ErrStaleLease)
	}
	return leases[0], nil
}

func (b *Backend) readLeases(ctx context.Context, query string, args ...any) ([]queue.Lease, error) {
	now := present(time.Time{}).UnixMicro()
	var leases []queue.Lease
	err := b.read(ctx, func(rows *sql.Rows) error {
		var l lease
		err := l.scan(rows)
		leases = append(leases, l.public(now))
		return err
	}, query, args...)
	return alone(leases, err)
}
