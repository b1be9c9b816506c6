package pgqueue

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/slipway-build/slipway/internal/sqlqueue"
	"github.com/slipway-build/slipway/queue"
)

// SubmitCopy adds builds by COPY, all or none, and returns their ids in the order of params: the way to submit many thousands at once. At
// most [queue.MaxBatch] with each call. What [queue.Queue.SubmitMany] does is the same in half as much time again, and it takes
// idempotency keys as well, which COPY does not: it cannot leave out what is known.
//
// Errors: [queue.ErrInvalid], also for an idempotency key; [queue.ErrConflict] if an id is taken.
func SubmitCopy(ctx context.Context, q *queue.Queue, params ...queue.Params) ([]queue.ID, error) {
	b, err := backendOf(q)
	if err != nil {
		return nil, err
	}
	ids, err := q.SubmitBy(params, func(builds []queue.NewBuild) (done []queue.Submitted, err error) {
		err = b.transact(ctx, func(ctx context.Context, tx pgx.Tx) error {
			done, err = b.copyIn(ctx, tx, builds)
			return err
		})
		return done, err
	})
	if err == nil && len(ids) > 0 {
		q.Wake()
	}
	return ids, err
}

// SubmitCopyPgx is [SubmitCopy] in a transaction of the caller's own: the builds are there if the transaction commits. After an error, roll
// back; after the commit, call [queue.Queue.Wake].
func SubmitCopyPgx(ctx context.Context, q *queue.Queue, tx pgx.Tx, params ...queue.Params) ([]queue.ID, error) {
	b, err := backendOf(q)
	if err != nil {
		return nil, err
	}
	return q.SubmitBy(params, func(builds []queue.NewBuild) ([]queue.Submitted, error) {
		ctx, cancel := b.bounded(ctx)
		defer cancel()
		done, err := b.copyIn(ctx, tx, builds)
		return done, explain(err)
	})
}

// countSQL counts builds that COPY has inserted.
const countSQL = `
INSERT INTO {schema}stat_delta (project, day, submitted)
SELECT n.project, ({now} AT TIME ZONE 'UTC')::date, n.builds FROM unnest($2::text[], $3::bigint[]) AS n(project, builds)`

// copyIn copies builds into the table.
func (b *Backend) copyIn(ctx context.Context, tx pgx.Tx, builds []queue.NewBuild) ([]queue.Submitted, error) {
	if anyKey(builds) {
		return nil, fmt.Errorf("%w: idempotency key must be empty in a copy", queue.ErrInvalid)
	}
	var now time.Time
	all := rowsOf(builds)
	g, err := b.gates(ctx, pgxRunner{tx}, all, now)
	if err != nil {
		return nil, err
	}
	all.place(g)
	rows := all.rows
	columns := copyColumns(rows)
	names := make([]string, len(columns))
	for i, c := range columns {
		names[i] = c.name
	}
	values := make([]any, len(columns)) // of one row after the other
	_, err = tx.CopyFrom(ctx, pgx.Identifier{b.schema, "build"}, names, pgx.CopyFromSlice(len(rows), func(i int) ([]any, error) {
		for j, c := range columns {
			values[j] = c.value(&rows[i])
		}
		return values, nil
	}))
	if err != nil {
		return nil, taken(err)
	}
	projects, counts := all.perProject()
	if _, err := tx.Exec(ctx, b.sql.count, present(g.now), projects, counts); err != nil {
		return nil, err
	}
	return all.submitted(), nil
}

// A copyColumn is a column of build that COPY fills in.
type copyColumn struct {
	name  string
	value func(*newRow) any
	// rare says that the column is left out if it has this value, its default, in all rows.
	rare    bool
	usually any
}

// copyColumns returns the columns in which rows have something.
func copyColumns(rows []newRow) []copyColumn {
	var filled []copyColumn
	for _, c := range buildColumns {
		if !c.rare || c.varies(rows) {
			filled = append(filled, c)
		}
	}
	return filled
}

// varies reports whether some row has another value than usual.
func (c *copyColumn) varies(rows []newRow) bool {
	for i := range rows {
		if c.value(&rows[i]) != c.usually {
			return true
		}
	}
	return false
}

var buildColumns = []copyColumn{
	{name: "id", value: func(r *newRow) any { return uuid(r.ID) }},
	{name: "project", value: func(r *newRow) any { return r.Project }},
	{name: "pool", value: func(r *newRow) any { return r.Pool }},
	{name: "labels", value: func(r *newRow) any { return r.labels }},
	{name: "class_id", value: func(r *newRow) any {
		if r.class == noClass {
			return nil
		}
		return int32(r.class)
	}},
	{name: "state", value: func(r *newRow) any { return int16(r.state) }},
	{name: "rank", value: func(r *newRow) any { return r.rank }},
	{name: "spec", value: func(r *newRow) any { return orNull(r.Spec) }},
	{name: "run_timeout", value: func(r *newRow) any { return r.RunTimeout.Microseconds() }},
	{name: "max_attempts", value: func(r *newRow) any { return int32(r.MaxAttempts) }},
	{name: "backoff_base", value: func(r *newRow) any { return r.Backoff.Base.Microseconds() }},
	{name: "backoff_max", value: func(r *newRow) any { return r.Backoff.Max.Microseconds() }},
	{name: "created_at", value: func(r *newRow) any { return r.now }},
	{name: "source_digest", rare: true, value: func(r *newRow) any {
		if r.Source == nil {
			return nil
		}
		return r.Source.Digest[:]
	}},
	{name: "source_size", rare: true, value: func(r *newRow) any {
		if r.Source == nil {
			return nil
		}
		return r.Source.Size
	}},
	{name: "queue_timeout", rare: true, value: func(r *newRow) any {
		if r.QueueTimeout == 0 {
			return nil
		}
		return r.QueueTimeout.Microseconds()
	}},
	{name: "expires_at", rare: true, value: func(r *newRow) any { return timeOrNull(r.ends) }},
	{name: "scheduled_at", rare: true, value: func(r *newRow) any { return timeOrNull(r.later) }},
	{name: "not_before", rare: true, value: func(r *newRow) any { return timeOrNull(r.later) }},
	{name: "retry_failed", rare: true, usually: false, value: func(r *newRow) any { return r.RetryFailed }},
	{name: "priority", rare: true, usually: 0, value: func(r *newRow) any { return r.Priority }},
	{name: "limit_key", rare: true, usually: "", value: func(r *newRow) any { return r.ConcurrencyKey }},
	{name: "metadata", rare: true, value: func(r *newRow) any {
		if len(r.Metadata) == 0 {
			return nil
		}
		return sqlqueue.FormatMetadata(r.Metadata)
	}},
	{name: "retry_of", rare: true, value: func(r *newRow) any {
		if r.RetryOf.IsZero() {
			return nil
		}
		return uuid(r.RetryOf)
	}},
}

func timeOrNull(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t
}
