package sqlitequeue

import (
	"context"
	"database/sql"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/uptrace/bun"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/slipway-build/slipway/internal/sqlqueue"
	"github.com/slipway-build/slipway/queue"
)

// Submit adds builds in a transaction of the caller: a [*sql.Tx], a [bun.Tx], or anything else with their methods. They are
// there when it commits, and never were if it does not. Ids and errors are those of [queue.Queue.SubmitMany]. The transaction can
// go on after an error, unless ctx has ended: then SQLite may have rolled it back.
//
// tx must belong to the database of q, whose backend must be a [*Backend]. Begin it with the write lock, as [Open] sees to: one
// that has read before it writes fails when somebody else has written meanwhile. [queue.Queue.Wake] after the commit saves the wait
// for the next poll.
func Submit(ctx context.Context, q *queue.Queue, tx bun.IConn, params ...queue.Params) ([]queue.ID, error) {
	b, err := backendOf(q)
	if err != nil {
		return nil, &queue.Error{Op: "submit", Err: err}
	}
	ctx, cancel := b.bounded(ctx)
	defer cancel()
	return q.SubmitBy(params, func(builds []queue.NewBuild) ([]queue.Submitted, error) {
		done, err := submit(ctx, tx, builds, present(time.Time{}))
		return done, explain(err)
	})
}

// backendOf returns the backend of a queue.
func backendOf(q *queue.Queue) (*Backend, error) {
	b, ok := q.Backend().(*Backend)
	if !ok {
		return nil, fmt.Errorf("the backend is a %T, not a *sqlitequeue.Backend", q.Backend())
	}
	return b, nil
}

// Submit implements [queue.Transitions].
func (b *Backend) Submit(ctx context.Context, builds []queue.NewBuild, now time.Time) (done []queue.Submitted, err error) {
	err = b.change(ctx, now, func(ctx context.Context, c *change) error {
		if done, err = submit(ctx, c.conn.Conn, builds, time.UnixMicro(c.now)); err != nil {
			return err
		}
		return c.startInSlots(ctx, builds, done)
	})
	return alone(done, err)
}

// newBuild is an element of the list that submitSQL reads. What is left out is null.
type newBuild struct {
	ID          queue.ID      `json:"id"`
	Project     string        `json:"project"`
	Pool        string        `json:"pool"`
	Labels      string        `json:"labels"`
	Rank        int64         `json:"rank"`
	Digest      *queue.Digest `json:"digest,omitempty"`
	Size        *int64        `json:"size,omitempty"`
	Attempts    int           `json:"attempts"`
	Run         int64         `json:"run"`
	Queue       *int64        `json:"queue,omitempty"`
	Expires     *int64        `json:"expires,omitempty"`
	Scheduled   *int64        `json:"at,omitempty"`
	Priority    int           `json:"priority"`
	RetryFailed int           `json:"retry_failed"`
	BackoffBase int64         `json:"base"`
	BackoffMax  int64         `json:"max"`
	LimitKey    string        `json:"key"`
	IdemKey     *string       `json:"idem,omitempty"`
	IdemHash    *queue.Digest `json:"hash,omitempty"`
	Metadata    string        `json:"meta,omitempty"`
	RetryOf     *queue.ID     `json:"retry,omitempty"`
	Spec        string        `json:"spec,omitempty"`
}

func newRow(b *queue.NewBuild, now time.Time) newBuild {
	row := newBuild{
		ID: b.ID, Project: b.Project, Pool: b.Pool, Labels: b.Labels.String(), Rank: b.Rank(now),
		Attempts: b.MaxAttempts, Run: b.RunTimeout.Microseconds(), Priority: b.Priority,
		BackoffBase: b.Backoff.Base.Microseconds(), BackoffMax: b.Backoff.Max.Microseconds(), LimitKey: b.ConcurrencyKey,
		Metadata: sqlqueue.FormatMetadata(b.Metadata), Spec: hex.EncodeToString(b.Spec),
	}
	if b.Source != nil {
		row.Digest, row.Size = &b.Source.Digest, &b.Source.Size
	}
	waits := now // from then on
	if b.NotBefore.After(now) {
		waits = b.NotBefore
		row.Scheduled = new(waits.UnixMicro())
	}
	if b.QueueTimeout > 0 {
		row.Queue = new(max(b.QueueTimeout.Microseconds(), 1))
		row.Expires = new(waits.UnixMicro() + *row.Queue)
	}
	if b.RetryFailed {
		row.RetryFailed = 1
	}
	if b.IdempotencyKey != "" {
		row.IdemKey, row.IdemHash = &b.IdempotencyKey, &b.IdempotencyHash
	}
	if !b.RetryOf.IsZero() {
		row.RetryOf = &b.RetryOf
	}
	return row
}

