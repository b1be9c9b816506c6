package pgqueue

import (
	"context"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/slipway-build/slipway/internal/sqlqueue"
	"github.com/slipway-build/slipway/queue"
)

// submitOneSQL inserts a build. It finds out by itself what gateSQL tells for several, and decides as newRow.place does: one statement is
// what most submits are made of. $11 bounds the wait for whoever is inserting the same id or key; it is null in a caller's transaction, which
// would go on with that limit.
//
// Each column and each argument takes longer than a look into a table. So there are two forms, of which one knows only the columns that every
// build has.
const submitOneSQL = `
WITH added AS (
	INSERT INTO {schema}build (id, project, pool, labels, spec, run_timeout, max_attempts, backoff_base, backoff_max, created_at, class_id,
		state, rank{rare columns})
	SELECT $2, $3, $4, $5, $6, $7, $8, $9, $10, n.now, coalesce(n.class_id, CASE WHEN n.gated OR n.later THEN 0 END),
		CASE WHEN n.class_id IS NULL OR n.gated OR n.later THEN {held} ELSE {queued} END,
		(extract(epoch FROM n.begin) * 1000000)::bigint{rare values}
	FROM (
		SELECT t.now, {begin} AS begin, {later} AS later, c.id AS class_id,
			{limited} OR EXISTS (SELECT FROM {schema}pool p WHERE p.name = $4 AND p.fair)
				OR EXISTS (SELECT FROM {schema}project p WHERE p.name = $3 AND p.paused) AS gated
		FROM (SELECT {now} AS now, CASE WHEN $11::text IS NOT NULL THEN set_config('lock_timeout', $11, true) END) t
		LEFT JOIN {schema}class c ON c.pool = $4 AND c.labels = $5
		OFFSET 0) n{new}
	RETURNING class_id, state, rank, class_id > 0 AND not_before IS NOT NULL AS later
), counted AS (
	INSERT INTO {schema}stat_delta (project, day, submitted) SELECT $3, ({now} AT TIME ZONE 'UTC')::date, 1 FROM added
)
SELECT coalesce(class_id, 0), state, rank, coalesce(later, false) FROM added`

// Where a key may be known already, what is new is what nobody has.
const ifNew = `
	ON CONFLICT (project, idem_key) WHERE idem_key IS NOT NULL DO NOTHING`

// submitOnePlain returns submitOneSQL for builds that have only what all have.
func submitOnePlain() string {
	return fill(strings.NewReplacer("{begin}", "t.now", "{later}", "false", "{limited}", "false",
		"{rare columns}", "", "{rare values}", "").Replace(submitOneSQL), nil)
}

// submitOneRare returns submitOneSQL for any builds, with ifNew, or nothing, in its place.
func submitOneRare(onConflict string) string {
	return fill(strings.NewReplacer(
		"{begin}", "greatest(t.now, $22::timestamptz)", "{later}", "coalesce($22::timestamptz > t.now, false)", "{limited}", "$17::text <> ''",
		"{rare columns}", `, source_digest, source_size, queue_timeout, retry_failed, priority, limit_key, idem_key, idem_hash, metadata,
		retry_of, expires_at, scheduled_at, not_before`,
		"{rare values}", ` - $16::bigint * {step}, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21,
		n.begin + $14::bigint * interval '1 microsecond', CASE WHEN n.later THEN n.begin END, CASE WHEN n.later THEN n.begin END`,
	).Replace(submitOneSQL), map[string]string{"new": onConflict})
}

// submitOne inserts a build. It returns nothing if the build has a key that is known.
func (b *Backend) submitOne(ctx context.Context, on runner, n *queue.NewBuild, now time.Time) (done []queue.Submitted, err error) {
	sql, args := b.sql.submitOne, append(oneColumns(n, now), on.limit(ctx))
	if !plain(n) {
		sql, args = b.sql.submitOneRare, append(args, rareColumns(n)...)
	}
	if n.IdempotencyKey != "" {
		sql = b.sql.submitOneKeyed
	}
	err = on.run(ctx, sql, args, func(scan scanner) error {
		s := queue.Submitted{ID: n.ID}
		var class queue.ClassID
		var state sqlqueue.State
		var later bool
		err := scan(&class, (*int16)(&state), &s.Rank, &later)
		if state == sqlqueue.Queued {
			s.Class = class
		} else {
			s.Waiting = !later
		}
		done = append(done, s)
		return err
	})
	if err != nil {
		return nil, taken(err)
	}
	return done, nil
}

// plain reports whether a build has nothing of what rareColumns returns.
func plain(n *queue.NewBuild) bool {
	return n.Source == nil && n.QueueTimeout == 0 && !n.RetryFailed && n.Priority == 0 && n.ConcurrencyKey == "" && n.IdempotencyKey == "" &&
		len(n.Metadata) == 0 && n.RetryOf.IsZero() && n.NotBefore.IsZero()
}

// oneColumns returns the first ten arguments of submitOneSQL, in forms that every driver takes.
func oneColumns(n *queue.NewBuild, now time.Time) []any {
	return []any{
		present(now), uuid(n.ID), n.Project, n.Pool, n.Labels.String(), orNull(n.Spec), n.RunTimeout.Microseconds(), n.MaxAttempts,
		n.Backoff.Base.Microseconds(), n.Backoff.Max.Microseconds(),
	}
}

// rareColumns returns the arguments of submitOneSQL from the twelfth on.
func rareColumns(n *queue.NewBuild) []any {
	var digest, hash []byte
	var size, queueTimeout *int64
	if n.Source != nil {
		digest, size = n.Source.Digest[:], &n.Source.Size
	}
	if n.QueueTimeout > 0 {
		queueTimeout = new(n.QueueTimeout.Microseconds())
	}
	if n.IdempotencyKey != "" {
		hash = n.IdempotencyHash[:]
	}
	return []any{
		digest, size, queueTimeout, n.RetryFailed, n.Priority, n.ConcurrencyKey, nonEmpty(n.IdempotencyKey), hash,
		nonEmpty(sqlqueue.FormatMetadata(n.Metadata)),
		pgtype.UUID{Bytes: n.RetryOf, Valid: !n.RetryOf.IsZero()},
		present(n.NotBefore),
	}
}

func orNull(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	return b
}

func nonEmpty(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
