package sqlqueue

import (
	"context"
	"slices"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect"
	"github.com/uptrace/bun/schema"

	"github.com/slipway-build/slipway/queue"
)

// List returns a page of builds without their specs.
//
// It first looks for the ids of the page. No one index has the builds that a filter asks for in order, but each part of them has one
// that does, or is small: what has ended is ordered by id for each state, and so is what waits for each project; what workers have is
// as much as there are slots. Each part gives its newest ids, a page at most, and the newest of those are the page. So the time that a
// list takes depends on the size of the page and not on the number of builds, but for what a filter has besides: the pool, and the
// project or states of a worker's builds, are no help in finding them.
func (r *Reader) List(ctx context.Context, f queue.Filter) ([]queue.Build, error) {
	l := listing{Reader: r, Filter: f}
	var rows []buildRow
	err := r.db.NewSelect().Model(&rows).ModelTableExpr("? AS b", r.names.Table("build")).ExcludeColumn("spec").
		Where("?", r.among("b.id", merged(l.parts(), f.Limit))).OrderExpr("b.id DESC").Scan(ctx)
	if err != nil {
		return nil, err
	}
	builds := make([]queue.Build, len(rows))
	for i := range rows {
		b, err := rows[i].build()
		if err != nil {
			return nil, err
		}
		builds[i] = b
	}
	return builds, nil
}

// among is a condition: that a column be one of those that a query returns, which is asked first and gives few.
func (r *Reader) among(column string, query schema.QueryWithArgs) schema.QueryWithArgs {
	if r.db.Dialect().Name() == dialect.SQLite {
		return bun.SafeQuery(column+" IN (?)", query)
	}
	return bun.SafeQuery(column+" = ANY (ARRAY(?))", query)
}

// merged is a query of the newest ids that several queries return.
func merged(parts []schema.QueryWithArgs, limit int) schema.QueryWithArgs {
	sql := "SELECT p.id FROM (?) AS p"
	args := []any{parts[0]}
	for _, part := range parts[1:] {
		sql += " UNION ALL SELECT p.id FROM (?) AS p"
		args = append(args, part)
	}
	if len(parts) == 1 {
		return bun.SafeQuery(sql, args...)
	}
	return bun.SafeQuery("SELECT a.id FROM (?) AS a ORDER BY a.id DESC LIMIT ?", bun.SafeQuery(sql, args...), limit)
}

// A listing is one call of List.
type listing struct {
	*Reader
	queue.Filter
}

// parts are queries of ids that give all builds of the filter among them, each its newest.
func (l *listing) parts() []schema.QueryWithArgs {
	ended, pending, leased := l.divided()
	switch {
	case l.Worker != "":
		return l.ofWorker(slices.Concat(ended, pending), leased)
	case len(l.States) > 0:
		return l.inStates(ended, pending, leased)
	case l.AllProjects:
		return []schema.QueryWithArgs{l.newest(key{})}
	default:
		return []schema.QueryWithArgs{l.newest(key{"b.project", l.Project})}
	}
}

// divided returns the stored states of the filter by the kinds of indexes that builds in them have. No states are all of them.
func (l *listing) divided() (ended, pending, leased []State) {
	states := l.States
	if len(states) == 0 {
		states = queue.States()
	}
	for s := Held; s <= Lost; s++ {
		switch {
		case !slices.Contains(states, s.Public()):
		case s >= Succeeded:
			ended = append(ended, s)
		case s >= Offered:
			leased = append(leased, s)
		default:
			pending = append(pending, s)
		}
	}
	return ended, pending, leased
}

// ofWorker divides builds into those that the worker had last and those that it has, by its sessions.
func (l *listing) ofWorker(had, has []State) []schema.QueryWithArgs {
	var parts []schema.QueryWithArgs
	if len(had) > 0 {
		parts = append(parts, l.newest(key{"b.worker", l.Worker},
			bun.SafeQuery("b.worker <> '' AND b.session_id IS NULL"), l.ofProject(), in(had)))
	}
	if len(has) > 0 {
		sessions := bun.SafeQuery("SELECT s.id FROM ? AS s WHERE s.worker = ?", l.names.Table("session"), l.Worker)
		parts = append(parts, l.few(
			bun.SafeQuery("b.session_id IS NOT NULL AND ?", l.among("b.session_id", sessions)), l.ofProject(), in(has)))
	}
	return parts
}

// inStates has a part for each state that builds end in, one for what is pending and one for what workers have.
func (l *listing) inStates(ended, pending, leased []State) []schema.QueryWithArgs {
	var parts []schema.QueryWithArgs
	for _, s := range ended {
		k, state := key{"b.project", l.Project}, bun.SafeQuery("b.state = ?", s)
		if l.AllProjects {
			k, state = key{"b.state", s}, none
		}
		parts = append(parts, l.newest(k, state, bun.SafeQuery("b.finished_at IS NOT NULL")))
	}
	if len(pending) > 0 {
		parts = append(parts, l.pending(in(pending)))
	}
	if len(leased) > 0 {
		parts = append(parts, l.few(bun.SafeQuery("b.session_id IS NOT NULL"), l.ofProject(), in(leased)))
	}
	return parts
}

