package sqlitequeue

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/slipway-build/slipway/queue"
)

// Admit implements [queue.Admission].
func (b *Backend) Admit(ctx context.Context, after queue.Lane, limit int, now time.Time) (done queue.Admitted, err error) {
	err = b.change(ctx, now, func(ctx context.Context, c *change) error {
		a := &admission{change: c, left: limit, pools: make(map[string]*fairPool)}
		if err := a.run(ctx, after, limit); err != nil {
			return err
		}
		a.done.Heads = a.heads.all
		done = a.done
		return nil
	})
	if err != nil {
		return queue.Admitted{}, err
	}
	return done, nil
}

// An admission is one call of Admit. It holds the write lock, so that what it counts stays true until it has decided.
type admission struct {
	*change
	left  int // builds that it may still move
	pools map[string]*fairPool
	done  queue.Admitted
	heads heads
}

func (a *admission) run(ctx context.Context, after queue.Lane, limit int) error {
	if err := a.hold(ctx, holdPausedSQL, a.left); err != nil {
		return err
	}
	lanes, beyond, err := a.lanes(ctx, after, limit)
	if err != nil {
		return err
	}
	for i, g := range group(lanes, beyond) {
		if i > 0 && a.left == 0 {
			return a.keepEnds(ctx)
		}
		if err := a.admit(ctx, g); err != nil {
			return err
		}
		a.done.Next = g.lanes[len(g.lanes)-1].Lane
	}
	if beyond == nil {
		a.done.Next = queue.Lane{}
	}
	return a.keepEnds(ctx)
}

// A lane is where builds wait, with the classes that they are of. Of a paused pool none is served, if the lane is of a key.
type lane struct {
	queue.Lane
	fair, paused     bool // the pool is fair, the project paused
	served, unserved []queue.ClassID
}

// waits says of a build b that it waits for nothing but to be admitted.
const waits = `b.state = {held} AND b.class_id > 0 AND b.not_before IS NULL`

// It steps from one pair of a lane and a class to the next, however many builds wait there. SQLite searches by several columns in order
// only for values, which the + makes of columns; and with a > it would walk over what is equal.
var lanesSQL = statement(`
WITH RECURSIVE strand (pool, project, key, class, number) AS (
	SELECT ?1, ?2, ?3, ?4, 0
	UNION ALL
	SELECT n.pool, n.project, n.limit_key, n.class_id,
		s.number + ((n.pool, n.project, n.limit_key) <> (s.pool, s.project, s.key))
	FROM strand AS s CROSS JOIN {schema}build AS n ON n.rowid = (
		SELECT b.rowid FROM {schema}build AS b
		WHERE ` + waits + ` AND (b.pool, b.project, b.limit_key, b.class_id) >= (+s.pool, +s.project, +s.key, s.class + 1)
		ORDER BY b.pool, b.project, b.limit_key, b.class_id LIMIT 1)
	WHERE s.number <= ?5
)
SELECT s.pool, s.project, s.key, s.class, s.number,
	coalesce(c.served_until > ?6, 0) AND (s.key = '' OR p.paused IS NOT 1), coalesce(p.fair, 0), coalesce(r.paused, 0)
FROM strand AS s CROSS JOIN {schema}class AS c ON c.id = s.class
LEFT JOIN {schema}pool AS p ON p.name = s.pool
LEFT JOIN {schema}project AS r ON r.name = s.project
WHERE s.number > 0`)

// lanes returns the first lanes after one, and the one that comes after those, if there is any.
func (a *admission) lanes(ctx context.Context, after queue.Lane, limit int) (lanes []lane, beyond *lane, err error) {
	err = a.each(ctx, func(rows *sql.Rows) error {
		var l lane
		var class queue.ClassID
		var number int
		var served bool
		if err := rows.Scan(&l.Pool, &l.Project, &l.Key, &class, &number, &served, &l.fair, &l.paused); err != nil {
			return err
		}
		if number > limit {
			beyond = &l
			return nil
		}
		if number > len(lanes) {
			lanes = append(lanes, l)
		}
		last := &lanes[len(lanes)-1]
		if served {
			last.served = append(last.served, class)
		} else {
			last.unserved = append(last.unserved, class)
		}
		return nil
	}, lanesSQL, after.Pool, after.Project, after.Key, math.MaxInt32, limit, a.now)
	return lanes, beyond, err
}

