package pgqueue

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/slipway-build/slipway/internal/sqlqueue"
	"github.com/slipway-build/slipway/queue"
)

// gatesSQL returns the server's time, which of the classes are known, which of the pools are fair and which of the projects are paused,
// as triples: what the row is about, the place in the argument, and a number. It locks nothing: a class that is just being made elsewhere
// counts as unknown.
const gatesSQL = `
SELECT 0, 0, (extract(epoch FROM {now}) * 1000000)::bigint
UNION ALL
SELECT 1, k.place::int, c.id::bigint
FROM unnest($2::text[], $3::text[]) WITH ORDINALITY AS k(pool, labels, place)
JOIN {schema}class c ON c.pool = k.pool AND c.labels = k.labels
UNION ALL
SELECT 2, k.place::int, 0 FROM unnest($4::text[]) WITH ORDINALITY AS k(name, place) JOIN {schema}pool p ON p.name = k.name AND p.fair
UNION ALL
SELECT 3, k.place::int, 0 FROM unnest($5::text[]) WITH ORDINALITY AS k(name, place) JOIN {schema}project p ON p.name = k.name AND p.paused`

// A kind is a pool and the labels that are required of its workers: what a class is of.
type kind struct{ pool, labels string }

func kindOf(n *queue.NewBuild) kind { return kind{n.Pool, n.Labels.String()} }

// Gates are what decides whether a new build is queued at once.
type gates struct {
	now     time.Time // the server's, in whole microseconds
	classes map[kind]queue.ClassID
	fair    map[string]bool // pools
	paused  map[string]bool // projects
}

// gates reads what matters to builds.
func (b *Backend) gates(ctx context.Context, on runner, builds []queue.NewBuild, now time.Time) (*gates, error) {
	kinds, pools, projects := make(map[kind]bool), make(map[string]bool), make(map[string]bool)
	for i := range builds {
		n := &builds[i]
		kinds[kindOf(n)], pools[n.Pool], projects[n.Project] = true, true, true
	}
	g := &gates{classes: make(map[kind]queue.ClassID), fair: make(map[string]bool), paused: make(map[string]bool)}
	ofKind, ofPool, ofProject := slices.Collect(maps.Keys(kinds)), slices.Collect(maps.Keys(pools)), slices.Collect(maps.Keys(projects))
	kindPools, kindLabels := make([]string, len(ofKind)), make([]string, len(ofKind))
	for i, k := range ofKind {
		kindPools[i], kindLabels[i] = k.pool, k.labels
	}
	args := []any{present(now), kindPools, kindLabels, ofPool, ofProject}
	err := on.run(ctx, b.sql.gates, args, func(scan scanner) error {
		var about, place int
		var number int64
		if err := scan(&about, &place, &number); err != nil {
			return err
		}
		switch about {
		case 0:
			g.now = time.UnixMicro(number).UTC()
		case 1:
			g.classes[ofKind[place-1]] = queue.ClassID(number)
		case 2:
			g.fair[ofPool[place-1]] = true
		case 3:
			g.paused[ofProject[place-1]] = true
		}
		return nil
	})
	return g, err
}

// A newRow is a build as it is inserted.
type newRow struct {
	*queue.NewBuild
	at     int // its place among those that are submitted together
	labels string
	class  queue.ClassID // noClass if it is unknown and nothing else keeps the build back, 0 if something does
	state  sqlqueue.State
	rank   int64
	now    time.Time // when it is inserted
	waits  bool      // for what can be cleared away now
	later  time.Time // what it is scheduled for; zero if that is not to come
	ends   time.Time // when it has waited too long; zero: never
}

// noClass stands for null.
const noClass queue.ClassID = -1

// row decides where a build goes, as submitOneSQL does.
func (g *gates) row(n *queue.NewBuild) newRow {
	k := kindOf(n)
	r := newRow{NewBuild: n, labels: k.labels, state: sqlqueue.Held, rank: n.Rank(g.now), now: g.now}
	begin := g.now
	if n.NotBefore.After(g.now) {
		r.later, begin = n.NotBefore, n.NotBefore
	}
	if n.QueueTimeout > 0 {
		r.ends = begin.Add(n.QueueTimeout)
	}
	class, known := g.classes[k]
	gated := n.ConcurrencyKey != "" || g.fair[n.Pool] || g.paused[n.Project]
	r.waits = !known || gated && r.later.IsZero()
	r.class = class
	if !known && !gated && r.later.IsZero() {
		r.class = noClass
	}
	if known && !gated && r.later.IsZero() {
		r.state = sqlqueue.Queued
	}
	return r
}

// rows is row for several. They are in the order in which they are inserted, which is one for all who insert: else two that insert the
// same ids or keys could each wait for the other.
func (g *gates) rows(builds []queue.NewBuild) []newRow {
	rows := make([]newRow, len(builds))
	for i := range builds {
		rows[i] = g.row(&builds[i])
		rows[i].at = i
	}
	slices.SortFunc(rows, func(x, y newRow) int { return byKey(x.NewBuild, y.NewBuild) })
	return rows
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
func submitted(rows []newRow) []queue.Submitted {
	done := make([]queue.Submitted, len(rows))
	for i := range rows {
		done[rows[i].at] = rows[i].submitted()
	}
	return done
}