// One statement for any number of builds, so that it is atomic on whatever connection it runs. A build that is kept back has a class
// above 0, or 0 if its class is not known. Here and wherever a caller's connection may be used, each argument stands once and as a plain
// question mark, because bun has its own idea of numbers. What is read of a list many times is materialized, or SQLite writes it anew
// each time.
const insertSQL = `
WITH given AS MATERIALIZED (SELECT value FROM json_each(?))
INSERT INTO {schema}build (
	id, project, pool, labels, class_id, state, rank, source_digest, source_size, max_attempts, run_timeout, queue_timeout,
	created_at, expires_at, not_before, priority, retry_failed, backoff_base, backoff_max, limit_key, idem_key, idem_hash,
	metadata, retry_of, scheduled_at, spec)
SELECT
	unhex(n.v->>'id', '-'), n.v->>'project', n.v->>'pool', n.v->>'labels', coalesce(n.class, CASE WHEN n.kept THEN 0 END),
	CASE WHEN n.class IS NULL OR n.kept THEN {held} ELSE {queued} END, n.v->>'rank',
	unhex(n.v->>'digest'), n.v->>'size', n.v->>'attempts', n.v->>'run', n.v->>'queue',
	t.now, n.v->>'expires', n.v->>'at', n.v->>'priority', n.v->>'retry_failed', n.v->>'base', n.v->>'max', n.v->>'key',
	n.v->>'idem', unhex(n.v->>'hash'), n.v->>'meta', unhex(n.v->>'retry', '-'), n.v->>'at', unhex(n.v->>'spec')
FROM (
	SELECT j.value AS v, c.id AS class,
		j.value->>'at' IS NOT NULL OR j.value->>'key' <> '' OR p.fair IS 1 OR r.paused IS 1 AS kept
	FROM given AS j
	LEFT JOIN {schema}class AS c ON c.pool = j.value->>'pool' AND c.labels = j.value->>'labels'
	LEFT JOIN {schema}pool AS p ON p.name = j.value->>'pool'
	LEFT JOIN {schema}project AS r ON r.name = j.value->>'project'
) AS n CROSS JOIN (SELECT ? AS now) AS t WHERE true`

const insertedSQL = `
RETURNING id, CASE WHEN state = {queued} THEN class_id ELSE 0 END, class_id > 0 AND not_before IS NOT NULL`

var (
	submitSQL = statement(insertSQL + insertedSQL)

	// Of builds with idempotency keys it inserts those that are new, and nothing at all if one is known that was another.
	submitKeyedSQL = statement(insertSQL + `
	AND NOT EXISTS (SELECT 1 FROM {schema}build AS k WHERE k.project = n.v->>'project' AND k.idem_key = n.v->>'idem')
	AND NOT EXISTS (
		SELECT 1 FROM given AS i CROSS JOIN {schema}build AS k
		ON k.project = i.value->>'project' AND k.idem_key = i.value->>'idem' WHERE k.idem_hash <> unhex(i.value->>'hash'))` + insertedSQL)

	knownSQL = statement(`
SELECT k.project, k.idem_key, k.id, k.idem_hash FROM json_each(?) AS i CROSS JOIN {schema}build AS k
ON k.project = i.value->>'project' AND k.idem_key = i.value->>'idem'`)
)

