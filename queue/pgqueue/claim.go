package pgqueue

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/slipway-build/slipway/internal/sqlqueue"
	"github.com/slipway-build/slipway/queue"
)

// probeSQL counts within a constant limit, which the planner can see: for a bare parameter it expects a tenth of the table, and reads
// all of it. With the constant of a Claim it reads no more of a class than that.
const probeSQL = probeTo + `512` + probeRest

// probeFarSQL counts farther.
const probeFarSQL = probeTo + `10000` + probeRest

const probeTo = `
SELECT w.class_id, h.rank, h.n
FROM unnest($1::int[]) AS w(class_id)
CROSS JOIN LATERAL (
	SELECT min(z.rank) AS rank, count(*) AS n
	FROM (SELECT y.rank FROM (
		SELECT q.rank FROM {schema}build q WHERE q.state = {queued} AND q.class_id = w.class_id
		ORDER BY q.rank, q.id LIMIT `

const probeRest = `) y
		LIMIT $2) z) h
WHERE h.n > 0
ORDER BY h.rank, w.class_id`

// Probe implements [queue.Transitions]. It counts to 10,000 at most, the [queue.MaxBatch] of a submit.
func (b *Backend) Probe(ctx context.Context, reaches []queue.Reach, max int) ([]queue.Head, error) {
	ids := make([]int32, len(reaches))
	for i, r := range reaches {
		ids[i] = int32(r.Class)
	}
	sql := b.sql.probe
	if max > queue.MaxClaim {
		sql = b.sql.probeFar
	}
	return collect(ctx, b, func(row pgx.CollectableRow) (h queue.Head, err error) {
		err = row.Scan(&h.Class, &h.Rank, &h.Count)
		return h, err
	}, sql, ids, max)
}

// claimSQL gives each live slot of a class the next build of that class.
//
// Slots go through arrays, looked up by number, not through a join. The inner limit is a constant that the planner can see, the
// outer one stops the locking as soon as there are enough. A build whose slot turns out to be of the worker that it avoids is left
// alone this time; if there is no other worker it is passed over before it is counted.
const claimSQL = `
WITH demand AS MATERIALIZED (
	SELECT k.class_id, count(*) AS n, array_agg(s.id ORDER BY k.slot) AS sessions, array_agg(s.worker ORDER BY k.slot) AS workers,
		array_agg(s.direct ORDER BY k.slot) AS directs, CASE WHEN min(s.worker) = max(s.worker) THEN min(s.worker) END AS lone_worker
	FROM unnest($2::int[], $3::bigint[]) WITH ORDINALITY AS k(class_id, session_id, slot)
	JOIN {schema}session s ON s.id = k.session_id AND s.ended_at IS NULL
	GROUP BY k.class_id
), picked AS MATERIALIZED (
	SELECT r.id, d.sessions[r.slot] AS session_id, d.workers[r.slot] AS worker, d.directs[r.slot] AS direct
	FROM demand d CROSS JOIN LATERAL (
		SELECT z.id, (row_number() OVER ())::int AS slot
		FROM (
			SELECT q.id FROM {schema}build q
			WHERE q.state = {queued} AND q.class_id = d.class_id
				AND (d.lone_worker IS NULL OR q.avoid_worker IS NULL OR q.avoid_worker <> d.lone_worker OR q.avoid_until <= {now})
			ORDER BY q.rank, q.id LIMIT 512 FOR NO KEY UPDATE SKIP LOCKED) z
		LIMIT d.n) r
	LIMIT 512
)
UPDATE {schema}build b SET
	state = CASE WHEN p.direct THEN {running} ELSE {offered} END,
	epoch = b.epoch + 1,
	session_id = p.session_id,
	worker = p.worker,
	deadline = {now} + CASE WHEN p.direct THEN b.run_timeout ELSE $4::bigint END * interval '1 microsecond',
	attempts_used = b.attempts_used + p.direct::int,
	started_at = CASE WHEN p.direct THEN {now} ELSE b.started_at END
FROM picked p
WHERE b.id = p.id
	AND (b.avoid_worker IS NULL OR b.avoid_worker <> p.worker OR b.avoid_until <= {now})
RETURNING b.id, b.epoch, b.rank, b.session_id, b.class_id, b.project, b.pool, CASE WHEN octet_length(b.spec) <= $5 THEN b.spec END,
	coalesce(octet_length(b.spec), 0), b.source_digest, b.source_size, b.run_timeout`

// Claim implements [queue.Transitions].
func (b *Backend) Claim(ctx context.Context, demand []queue.Demand, offer time.Duration, now time.Time) ([]queue.Claimed, error) {
	var classes []int32
	var sessions []int64
	for _, d := range demand {
		for _, s := range d.Slots {
			classes = append(classes, int32(d.Class))
			sessions = append(sessions, int64(s))
		}
	}
	if len(sessions) == 0 {
		return nil, nil
	}
	type ranked struct {
		queue.Claimed
		rank int64
	}
	found, err := collect(ctx, b, func(row pgx.CollectableRow) (c ranked, err error) {
		var source sourceColumns
		var runTimeout int64
		err = row.Scan((*[16]byte)(&c.Build), &c.Epoch, &c.rank, &c.Session, &c.Class, &c.Project, &c.Pool, &c.Spec,
			&c.SpecSize, &source.digest, &source.size, &runTimeout)
		c.Source, c.RunTimeout = source.source(), sqlqueue.Duration(runTimeout)
		return c, err
	}, b.sql.claim, present(now), classes, sessions, offer.Microseconds(), queue.InlineSpec)
	if err != nil {
		return nil, err
	}
	// An update returns rows in no order.
	slices.SortFunc(found, func(x, y ranked) int { return cmp.Compare(x.rank, y.rank) })
	claimed := make([]queue.Claimed, len(found))
	for i := range found {
		claimed[i] = found[i].Claimed
	}
	return claimed, nil
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