// glances is how many builds of a group are looked at if many of its lanes have room; of each of these one at least.
const glances = 2048

// admit queues what it may of a group, in order of rank as far as it looks.
func (a *admission) admit(ctx context.Context, g laneGroup) error {
	if g.lanes[0].paused {
		return nil
	}
	if err := a.makeRoom(ctx, g); err != nil {
		return err
	}
	room, err := a.window(ctx, g)
	if err != nil || room <= 0 {
		return err
	}
	found, err := a.candidates(ctx, g, room)
	if err != nil || len(found) == 0 {
		return err
	}
	if g.lanes[0].fair {
		if err := a.rank(ctx, &g.lanes[0], found); err != nil {
			return err
		}
	}
	return a.queue(ctx, found)
}

// candidates returns the first builds of a group that may be queued, in order, at most limit.
func (a *admission) candidates(ctx context.Context, g laneGroup, limit int) ([]candidate, error) {
	var open []lane
	var rooms []int
	for _, l := range g.lanes {
		if l.Key == "" && !l.fair {
			l.served = slices.Concat(l.served, l.unserved)
		}
		if len(l.served) == 0 {
			continue
		}
		room, err := a.room(ctx, &l)
		if err != nil {
			return nil, err
		}
		if room > 0 {
			open, rooms = append(open, l), append(rooms, room)
		}
	}
	var found []candidate
	for i := range open {
		first, err := a.first(ctx, &open[i], min(limit, rooms[i], max(glances/len(open), 1)))
		if err != nil {
			return nil, err
		}
		found = append(found, first...)
	}
	slices.SortFunc(found, byRank)
	return found[:min(limit, len(found))], nil
}

// window returns how many builds of a group may be queued, if their keys have room. Of a group that is torn most of it is left to the lanes
// that come after these, so that all have their turn.
func (a *admission) window(ctx context.Context, g laneGroup) (int, error) {
	l := &g.lanes[0]
	if !l.fair {
		return a.left, nil
	}
	var used int
	if err := a.tx.QueryRowContext(ctx, windowSQL, l.Project, l.Pool, queue.FairWindow).Scan(&used); err != nil {
		return 0, err
	}
	room := queue.FairWindow - used
	if g.torn {
		room = (room + rand.IntN(4)) / 4
	}
	return min(room, a.left), nil
}

// room returns how many builds of a lane may be queued for all that is known of its key.
func (a *admission) room(ctx context.Context, l *lane) (int, error) {
	if l.Key == "" {
		return math.MaxInt, nil
	}
	var free sql.NullInt64
	if err := a.tx.QueryRowContext(ctx, limitRoomSQL, l.Project, l.Key).Scan(&free); err != nil {
		return 0, err
	}
	if !free.Valid {
		return math.MaxInt, nil
	}
	return int(free.Int64), nil
}

// active says of a build b that it has room in the limit of its key.
const active = `b.limit_key <> '' AND b.state BETWEEN {queued} AND {cancelling}`

var (
	// The sum is of one row, or of none if there is no limit.
	limitRoomSQL = statement(`
SELECT sum(l.max_running - (
	SELECT count(*) FROM {schema}build AS b WHERE b.project = l.project AND b.limit_key = l.key AND ` + active + `))
FROM {schema}build_limit AS l WHERE l.project = ?1 AND l.key = ?2`)

	windowSQL = statement(`
SELECT count(*) FROM (SELECT 1 FROM {schema}build AS b WHERE b.project = ?1 AND b.pool = ?2 AND b.state = {queued} LIMIT +?3)`)
)

// A candidate is a build that is admitted, and its place in the queue of its class.
type candidate struct {
	Build queue.ID `json:"id"`
	Rank  int64    `json:"rank"`
	class queue.ClassID
}

var firstSQL = statement(`
SELECT b.id, b.rank FROM {schema}build AS b
WHERE ` + waits + ` AND b.pool = ?1 AND b.project = ?2 AND b.limit_key = ?3 AND b.class_id = ?4
ORDER BY b.rank, b.id LIMIT +?5`)

