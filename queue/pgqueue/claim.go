package pgqueue

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/slipway-build/slipway/internal/sqlqueue"
	"github.com/slipway-build/slipway/queue"
)

// probeSQL looks within a constant limit, which the planner can see: for a bare parameter it expects a tenth of the table, and reads
// all of it. With the constant of a Claim it reads no more of a class than that.
const probeSQL = probeTo + `512` + probeRest

// probeFarSQL looks farther.
const probeFarSQL = probeTo + `10000` + probeRest

const probeTo = `
SELECT w.class_id, h.ranks
FROM unnest($1::int[], $2::bigint[]) AS w(class_id, floor)
CROSS JOIN LATERAL (
	SELECT array_agg(z.rank ORDER BY z.rank) AS ranks
	FROM (SELECT y.rank FROM (
		SELECT q.rank FROM {schema}build q WHERE q.state = {queued} AND q.class_id = w.class_id AND q.rank >= w.floor
		ORDER BY q.rank, q.id LIMIT `

const probeRest = `) y
		LIMIT $3) z) h
WHERE h.ranks IS NOT NULL AND ` + notPaused + `
ORDER BY h.ranks[1], w.class_id`

// notPaused is the condition that the pool of the class w.class_id is not paused.
const notPaused = `w.class_id <> ALL (ARRAY(SELECT c.id FROM {schema}pool p JOIN {schema}class c ON c.pool = p.name WHERE p.paused))`

// Probe implements [queue.Transitions]. It sees 10,000 builds of a class at most, the [queue.MaxBatch] of a submit.
func (b *Backend) Probe(ctx context.Context, reaches []queue.Reach, max int) ([]queue.Front, error) {
	classes, floors := make([]int32, len(reaches)), make([]int64, len(reaches))
	for i, r := range reaches {
		classes[i], floors[i] = int32(r.Class), r.Floor
	}
	sql := b.sql.probe
	if max > queue.MaxClaim {
		sql = b.sql.probeFar
	}
	return collect(ctx, b, func(row pgx.CollectableRow) (f queue.Front, err error) {
		err = row.Scan(&f.Class, &f.Ranks)
		return f, err
	}, sql, classes, floors, max)
}

// claimSQL gives each live slot of a class the next build of that class.
//
// Each slot's session is looked up on its own, and slots go through arrays, looked up by number: not through joins, for which the planner
// compares all with all if it knows of few. The inner limit is a constant that the planner can see, the
// outer one stops the locking as soon as there are enough. A build whose slot turns out to be of the worker that it avoids is left
// alone this time; if there is no other worker it is passed over before it is counted.
//
// What was picked is locked, so that its place in the table cannot change, and is found again by that place.
//
// If all it makes are offers, it does not wait for the disk. A claim that a crash of the server undoes was not accepted, since an accept
// that is durable makes all before it durable: docs/design/0008-claims-without-the-disk.md.
const claimSQL = `
WITH demand AS MATERIALIZED (
	SELECT w.class_id, min(w.floor) AS floor, count(*) AS n, array_agg(s.id ORDER BY w.slot) AS sessions,
		array_agg(s.worker ORDER BY w.slot) AS workers, array_agg(s.direct ORDER BY w.slot) AS directs,
		CASE WHEN min(s.worker) = max(s.worker) THEN min(s.worker) END AS lone_worker
	FROM unnest($2::int[], $3::bigint[], $4::bigint[]) WITH ORDINALITY AS w(class_id, floor, session_id, slot)
	CROSS JOIN LATERAL (SELECT * FROM {schema}session s WHERE s.id = w.session_id OFFSET 0) s
	WHERE s.ended_at IS NULL AND ` + notPaused + `
	GROUP BY w.class_id
), hasty AS MATERIALIZED (
	SELECT set_config('synchronous_commit', 'off', true) WHERE NOT EXISTS (SELECT FROM demand WHERE true = ANY (directs))
), picked AS MATERIALIZED (
	SELECT r.place, d.sessions[r.slot] AS session_id, d.workers[r.slot] AS worker, d.directs[r.slot] AS direct
	FROM demand d CROSS JOIN LATERAL (
		SELECT z.place, (row_number() OVER ())::int AS slot
		FROM (
			SELECT q.ctid AS place FROM {schema}build q
			WHERE q.state = {queued} AND q.class_id = d.class_id AND q.rank >= d.floor
				AND ` + projectNotPaused + `
				AND (d.lone_worker IS NULL OR q.avoid_worker IS NULL OR q.avoid_worker <> d.lone_worker OR q.avoid_until <= {now})
			ORDER BY q.rank, q.id LIMIT 512 FOR NO KEY UPDATE SKIP LOCKED) z
		LIMIT d.n) r
	LIMIT 512
)
` + claimedSQL + `
	AND (SELECT count(*) FROM hasty) < 2
	AND (b.avoid_worker IS NULL OR b.avoid_worker <> p.worker OR b.avoid_until <= {now})
RETURNING ` + claimedColumns

