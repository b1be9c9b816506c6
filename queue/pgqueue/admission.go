package pgqueue

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/slipway-build/slipway/queue"
)

// settle is how many builds ChangePool holds again in the transaction of the change itself, class by class; Maintain does the rest.
const settle = 10_000

// changePoolSQL returns whether the pool has become fair, or has ceased to be.
const changePoolSQL = `
WITH before AS MATERIALIZED (
	SELECT (SELECT p.fair FROM {schema}pool p WHERE p.name = $1) IS TRUE AS fair
), changed AS (
	INSERT INTO {schema}pool AS p (name, paused, fair) VALUES ($1, coalesce($2::boolean, false), coalesce($3::boolean, false))
	ON CONFLICT (name) DO UPDATE SET paused = coalesce($2::boolean, p.paused), fair = coalesce($3::boolean, p.fair)
)
SELECT b.fair <> coalesce($3::boolean, b.fair) FROM before b`

const changeWeightsSQL = `
INSERT INTO {schema}share (pool, project, weight)
SELECT $1, w.project, w.weight FROM unnest($2::text[], $3::int[]) AS w(project, weight)
ON CONFLICT (pool, project) DO UPDATE SET weight = excluded.weight`

// holdPoolSQL holds what is queued in a pool. What somebody is about to claim or to end is not queued any more.
const holdPoolSQL = `
WITH queued AS MATERIALIZED (
	SELECT b.id
	FROM {schema}class c CROSS JOIN LATERAL (
		SELECT q.id FROM {schema}build q WHERE q.state = {queued} AND q.class_id = c.id ORDER BY q.rank, q.id LIMIT 10000) b
	WHERE c.pool = $1
	LIMIT $2
), locked AS MATERIALIZED (
	SELECT b.id FROM {schema}build b
	WHERE b.id = ANY(ARRAY(SELECT id FROM queued)) AND b.state IS NOT DISTINCT FROM {queued}
	FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE {schema}build b SET state = {held}, admitted = false, rank = ` + ownRank + `
WHERE b.id = ANY(ARRAY(SELECT id FROM locked))`

// ChangePool implements [queue.Admission]. Of a pool that becomes fair, or ceases to be, it holds 10,000 builds; Maintain holds what
// is queued in a fair pool without having been admitted.
func (b *Backend) ChangePool(ctx context.Context, name string, change queue.PoolChange) error {
	return b.inTurn(ctx, func(ctx context.Context, tx pgx.Tx) error {
		var turned bool
		if err := tx.QueryRow(ctx, b.sql.changePool, name, change.Paused, change.Fair).Scan(&turned); err != nil {
			return err
		}
		if len(change.Weights) > 0 {
			projects := slices.Sorted(maps.Keys(change.Weights))
			weights := make([]int32, len(projects))
			for i, project := range projects {
				weights[i] = int32(max(1, change.Weights[project]))
			}
			if _, err := tx.Exec(ctx, b.sql.changeWeights, name, projects, weights); err != nil {
				return err
			}
		}
		if !turned {
			return nil
		}
		_, err := tx.Exec(ctx, b.sql.holdPool, name, settle)
		return err
	})
}

// inTurn runs statements in one transaction, while nobody decides what is admitted.
func (b *Backend) inTurn(ctx context.Context, do func(ctx context.Context, tx pgx.Tx) error) error {
	return b.transact(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, b.sql.takeLock, b.lockName("admit")); err != nil {
			return err
		}
		return do(ctx, tx)
	})
}

// poolsSQL returns weights as an object of JSON.
const poolsSQL = `
SELECT p.name, p.paused, p.fair,
	coalesce((SELECT json_object_agg(s.project, s.weight) FROM {schema}share s WHERE s.pool = p.name AND s.weight <> 1), '{}')::text
FROM {schema}pool p
ORDER BY p.name`

// Pools implements [queue.Admission].
func (b *Backend) Pools(ctx context.Context) ([]queue.Pool, error) {
	return collect(ctx, b, func(row pgx.CollectableRow) (p queue.Pool, err error) {
		var weights string
		if err := row.Scan(&p.Name, &p.Paused, &p.Fair, &weights); err != nil {
			return p, err
		}
		if err := json.Unmarshal([]byte(weights), &p.Weights); err != nil {
			return p, fmt.Errorf("weights of pool %q: %w", p.Name, err)
		}
		return p, nil
	}, b.sql.pools)
}

const changeProjectSQL = `
INSERT INTO {schema}project AS p (name, paused, artifact_quota) VALUES ($1, coalesce($2::boolean, false), coalesce($3::bigint, 0))
ON CONFLICT (name) DO UPDATE SET
	paused = coalesce($2::boolean, p.paused), artifact_quota = coalesce($3::bigint, p.artifact_quota)`

// ChangeProject implements [queue.Admission].
func (b *Backend) ChangeProject(ctx context.Context, name string, change queue.ProjectChange) error {
	return b.inTurn(ctx, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, b.sql.changeProject, name, change.Paused, change.ArtifactQuota)
		return err
	})
}

const projectsSQL = `
SELECT p.name, p.paused, p.artifact_quota, p.artifact_bytes FROM {schema}project p WHERE p.name > $1 ORDER BY p.name LIMIT $2`

// Projects implements [queue.Admission].
func (b *Backend) Projects(ctx context.Context, after string, max int) ([]queue.Project, error) {
	return collect(ctx, b, func(row pgx.CollectableRow) (p queue.Project, err error) {
		err = row.Scan(&p.Name, &p.Paused, &p.ArtifactQuota, &p.ArtifactBytes)
		return p, err
	}, b.sql.projects, after, max)
}

const setLimitSQL = `
INSERT INTO {schema}build_limit (project, key, max_running) VALUES ($1, $2, $3)
ON CONFLICT (project, key) DO UPDATE SET max_running = excluded.max_running`

const clearLimitSQL = `DELETE FROM {schema}build_limit WHERE project = $1 AND key = $2`

// SetLimit implements [queue.Admission].
func (b *Backend) SetLimit(ctx context.Context, limit queue.Limit) error {
	return b.inTurn(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if limit.Max == 0 {
			_, err := tx.Exec(ctx, b.sql.clearLimit, limit.Project, limit.Key)
			return err
		}
		_, err := tx.Exec(ctx, b.sql.setLimit, limit.Project, limit.Key, limit.Max)
		return err
	})
}

// limitsSQL counts as far as a limit goes.
const limitsSQL = `
SELECT m.project, m.key, m.max_running, u.n
FROM (SELECT l.* FROM {schema}build_limit l WHERE l.project = $1 AND l.key > $2 ORDER BY l.key LIMIT $3) m
CROSS JOIN LATERAL (
	SELECT count(*) AS n FROM (
		SELECT FROM {schema}build b
		WHERE b.project = m.project AND b.limit_key = m.key COLLATE "default" AND b.limit_key <> '' AND b.state BETWEEN {queued} AND {cancelling}
		LIMIT 10000) z) u
ORDER BY m.key`

// Limits implements [queue.Admission]. It counts to 10,000 at most, which is the greatest limit.
func (b *Backend) Limits(ctx context.Context, project, after string, max int) ([]queue.Limit, error) {
	return collect(ctx, b, func(row pgx.CollectableRow) (l queue.Limit, err error) {
		err = row.Scan(&l.Project, &l.Key, &l.Max, &l.Used)
		return l, err
	}, b.sql.limits, project, after, max)
}
