package memqueue

import (
	"context"
	"fmt"
	"slices"
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
	takers := make([]*session, len(builds))
	if !slices.ContainsFunc(builds, func(n queue.NewBuild) bool { return n.IdempotencyKey != "" }) {
		for i := range builds {
			takers[i] = b.taker(&builds[i], now)
		}
	}
	done := make([]queue.Submitted, len(builds))
	for i, n := range builds {
		done[i] = queue.Submitted{ID: first[i]}
		if first[i].IsZero() {
			done[i] = b.insert(n, takers[i], now)
		}
	}
	return done, nil
}

// taker returns the session in whose slot a build starts if it is queued now, nil if there is none or others come first.
func (b *Backend) taker(n *queue.NewBuild, now time.Time) *session {
	s, class := b.sessions[n.Slot.Session], b.find(n.Pool, n.Labels)
	if s == nil || s.ended() || !s.Direct || class == nil || class.pool.Paused {
		return nil
	}
	if before := class.from(n.Slot.Floor); len(before) > 0 && before[0].rank < n.Rank(now) {
		return nil
	}
	return s
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

// insert makes a build, and if nothing keeps it back starts it in a session or, if that is nil, queues it.
func (b *Backend) insert(n queue.NewBuild, s *session, now time.Time) queue.Submitted {
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
	if bd.queued && s != nil {
		bd.claim(s)
		bd.start(queue.Digest{}, n.Slot.Slack, now)
		done.Started = true
	}
	done.Waiting = bd.class == nil || bd.gated
	return done
}
