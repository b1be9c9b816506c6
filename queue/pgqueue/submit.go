package pgqueue

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/slipway-build/slipway/queue"
)

// fill puts parts in their places in a statement, nothing in those that are left, and what a step of priority is worth.
func fill(sql string, parts map[string]string) string {
	for _, name := range []string{
		"start columns", "start state", "start values", "start arrays", "start names", "start session", "new", "count", "id", "rest",
	} {
		sql = strings.ReplaceAll(sql, "{"+name+"}", parts[name])
	}
	return strings.ReplaceAll(sql, "{step}", strconv.FormatInt(queue.PriorityStep.Microseconds(), 10))
}

// submitManySQL inserts builds, after one look at the gates of all of them, and returns those as gatesSQL does, from which Go tells what
// became of each. The arrays of what few builds have may be empty: what an array has no element for is null. Times are microseconds since
// 1970, since arithmetic with others takes longer.
const submitManySQL = `
WITH ` + gateSQL + `, gates AS MATERIALIZED (
	SELECT (extract(epoch FROM {now}) * 1000000)::bigint AS now, array_agg(g.class_id ORDER BY g.place) AS classes,
		array_agg(g.gated ORDER BY g.place) AS gated
	FROM gate g
), added AS (
	INSERT INTO {schema}build (id, project, pool, labels, class_id, state, rank, spec, run_timeout, max_attempts, backoff_base, backoff_max,
		created_at, source_digest, source_size, queue_timeout, expires_at, retry_failed, priority, limit_key, idem_key, idem_hash, metadata,
		retry_of, scheduled_at, not_before{start columns})
	SELECT i.id, i.project, i.pool, i.labels, CASE WHEN n.class_id > 0 OR n.gated OR n.begin > g.now THEN n.class_id END,
		CASE WHEN n.class_id = 0 OR n.gated OR n.begin > g.now THEN {held}{start state} ELSE {queued} END,
		n.begin - coalesce(i.priority, 0)::bigint * {step}, nullif(i.spec, ''), i.run_timeout, i.max_attempts,
		i.backoff_base, i.backoff_max, {now}, nullif(i.source_digest, ''), CASE WHEN i.source_digest <> '' THEN i.source_size END,
		nullif(i.queue_timeout, 0), CASE WHEN i.queue_timeout > 0 THEN {now} + (n.begin - g.now + i.queue_timeout) * interval '1 microsecond' END,
		coalesce(i.retry_failed, false), coalesce(i.priority, 0), coalesce(i.limit_key, ''), nullif(i.idem_key, ''), nullif(i.idem_hash, ''),
		nullif(i.metadata, ''), nullif(i.retry_of, '00000000-0000-0000-0000-000000000000'),
		CASE WHEN n.begin > g.now THEN {now} + (n.begin - g.now) * interval '1 microsecond' END,
		CASE WHEN n.begin > g.now THEN {now} + (n.begin - g.now) * interval '1 microsecond' END{start values}
	FROM gates g CROSS JOIN unnest($5::uuid[], $6::int[], $7::text[], $8::text[], $9::text[], $10::bytea[], $11::bigint[], $12::int[],
			$13::bigint[], $14::bigint[], $15::bytea[], $16::bigint[], $17::bigint[], $18::boolean[], $19::smallint[], $20::text[],
			$21::text[], $22::bytea[], $23::text[], $24::uuid[], $25::bigint[]{start arrays})
		AS i(id, kind, project, pool, labels, spec, run_timeout, max_attempts, backoff_base, backoff_max, source_digest,
			source_size, queue_timeout, retry_failed, priority, limit_key, idem_key, idem_hash, metadata, retry_of, not_before{start names})
	CROSS JOIN LATERAL (
		SELECT g.classes[i.kind] AS class_id, g.gated[i.kind] OR coalesce(i.limit_key, '') <> '' AS gated,
			greatest(g.now, coalesce(i.not_before, 0)) AS begin) n{start session}{new}
), counted AS (
	INSERT INTO {schema}stat_delta (project, day, submitted) SELECT {count}
)
SELECT g.place, g.class_id, g.gated, a.now{id} FROM gates a CROSS JOIN gate g{rest}`

// submitPlain returns submitManySQL for builds without keys: all of them are inserted, or it fails, so that how many there are of each project
// is known.
func submitPlain() string { return fill(submitManySQL, map[string]string{"count": countAll}) }