// pending has what waits, which the index of what has not ended has by project. For all projects it goes from one in that index to the
// next, and looks at those alone whose newest builds are the newest: what is on the page is of one of them.
func (l *listing) pending(states schema.QueryWithArgs) schema.QueryWithArgs {
	const open = "b.finished_at IS NULL"
	if !l.AllProjects {
		return l.newest(key{"b.project", l.Project}, bun.SafeQuery(open), states)
	}
	ofEach := func(limit int) schema.QueryWithArgs {
		one := *l
		one.Limit = limit
		return one.newest(key{"b.project", bun.Safe("p.project")}, bun.SafeQuery(open), states)
	}
	return bun.SafeQuery(`WITH RECURSIVE project (project) AS (
	SELECT (SELECT b.project FROM ?0 AS b WHERE `+open+` ORDER BY b.project LIMIT 1)
	UNION ALL
	SELECT (SELECT b.project FROM ?0 AS b WHERE `+open+` AND b.project > p.project ORDER BY b.project LIMIT 1)
	FROM project AS p WHERE p.project IS NOT NULL
), newest AS MATERIALIZED (
	SELECT p.project, (?1) AS id FROM project AS p WHERE p.project IS NOT NULL
), top AS MATERIALIZED (
	SELECT n.project FROM newest AS n WHERE n.id IS NOT NULL ORDER BY n.id DESC LIMIT ?3
)
SELECT o.id FROM top AS p CROSS JOIN ?0 AS o WHERE ?2 ORDER BY o.id DESC LIMIT ?3`,
		l.names.Table("build"), ofEach(1), l.among("o.id", ofEach(l.Limit)), l.Limit)
}

func in(states []State) schema.QueryWithArgs {
	return bun.SafeQuery("b.state IN (?)", bun.List(states))
}

// ofProject is the condition that a build be of the filter's project, or none.
func (l *listing) ofProject() schema.QueryWithArgs {
	if l.AllProjects {
		return none
	}
	return bun.SafeQuery("b.project = ?", l.Project)
}

// none is no condition.
var none schema.QueryWithArgs

// A key is the first column of an index of builds b, and its value. After the key, and what conditions are equal to, the index has ids.
type key struct {
	column string // empty if the index has ids alone
	value  any
}

// newest is a query of the newest ids of builds b with a key that meet conditions.
//
// PostgreSQL is kept from seeing that a key with one value changes nothing about the order. It would else think of taking the ids in
// order, from all builds there are, because of a common key it soon meets enough: but for one whose builds are all old.
func (l *listing) newest(k key, conditions ...schema.QueryWithArgs) schema.QueryWithArgs {
	order := "b.id DESC"
	if k.column != "" {
		equal := k.column + " = ANY (ARRAY[?])"
		if l.db.Dialect().Name() == dialect.SQLite {
			equal = k.column + " = ?"
		}
		order = k.column + " DESC, " + order
		conditions = append(conditions, bun.SafeQuery(equal, k.value))
	}
	return bun.SafeQuery("SELECT b.id FROM ? AS b WHERE ? ORDER BY "+order+" LIMIT ?", l.names.Table("build"), l.all(conditions), l.Limit)
}

// few is newest for conditions by which an index finds few builds, if not in order. They are all looked at before they are put in order,
// lest the database try in order all that there are.
func (l *listing) few(conditions ...schema.QueryWithArgs) schema.QueryWithArgs {
	return bun.SafeQuery("WITH few AS MATERIALIZED (SELECT b.id FROM ? AS b WHERE ?) SELECT f.id FROM few AS f ORDER BY f.id DESC LIMIT ?",
		l.names.Table("build"), l.all(conditions), l.Limit)
}

// all joins conditions with those that hold for every build of the list.
func (l *listing) all(conditions []schema.QueryWithArgs) schema.QueryWithArgs {
	if l.Pool != "" {
		conditions = append(conditions, bun.SafeQuery("b.pool = ?", l.Pool))
	}
	if !l.Before.IsZero() {
		conditions = append(conditions, bun.SafeQuery("b.id < ?", ID(l.db, l.Before)))
	}
	if !l.Since.IsZero() {
		conditions = append(conditions, bun.SafeQuery("b.id >= ?", ID(l.db, l.Since)))
	}
	sql, args := "TRUE", []any(nil)
	for _, c := range conditions {
		if !c.IsZero() {
			sql, args = sql+" AND ?", append(args, c)
		}
	}
	return schema.SafeQuery(sql, args)
}
