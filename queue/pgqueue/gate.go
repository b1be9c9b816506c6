package pgqueue

import (
	"context"
	"slices"
	"time"

	"github.com/slipway-build/slipway/internal/sqlqueue"
	"github.com/slipway-build/slipway/queue"
)

// gateSQL tells what decides whether builds of a kind are queued at once: their class, zero if it is not known, and whether they have to be
// admitted because the pool is fair or the project is paused. It locks nothing: a class that is just being made elsewhere counts as unknown.
const gateSQL = `gate AS MATERIALIZED (
	SELECT k.place::int, coalesce(c.id, 0) AS class_id,
		EXISTS (SELECT FROM {schema}pool p WHERE p.name = k.pool AND p.fair)
			OR EXISTS (SELECT FROM {schema}project p WHERE p.name = k.project AND p.paused) AS gated
	FROM unnest($2::text[], $3::text[], $4::text[]) WITH ORDINALITY AS k(project, pool, labels, place)
	LEFT JOIN LATERAL (SELECT c.id FROM {schema}class c WHERE c.pool = k.pool AND c.labels = k.labels OFFSET 0) c ON true
)`

// gatesSQL returns the gate of each kind, and the server's time in microseconds.
const gatesSQL = `
WITH ` + gateSQL + `
SELECT g.place, g.class_id, g.gated, (extract(epoch FROM {now}) * 1000000)::bigint FROM gate g`

// A kind is what builds have in common that are let through, or are not, together.
type kind struct{ project, pool, labels string }

// A gate is what the server knows of a kind.
type gate struct {
	class queue.ClassID // 0 if it is unknown
	gated bool
}

// Gates are those of the kinds of some builds.
type gates struct {
	now  time.Time // the server's, in whole microseconds
	gate []gate
}

// scan reads a row of gatesSQL.
func (g *gates) scan(scan scanner) error {
	var place int
	var read gate
	var now int64
	if err := scan(&place, &read.class, &read.gated, &now); err != nil {
		return err
	}
	g.set(place, read, now)
	return nil
}

func (g *gates) set(place int, read gate, now int64) {
	g.gate[place-1] = read
	g.now = time.UnixMicro(now).UTC()
}

// gates reads what matters to rows.
func (b *Backend) gates(ctx context.Context, on runner, rows *newRows, now time.Time) (*gates, error) {
	g := rows.gates()
	return g, on.run(ctx, b.sql.gates, append([]any{present(now)}, rows.kindColumns()...), g.scan)
}

// newRows are builds in the order in which they are inserted, which is one for all who insert: else two that insert the same ids or keys
// could each wait for the other.
type newRows struct {
	rows  []newRow
	kinds []kind
}

// A newRow is a build as it is inserted.
type newRow struct {
	*queue.NewBuild
	at     int // its place among those that are submitted together
	labels string
	kind   int // its place among the kinds

	// What place finds out.
	class queue.ClassID // noClass if it is unknown and nothing else keeps the build back, 0 if something does
	state sqlqueue.State
	rank  int64
	now   time.Time // when it is inserted
	waits bool      // for what can be cleared away now
	later time.Time // what it is scheduled for; zero if that is not to come
	ends  time.Time // when it has waited too long; zero: never
}

// noClass stands for null.
const noClass queue.ClassID = -1

func rowsOf(builds []queue.NewBuild) *newRows {
	r := &newRows{rows: make([]newRow, len(builds))}
	for i := range builds {
		r.rows[i] = newRow{NewBuild: &builds[i], at: i, labels: builds[i].Labels.String()}
	}
	slices.SortFunc(r.rows, func(x, y newRow) int { return byKey(x.NewBuild, y.NewBuild) })
	places := make(map[kind]int)
	for i := range r.rows {
		row := &r.rows[i]
		k := kind{row.Project, row.Pool, row.labels}
		place, known := places[k]
		if !known {
			place = len(r.kinds)
			places[k], r.kinds = place, append(r.kinds, k)
		}
		row.kind = place
	}
	return r
}

// gates returns those of the rows, which are yet to be read.
func (r *newRows) gates() *gates { return &gates{gate: make([]gate, len(r.kinds))} }

// place decides where builds go, as submitOneSQL and submitManySQL do.
func (r *newRows) place(g *gates) {
	for i := range r.rows {
		row := &r.rows[i]
		row.place(g.gate[row.kind], g.now)
	}
}

func (r *newRow) place(g gate, now time.Time) {
	r.state, r.rank, r.now = sqlqueue.Held, r.Rank(now), now
	begin := now
	if r.NotBefore.After(now) {
		r.later, begin = r.NotBefore, r.NotBefore
	}
	if r.QueueTimeout > 0 {
		r.ends = begin.Add(r.QueueTimeout)
	}
	known, gated, scheduled := g.class != 0, g.gated || r.ConcurrencyKey != "", !r.later.IsZero()
	r.class, r.waits = g.class, !known || gated && !scheduled
	switch {
	case gated || scheduled:
	case known:
		r.state = sqlqueue.Queued
	default:
		r.class = noClass
	}
}

// submitted tells what became of a build that was inserted.
func (r *newRow) submitted() queue.Submitted {
	s := queue.Submitted{ID: r.ID, Rank: r.rank, Waiting: r.waits}
	if r.state == sqlqueue.Queued {
		s.Class = r.class
	}
	return s
}

// submitted tells what became of builds that were all inserted, in their own order.
func (r *newRows) submitted() []queue.Submitted {
	done := make([]queue.Submitted, len(r.rows))
	for i := range r.rows {
		done[r.rows[i].at] = r.rows[i].submitted()
	}
	return done
}
