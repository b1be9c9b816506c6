package sqlitequeue

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"time"

	"github.com/slipway-build/slipway/internal/sqlqueue"
	"github.com/slipway-build/slipway/queue"
)

// Maintain implements [queue.Transitions]. It is one change, of which what cannot be done is left out.
func (b *Backend) Maintain(ctx context.Context, rules queue.Rules, now time.Time) (queue.Maintained, error) {
	var done queue.Maintained
	var errs []error
	err := b.change(ctx, now, func(ctx context.Context, c *change) error {
		r := &round{change: c, Rules: rules}
		for _, step := range []func(context.Context) error{
			r.expire, r.releaseOverdue, r.releaseEnded, r.timeOut, r.force, r.sweep, r.intern, r.classify, r.due,
			r.forgetSessions, r.forgetControllers, r.forgetKeys, r.unreserve, r.retire,
		} {
			err := r.try(ctx, step)
			if errors.Is(err, errLost) || err != nil && ctx.Err() != nil {
				return err
			}
			errs = append(errs, explain(err))
		}
		r.done.Heads = r.heads.all
		done = r.done
		return nil
	})
	if err != nil {
		return queue.Maintained{}, errors.Join(append(errs, err)...)
	}
	return done, errors.Join(errs...)
}

// A round is one call of Maintain.
type round struct {
	*change
	queue.Rules
	done  queue.Maintained
	heads heads

	promoted int // held builds that were given a class or whose time has come
}

var (
	savepointSQL        = statement("SAVEPOINT step")
	releaseSavepointSQL = statement("RELEASE step")
	rollbackToSQL       = statement("ROLLBACK TO step")
)

// errLost says that a step could not be undone alone.
var errLost = errors.New("the whole change is undone")

// try carries out a step wholly or, with an error, not at all.
func (r *round) try(ctx context.Context, step func(context.Context) error) error {
	if _, err := r.exec(ctx, savepointSQL); err != nil {
		return err
	}
	done, heads := r.done, slices.Clone(r.heads.all)
	err := step(ctx)
	if err == nil {
		_, err = r.exec(ctx, releaseSavepointSQL)
	}
	if err == nil {
		return nil
	}
	r.done, r.heads.all = done, heads
	for _, query := range []string{rollbackToSQL, releaseSavepointSQL} {
		if _, undo := r.exec(ctx, query); undo != nil {
			return errors.Join(err, errLost, undo)
		}
	}
	return err
}

// count adds n to a kind and notes when the limit was reached.
func (r *round) count(kind *int, n int) {
	*kind += n
	r.done.More = r.done.More || *kind >= r.Limit
}

var expireSQL = statement(`
UPDATE {schema}build SET state = {expired}, finished_at = ?1, not_before = NULL, reason = ?2
WHERE id IN (SELECT b.id FROM {schema}build AS b WHERE b.state <= {queued} AND b.expires_at <= ?1 ORDER BY b.expires_at LIMIT +?3)`)

func (r *round) expire(ctx context.Context) error {
	n, err := r.exec(ctx, expireSQL, r.now, queue.EventQueueTimeout.Reason(), r.Limit)
	r.count(&r.done.Expired, n)
	return err
}

var (
	releaseOverdueSQL = statement(`
UPDATE {schema}build AS b SET ` + comeBack + `, session_id = NULL, deadline = NULL, avoid_worker = b.worker, avoid_until = ?1 + ?2
WHERE b.id IN (SELECT o.id FROM {schema}build AS o WHERE o.state = {offered} AND o.deadline <= ?1 ORDER BY o.deadline LIMIT +?3)
RETURNING class_id, rank, state = {queued}`)

	releaseEndedSQL = statement(`
UPDATE {schema}build AS b SET ` + comeBack + `, session_id = NULL, deadline = NULL
WHERE b.id IN (
	SELECT o.id FROM {schema}build AS o CROSS JOIN {schema}session AS s ON s.id = o.session_id
	WHERE o.state = {offered} AND o.deadline > ?1 AND s.ended_at IS NOT NULL LIMIT +?2)
RETURNING class_id, rank, state = {queued}`)
)

