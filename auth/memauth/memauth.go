package memauth

import (
	"cmp"
	"context"
	"crypto/subtle"
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

// Now implements [auth.Backend].
func (*Backend) Now(context.Context) (time.Time, error) { return now(), nil }

// now is the time as keys have it.
func now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }

// Enrol implements [auth.Backend].
func (b *Backend) Enrol(_ context.Context, r auth.Record) (auth.Key, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	at := now()
	used, taken := 0, false
	for _, other := range b.records {
		if other.EnrolledBy == r.EnrolledBy {
			used++
		}
		expired := !other.ExpiresAt.IsZero() && !at.Before(other.ExpiresAt)
		if other.Role != auth.Worker || expired || !other.RevokedAt.IsZero() {
			continue
		}
		same := other.EnrolledBy == r.EnrolledBy && subtle.ConstantTimeCompare(other.Hash[:], r.Hash[:]) == 1
		if same && other.Worker == r.Worker {
			return clone(other.Key), nil
		}
		taken = taken || same || other.Worker == r.Worker
	}
	enroller := b.records[r.EnrolledBy]
	switch _, exists := b.records[r.ID]; {
	case enroller.Role != auth.Enroller, !enroller.RevokedAt.IsZero(), !at.Before(enroller.ExpiresAt), used >= enroller.Uses:
		return auth.Key{}, auth.ErrNotFound
	case taken:
		return auth.Key{}, auth.ErrTaken
	case exists:
		return auth.Key{}, auth.ErrConflict
	}
	r.CreatedAt, r.Pools = at, slices.Clone(enroller.Pools)
	b.records[r.ID] = r
	return clone(r.Key), nil
}

func clone(k auth.Key) auth.Key {
	k.Pools = slices.Clone(k.Pools)
	return k
}
