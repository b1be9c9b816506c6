package pgqueue

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"

	"github.com/slipway-build/slipway/queue"
)

// submitSQL inserts builds. It reads classes without locking them: a class that is just being made elsewhere counts as unknown. The
// order is for submitters of the same ids, who wait for each other.
const submitSQL = `
INSERT INTO {schema}build (id, project, pool, labels, class_id, state, rank, spec, source_digest, source_size,
	run_timeout, queue_timeout, max_attempts, created_at, expires_at)
SELECT i.id, i.project, i.pool, i.labels, c.id, CASE WHEN c.id IS NULL THEN {held} ELSE {queued} END,
	(extract(epoch FROM {now}) * 1000000)::bigint, nullif(i.spec, ''), nullif(i.source_digest, ''),
	CASE WHEN i.source_digest <> '' THEN i.source_size END, i.run_timeout, nullif(i.queue_timeout, 0), i.max_attempts,
	{now}, {now} + nullif(i.queue_timeout, 0) * interval '1 microsecond'
FROM unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::bytea[], $7::bytea[], $8::bigint[], $9::bigint[], $10::bigint[],
	$11::bigint[]) AS i(id, project, pool, labels, spec, source_digest, source_size, run_timeout, queue_timeout, max_attempts)
LEFT JOIN {schema}class c ON c.pool = i.pool AND c.labels = i.labels
ORDER BY i.id`

// Submit implements [queue.Transitions].
func (b *Backend) Submit(ctx context.Context, builds []queue.NewBuild, now time.Time) ([]queue.Submitted, error) {
	c := columnsOf(builds)
	ids := make([]pgtype.UUID, len(c.ids))
	for i, id := range c.ids {
		ids[i] = uuid(id)
	}
	_, err := b.change(ctx, b.sql.submit, present(now), ids, c.projects, c.pools, c.labels, c.specs, c.digests,
		c.sizes, c.runTimeouts, c.queueTimeouts, c.attempts)
	return stored(builds), taken(err)
}

// Submit adds builds in a transaction of the caller's own and returns their ids in the order of params: they are there if the
// transaction commits, and no worker sees them before. tx is a *sql.Tx, a bun.Tx or a bun.DB on the database of q's backend, over any
// driver; q must have been made with a [Backend] of this package. After the commit, call [queue.Queue.Wake], to save the
// builds the wait for the next poll.
//
// Submit takes no lock that another submitter waits for, unless both submit the same id, so that a long transaction holds up nobody.
// The database ends a transaction in which a statement has failed; an error of [queue.ErrInvalid] comes before any statement.
//
// Errors: [queue.ErrInvalid]; [queue.ErrConflict] if an id is taken.
func Submit(ctx context.Context, q *queue.Queue, tx bun.IConn, params ...queue.Params) ([]queue.ID, error) {
	b, ok := q.Backend().(*Backend)
	if !ok {
		return nil, fmt.Errorf("pgqueue: submit: the queue's backend is a %T, not a *pgqueue.Backend", q.Backend())
	}
	return q.SubmitBy(params, func(builds []queue.NewBuild) ([]queue.Submitted, error) {
		return stored(builds), b.submitIn(ctx, tx, builds)
	})
}

// submitIn sends the statement with its values written into it, which is a form that every driver takes.
func (b *Backend) submitIn(ctx context.Context, tx bun.IConn, builds []queue.NewBuild) error {
	ctx, cancel := b.bounded(ctx)
	defer cancel()
	c := columnsOf(builds)
	ids := make([]string, len(c.ids))
	for i, id := range c.ids {
		ids[i] = id.String()
	}
	args := []any{nil}
	for _, column := range []any{
		ids, c.projects, c.pools, c.labels, c.specs, c.digests, c.sizes, c.runTimeouts, c.queueTimeouts, c.attempts,
	} {
		args = append(args, pgdialect.Array(column))
	}
	_, err := b.bun.NewRaw(b.sql.submitIn, args...).Conn(tx).Exec(ctx)
	return taken(explain(err))
}

func stored(builds []queue.NewBuild) []queue.Submitted {
	done := make([]queue.Submitted, len(builds))
	for i, n := range builds {
		done[i].ID = n.ID
	}
	return done
}

// columns are builds as arguments of submitSQL. None of them holds nulls: an empty spec or digest, and a queue timeout of zero,
// stand for none.
type columns struct {
	ids                        []queue.ID
	projects, pools, labels    []string
	specs, digests             [][]byte
	sizes                      []int64
	runTimeouts, queueTimeouts []int64
	attempts                   []int64
}

func columnsOf(builds []queue.NewBuild) columns {
	var c columns
	for _, n := range builds {
		digest, size := []byte{}, int64(0)
		if n.Source != nil {
			digest, size = n.Source.Digest[:], n.Source.Size
		}
		c.ids = append(c.ids, n.ID)
		c.projects = append(c.projects, n.Project)
		c.pools = append(c.pools, n.Pool)
		c.labels = append(c.labels, n.Labels.String())
		c.specs = append(c.specs, append([]byte{}, n.Spec...))
		c.digests = append(c.digests, digest)
		c.sizes = append(c.sizes, size)
		c.runTimeouts = append(c.runTimeouts, n.RunTimeout.Microseconds())
		c.queueTimeouts = append(c.queueTimeouts, n.QueueTimeout.Microseconds())
		c.attempts = append(c.attempts, int64(n.MaxAttempts))
	}
	return c
}

// taken tells an id that is taken from every other error.
func taken(err error) error {
	if reply, ok := errors.AsType[*pgconn.PgError](err); ok && reply.Code == "23505" {
		return fmt.Errorf("%w: %w", queue.ErrConflict, err)
	}
	return err
}

var parameter = regexp.MustCompile(`\$([0-9]+)`)

// bunForm turns the parameters of a statement, $1, $2, …, into those of bun, ?0, ?1, ….
func bunForm(sql string) string {
	return parameter.ReplaceAllStringFunc(sql, func(p string) string {
		n, _ := strconv.Atoi(p[1:])
		return "?" + strconv.Itoa(n-1)
	})
}
