package sqlauth

import (
	"fmt"
	"time"

	"github.com/uptrace/bun"

	"github.com/slipway-build/slipway/auth"
)

// row is a row of auth_key. PostgreSQL keeps pools as an array, SQLite as JSON;
// bun's dialects know that by themselves.
type row struct {
	bun.BaseModel `bun:"table:auth_key,alias:k"`

	ID         string    `bun:"id,pk"`
	Kind       string    `bun:"kind"`
	Hash       []byte    `bun:"hash"`
	Name       string    `bun:"name"`
	Role       string    `bun:"role"`
	Project    string    `bun:"project"`
	Pools      []string  `bun:"pools,array"`
	Worker     string    `bun:"worker"`
	CreatedAt  time.Time `bun:"created_at"`
	ExpiresAt  time.Time `bun:"expires_at,nullzero"`
	RevokedAt  time.Time `bun:"revoked_at,nullzero"`
	LastUsedAt time.Time `bun:"last_used_at,nullzero"`
	Uses       int       `bun:"uses,nullzero"`
	EnrolledBy string    `bun:"enrolled_by,nullzero"`
}

func newRow(r auth.Record) *row {
	return &row{
		ID:         r.ID,
		Kind:       string(r.Kind),
		Hash:       r.Hash[:],
		Name:       r.Name,
		Role:       string(r.Role),
		Project:    r.Project,
		Pools:      append([]string{}, r.Pools...), // nil would be NULL
		Worker:     r.Worker,
		CreatedAt:  r.CreatedAt,
		ExpiresAt:  r.ExpiresAt,
		RevokedAt:  r.RevokedAt,
		LastUsedAt: r.LastUsedAt,
		Uses:       r.Uses,
		EnrolledBy: r.EnrolledBy,
	}
}

func (w *row) record() (auth.Record, error) {
	r := auth.Record{
		Key: auth.Key{
			ID:         w.ID,
			Kind:       auth.Kind(w.Kind),
			Name:       w.Name,
			Role:       auth.Role(w.Role),
			Project:    w.Project,
			Worker:     w.Worker,
			Uses:       w.Uses,
			EnrolledBy: w.EnrolledBy,
			CreatedAt:  w.CreatedAt.UTC(),
			ExpiresAt:  w.ExpiresAt.UTC(),
			RevokedAt:  w.RevokedAt.UTC(),
			LastUsedAt: w.LastUsedAt.UTC(),
		},
	}
	if len(w.Pools) > 0 {
		r.Pools = w.Pools
	}
	if n := copy(r.Hash[:], w.Hash); n != len(r.Hash) || len(w.Hash) != n {
		return auth.Record{}, fmt.Errorf("sqlauth: key %s has a hash of %d bytes", w.ID, len(w.Hash))
	}
	return r, nil
}
