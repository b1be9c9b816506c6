package memqueue

import (
	"context"
	"fmt"
	"time"

	"github.com/slipway-build/slipway/queue"
)

// Submit implements [queue.Transitions].
func (b *Backend) Submit(ctx context.Context, builds []queue.NewBuild, now time.Time) ([]queue.Submitted, error) {
	unlock, err := b.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	first, err := b.known(builds)
	if err != nil {
		return nil, err
	}
	now = present(now)
	done := make([]queue.Submitted, len(builds))
	for i, n := range builds {
		done[i] = queue.Submitted{ID: first[i]}
		if first[i].IsZero() {
			done[i] = b.insert(n, now)
		}
	}
	return done, nil
}

// known returns, for each build, the id of the earlier one with its idempotency key; the zero ID for what is new. It changes nothing.
func (b *Backend) known(builds []queue.NewBuild) ([]queue.ID, error) {
	type key struct{ project, key string }
	keyed := make(map[key]*queue.NewBuild)
	taken := make(map[queue.ID]bool)
	first := make([]queue.ID, len(builds))
	for i := range builds {
		n := &builds[i]
		k := key{n.Project, n.IdempotencyKey}
		if n.IdempotencyKey != "" {
			if bd := b.project(n.Project).keys[n.IdempotencyKey]; bd != nil {
				keyed[k] = &bd.NewBuild
			}
			if earlier := keyed[k]; earlier != nil {
				if earlier.IdempotencyHash != n.IdempotencyHash {
					return nil, fmt.Errorf("idempotency key %q of build %v: %w", n.IdempotencyKey, earlier.ID, queue.ErrConflict)
				}
				first[i] = earlier.ID
				continue
			}
			keyed[k] = n
		}
		if b.builds[n.ID] != nil || taken[n.ID] {
			return nil, fmt.Errorf("build %v: %w", n.ID, queue.ErrConflict)
		}
		taken[n.ID] = true
	}
	return first, nil
}

// insert makes a build, and queues it if nothing keeps it back.
func (b *Backend) insert(n queue.NewBuild, now time.Time) queue.Submitted {
	bd := &build{
		NewBuild: cloneBuild(n), project: b.project(n.Project), pool: b.pool(n.Pool), class: b.find(n.Pool, n.Labels),
		state: queue.Pending, rank: n.Rank(now), createdAt: now,
	}
	b.builds[n.ID] = bd
	if n.IdempotencyKey != "" {
		bd.project.keys[n.IdempotencyKey] = bd
	}
	bd.project.day(now).Submitted++
	bd.wait(later(now, n.NotBefore))
	done := queue.Submitted{ID: n.ID, Rank: bd.rank}
	if n.NotBefore.After(now) {
		bd.notBefore = n.NotBefore
	} else if bd.class != nil {
		bd.enter()
	}
	if bd.queued {
		done.Class = bd.class.ID
	}
	done.Waiting = bd.class == nil || bd.gated
	return done
}
