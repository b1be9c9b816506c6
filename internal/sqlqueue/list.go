package sqlqueue

import (
	"context"
	"slices"
	"strings"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect"
	"github.com/uptrace/bun/schema"

	"github.com/slipway-build/slipway/queue"
)

// List returns a page of builds without their specs.
//
// No one index has the builds that a filter asks for in order, but each part of them has one that does, or is small: what has ended is
// ordered by id for each state, and so is what waits for each project; what workers have is as much as there are slots. Each part gives
// its newest ids, a page at most, and the newest of those are the page. So the time that a list takes depends on the size of the page
// and not on the number of builds, but for what a filter has besides: the pool, and the project or states of a worker's builds, are no
// help in finding them.
func (r *Reader) List(ctx context.Context, f queue.Filter) ([]queue.Build, error) {
	l := listing{Reader: r, Filter: f}
	var rows []buildRow
	q := r.db.NewSelect().Model(&rows).ExcludeColumn("spec")
	if parts := l.parts(); len(parts) == 1 && parts[0].order != "" {
		q = q.ModelTableExpr("?", parts[0].from).Where("?", parts[0].where).OrderExpr(parts[0].order).Limit(int64(f.Limit))
	} else {
		q = q.ModelTableExpr("?", l.from("")).Where("?", r.among("b.id", l.merged(parts))).OrderExpr("b.id DESC")
	}
	if err := q.Scan(ctx); err != nil {
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

// from is the table of builds b. SQLite is told which index to take: it guesses how many rows each of them finds, and in a tie takes
// the narrowest. PostgreSQL counts.
func (r *Reader) from(index string) schema.QueryWithArgs {
	if index != "" && r.db.Dialect().Name() == dialect.SQLite {
		return bun.SafeQuery("? AS b INDEXED BY ?", r.names.Table("build"), r.names.Table(index))
	}
	return bun.SafeQuery("? AS b", r.names.Table("build"))
}

// first is the condition that the first column of an index have a value, for a query in the order of that index.
//
// PostgreSQL is kept from seeing that a column with one value changes nothing about the order. It would else think of taking the rows in
// the order of another index, from all builds there are, because of a common value it soon meets enough: but for one whose builds are
// all old.
func (r *Reader) first(column string, value any) schema.QueryWithArgs {
	if r.db.Dialect().Name() == dialect.SQLite {
		return bun.SafeQuery(column+" = ?", value)
	}
	return bun.SafeQuery(column+" = ANY (ARRAY[?])", value)
}

// among is a condition: that a column be one of those that a query returns, which is asked first and gives few.
func (r *Reader) among(column string, query schema.QueryWithArgs) schema.QueryWithArgs {
	if r.db.Dialect().Name() == dialect.SQLite {
		return bun.SafeQuery(column+" IN (?)", query)
	}
	return bun.SafeQuery(column+" = ANY (ARRAY(?))", query)
}

// A listing is one call of List.
type listing struct {
	*Reader
	queue.Filter
}

// A part of the list: builds b where conditions hold, of which an index has the ids in that order, or, without an order, a query of its
// newest ids.
type part struct {
	from, where schema.QueryWithArgs
	order       string
	query       schema.QueryWithArgs
}

// ids is a query of the newest ids of a part.
func (l *listing) ids(p part) schema.QueryWithArgs {
	if p.order == "" {
		return p.query
	}
	return bun.SafeQuery("SELECT b.id FROM ? WHERE ? ORDER BY "+p.order+" LIMIT ?", p.from, p.where, l.Limit)
}

// merged is a query of the newest ids of several parts.
func (l *listing) merged(parts []part) schema.QueryWithArgs {
	sql, args := "", []any(nil)
	for _, p := range parts {
		sql, args = sql+" UNION ALL SELECT p.id FROM (?) AS p", append(args, l.ids(p))
	}
	all := bun.SafeQuery(strings.TrimPrefix(sql, " UNION ALL "), args...)
	return bun.SafeQuery("SELECT a.id FROM (?) AS a ORDER BY a.id DESC LIMIT ?", all, l.Limit)
}

// parts are those that all builds of the filter are in.
func (l *listing) parts() []part {
	ended, pending, leased := l.divided()
	switch {
	case l.Worker != "":
		return l.ofWorker(slices.Concat(ended, pending), leased)
	case len(l.States) > 0:
		return l.inStates(ended, pending, leased)
	case l.AllProjects:
		return []part{l.newest("", key{})}
	case l.db.Dialect().Name() == dialect.SQLite:
		return []part{l.newest("build_project", key{"b.project", l.Project})}
	default: // PostgreSQL has no index of all builds, into which each change of a build would be written
		return append(l.inStates(ended, nil, nil), l.pending(none)) // which are all that have not ended
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
func (l *listing) ofWorker(had, has []State) []part {
	var parts []part
	if len(had) > 0 {
		parts = append(parts, l.newest("build_worker", key{"b.worker", l.Worker},
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
func (l *listing) inStates(ended, pending, leased []State) []part {
	var parts []part
	for _, s := range ended {
		state, ended := key{"b.state", s}, bun.SafeQuery("b.finished_at IS NOT NULL")
		if l.AllProjects {
			parts = append(parts, l.newest("build_end", state, ended))
			continue
		}
		parts = append(parts, l.newest("build_project_end", key{"b.project", l.Project}, bun.SafeQuery("b.state = ?", s), ended))
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
func (l *listing) pending(states schema.QueryWithArgs) part {
	const open = "b.finished_at IS NULL"
	if !l.AllProjects {
		return l.newest("build_open", key{"b.project", l.Project}, bun.SafeQuery(open), states)
	}
	ofEach := func(limit int) schema.QueryWithArgs {
		one := *l
		one.Limit = limit
		return one.ids(one.newest("build_open", key{"b.project", bun.Safe("p.project")}, bun.SafeQuery(open), states))
	}
	return part{query: bun.SafeQuery(`WITH RECURSIVE project (project) AS (
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
		l.names.Table("build"), ofEach(1), l.among("o.id", ofEach(l.Limit)), l.Limit)}
}

func in(states []State) schema.QueryWithArgs {
	return bun.SafeQuery("b.state IN (?)", bun.List(states))
}

// ofProject is the condition that a build be of the filter's project, or none. It is said so that no index is of use: it is for parts that
// are found by others, and are small beside all that a project has.
func (l *listing) ofProject() schema.QueryWithArgs {
	if l.AllProjects {
		return none
	}
	return bun.SafeQuery("b.project || '' = ?", l.Project)
}

// none is no condition.
var none schema.QueryWithArgs

// A key is the first column of an index of builds b, and its value. After the key, and what conditions are equal to, the index has ids.
type key struct {
	column string // empty if the index has ids alone
	value  any
}

// newest is the part of builds with a key that meet conditions, by an index.
func (l *listing) newest(index string, k key, conditions ...schema.QueryWithArgs) part {
	order := "b.id DESC"
	if k.column != "" {
		order = k.column + " DESC, " + order
		conditions = append(conditions, l.first(k.column, k.value))
	}
	return part{from: l.from(index), where: l.all(append(conditions, l.within("b.id"))), order: order}
}

// few is the part of builds that meet conditions by which an index finds few, if not in order. They are all looked at before they are put
// in order, lest the database try in order all that there are.
func (l *listing) few(conditions ...schema.QueryWithArgs) part {
	return part{query: bun.SafeQuery(
		"WITH few AS MATERIALIZED (SELECT b.id FROM ? AS b WHERE ?) SELECT f.id FROM few AS f WHERE ? ORDER BY f.id DESC LIMIT ?",
		l.names.Table("build"), l.all(conditions), l.within("f.id"), l.Limit)}
}

// within is the condition that an id lie within the filter's.
func (l *listing) within(id string) schema.QueryWithArgs {
	since, before := bun.SafeQuery(id+" >= ?", ID(l.db, l.Since)), bun.SafeQuery(id+" < ?", ID(l.db, l.Before))
	switch {
	case l.Before.IsZero() && l.Since.IsZero():
		return bun.SafeQuery("TRUE")
	case l.Before.IsZero():
		return since
	case l.Since.IsZero():
		return before
	default:
		return bun.SafeQuery("? AND ?", since, before)
	}
}

// all joins conditions, and that of the pool.
func (l *listing) all(conditions []schema.QueryWithArgs) schema.QueryWithArgs {
	if l.Pool != "" {
		conditions = append(conditions, bun.SafeQuery("b.pool = ?", l.Pool))
	}
	var sql []string
	var args []any
	for _, c := range conditions {
		if !c.IsZero() {
			sql, args = append(sql, "?"), append(args, c)
		}
	}
	return bun.SafeQuery(strings.Join(sql, " AND "), args...)
}