const countAll = `n.project, ({now} AT TIME ZONE 'UTC')::date, n.builds FROM unnest($26::text[], $27::bigint[]) AS n(project, builds)`

// submitKeyed returns submitManySQL for builds of which some have keys. It returns those that were inserted as well: the rest have keys that
// are known.
func submitKeyed() string {
	return fill(submitManySQL, map[string]string{
		"new": ifNew + `
	RETURNING id, project`,
		"count": `project, ({now} AT TIME ZONE 'UTC')::date, count(*) FROM added GROUP BY project`,
		"id":    `, NULL::text`,
		"rest": `
UNION ALL
SELECT 0, 0, false, 0, a.id::text FROM added a`,
	})
}

// knownSQL returns the builds that have keys: by a statement of its own, to see what was committed while the insert waited for it.
const knownSQL = `
SELECT k.place::int, b.id::text, b.idem_hash
FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS k(project, key, place)
JOIN {schema}build b ON b.project = k.project AND b.idem_key = k.key
WHERE b.idem_key IS NOT NULL`

// Submit implements [queue.Transitions].
func (b *Backend) Submit(ctx context.Context, builds []queue.NewBuild, now time.Time) ([]queue.Submitted, error) {
	ctx, cancel := b.bounded(ctx)
	defer cancel()
	done, err := b.submitOwn(ctx, builds, now)
	if errors.Is(err, queue.ErrConflict) && anyKey(builds) {
		// The id may have been taken by a submit of the same key, which was not there yet when this one looked for the key.
		done, err = b.submitOwn(ctx, builds, now)
	}
	return done, err
}

// submitOwn submits builds on connections of the pool. Only several with keys need a transaction: that one of them conflicts turns out when
// others are inserted.
func (b *Backend) submitOwn(ctx context.Context, builds []queue.NewBuild, now time.Time) (done []queue.Submitted, err error) {
	switch {
	case len(builds) == 0:
		return nil, nil
	case anySlot(builds) && !anyKey(builds):
		return b.submitSlots(ctx, ownRunner{b}, builds, now)
	case len(builds) == 1:
		return b.submit(ctx, quickRunner{b.db}, builds, now)
	case !anyKey(builds):
		return b.submit(ctx, ownRunner{b}, builds, now)
	}
	err = b.transact(ctx, func(ctx context.Context, tx pgx.Tx) error {
		done, err = b.submit(ctx, pgxRunner{tx}, builds, now)
		return err
	})
	if err != nil {
		return nil, err
	}
	return done, nil
}

// submit submits builds by the statements that fit them.
func (b *Backend) submit(ctx context.Context, on runner, builds []queue.NewBuild, now time.Time) ([]queue.Submitted, error) {
	switch {
	case anyKey(builds):
		return b.submitKeys(ctx, on, builds, now)
	case len(builds) == 1:
		return b.submitOne(ctx, on, &builds[0], now)
	default:
		return b.submitPlain(ctx, on, builds, now)
	}
}

// submitPlain inserts builds without keys.
func (b *Backend) submitPlain(ctx context.Context, on runner, builds []queue.NewBuild, now time.Time) ([]queue.Submitted, error) {
	rows := rowsOf(builds)
	g := rows.gates()
	projects, counts := rows.perProject()
	if err := on.run(ctx, b.sql.submitPlain, append(rows.columns(now), projects, counts), g.scan); err != nil {
		return nil, taken(err)
	}
	rows.place(g)
	return rows.submitted(), nil
}

// submitKeys inserts those builds whose keys are not known.
func (b *Backend) submitKeys(ctx context.Context, on runner, builds []queue.NewBuild, now time.Time) ([]queue.Submitted, error) {
	fresh, first, err := firstOfKeys(builds)
	if err != nil {
		return nil, err
	}
	placed := make(map[queue.ID]queue.Submitted, len(fresh)) // by the ids that were asked for
	for len(fresh) > 0 {
		if err := b.insertNew(ctx, on, fresh, now, placed); err != nil {
			return nil, err
		}
		isPlaced := func(n queue.NewBuild) bool { _, ok := placed[n.ID]; return ok }
		if fresh = slices.DeleteFunc(fresh, isPlaced); len(fresh) == 0 {
			break
		}
		if err := b.findKnown(ctx, on, fresh, placed); err != nil {
			return nil, err
		}
		fresh = slices.DeleteFunc(fresh, isPlaced) // what is left was forgotten in between
	}
	done := make([]queue.Submitted, len(builds))
	for i := range builds {
		done[i] = placed[builds[first[i]].ID]
		if first[i] != i {
			done[i] = queue.Submitted{ID: done[i].ID}
		}
	}
	return done, nil
}

