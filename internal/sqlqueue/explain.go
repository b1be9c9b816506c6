package sqlqueue

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect"
	"github.com/uptrace/bun/schema"

	"github.com/slipway-build/slipway/queue"
)

// maxFacts is how many workers Explain tells of.
const maxFacts = 1000

// A waitRow is a build, and where it waits.
type waitRow struct {
	bun.BaseModel `bun:"alias:b"`
	buildRow

	ClassID     *queue.ClassID `bun:"class_id"`
	Rank        int64          `bun:"rank"`
	AvoidWorker *string        `bun:"avoid_worker"`
	AvoidUntil  timeColumn     `bun:"avoid_until"`
}

// Explain returns what a build waits in, or queue.ErrNotFound. It asks several times and goes by what each question was answered: nothing
// keeps the facts from changing in between, as they may right after.
func (r *Reader) Explain(ctx context.Context, project string, id queue.ID, now time.Time) (queue.Circumstances, error) {
	var row waitRow
	err := r.db.NewSelect().Model(&row).ModelTableExpr("? AS b", r.names.Table("build")).ExcludeColumn("spec").
		Where("b.id = ?", ID(r.db, id)).Where("b.project = ?", project).Scan(ctx)
	if err != nil {
		return queue.Circumstances{}, notFound(err)
	}
	var c queue.Circumstances
	if c.Build, err = row.build(); err != nil || c.Build.State != queue.Pending {
		return c, err
	}
	if c.Now, err = r.present(ctx, now); err != nil {
		return queue.Circumstances{}, err
	}
	if row.ClassID != nil {
		c.Class = *row.ClassID
	}
	if c.Queued = row.State == Queued; time.Time(row.AvoidUntil).After(c.Now) {
		c.Avoids, c.AvoidsUntil = text(row.AvoidWorker), time.Time(row.AvoidUntil)
	}
	if c.Ahead, err = r.ahead(ctx, &row); err != nil {
		return queue.Circumstances{}, err
	}
	if err := r.settings(ctx, &c); err != nil {
		return queue.Circumstances{}, err
	}
	if c.Workers, err = r.workers(ctx, c.Build.Pool, c.Now); err != nil {
		return queue.Circumstances{}, err
	}
	return c, nil
}

// present returns now, or the database's time if it is zero.
func (r *Reader) present(ctx context.Context, now time.Time) (time.Time, error) {
	switch {
	case !now.IsZero():
		return now, nil
	case r.db.Dialect().Name() == dialect.SQLite:
		return time.Now().UTC().Truncate(time.Microsecond), nil
	default:
		err := r.db.NewRaw("SELECT statement_timestamp()").Scan(ctx, &now)
		return now.UTC(), err
	}
}

// ahead counts the builds that come before a pending one: those of its class if it is queued, and else those of its lane, which an index
// has by class.
func (r *Reader) ahead(ctx context.Context, row *waitRow) (n int, err error) {
	before := bun.SafeQuery("(b.rank, b.id) < (?, ?)", row.Rank, ID(r.db, queue.ID(row.ID)))
	query := bun.SafeQuery("SELECT 1 FROM ? WHERE b.state = ? AND ? AND ? ORDER BY b.class_id, b.rank, b.id LIMIT ?",
		r.from("build_queued"), Queued, r.first("b.class_id", row.ClassID), before, queue.MaxCount)
	if row.State == Held {
		query = r.inLane(row, before)
	}
	err = r.db.NewRaw("SELECT count(*) FROM (?) AS a", query).Scan(ctx, &n)
	return n, err
}

