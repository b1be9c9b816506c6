package memqueue

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/slipway-build/slipway/queue"
)

// A pool is what is set for a pool of workers, and how far a fair one has come.
type pool struct {
	queue.Pool
	known bool             // it was changed
	end   int64            // the greatest end that a build was given
	ends  map[string]int64 // those of the last builds of projects
}

// A project is what is set for a tenant, and what was counted of it.
type project struct {
	queue.Project
	known  bool              // it was changed, or had artifacts
	limits map[string]int    // by concurrency key
	keys   map[string]*build // by idempotency key
	days   map[time.Time]*queue.DayStats
}

// pool returns the pool of that name, with the zero settings if it was never changed.
func (b *Backend) pool(name string) *pool {
	p := b.pools[name]
	if p == nil {
		p = &pool{Pool: queue.Pool{Name: name, Weights: make(map[string]int)}, ends: make(map[string]int64)}
		b.pools[name] = p
	}
	return p
}

// project returns the project of that name, with the zero settings if it was never changed.
func (b *Backend) project(name string) *project {
	p := b.projects[name]
	if p == nil {
		p = &project{
			Project: queue.Project{Name: name}, limits: make(map[string]int), keys: make(map[string]*build),
			days: make(map[time.Time]*queue.DayStats),
		}
		b.projects[name] = p
	}
	return p
}

// ChangePool implements [queue.Admission].
func (b *Backend) ChangePool(ctx context.Context, name string, change queue.PoolChange) error {
	unlock, err := b.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	p := b.pool(name)
	p.known = true
	if change.Paused != nil {
		p.Paused = *change.Paused
	}
	if change.Fair != nil && *change.Fair != p.Fair {
		p.Fair = *change.Fair
		for _, c := range b.classes {
			for _, bd := range slices.Clone(c.queued) {
				if bd.pool == p {
					bd.hold()
				}
			}
		}
	}
	for project, weight := range change.Weights {
		p.Weights[project] = weight
		if weight <= 1 {
			delete(p.Weights, project)
		}
	}
	return nil
}

// Pools implements [queue.Admission].
func (b *Backend) Pools(ctx context.Context) ([]queue.Pool, error) {
	unlock, err := b.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	var found []queue.Pool
	for _, name := range slices.Sorted(maps.Keys(b.pools)) {
		if p := b.pools[name]; p.known {
			found = append(found, p.Pool)
			found[len(found)-1].Weights = maps.Clone(p.Weights)
		}
	}
	return found, nil
}

// ChangeProject implements [queue.Admission].
func (b *Backend) ChangeProject(ctx context.Context, name string, change queue.ProjectChange) error {
	unlock, err := b.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	p := b.project(name)
	p.known = true
	if change.Paused != nil {
		p.Paused = *change.Paused
	}
	if change.ArtifactQuota != nil {
		p.ArtifactQuota = *change.ArtifactQuota
	}
	return nil
}

// Projects implements [queue.Admission].
func (b *Backend) Projects(ctx context.Context, after string, max int) ([]queue.Project, error) {
	unlock, err := b.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	var found []queue.Project
	for _, name := range slices.Sorted(maps.Keys(b.projects)) {
		if p := b.projects[name]; p.known && name > after && len(found) < max {
			found = append(found, p.Project)
		}
	}
	return found, nil
}

// SetLimit implements [queue.Admission].
func (b *Backend) SetLimit(ctx context.Context, limit queue.Limit) error {
	unlock, err := b.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	limits := b.project(limit.Project).limits
	limits[limit.Key] = limit.Max
	if limit.Max == 0 {
		delete(limits, limit.Key)
	}
	return nil
}

// Limits implements [queue.Admission].
func (b *Backend) Limits(ctx context.Context, project, after string, max int) ([]queue.Limit, error) {
	unlock, err := b.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	p := b.project(project)
	var found []queue.Limit
	for _, key := range slices.Sorted(maps.Keys(p.limits)) {
		if key > after && len(found) < max {
			found = append(found, b.limit(p, key))
		}
	}
	return found, nil
}

// limit returns the limit of a key and how much of it is used; the zero Limit if it has none.
func (b *Backend) limit(p *project, key string) queue.Limit {
	if p.limits[key] == 0 {
		return queue.Limit{}
	}
	return queue.Limit{Project: p.Name, Key: key, Max: p.limits[key], Used: b.used(p, key)}
}

// used counts the builds of a key that are queued or claimed and have not ended.
func (b *Backend) used(p *project, key string) int {
	var n int
	for _, bd := range b.builds {
		if bd.project == p && bd.ConcurrencyKey == key && (bd.queued || bd.session != nil) {
			n++
		}
	}
	return n
}

// weight returns the share of a project in a fair pool.
func (p *pool) weight(project string) int64 { return int64(cmp.Or(p.Weights[project], 1)) }
