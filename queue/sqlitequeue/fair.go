package sqlitequeue

import (
	"context"

	"github.com/slipway-build/slipway/queue"
)

// joins reports whether a lane shares a window with another.
func (l *lane) joins(other *lane) bool {
	return l.fair && l.Pool == other.Pool && l.Project == other.Project
}

// A laneGroup is lanes that share what is left: those of a project in a fair pool, or else a single one.
type laneGroup struct {
	lanes []lane
	torn  bool // there are more than the call looks at
}

// group returns lanes in groups. What shares a window is looked at in one call: if a part of it is beyond the last lane, it is left for the
// next call, unless it comes first.
func group(lanes []lane, beyond *lane) []laneGroup {
	var groups []laneGroup
	for i := range lanes {
		if i == 0 || !lanes[i].joins(&lanes[i-1]) {
			groups = append(groups, laneGroup{})
		}
		last := &groups[len(groups)-1]
		last.lanes = append(last.lanes, lanes[i])
	}
	if beyond == nil || len(lanes) == 0 || !beyond.joins(&lanes[len(lanes)-1]) {
		return groups
	}
	if len(groups) == 1 {
		groups[0].torn = true
		return groups
	}
	return groups[:len(groups)-1]
}

// A fairPool is how far a fair pool has come. While one call admits builds its virtual time stands still: they begin at it or later.
type fairPool struct {
	time, end int64
	moved     bool
}

var (
	virtualTimeSQL = statement(`
SELECT p.virtual_end, coalesce((
	SELECT min((SELECT b.rank FROM {schema}build AS b WHERE b.state = {queued} AND b.class_id = c.id ORDER BY b.rank, b.id LIMIT 1))
	FROM {schema}class AS c WHERE c.pool = p.name AND c.served_until > ?2), p.virtual_end)
FROM {schema}pool AS p WHERE p.name = ?1`)

	shareSQL = statement(`
SELECT coalesce(max(s.weight), 1), coalesce(max(s.virtual_end), 0) FROM {schema}share AS s WHERE s.pool = ?1 AND s.project = ?2`)

	moveShareSQL = statement(`
INSERT INTO {schema}share (pool, project, virtual_end) VALUES (?1, ?2, ?3)
ON CONFLICT (pool, project) DO UPDATE SET virtual_end = excluded.virtual_end`)

	movePoolSQL = statement(`UPDATE {schema}pool SET virtual_end = ?2 WHERE name = ?1`)
)

// rank gives builds of a lane's project in its fair pool their places.
func (a *admission) rank(ctx context.Context, l *lane, builds []candidate) error {
	p, err := a.pool(ctx, l.Pool)
	if err != nil {
		return err
	}
	var weight, end int64
	if err := a.tx.QueryRowContext(ctx, shareSQL, l.Pool, l.Project).Scan(&weight, &end); err != nil {
		return err
	}
	for i := range builds {
		builds[i].Rank = max(p.time, end)
		end = builds[i].Rank + queue.FairStep/weight
	}
	p.end, p.moved = max(p.end, end), true
	_, err = a.exec(ctx, moveShareSQL, l.Pool, l.Project, end)
	return err
}

// pool returns how far a fair pool has come.
func (a *admission) pool(ctx context.Context, name string) (*fairPool, error) {
	if p := a.pools[name]; p != nil {
		return p, nil
	}
	p := new(fairPool)
	if err := a.tx.QueryRowContext(ctx, virtualTimeSQL, name, a.now).Scan(&p.end, &p.time); err != nil {
		return nil, err
	}
	a.pools[name] = p
	return p, nil
}

// keepEnds stores how far fair pools have come.
func (a *admission) keepEnds(ctx context.Context) error {
	for name, p := range a.pools {
		if !p.moved {
			continue
		}
		if _, err := a.exec(ctx, movePoolSQL, name, p.end); err != nil {
			return err
		}
	}
	return nil
}
