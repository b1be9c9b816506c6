package sqlitequeue

import (
	"context"
	"time"

	"github.com/slipway-build/slipway/internal/sqlqueue"
	"github.com/slipway-build/slipway/queue"
)

// forget is how long the row of an ended session or a dead controller is kept, for whoever still asks.
const forget = 10 * time.Minute

// Maintain implements [queue.Transitions].
func (b *Backend) Maintain(ctx context.Context, rules queue.Rules, now time.Time) (done queue.Maintained, err error) {
	err = b.change(ctx, now, func(ctx context.Context, c *change) error {
		r := &round{change: c, Rules: rules, done: queue.Maintained{}}
		for _, step := range []func(context.Context) error{
			r.expire, r.release, r.endOverdue, r.sweep, r.admit, r.forget,
		} {
			if err := step(ctx); err != nil {
				return err
			}
		}
		done = r.done
		return nil
	})
	if err != nil {
		return queue.Maintained{}, err
	}
	return done, nil
}

// A round is one call of Maintain.
type round struct {
	*change
	queue.Rules
	done queue.Maintained
}

// count adds n to a kind and notes when the limit was reached.
func (r *round) count(kind *int, n int) {
	*kind += n
	r.done.More = r.done.More || *kind >= r.Limit
}

var expireSQL = statement(`
UPDATE {schema}build SET state = {expired}, finished_at = ?1, not_before = NULL, reason = ?2
WHERE id IN (SELECT b.id FROM {schema}build AS b WHERE b.state <= {queued} AND b.expires_at <= ?1 ORDER BY b.expires_at LIMIT ?3)`)

func (r *round) expire(ctx context.Context) error {
	n, err := r.exec(ctx, expireSQL, r.now, queue.EventQueueTimeout.Reason(), r.Limit)
	r.count(&r.done.Expired, n)
	return err
}

var (
	releaseOverdueSQL = statement(`
UPDATE {schema}build SET state = {queued}, session_id = NULL, deadline = NULL, avoid_worker = worker, avoid_until = ?1 + ?2
WHERE id IN (SELECT b.id FROM {schema}build AS b WHERE b.state = {offered} AND b.deadline <= ?1 ORDER BY b.deadline LIMIT ?3)`)

	releaseEndedSQL = statement(`
UPDATE {schema}build SET state = {queued}, session_id = NULL, deadline = NULL
WHERE id IN (
	SELECT b.id FROM {schema}build AS b CROSS JOIN {schema}session AS s ON s.id = b.session_id
	WHERE b.state = {offered} AND b.deadline > ?1 AND s.ended_at IS NOT NULL LIMIT ?2)`)
)

// release takes back offers that ran out, and those to sessions that have ended.
func (r *round) release(ctx context.Context) error {
	overdue, err := r.exec(ctx, releaseOverdueSQL, r.now, r.Avoid.Microseconds(), r.Limit)
	if err != nil {
		return err
	}
	ended, err := r.exec(ctx, releaseEndedSQL, r.now, r.Limit-overdue)
	r.count(&r.done.Released, overdue+ended)
	return err
}

var overdueSQL = statement(leaseColumns + `FROM {schema}build AS b
WHERE b.state = ?1 AND b.deadline <= ?2 ORDER BY b.deadline LIMIT ?3`)

// endOverdue ends the attempts whose workers did not report in time.
func (r *round) endOverdue(ctx context.Context) error {
	for _, kind := range []struct {
		state, outcome sqlqueue.State
		event          queue.Event
		count          *int
	}{
		{sqlqueue.Running, sqlqueue.TimedOut, queue.EventDeadline, &r.done.TimedOut},
		{sqlqueue.Cancelling, sqlqueue.Canceled, queue.EventCancelDeadline, &r.done.Canceled},
	} {
		held, err := r.leases(ctx, overdueSQL, kind.state, r.now, r.Limit)
		if err != nil {
			return err
		}
		endings := make([]ending, len(held))
		for i := range held {
			endings[i] = held[i].ending(kind.outcome, kind.event.Reason())
		}
		if err := r.end(ctx, endings); err != nil {
			return err
		}
		r.count(kind.count, len(held))
	}
	return nil
}

