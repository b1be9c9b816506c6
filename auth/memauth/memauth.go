package memauth

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/slipway-build/slipway/auth"
)

// Backend is an [auth.Backend] in memory. It is safe for concurrent use.
type Backend struct {
	mu      sync.Mutex
	records map[string]auth.Record
}

var _ auth.Backend = (*Backend)(nil)

// New returns an empty Backend.
func New() *Backend {
	return &Backend{records: make(map[string]auth.Record)}
}

// Insert implements [auth.Backend].
func (b *Backend) Insert(_ context.Context, r auth.Record) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, taken := b.records[r.ID]; taken {
		return auth.ErrConflict
	}
	r.Key = clone(r.Key)
	b.records[r.ID] = r
	return nil
}

// Lookup implements [auth.Backend].
func (b *Backend) Lookup(_ context.Context, id string) (auth.Record, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	r, ok := b.records[id]
	if !ok {
		return auth.Record{}, auth.ErrNotFound
	}
	r.Key = clone(r.Key)
	return r, nil
}

// Touch implements [auth.Backend].
func (b *Backend) Touch(_ context.Context, id string, at time.Time) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if r, ok := b.records[id]; ok && r.LastUsedAt.Before(at) {
		r.LastUsedAt = at
		b.records[id] = r
	}
	return nil
}

// Revoke implements [auth.Backend].
func (b *Backend) Revoke(_ context.Context, id string, at time.Time) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	r, ok := b.records[id]
	if !ok {
		return auth.ErrNotFound
	}
	if r.RevokedAt.IsZero() {
		r.RevokedAt = at
		b.records[id] = r
	}
	return nil
}

// List implements [auth.Backend].
func (b *Backend) List(_ context.Context, f auth.Filter) ([]auth.Key, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var keys []auth.Key
	for _, r := range b.records {
		if (f.Project == "" || r.Project == f.Project) && (f.Role == "" || r.Role == f.Role) && (f.Before == "" || r.ID < f.Before) {
			keys = append(keys, clone(r.Key))
		}
	}
	slices.SortFunc(keys, func(a, b auth.Key) int { return cmp.Compare(b.ID, a.ID) })
	return keys[:min(f.Limit, len(keys))], nil
}

func clone(k auth.Key) auth.Key {
	k.Pools = slices.Clone(k.Pools)
	return k
}