// releaseOverdue takes back offers that ran out.
func (r *round) releaseOverdue(ctx context.Context) error {
	n, err := r.queue(ctx, new(int), releaseOverdueSQL, r.now, r.Avoid.Microseconds(), r.Limit)
	r.count(&r.done.Released, n)
	return err
}

// releaseEnded takes back offers to sessions that have ended.
func (r *round) releaseEnded(ctx context.Context) error {
	n, err := r.queue(ctx, new(int), releaseEndedSQL, r.now, r.Limit-r.done.Released)
	r.count(&r.done.Released, n)
	return err
}

const overdue = `AND b.deadline <= ?1 ORDER BY b.deadline LIMIT +?2`

var (
	timeOutSQL = statement(leaseColumns + `FROM {schema}build AS b WHERE b.state = {running} ` + overdue)
	forceSQL   = statement(leaseColumns + `FROM {schema}build AS b WHERE b.state = {cancelling} ` + overdue)
)

// timeOut ends what has run too long.
func (r *round) timeOut(ctx context.Context) error {
	return r.endOverdue(ctx, &r.done.TimedOut, timeOutSQL, sqlqueue.TimedOut, queue.EventDeadline)
}

// force ends what was told to stop and has not.
func (r *round) force(ctx context.Context) error {
	return r.endOverdue(ctx, &r.done.Canceled, forceSQL, sqlqueue.Canceled, queue.EventCancelDeadline)
}

// endOverdue ends attempts whose workers did not report in time.
func (r *round) endOverdue(ctx context.Context, kind *int, query string, outcome sqlqueue.State, event queue.Event) error {
	held, err := r.leases(ctx, query, r.now, r.Limit)
	if err != nil {
		return err
	}
	endings := make([]ending, len(held))
	for i := range held {
		endings[i] = held[i].ending(outcome, event.Reason())
	}
	r.count(kind, len(held))
	return r.end(ctx, endings)
}

var (
	freshSQL = statement(`
SELECT count(*) FROM {schema}controller WHERE id = ?1 AND alive_until >= ?2 AND fresh_since <= ?2 - ?3`)

	// What is past its deadline as well is left to time out.
	goneSQL = statement(retryColumns + `FROM (
	SELECT s.id FROM {schema}session AS s WHERE s.ended_at <= ?1 - ?2
	UNION ALL
	SELECT s.id FROM {schema}controller AS c CROSS JOIN {schema}session AS s ON s.controller_id = c.id
	WHERE c.alive_until <= ?1 - ?2 AND (s.ended_at IS NULL OR s.ended_at > ?1 - ?2)
) AS g CROSS JOIN {schema}build AS b INDEXED BY {schema}build_leased ON b.session_id = g.id
WHERE b.session_id IS NOT NULL AND b.state = {running} AND b.deadline > ?1 LIMIT +?3`)
)

// sweep ends the attempts of workers that did not come back, if the controller that asks would know.
func (r *round) sweep(ctx context.Context) error {
	var fresh int
	row := r.tx.QueryRowContext(ctx, freshSQL, r.Controller[:], r.now, r.Grace.Microseconds())
	if err := row.Scan(&fresh); err != nil || fresh == 0 {
		return err
	}
	held, err := r.retries(ctx, goneSQL, r.now, r.Grace.Microseconds(), r.Limit)
	if err != nil {
		return err
	}
	endings := make([]ending, len(held))
	for i := range held {
		endings[i] = held[i].again(sqlqueue.Lost, queue.EventSessionLost.Reason(), r.Avoid, r.now)
		if endings[i].Next == sqlqueue.Lost {
			r.done.Lost++
			continue
		}
		r.done.Requeued++
		if endings[i].Next == sqlqueue.Queued {
			r.heads.add(held[i].class, held[i].rank)
		}
	}
	r.done.More = r.done.More || len(held) >= r.Limit
	return r.end(ctx, endings)
}

// lasts says of a held build b that it need not expire: one whose time in the queue is over is not queued, even if it could not be ended.
const lasts = `(b.expires_at IS NULL OR b.expires_at > ?1)`