var (
	freshSQL = statement(`
SELECT count(*) FROM {schema}controller WHERE id = ?1 AND alive_until >= ?2 AND fresh_since <= ?2 - ?3`)

	// What is past its deadline as well is left to time out.
	goneSQL = statement(leaseColumns + `FROM (
	SELECT s.id FROM {schema}session AS s WHERE s.ended_at <= ?1 - ?2
	UNION ALL
	SELECT s.id FROM {schema}controller AS c CROSS JOIN {schema}session AS s ON s.controller_id = c.id
	WHERE c.alive_until <= ?1 - ?2 AND (s.ended_at IS NULL OR s.ended_at > ?1 - ?2)
) AS g CROSS JOIN {schema}build AS b INDEXED BY {schema}build_leased ON b.session_id = g.id
WHERE b.session_id IS NOT NULL AND b.state = {running} AND b.deadline > ?1 LIMIT ?3`)
)

// sweep ends the attempts of workers that did not come back, if the controller that asks would know.
func (r *round) sweep(ctx context.Context) error {
	var fresh int
	row := r.conn.Conn.QueryRowContext(ctx, freshSQL, r.Controller[:], r.now, r.Grace.Microseconds())
	if err := row.Scan(&fresh); err != nil || fresh == 0 {
		return err
	}
	held, err := r.leases(ctx, goneSQL, r.now, r.Grace.Microseconds(), r.Limit)
	if err != nil {
		return err
	}
	endings := make([]ending, len(held))
	for i := range held {
		endings[i] = held[i].lost(queue.EventSessionLost.Reason(), r.Avoid, r.now)
		if endings[i].Next == sqlqueue.Lost {
			r.done.Lost++
		} else {
			r.done.Requeued++
		}
	}
	r.done.More = r.done.More || len(held) >= r.Limit
	return r.end(ctx, endings)
}

// newBuilds are the first builds whose class is not known. Every statement of one change sees the same.
const newBuilds = `(SELECT b.id, b.pool, b.labels FROM {schema}build AS b WHERE b.state = {held} AND b.class_id IS NULL
	ORDER BY b.rank, b.id LIMIT ?1)`

var (
	internSQL = statement(`
INSERT INTO {schema}class (pool, labels) SELECT DISTINCT n.pool, n.labels FROM ` + newBuilds + ` AS n WHERE true
ON CONFLICT DO NOTHING`)

	admitNewSQL = statement(`
UPDATE {schema}build AS b SET state = {queued}, class_id = c.id
FROM ` + newBuilds + ` AS n CROSS JOIN {schema}class AS c ON c.pool = n.pool AND c.labels = n.labels
WHERE b.id = n.id`)

	admitDueSQL = statement(`
UPDATE {schema}build SET state = {queued}, not_before = NULL
WHERE id IN (SELECT b.id FROM {schema}build AS b WHERE b.state = {held} AND b.not_before <= ?1 ORDER BY b.not_before LIMIT ?2)`)
)

// admit queues held builds: those whose class is new, and those whose back-off is over. One change makes classes at a time, so they
// become visible in order.
func (r *round) admit(ctx context.Context) error {
	classes, err := r.exec(ctx, internSQL, r.Limit)
	if err != nil {
		return err
	}
	r.done.Interned = classes
	fresh, err := r.exec(ctx, admitNewSQL, r.Limit)
	if err != nil {
		return err
	}
	due, err := r.exec(ctx, admitDueSQL, r.now, r.Limit-fresh)
	r.count(&r.done.Queued, fresh+due)
	return err
}

var (
	forgetSessionsSQL = statement(`
DELETE FROM {schema}session WHERE id IN (
	SELECT s.id FROM {schema}session AS s WHERE s.ended_at <= ?1
		AND NOT EXISTS (SELECT 1 FROM {schema}build AS b WHERE b.session_id = s.id AND b.session_id IS NOT NULL)
	ORDER BY s.ended_at LIMIT ?2)`)

	forgetControllersSQL = statement(`
DELETE FROM {schema}controller WHERE id IN (
	SELECT c.id FROM {schema}controller AS c WHERE c.alive_until <= ?1
		AND NOT EXISTS (SELECT 1 FROM {schema}session AS s WHERE s.controller_id = c.id)
	LIMIT ?2)`)
)

// forget removes what nothing refers to any more.
func (r *round) forget(ctx context.Context) error {
	cut := r.now - forget.Microseconds()
	sessions, err := r.exec(ctx, forgetSessionsSQL, cut, r.Limit)
	if err != nil {
		return err
	}
	controllers, err := r.exec(ctx, forgetControllersSQL, cut, r.Limit-sessions)
	r.count(&r.done.Forgotten, sessions+controllers)
	return err
}
