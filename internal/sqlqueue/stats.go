package sqlqueue

import (
	"context"
	"fmt"
	"time"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect"
	"github.com/uptrace/bun/schema"

	"github.com/slipway-build/slipway/queue"
)

// A dayColumn reads a day in the form of either dialect.
type dayColumn time.Time

func (c *dayColumn) Scan(src any) error {
	switch v := src.(type) {
	case int64:
		*c = dayColumn(time.Unix(v*secondsPerDay, 0).UTC())
	case time.Time:
		*c = dayColumn(v.UTC())
	default:
		return fmt.Errorf("sqlqueue: cannot read a day from %T", src)
	}
	return nil
}

const secondsPerDay = 24 * 60 * 60

// day returns the begin of a day in UTC as an argument of a query.
func (r *Reader) day(begin time.Time) any {
	if r.db.Dialect().Name() == dialect.SQLite {
		return begin.Unix() / secondsPerDay
	}
	return begin.Format(time.DateOnly)
}

// A statRow is the sum of rows of stat, and of stat_delta, of one day.
type statRow struct {
	bun.BaseModel `bun:"alias:s"`

	Day       dayColumn `bun:"day"`
	Submitted int64     `bun:"submitted"`
	Succeeded int64     `bun:"succeeded"`
	Failed    int64     `bun:"failed"`
	Canceled  int64     `bun:"canceled"`
	TimedOut  int64     `bun:"timed_out"`
	Expired   int64     `bun:"expired"`
	Lost      int64     `bun:"lost"`
	Attempts  int64     `bun:"attempts"`
	Waited    int64     `bun:"waited"`
	Ran       int64     `bun:"ran"`
}

func (r *statRow) stats() queue.DayStats {
	return queue.DayStats{
		Day: time.Time(r.Day), Submitted: r.Submitted, Succeeded: r.Succeeded, Failed: r.Failed, Canceled: r.Canceled,
		TimedOut: r.TimedOut, Expired: r.Expired, Lost: r.Lost, Attempts: r.Attempts, Waited: Duration(r.Waited), Ran: Duration(r.Ran),
	}
}

// counters are the columns of stat that are sums.
var counters = [...]string{
	"submitted", "succeeded", "failed", "canceled", "timed_out", "expired", "lost", "attempts", "waited", "ran",
}

// Stats returns what was counted for a project, or for all if it is empty, from the first day to the last.
func (r *Reader) Stats(ctx context.Context, project string, first, last time.Time) (queue.Stats, error) {
	stats, err := r.live(ctx, project)
	if err != nil {
		return queue.Stats{}, err
	}
	counted := r.counted("stat", project, first, last)
	if r.db.Dialect().Name() == dialect.PG {
		counted = bun.SafeQuery("? UNION ALL ?", counted, r.counted("stat_delta", project, first, last))
	}
	var rows []statRow
	q := r.db.NewSelect().Model(&rows).ModelTableExpr("(?) AS s", counted).Column("day").GroupExpr("s.day").OrderExpr("s.day")
	for _, c := range counters {
		q.ColumnExpr("CAST(sum(s.?0) AS bigint) AS ?0", bun.Ident(c))
	}
	if err := q.Scan(ctx); err != nil {
		return queue.Stats{}, err
	}
	for i := range rows {
		stats.Days = append(stats.Days, rows[i].stats())
	}
	return stats, nil
}

func (r *Reader) counted(table, project string, first, last time.Time) schema.QueryWithArgs {
	sql, args := "SELECT t.* FROM ? AS t WHERE t.day BETWEEN ? AND ?", []any{r.names.Table(table), r.day(first), r.day(last)}
	if project != "" {
		sql, args = sql+" AND t.project = ?", append(args, project)
	}
	return bun.SafeQuery(sql, args...)
}

// live counts what has not ended. Of what is leased there is no more than there are slots. What is pending may be any number: it is what
// the index of what has not ended holds besides, counted up to the limit without a look at the builds.
func (r *Reader) live(ctx context.Context, project string) (queue.Stats, error) {
	open, leased := bun.SafeQuery("TRUE"), bun.SafeQuery("TRUE")
	if project != "" {
		open, leased = r.first("b.project", project), bun.SafeQuery("b.project || '' = ?", project)
	}
	var rows []struct {
		State State
		N     int
	}
	err := r.db.NewRaw(`
WITH leased AS MATERIALIZED (
	SELECT b.state, count(*) AS n FROM ?1 WHERE b.session_id IS NOT NULL AND ?4 GROUP BY b.state
), total AS MATERIALIZED (
	SELECT CAST(coalesce(sum(n), 0) AS bigint) AS n FROM leased
)
SELECT ?2 AS state, count(*) - (SELECT n FROM total) AS n FROM (
	SELECT 1 FROM ?0 WHERE b.finished_at IS NULL AND ?3 ORDER BY b.project, b.id LIMIT ?5 + (SELECT n FROM total)) AS o
UNION ALL
SELECT state, n FROM leased`,
		r.from("build_open"), r.from(""), Queued, open, leased, queue.MaxCount).Scan(ctx, &rows)
	if err != nil {
		return queue.Stats{}, err
	}
	var stats queue.Stats
	for _, row := range rows {
		n := min(row.N, queue.MaxCount)
		switch row.State {
		case Offered:
			stats.Offered = n
		case Running:
			stats.Running = n
		case Cancelling:
			stats.Cancelling = n
		default:
			stats.Pending = n
		}
	}
	return stats, nil
}