// unclassed are the first builds whose class is not known: those that are queued as soon as it is, and those that wait for more.
const unclassed = `(
	SELECT * FROM (SELECT b.id, b.pool, b.labels FROM {schema}build AS b WHERE b.state = {held} AND b.class_id IS NULL AND ` + lasts + `
		ORDER BY b.rank, b.id LIMIT +?2)
	UNION ALL
	SELECT * FROM (SELECT b.id, b.pool, b.labels FROM {schema}build AS b WHERE b.state = {held} AND b.class_id = 0 AND ` + lasts + `
		ORDER BY b.rank, b.id LIMIT +?2)
	LIMIT +?2)`

// inFairPool says so of a build b.
const inFairPool = `EXISTS (SELECT 1 FROM {schema}pool AS p WHERE p.name = b.pool AND p.fair = 1)`

// gated says of a build b that it has to be admitted.
const gated = `(b.limit_key <> '' OR ` + inFairPool + `
	OR EXISTS (SELECT 1 FROM {schema}project AS r WHERE r.name = b.project AND r.paused = 1))`

// ownRank is the rank of a build b outside of fair pools, as queue.NewBuild.Rank has it.
const ownRank = `coalesce(b.scheduled_at, b.created_at) - b.priority * 60000000`

var (
	internSQL = statement(`
INSERT INTO {schema}class (pool, labels) SELECT DISTINCT u.pool, u.labels FROM ` + unclassed + ` AS u WHERE true
ON CONFLICT DO NOTHING`)

	classifySQL = statement(`
UPDATE {schema}build AS b SET
	class_id = c.id, not_before = CASE WHEN b.not_before > ?1 THEN b.not_before END,
	state = CASE WHEN b.not_before > ?1 OR ` + gated + ` THEN {held} ELSE {queued} END
FROM ` + unclassed + ` AS u CROSS JOIN {schema}class AS c ON c.pool = u.pool AND c.labels = u.labels
WHERE b.id = u.id
RETURNING class_id, rank, state = {queued}`)

	// What would be queued before its class is known is classified first, in this call or the next.
	dueSQL = statement(`
UPDATE {schema}build AS b SET
	state = CASE WHEN ` + gated + ` THEN {held} ELSE {queued} END, not_before = NULL, admitted = 0, rank = ` + ownRank + `
WHERE b.id IN (
	SELECT b.id FROM {schema}build AS b WHERE b.state = {held} AND b.not_before <= ?1 AND b.class_id > 0 AND ` + lasts + `
	ORDER BY b.not_before LIMIT +?2)
RETURNING class_id, rank, state = {queued}`)
)

// intern makes the classes that held builds need. One change does so at a time: classes become visible in order.
func (r *round) intern(ctx context.Context) (err error) {
	r.done.Interned, err = r.exec(ctx, internSQL, r.now, r.Limit)
	return err
}

// classify queues held builds whose class is new, or leaves them to Admit.
func (r *round) classify(ctx context.Context) error {
	n, err := r.queue(ctx, &r.done.Queued, classifySQL, r.now, r.Limit)
	r.count(&r.promoted, n)
	return err
}

// due queues held builds whose time has come, or leaves them to Admit.
func (r *round) due(ctx context.Context) error {
	n, err := r.queue(ctx, &r.done.Queued, dueSQL, r.now, r.Limit-r.promoted)
	r.count(&r.promoted, n)
	return err
}

// queue runs a statement that queues builds, or holds them. It counts the former and returns how many they are in all.
func (r *round) queue(ctx context.Context, queues *int, query string, args ...any) (n int, err error) {
	err = r.each(ctx, func(rows *sql.Rows) error {
		var head queue.Head
		var queued bool
		if err := rows.Scan(&head.Class, &head.Rank, &queued); err != nil {
			return err
		}
		n++
		if queued {
			*queues++
			r.heads.add(head.Class, head.Rank)
		}
		return nil
	}, query, args...)
	return n, err
}

// heads collects the classes in which builds were queued.
type heads struct{ all []queue.Head }

func (h *heads) add(class queue.ClassID, rank int64) {
	for i := range h.all {
		if h.all[i].Class == class {
			h.all[i].Rank = min(h.all[i].Rank, rank)
			h.all[i].Count++
			return
		}
	}
	h.all = append(h.all, queue.Head{Class: class, Rank: rank, Count: 1})
}
