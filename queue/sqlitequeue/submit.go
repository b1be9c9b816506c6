package sqlitequeue

import (
	"context"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/uptrace/bun"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/slipway-build/slipway/queue"
)

// Submit adds builds in a transaction of the caller: a [*sql.Tx], a [bun.Tx], or anything else with their methods. They are
// there when it commits, and never were if it does not. Ids and errors are those of [queue.Queue.SubmitMany]. The transaction can
// go on after an error.
//
// tx must belong to the database of q, whose backend must be a [*Backend]. Begin it with the write lock, as [Open] sees to: one
// that has read before it writes fails when somebody else has written meanwhile. [queue.Queue.Wake] after the commit saves the wait
// for the next poll.
func Submit(ctx context.Context, q *queue.Queue, tx bun.IConn, params ...queue.Params) ([]queue.ID, error) {
	b, ok := q.Backend().(*Backend)
	if !ok {
		return nil, &queue.Error{Op: "submit", Err: fmt.Errorf("the backend is a %T, not a *sqlitequeue.Backend", q.Backend())}
	}
	ctx, cancel := context.WithTimeout(ctx, b.opts.Timeout)
	defer cancel()
	return q.SubmitBy(params, func(builds []queue.NewBuild) ([]queue.Submitted, error) {
		return submit(ctx, tx, builds, micros(time.Time{}))
	})
}

// Submit implements [queue.Transitions].
func (b *Backend) Submit(ctx context.Context, builds []queue.NewBuild, now time.Time) (done []queue.Submitted, err error) {
	err = b.change(ctx, now, func(ctx context.Context, c *change) error {
		done, err = submit(ctx, c.conn.Conn, builds, c.now)
		return err
	})
	return done, err
}

// One statement for any number of builds, so that it is atomic on whatever connection it runs.
var submitSQL = statement(`
INSERT INTO {schema}build (
	id, project, pool, labels, class_id, state, rank, source_digest, source_size, max_attempts, run_timeout, queue_timeout,
	created_at, expires_at, spec)
SELECT
	unhex(n.v->>'id', '-'), n.v->>'project', n.v->>'pool', n.v->>'labels',
	c.id, CASE WHEN c.id IS NULL THEN {held} ELSE {queued} END, t.now,
	unhex(n.v->>'digest'), n.v->>'size', n.v->>'attempts', n.v->>'run', n.v->>'queue',
	t.now, t.now + (n.v->>'queue'), unhex(n.v->>'spec')
FROM (SELECT value AS v FROM json_each(?)) AS n CROSS JOIN (SELECT ? AS now) AS t
LEFT JOIN {schema}class AS c ON c.pool = n.v->>'pool' AND c.labels = n.v->>'labels'`)

// newBuild is an element of the list that submitSQL reads. Null is what the column shall be.
type newBuild struct {
	ID       queue.ID      `json:"id"`
	Project  string        `json:"project"`
	Pool     string        `json:"pool"`
	Labels   string        `json:"labels"`
	Digest   *queue.Digest `json:"digest"`
	Size     *int64        `json:"size"`
	Attempts int           `json:"attempts"`
	Run      int64         `json:"run"`
	Queue    *int64        `json:"queue"`
	Spec     *string       `json:"spec"`
}

func submit(ctx context.Context, conn bun.IConn, builds []queue.NewBuild, now int64) ([]queue.Submitted, error) {
	items := make([]newBuild, len(builds))
	for i, b := range builds {
		items[i] = newBuild{
			ID: b.ID, Project: b.Project, Pool: b.Pool, Labels: b.Labels.String(),
			Attempts: b.MaxAttempts, Run: b.RunTimeout.Microseconds(),
		}
		if b.Source != nil {
			items[i].Digest, items[i].Size = &b.Source.Digest, &b.Source.Size
		}
		if b.QueueTimeout > 0 {
			items[i].Queue = new(max(b.QueueTimeout.Microseconds(), 1))
		}
		if len(b.Spec) > 0 {
			items[i].Spec = new(hex.EncodeToString(b.Spec))
		}
	}
	arg, err := list(items)
	if err != nil {
		return nil, err
	}
	if _, err := conn.ExecContext(ctx, submitSQL, arg, now); err != nil {
		if failed(err, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY) {
			return nil, fmt.Errorf("%w: a build with that id exists", queue.ErrConflict)
		}
		return nil, err
	}
	done := make([]queue.Submitted, len(builds))
	for i, b := range builds {
		done[i] = queue.Submitted{ID: b.ID, Waiting: true}
	}
	return done, nil
}