// claimSoleSQL does the same for the slots of one session and one class, which is what most claims are for, with less ado.
const claimSoleSQL = `
WITH sole AS MATERIALIZED (
	SELECT s.id, s.worker, s.direct, CASE WHEN NOT s.direct THEN set_config('synchronous_commit', 'off', true) END
	FROM (SELECT $2::int AS class_id) w CROSS JOIN LATERAL (SELECT * FROM {schema}session s WHERE s.id = $4 OFFSET 0) s
	WHERE s.ended_at IS NULL AND ` + notPaused + `
), picked AS MATERIALIZED (
	SELECT z.place, s.id AS session_id, s.worker, s.direct
	FROM sole s CROSS JOIN LATERAL (
		SELECT q.ctid AS place FROM {schema}build q
		WHERE q.state = {queued} AND q.class_id = $2 AND q.rank >= $3
			AND ` + projectNotPaused + `
			AND (q.avoid_worker IS NULL OR q.avoid_worker <> s.worker OR q.avoid_until <= {now})
		ORDER BY q.rank, q.id LIMIT 512 FOR NO KEY UPDATE SKIP LOCKED) z
	LIMIT $7
)
` + claimedSQL + `
RETURNING ` + claimedColumns

// projectNotPaused is the condition that the project of a build q is not.
const projectNotPaused = `q.project NOT IN (SELECT name FROM {schema}project WHERE paused)`

// claimedSQL gives the builds in picked to their sessions.
const claimedSQL = `UPDATE {schema}build b SET
	state = CASE WHEN p.direct THEN {running} ELSE {offered} END,
	epoch = b.epoch + 1,
	session_id = p.session_id,
	worker = p.worker,
	deadline = {now} + (CASE WHEN p.direct THEN b.run_timeout ELSE 0 END + $5::bigint) * interval '1 microsecond',
	attempts_used = b.attempts_used + p.direct::int,
	started_at = CASE WHEN p.direct THEN {now} ELSE b.started_at END
FROM picked p
WHERE b.ctid = p.place`

const claimedColumns = `b.id, b.epoch, b.rank, b.session_id, b.class_id, b.project, b.pool, CASE WHEN octet_length(b.spec) <= $6 THEN b.spec END,
	coalesce(octet_length(b.spec), 0), b.source_digest, b.source_size, b.run_timeout, b.attempts_used, b.metadata, b.admitted`

// Claim implements [queue.Transitions].
func (b *Backend) Claim(ctx context.Context, demand []queue.Demand, offer time.Duration, now time.Time) ([]queue.Claimed, error) {
	var classes []int32
	var floors, sessions []int64
	for _, d := range demand {
		for _, s := range d.Slots {
			classes = append(classes, int32(d.Class))
			floors = append(floors, d.Floor)
			sessions = append(sessions, int64(s))
		}
	}
	if len(sessions) == 0 {
		return nil, nil
	}
	sql, args := b.sql.claim, []any{present(now), classes, floors, sessions, offer.Microseconds(), queue.InlineSpec}
	if sole(classes) && sole(sessions) {
		sql, args = b.sql.claimSole, []any{
			present(now), classes[0], slices.Min(floors), sessions[0], offer.Microseconds(), queue.InlineSpec, len(sessions),
		}
	}
	claimed, err := collect(ctx, b, scanClaimed, sql, args...)
	// An update returns rows in no order.
	slices.SortFunc(claimed, func(x, y queue.Claimed) int {
		return cmp.Or(cmp.Compare(x.Rank, y.Rank), bytes.Compare(x.Build[:], y.Build[:]))
	})
	return claimed, err
}

// sole reports whether all values are the same.
func sole[T comparable](values []T) bool {
	return !slices.ContainsFunc(values, func(v T) bool { return v != values[0] })
}

func scanClaimed(row pgx.CollectableRow) (c queue.Claimed, err error) {
	var source sourceColumns
	var runTimeout int64
	var metadata *string
	err = row.Scan((*[16]byte)(&c.Build), &c.Epoch, &c.Rank, &c.Session, &c.Class, &c.Project, &c.Pool, &c.Spec,
		&c.SpecSize, &source.digest, &source.size, &runTimeout, &c.Attempt, &metadata, &c.Admitted)
	c.Source, c.RunTimeout = source.source(), sqlqueue.Duration(runTimeout)
	if err == nil && metadata != nil {
		c.Metadata, err = sqlqueue.ParseMetadata(*metadata)
	}
	return c, err
}

// sourceColumns are a build's source as it is stored: both null if there is none.
type sourceColumns struct {
	digest []byte
	size   *int64
}

func (c sourceColumns) source() *queue.Source {
	if c.size == nil {
		return nil
	}
	return &queue.Source{Digest: digest(c.digest), Size: *c.size}
}

// digest reads a stored digest; null becomes the zero digest.
func digest(stored []byte) (d queue.Digest) {
	copy(d[:], stored)
	return d
}