// submit inserts builds and tells what became of each.
func submit(ctx context.Context, conn bun.IConn, builds []queue.NewBuild, now time.Time) ([]queue.Submitted, error) {
	first, err := firsts(builds)
	if err != nil {
		return nil, err
	}
	query, rows := submitSQL, make([]newBuild, 0, len(builds))
	for i := range builds {
		if first[i] != i {
			continue
		}
		rows = append(rows, newRow(&builds[i], now))
		if builds[i].IdempotencyKey != "" {
			query = submitKeyedSQL
		}
	}
	arg, err := list(rows)
	if err != nil {
		return nil, err
	}
	inserted, err := insert(ctx, conn, query, arg, now.UnixMicro())
	if err != nil {
		return nil, err
	}
	var known map[idemKey]knownBuild
	if len(inserted) < len(rows) {
		if known, err = knownBuilds(ctx, conn, arg); err != nil {
			return nil, err
		}
	}
	return became(builds, first, inserted, known, now)
}

// became tells what became of builds: which were inserted, and which were known or are the same as an earlier one of the call.
func became(
	builds []queue.NewBuild, first []int, inserted map[queue.ID]queue.Submitted, known map[idemKey]knownBuild, now time.Time,
) ([]queue.Submitted, error) {
	for i := range builds {
		if k, ok := known[keyOf(&builds[i])]; ok && k.hash != builds[i].IdempotencyHash {
			return nil, conflict(&builds[i])
		}
	}
	done := make([]queue.Submitted, len(builds))
	for i := range builds {
		b := &builds[first[i]]
		s, fresh := inserted[b.ID]
		switch k, ok := known[keyOf(b)]; {
		case fresh && first[i] == i:
			s.Rank = b.Rank(now)
			done[i] = s
		case fresh:
			done[i].ID = b.ID
		case ok:
			done[i].ID = k.id
		default: // outside of a transaction only
			return nil, fmt.Errorf("%w: an idempotency key was forgotten this moment", queue.ErrUnavailable)
		}
	}
	return done, nil
}

// An idemKey is what an idempotency key is unique by.
type idemKey struct{ project, key string }

func keyOf(b *queue.NewBuild) idemKey { return idemKey{b.Project, b.IdempotencyKey} }

// A knownBuild is one that a key was used for.
type knownBuild struct {
	id   queue.ID
	hash queue.Digest
}

// firsts returns, for each build, the index of the first one with its idempotency key: its own, unless the key comes twice.
func firsts(builds []queue.NewBuild) ([]int, error) {
	first := make([]int, len(builds))
	keyed := make(map[idemKey]int)
	for i := range builds {
		first[i] = i
		if builds[i].IdempotencyKey == "" {
			continue
		}
		earlier, twice := keyed[keyOf(&builds[i])]
		if !twice {
			keyed[keyOf(&builds[i])] = i
			continue
		}
		if builds[earlier].IdempotencyHash != builds[i].IdempotencyHash {
			return nil, conflict(&builds[i])
		}
		first[i] = earlier
	}
	return first, nil
}

func conflict(b *queue.NewBuild) error {
	return fmt.Errorf("%w: idempotency key %q was used for a build that differs", queue.ErrConflict, b.IdempotencyKey)
}

// insert runs one of the statements that insert builds. Its result has no ranks.
func insert(ctx context.Context, conn bun.IConn, query, arg string, now int64) (map[queue.ID]queue.Submitted, error) {
	inserted := make(map[queue.ID]queue.Submitted)
	rows, err := conn.QueryContext(ctx, query, arg, now)
	if err == nil {
		err = each(rows, func(rows *sql.Rows) error {
			var s queue.Submitted
			var scheduled bool
			err := rows.Scan(scanID(&s.ID), &s.Class, &scheduled)
			s.Waiting = s.Class == 0 && !scheduled
			inserted[s.ID] = s
			return err
		})
	}
	if failed(err, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY) {
		return nil, fmt.Errorf("%w: a build with that id exists", queue.ErrConflict)
	}
	return inserted, err
}

// knownBuilds returns the builds that the keys of a list were used for.
func knownBuilds(ctx context.Context, conn bun.IConn, arg string) (map[idemKey]knownBuild, error) {
	rows, err := conn.QueryContext(ctx, knownSQL, arg)
	if err != nil {
		return nil, err
	}
	known := make(map[idemKey]knownBuild)
	err = each(rows, func(rows *sql.Rows) error {
		var key idemKey
		var k knownBuild
		var hash []byte
		err := rows.Scan(&key.project, &key.key, scanID(&k.id), &hash)
		k.hash = digest(hash)
		known[key] = k
		return err
	})
	return known, err
}
