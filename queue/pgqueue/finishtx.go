package pgqueue

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/uptrace/bun"

	"github.com/slipway-build/slipway/queue"
)

// Finish ends attempts in a transaction of the caller's own, so that what a build has led to is stored together with its end, or not at
// all. tx is a *sql.Tx or a bun.Tx on the database of q's backend, over any driver; q must have been made with a [Backend] of this
// package. Results are those of [queue.Queue.FinishMany]: what is not returned was stale, and the caller should roll back. Whoever reports
// the same attempt again, after the commit, gets the same result, so that a [queue.Worker] whose handler has ended its own attempt, see
// [queue.Job.Completion], notices nothing.
//
// The isolation level of the transaction must be READ COMMITTED, PostgreSQL's default: one that reads all from the snapshot of its first
// statement may not see the log that is to be closed, if that was begun later.
//
// Until the transaction ends, the builds are locked: a cancel waits for it, and no sweep takes them away. If it is rolled back the attempts go
// on. After the commit, call [queue.Queue.Wake], for those who wait for what comes next. After an error roll back, even where the database
// would let the transaction go on.
//
// Errors: [queue.ErrInvalid], about the ends or the isolation level; then nothing was locked or changed.
func Finish(ctx context.Context, q *queue.Queue, tx bun.IConn, ends ...queue.Completion) ([]queue.Finished, error) {
	b, err := backendOf(q)
	if err != nil {
		return nil, err
	}
	return q.FinishBy(ends, func(ends []queue.Completion, avoid time.Duration) ([]queue.Finished, error) {
		return b.finishIn(ctx, sqlRunner{tx, b.bun}, ends, avoid)
	})
}

// FinishPgx is [Finish] in a transaction of pgx: a pgx.Tx, or whatever else queries on its connection.
func FinishPgx(ctx context.Context, q *queue.Queue, tx interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}, ends ...queue.Completion,
) ([]queue.Finished, error) {
	b, err := backendOf(q)
	if err != nil {
		return nil, err
	}
	return q.FinishBy(ends, func(ends []queue.Completion, avoid time.Duration) ([]queue.Finished, error) {
		return b.finishIn(ctx, pgxRunner{tx}, ends, avoid)
	})
}

// lockEndingInSQL is lockEndingSQL where the isolation level is the caller's. It returns that, and locks nothing unless each statement has a
// snapshot of its own.
const lockEndingInSQL = `
SELECT current_setting('transaction_isolation'), n.count FROM (` + lockEndingSQL + `
WHERE current_setting('transaction_isolation') IN ('read committed', 'read uncommitted')) n`

// finishIn finishes attempts in a caller's transaction.
func (b *Backend) finishIn(ctx context.Context, on runner, ends []queue.Completion, avoid time.Duration) ([]queue.Finished, error) {
	ctx, cancel := b.bounded(ctx)
	defer cancel()
	c := completionColumns(ends)
	if err := b.lockEndings(ctx, on, c.builds); err != nil {
		return nil, err
	}
	done, err := endsOf(ctx, on, b.sql.finishIn, c.args(time.Time{}, avoid))
	if err == nil && len(done) < len(c.builds) {
		rest := c.without(done)
		var before []end
		before, err = endsOf(ctx, on, b.sql.finishedIn, []any{rest.builds, rest.epochs})
		done = append(done, before...)
	}
	if err != nil {
		return nil, explain(err)
	}
	return finished(done), nil
}

// lockEndings locks builds, unless the transaction does not read what others commit while it lasts.
func (b *Backend) lockEndings(ctx context.Context, on runner, builds []pgtype.UUID) error {
	var level string
	err := on.run(ctx, b.sql.lockEndingIn, []any{builds}, func(scan scanner) error {
		var locked int
		return scan(&level, &locked)
	})
	if err != nil {
		return explain(err)
	}
	if level != "read committed" && level != "read uncommitted" { // which PostgreSQL takes for the same
		return fmt.Errorf("%w: transaction is %s: begin it as READ COMMITTED", queue.ErrInvalid, strings.ToUpper(level))
	}
	return nil
}

// endsOf runs a statement that returns ends.
func endsOf(ctx context.Context, on runner, s statement, args []any) (all []end, err error) {
	err = on.run(ctx, s, args, func(scan scanner) error {
		var e end
		err := scan((*idText)(&e.Build), &e.Epoch, (*int16)(&e.state), &e.admitted, &e.class, &e.rank)
		all = append(all, e)
		return err
	})
	return all, err
}