// insertNew inserts builds unless their keys are known, and notes those that it has inserted.
func (b *Backend) insertNew(
	ctx context.Context, on runner, builds []queue.NewBuild, now time.Time, placed map[queue.ID]queue.Submitted,
) error {
	if len(builds) == 1 {
		done, err := b.submitOne(ctx, on, &builds[0], now)
		for _, s := range done {
			placed[s.ID] = s
		}
		return err
	}
	rows := rowsOf(builds)
	g := rows.gates()
	added, err := g.insert(ctx, on, b.sql.submitKeyed, rows.columns(now))
	if err != nil {
		return err
	}
	rows.place(g)
	for i := range rows.rows {
		if r := &rows.rows[i]; added[r.ID] {
			placed[r.ID] = r.submitted()
		}
	}
	return nil
}

// insert runs submitManySQL where that returns ids as well, reads the gates, and returns the ids.
func (g *gates) insert(ctx context.Context, on runner, sql statement, args []any) (map[queue.ID]bool, error) {
	ids := make(map[queue.ID]bool)
	err := on.run(ctx, sql, args, func(scan scanner) error {
		var place int
		var read gate
		var now int64
		var id *idText
		if err := scan(&place, &read.class, &read.gated, &now, &id); err != nil {
			return err
		}
		if id != nil {
			ids[queue.ID(*id)] = true
		} else {
			g.set(place, read, now)
		}
		return nil
	})
	return ids, taken(err)
}

// findKnown finds the builds that were submitted with the keys of these before, and notes them.
func (b *Backend) findKnown(ctx context.Context, on runner, builds []queue.NewBuild, placed map[queue.ID]queue.Submitted) error {
	projects, keys := make([]string, len(builds)), make([]string, len(builds))
	for i, n := range builds {
		projects[i], keys[i] = n.Project, n.IdempotencyKey
	}
	return on.run(ctx, b.sql.known, []any{projects, keys}, func(scan scanner) error {
		var place int
		var hash []byte
		var id queue.ID
		if err := scan(&place, (*idText)(&id), &hash); err != nil {
			return err
		}
		n := &builds[place-1]
		if !bytes.Equal(hash, n.IdempotencyHash[:]) {
			return fmt.Errorf("idempotency key %q of build %v: %w", n.IdempotencyKey, id, queue.ErrConflict)
		}
		placed[n.ID] = queue.Submitted{ID: id}
		return nil
	})
}

func anyKey(builds []queue.NewBuild) bool {
	return slices.ContainsFunc(builds, func(n queue.NewBuild) bool { return n.IdempotencyKey != "" })
}

// firstOfKeys returns the builds without those whose key another one before them has, and, for each of all builds, which that is: itself,
// if none.
func firstOfKeys(builds []queue.NewBuild) (fresh []queue.NewBuild, first []int, err error) {
	type key struct{ project, key string }
	seen := make(map[key]int)
	first = make([]int, len(builds))
	for i, n := range builds {
		first[i] = i
		if n.IdempotencyKey != "" {
			k := key{n.Project, n.IdempotencyKey}
			if earlier, ok := seen[k]; ok {
				if builds[earlier].IdempotencyHash != n.IdempotencyHash {
					return nil, nil, fmt.Errorf("idempotency key %q comes twice: %w", n.IdempotencyKey, queue.ErrConflict)
				}
				first[i] = earlier
				continue
			}
			seen[k] = i
		}
		fresh = append(fresh, n)
	}
	return fresh, first, nil
}

// byKey is the order in which builds are inserted.
func byKey(x, y *queue.NewBuild) int {
	return cmp.Or(strings.Compare(x.Project, y.Project), strings.Compare(x.IdempotencyKey, y.IdempotencyKey), bytes.Compare(x.ID[:], y.ID[:]))
}

// taken tells an id that is taken from every other error.
func taken(err error) error {
	if reply, ok := errors.AsType[*pgconn.PgError](err); ok && reply.Code == "23505" {
		return fmt.Errorf("%w: %w", queue.ErrConflict, err)
	}
	return err
}
