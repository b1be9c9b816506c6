package sqlitequeue

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"time"

	"github.com/slipway-build/slipway/queue"
)

var (
	isFairSQL = statement(`SELECT p.fair FROM {schema}pool AS p WHERE p.name = ?1`)

	changePoolSQL = statement(`
INSERT INTO {schema}pool AS p (name, paused, fair) VALUES (?1, coalesce(?2, 0), coalesce(?3, 0))
ON CONFLICT (name) DO UPDATE SET paused = coalesce(?2, p.paused), fair = coalesce(?3, p.fair)`)

	weighSQL = statement(`
INSERT INTO {schema}share (pool, project, weight) SELECT ?1, key, max(value, 1) FROM json_each(?2) WHERE true
ON CONFLICT (pool, project) DO UPDATE SET weight = excluded.weight`)

	holdPoolSQL = statement(`
UPDATE {schema}build AS b SET state = {held}, admitted = 0, rank = ` + ownRank + `
WHERE b.state = {queued} AND b.class_id IN (SELECT c.id FROM {schema}class AS c WHERE c.pool = ?1)`)
)

// ChangePool implements [queue.Admission]. To make a pool fair, or to end that, takes time in proportion to what is queued in it.
func (b *Backend) ChangePool(ctx context.Context, name string, set queue.PoolChange) error {
	return b.change(ctx, time.Time{}, func(ctx context.Context, c *change) error {
		var fair bool
		err := c.tx.QueryRowContext(ctx, isFairSQL, name).Scan(&fair)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		if _, err := c.exec(ctx, changePoolSQL, name, set.Paused, set.Fair); err != nil {
			return err
		}
		if set.Fair != nil && *set.Fair != fair {
			if _, err := c.exec(ctx, holdPoolSQL, name); err != nil {
				return err
			}
		}
		return c.weigh(ctx, name, set.Weights)
	})
}

// weigh sets the shares of projects in a pool.
func (c *change) weigh(ctx context.Context, pool string, weights map[string]int) error {
	if len(weights) == 0 {
		return nil
	}
	arg, err := json.Marshal(weights)
	if err != nil {
		return err
	}
	_, err = c.exec(ctx, weighSQL, pool, string(arg))
	return err
}

var poolsSQL = statement(`
SELECT p.name, p.paused, p.fair, coalesce(s.project, ''), s.weight FROM {schema}pool AS p
LEFT JOIN {schema}share AS s ON s.pool = p.name AND s.weight <> 1 ORDER BY p.name`)

// Pools implements [queue.Admission].
func (b *Backend) Pools(ctx context.Context) ([]queue.Pool, error) {
	var pools []queue.Pool
	err := b.read(ctx, func(rows *sql.Rows) error {
		p := queue.Pool{Weights: make(map[string]int)}
		var project string
		var weight sql.NullInt64
		if err := rows.Scan(&p.Name, &p.Paused, &p.Fair, &project, &weight); err != nil {
			return err
		}
		if n := len(pools); n == 0 || pools[n-1].Name != p.Name {
			pools = append(pools, p)
		}
		if weight.Valid {
			pools[len(pools)-1].Weights[project] = int(weight.Int64)
		}
		return nil
	}, poolsSQL)
	return alone(pools, err)
}

var (
	changeProjectSQL = statement(`
INSERT INTO {schema}project AS p (name, paused, artifact_quota) VALUES (?1, coalesce(?2, 0), coalesce(?3, 0))
ON CONFLICT (name) DO UPDATE SET paused = coalesce(?2, p.paused), artifact_quota = coalesce(?3, p.artifact_quota)`)

	projectsSQL = statement(`
SELECT p.name, p.paused, p.artifact_quota, p.artifact_bytes FROM {schema}project AS p WHERE p.name > ?1 ORDER BY p.name LIMIT +?2`)
)

// ChangeProject implements [queue.Admission].
func (b *Backend) ChangeProject(ctx context.Context, name string, set queue.ProjectChange) error {
	return b.change(ctx, time.Time{}, func(ctx context.Context, c *change) error {
		_, err := c.exec(ctx, changeProjectSQL, name, set.Paused, set.ArtifactQuota)
		return err
	})
}

// Projects implements [queue.Admission].
func (b *Backend) Projects(ctx context.Context, after string, limit int) ([]queue.Project, error) {
	var projects []queue.Project
	err := b.read(ctx, func(rows *sql.Rows) error {
		var p queue.Project
		err := rows.Scan(&p.Name, &p.Paused, &p.ArtifactQuota, &p.ArtifactBytes)
		projects = append(projects, p)
		return err
	}, projectsSQL, after, limit)
	return alone(projects, err)
}

var (
	setLimitSQL = statement(`
INSERT INTO {schema}build_limit (project, key, max_running) VALUES (?1, ?2, ?3)
ON CONFLICT (project, key) DO UPDATE SET max_running = excluded.max_running`)

	dropLimitSQL = statement(`DELETE FROM {schema}build_limit WHERE project = ?1 AND key = ?2`)

	limitsSQL = statement(`
SELECT l.project, l.key, l.max_running, (
	SELECT count(*) FROM {schema}build AS b WHERE b.project = l.project AND b.limit_key = l.key AND ` + active + `)
FROM {schema}build_limit AS l WHERE l.project = ?1 AND l.key > ?2 ORDER BY l.key LIMIT +?3`)
)

// SetLimit implements [queue.Admission].
func (b *Backend) SetLimit(ctx context.Context, limit queue.Limit) error {
	return b.change(ctx, time.Time{}, func(ctx context.Context, c *change) error {
		if limit.Max == 0 {
			_, err := c.exec(ctx, dropLimitSQL, limit.Project, limit.Key)
			return err
		}
		_, err := c.exec(ctx, setLimitSQL, limit.Project, limit.Key, limit.Max)
		return err
	})
}

// Limits implements [queue.Admission].
func (b *Backend) Limits(ctx context.Context, project, after string, max int) ([]queue.Limit, error) {
	var limits []queue.Limit
	err := b.read(ctx, func(rows *sql.Rows) error {
		var l queue.Limit
		err := rows.Scan(&l.Project, &l.Key, &l.Max, &l.Used)
		limits = append(limits, l)
		return err
	}, limitsSQL, project, after, max)
	return alone(limits, err)
}

// An UPDATE would walk over all classes if SQLite thought that they are few.
var serveSQL = statement(`
INSERT INTO {schema}class (id, pool, labels, served_until)
SELECT c.id, c.pool, c.labels, ?2 FROM json_each(?1) AS i CROSS JOIN {schema}class AS c ON c.id = i.value
WHERE c.served_until < ?2 IS NOT 0
ON CONFLICT (id) DO UPDATE SET served_until = excluded.served_until`)

// Serve implements [queue.Sessions].
func (b *Backend) Serve(ctx context.Context, classes []queue.ClassID, ttl time.Duration, now time.Time) error {
	arg, err := list(classes)
	if err != nil {
		return err
	}
	return b.change(ctx, now, func(ctx context.Context, c *change) error {
		_, err := c.exec(ctx, serveSQL, arg, c.now+ttl.Microseconds())
		return err
	})
}
