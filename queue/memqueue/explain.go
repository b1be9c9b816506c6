package memqueue

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/slipway-build/slipway/queue"
)

// maxFacts is how many workers Explain tells of.
const maxFacts = 1000

// Explain implements [queue.Records].
func (b *Backend) Explain(ctx context.Context, project string, id queue.ID, now time.Time) (queue.Circumstances, error) {
	unlock, err := b.lock(ctx)
	if err != nil {
		return queue.Circumstances{}, err
	}
	defer unlock()
	bd, err := b.build(project, id)
	if err != nil {
		return queue.Circumstances{}, err
	}
	if bd.state != queue.Pending {
		return queue.Circumstances{Build: bd.public()}, nil
	}
	now = present(now)
	c := queue.Circumstances{
		Build: bd.public(), Now: now, Queued: bd.queued, Ahead: b.ahead(bd), Limit: b.limit(bd.project, bd.ConcurrencyKey),
		Pool: bd.pool.Pool, Project: bd.project.Project, Workers: b.facts(bd.Pool, now),
	}
	c.Pool.Weights = nil
	if bd.class != nil {
		c.Class = bd.class.ID
	}
	if !due(bd.avoidUntil, now) {
		c.Avoids, c.AvoidsUntil = bd.avoid, bd.avoidUntil
	}
	return c, nil
}

// ahead counts the builds that come before a pending one where it waits.
func (b *Backend) ahead(bd *build) int {
	var n int
	for _, other := range b.builds {
		switch {
		case bd.queued:
			if other.queued && other.class == bd.class && byRank(other, bd) < 0 {
				n++
			}
		case other.gated && other.lane() == bd.lane() && byOwnRank(other, bd) < 0:
			n++
		}
	}
	return min(n, queue.MaxCount)
}

// facts tells of the workers that serve a pool.
func (b *Backend) facts(pool string, now time.Time) []queue.WorkerFacts {
	busy := make(map[string]int)
	for _, bd := range b.builds {
		if bd.session != nil {
			busy[bd.session.Worker]++
		}
	}
	var found []queue.WorkerFacts
	for _, s := range b.sessions {
		if s.ended() || s.controller.aliveUntil.Before(now) || !slices.Contains(s.Pools, pool) {
			continue
		}
		found = append(found, queue.WorkerFacts{Worker: s.Worker, Labels: cloneLabels(s.Labels), Slots: s.Slots, Busy: busy[s.Worker]})
	}
	slices.SortFunc(found, func(x, y queue.WorkerFacts) int { return strings.Compare(x.Worker, y.Worker) })
	return found[:min(len(found), maxFacts)]
}
