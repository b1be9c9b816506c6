package sqlitequeue

import (
	"context"
	"database/sql"
	"time"

	"github.com/uptrace/bun"

	"github.com/slipway-build/slipway/internal/sqlqueue"
	"github.com/slipway-build/slipway/queue"
)

// Finish ends attempts in a transaction of the caller: a [*sql.Tx], a [bun.Tx], or anything else with their methods. So what a build
// has led to is stored together with its end, or not at all. Results and errors are those of [queue.Queue.FinishMany]; after an error
// nothing was finished, and the transaction can go on, unless ctx has ended: then SQLite may have rolled it back.
//
// tx must belong to the database of q, whose backend must be a [*Backend], and it must be a transaction, begun with the write lock, as
// [Open] sees to: one that has read before it writes fails when somebody else has written meanwhile. A handler calls
// [queue.Job.Completion] before it begins the transaction, because that stores the rest of the log, which would wait for the lock.
func Finish(ctx context.Context, q *queue.Queue, tx bun.IConn, ends ...queue.Completion) ([]queue.Finished, error) {
	b, err := backendOf(q)
	if err == nil {
		err = checkTx(tx)
	}
	if err != nil {
		return nil, &queue.Error{Op: "finish", Err: err}
	}
	ctx, cancel := b.bounded(ctx)
	defer cancel()
	return q.FinishBy(ends, func(ends []queue.Completion, avoid time.Duration) (finished []queue.Finished, err error) {
		err = within(ctx, tx, func(c *change) error {
			finished, err = c.finish(ctx, ends, avoid)
			return err
		})
		return alone(finished, explain(err))
	})
}

// Finish implements [queue.Transitions].
func (b *Backend) Finish(
	ctx context.Context, ends []queue.Completion, avoid time.Duration, now time.Time,
) (finished []queue.Finished, err error) {
	err = b.change(ctx, now, func(ctx context.Context, c *change) error {
		finished, err = c.finish(ctx, ends, avoid)
		return err
	})
	return alone(finished, err)
}

var finishSQL = statement(retryColumns + fence)

func (c *change) finish(ctx context.Context, ends []queue.Completion, avoid time.Duration) ([]queue.Finished, error) {
	ids := make([]queue.AttemptID, len(ends))
	for i := range ends {
		ids[i] = ends[i].AttemptID
	}
	arg, err := list(ids)
	if err != nil {
		return nil, err
	}
	leases, err := c.retries(ctx, finishSQL, arg)
	if err != nil {
		return nil, err
	}
	held := make(map[queue.AttemptID]*lease, len(leases))
	for i := range leases {
		held[leases[i].AttemptID] = &leases[i]
	}
	var endings []ending
	var finished []queue.Finished
	var before []queue.AttemptID // not leased: ended before, or stale
	results := make(map[queue.AttemptID]queue.Finished, len(leases))
	for i := range ends {
		id := ends[i].AttemptID
		if l := held[id]; l == nil {
			before = append(before, id)
		} else if result, ended := results[id]; ended {
			finished = append(finished, result)
		} else if ends[i].Session == 0 || ends[i].Session == l.session {
			e := l.report(&ends[i], avoid, c.now)
			endings = append(endings, e)
			results[id] = queue.Finished{AttemptID: id, State: e.Next.Public(), Admitted: l.admitted}
			finished = append(finished, results[id])
		}
	}
	if err := c.end(ctx, endings); err != nil {
		return nil, err
	}
	again, err := c.finished(ctx, before)
	return append(finished, again...), err
}

var finishedSQL = statement(`
SELECT a.build_id, a.epoch, a.result, b.admitted FROM ` + attemptIDs + ` AS i
CROSS JOIN {schema}attempt AS a ON a.build_id = i.id AND a.epoch = i.epoch AND a.result IS NOT NULL
CROSS JOIN {schema}build AS b ON b.id = a.build_id ORDER BY i.n`)

// finished returns those of the attempts that Finish has ended before, and what it led to.
func (c *change) finished(ctx context.Context, ids []queue.AttemptID) ([]queue.Finished, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	arg, err := list(ids)
	if err != nil {
		return nil, err
	}
	var all []queue.Finished
	err = c.each(ctx, func(rows *sql.Rows) error {
		var f queue.Finished
		var result sqlqueue.State
		err := rows.Scan(scanID(&f.Build), &f.Epoch, &result, &f.Admitted)
		f.State = result.Public()
		all = append(all, f)
		return err
	}, finishedSQL, arg)
	return all, err
}