// first returns the first builds of the classes of a lane that are served, in order.
func (a *admission) first(ctx context.Context, l *lane, limit int) ([]candidate, error) {
	var found []candidate
	for _, class := range l.served {
		err := a.each(ctx, func(rows *sql.Rows) error {
			c := candidate{class: class}
			err := rows.Scan(scanID(&c.Build), &c.Rank)
			found = append(found, c)
			return err
		}, firstSQL, l.Pool, l.Project, l.Key, class, limit)
		if err != nil {
			return nil, err
		}
	}
	slices.SortFunc(found, byRank)
	return found[:min(limit, len(found))], nil
}

func byRank(x, y candidate) int {
	return cmp.Or(cmp.Compare(x.Rank, y.Rank), bytes.Compare(x.Build[:], y.Build[:]))
}

var admitSQL = statement(`
UPDATE {schema}build AS b SET state = {queued}, admitted = 1, rank = i.rank
FROM (SELECT unhex(value->>'id', '-') AS id, value->>'rank' AS rank FROM json_each(?1)) AS i
WHERE b.id = i.id`)

// queue queues builds.
func (a *admission) queue(ctx context.Context, builds []candidate) error {
	arg, err := list(builds)
	if err != nil {
		return err
	}
	if _, err := a.exec(ctx, admitSQL, arg); err != nil {
		return err
	}
	for _, c := range builds {
		a.heads.add(c.class, c.Rank)
	}
	a.done.Queued += len(builds)
	a.left -= len(builds)
	return nil
}

const holdSQL = `
UPDATE {schema}build AS b SET state = {held}, admitted = 0, rank = ` + ownRank + ` WHERE b.id IN (`

// unservedClasses are classes of builds of a key that are queued and that no live session serves, or whose pool is paused: project ?2, key ?3,
// now ?4.
const unservedClasses = `(
	WITH RECURSIVE k (class) AS (
		SELECT min(b.class_id) FROM {schema}build AS b
		WHERE b.project = ?2 AND b.limit_key = ?3 AND b.state = {queued} AND ` + active + `
		UNION ALL
		SELECT (SELECT min(b.class_id) FROM {schema}build AS b
			WHERE b.project = ?2 AND b.limit_key = ?3 AND b.state = {queued} AND ` + active + ` AND b.class_id > k.class)
		FROM k WHERE k.class IS NOT NULL)
	SELECT k.class AS id FROM k CROSS JOIN {schema}class AS c ON c.id = k.class LEFT JOIN {schema}pool AS p ON p.name = c.pool
	WHERE c.served_until > ?4 IS NOT 1 OR p.paused IS 1)`

var (
	holdPausedSQL = statement(holdSQL + `
	SELECT q.id FROM {schema}project AS r CROSS JOIN {schema}build AS q ON q.project = r.name
	WHERE r.paused = 1 AND q.state = {queued} LIMIT +?1)`)

	holdKeySQL = statement(holdSQL + `
	SELECT b.id FROM ` + unservedClasses + ` AS u CROSS JOIN {schema}build AS b ON b.class_id = u.id
	WHERE b.project = ?2 AND b.limit_key = ?3 AND b.state = {queued} AND ` + active + ` LIMIT +?1)`)

	holdShareSQL = statement(holdSQL + `
	SELECT q.id FROM {schema}build AS q CROSS JOIN {schema}class AS c ON c.id = q.class_id
	WHERE q.project = ?2 AND q.pool = ?3 AND q.state = {queued} AND c.served_until > ?4 IS NOT 1 LIMIT +?1)`)
)

// makeRoom holds those queued builds again that nobody can claim and that take up the room in which a group's builds wait for theirs.
func (a *admission) makeRoom(ctx context.Context, g laneGroup) error {
	for _, l := range g.lanes {
		if l.Key == "" {
			continue
		}
		if err := a.hold(ctx, holdKeySQL, a.left, l.Project, l.Key, a.now); err != nil {
			return err
		}
	}
	if l := &g.lanes[0]; l.fair {
		return a.hold(ctx, holdShareSQL, a.left, l.Project, l.Pool, a.now)
	}
	return nil
}

// hold runs a statement that holds queued builds again.
func (a *admission) hold(ctx context.Context, query string, args ...any) error {
	n, err := a.exec(ctx, query, args...)
	a.done.Held += n
	a.left -= n
	return err
}
