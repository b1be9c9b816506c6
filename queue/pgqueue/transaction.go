package pgqueue

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/uptrace/bun"

	"github.com/slipway-build/slipway/queue"
)

// Submit adds builds in a transaction of the caller's own and returns their ids in the order of params: they are there if the
// transaction commits, and no worker sees them before. tx is a *sql.Tx, a bun.Tx or a bun.DB on the database of q's backend, over any
// driver; q must have been made with a [Backend] of this package. After the commit, call [queue.Queue.Wake], to save the
// builds the wait for the next poll.
//
// The transaction may have any isolation level. One that reads all from the snapshot of its first statement submits by what the classes,
// pools and projects were then, which Maintain and Admit put right; and if somebody has used one of the idempotency keys since, Submit
// fails like other statements there, with SQLSTATE 40001, and the transaction should be run again.
//
// Submit takes no lock that another submitter waits for, unless both submit the same id or the same idempotency key, so that a long
// transaction holds up nobody. After an error roll back, even where the database would let the transaction go on; an error of
// [queue.ErrInvalid] comes before any statement.
//
// Errors: [queue.ErrInvalid]; [queue.ErrConflict] if an id is taken, or an idempotency key was used for a build that differs.
func Submit(ctx context.Context, q *queue.Queue, tx bun.IConn, params ...queue.Params) ([]queue.ID, error) {
	b, err := backendOf(q)
	if err != nil {
		return nil, err
	}
	return q.SubmitBy(params, func(builds []queue.NewBuild) (done []queue.Submitted, err error) {
		db, bare := tx.(*bun.DB)
		if !bare {
			return b.submitIn(ctx, sqlRunner{tx, b.bun}, builds)
		}
		err = db.RunInTx(ctx, nil, func(ctx context.Context, tx bun.Tx) error {
			done, err = b.submitIn(ctx, sqlRunner{tx, b.bun}, builds)
			return err
		})
		return done, err
	})
}

// SubmitPgx is [Submit] in a transaction of pgx: a pgx.Tx, or whatever else queries on its connection.
func SubmitPgx(ctx context.Context, q *queue.Queue, tx interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}, params ...queue.Params,
) ([]queue.ID, error) {
	b, err := backendOf(q)
	if err != nil {
		return nil, err
	}
	return q.SubmitBy(params, func(builds []queue.NewBuild) ([]queue.Submitted, error) {
		return b.submitIn(ctx, pgxRunner{tx}, builds)
	})
}

// backendOf returns the backend of a queue.
func backendOf(q *queue.Queue) (*Backend, error) {
	b, ok := q.Backend().(*Backend)
	if !ok {
		return nil, fmt.Errorf("pgqueue: the queue's backend is a %T, not a *pgqueue.Backend", q.Backend())
	}
	return b, nil
}

// submitIn submits builds in a caller's transaction.
func (b *Backend) submitIn(ctx context.Context, on runner, builds []queue.NewBuild) ([]queue.Submitted, error) {
	ctx, cancel := b.bounded(ctx)
	defer cancel()
	done, err := b.submit(ctx, on, builds, time.Time{})
	return done, explain(err)
}