// inLane finds the held builds of a lane that meet a condition, class by class. PostgreSQL would else think of a walk over the whole lane.
func (r *Reader) inLane(row *waitRow, condition schema.QueryWithArgs) schema.QueryWithArgs {
	builds := bun.SafeQuery(`b.state = ? AND b.class_id > 0 AND b.not_before IS NULL
	AND b.pool = c.pool AND b.project = ? AND b.limit_key = ? AND b.class_id = c.id AND ?`, Held, row.Project, row.LimitKey, condition)
	sql := "SELECT 1 FROM ?0 AS c CROSS JOIN LATERAL (SELECT 1 FROM ?1 WHERE ?2 OFFSET 0) AS b WHERE c.pool = ?3 LIMIT ?4"
	if r.db.Dialect().Name() == dialect.SQLite {
		sql = "SELECT 1 FROM ?0 AS c CROSS JOIN ?1 WHERE ?2 AND c.pool = ?3 LIMIT ?4"
	}
	return bun.SafeQuery(sql, r.names.Table("class"), r.from("build_gated"), builds, row.Pool, queue.MaxCount)
}

// settings reads what is set for the build's pool, project and concurrency key. What was never set has no row.
func (r *Reader) settings(ctx context.Context, c *queue.Circumstances) error {
	c.Pool.Name, c.Project.Name = c.Build.Pool, c.Build.Project
	err := r.db.NewSelect().TableExpr("? AS p", r.names.Table("pool")).ColumnExpr("p.paused, p.fair").
		Where("p.name = ?", c.Pool.Name).Scan(ctx, &c.Pool.Paused, &c.Pool.Fair)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	err = r.db.NewSelect().TableExpr("? AS p", r.names.Table("project")).ColumnExpr("p.paused, p.artifact_quota, p.artifact_bytes").
		Where("p.name = ?", c.Project.Name).Scan(ctx, &c.Project.Paused, &c.Project.ArtifactQuota, &c.Project.ArtifactBytes)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	if c.Build.ConcurrencyKey == "" {
		return nil
	}
	l := queue.Limit{Project: c.Build.Project, Key: c.Build.ConcurrencyKey}
	used := bun.SafeQuery("SELECT 1 FROM ? AS b WHERE b.project = ? AND b.limit_key = ? AND b.limit_key <> '' AND b.state BETWEEN ? AND ? LIMIT ?",
		r.names.Table("build"), l.Project, l.Key, Queued, Cancelling, queue.MaxCount)
	err = r.db.NewSelect().TableExpr("? AS l", r.names.Table("build_limit")).
		ColumnExpr("l.max_running, (SELECT count(*) FROM (?) AS u)", used).
		Where("l.project = ?", l.Project).Where("l.key = ?", l.Key).Scan(ctx, &l.Max, &l.Used)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	c.Limit = l
	return err
}

// workers returns what the live sessions that serve a pool say of their workers.
func (r *Reader) workers(ctx context.Context, pool string, now time.Time) ([]queue.WorkerFacts, error) {
	var rows []struct {
		Worker, Labels string
		Slots, Busy    int
	}
	alive := any(now)
	if r.db.Dialect().Name() == dialect.SQLite {
		alive = now.UnixMicro()
	}
	err := r.db.NewRaw(`
SELECT s.worker, s.labels, s.slots, (
	SELECT count(*) FROM ?0 AS z JOIN ?2 AS b ON b.session_id = z.id WHERE z.worker = s.worker AND b.session_id IS NOT NULL) AS busy
FROM ?0 AS s JOIN ?1 AS c ON c.id = s.controller_id
WHERE s.ended_at IS NULL AND c.alive_until >= ?3 AND ',' || s.pools || ',' LIKE ?4 ESCAPE '!'
ORDER BY s.worker LIMIT ?5`,
		r.names.Table("session"), r.names.Table("controller"), r.names.Table("build"), alive,
		"%,"+strings.ReplaceAll(pool, "_", "!_")+",%", maxFacts).Scan(ctx, &rows)
	if err != nil {
		return nil, err
	}
	var found []queue.WorkerFacts
	for _, row := range rows {
		labels, err := ParseLabels(row.Labels)
		if err != nil {
			return nil, err
		}
		found = append(found, queue.WorkerFacts{Worker: row.Worker, Labels: labels, Slots: row.Slots, Busy: row.Busy})
	}
	slices.SortFunc(found, func(a, b queue.WorkerFacts) int { return strings.Compare(a.Worker, b.Worker) })
	return found, nil
}
