package pgqueue

import (
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/slipway-build/slipway/internal/sqlqueue"
)

// kindColumns returns the arguments of gateSQL.
func (r *newRows) kindColumns() []any {
	projects, pools, labels := make([]string, len(r.kinds)), make([]string, len(r.kinds)), make([]string, len(r.kinds))
	for i, k := range r.kinds {
		projects[i], pools[i], labels[i] = k.project, k.pool, k.labels
	}
	return []any{projects, pools, labels}
}

// columns returns the arguments of submitManySQL.
func (r *newRows) columns(now time.Time) []any {
	rows := r.rows
	return append(append([]any{present(now)}, r.kindColumns()...),
		column(rows, func(r *newRow) pgtype.UUID { return uuid(r.ID) }),
		column(rows, func(r *newRow) int32 { return int32(r.kind) + 1 }),
		column(rows, func(r *newRow) string { return r.Project }),
		column(rows, func(r *newRow) string { return r.Pool }),
		column(rows, func(r *newRow) string { return r.labels }),
		column(rows, func(r *newRow) []byte { return append([]byte{}, r.Spec...) }),
		column(rows, func(r *newRow) int64 { return r.RunTimeout.Microseconds() }),
		column(rows, func(r *newRow) int32 { return int32(r.MaxAttempts) }),
		column(rows, func(r *newRow) int64 { return r.Backoff.Base.Microseconds() }),
		column(rows, func(r *newRow) int64 { return r.Backoff.Max.Microseconds() }),
		rareBytes(rows, func(r *newRow) []byte {
			if r.Source == nil {
				return []byte{}
			}
			return r.Source.Digest[:]
		}),
		rare(rows, func(r *newRow) int64 {
			if r.Source == nil {
				return 0
			}
			return r.Source.Size
		}),
		rare(rows, func(r *newRow) int64 { return r.QueueTimeout.Microseconds() }),
		rare(rows, func(r *newRow) bool { return r.RetryFailed }),
		rare(rows, func(r *newRow) int16 { return int16(r.Priority) }),
		rare(rows, func(r *newRow) string { return r.ConcurrencyKey }),
		rare(rows, func(r *newRow) string { return r.IdempotencyKey }),
		rareBytes(rows, func(r *newRow) []byte {
			if r.IdempotencyKey == "" {
				return []byte{}
			}
			return r.IdempotencyHash[:]
		}),
		rare(rows, func(r *newRow) string { return sqlqueue.FormatMetadata(r.Metadata) }),
		rare(rows, func(r *newRow) pgtype.UUID { return pgtype.UUID{Bytes: r.RetryOf, Valid: !r.RetryOf.IsZero()} }),
		rare(rows, func(r *newRow) int64 {
			if r.NotBefore.IsZero() {
				return 0
			}
			return r.NotBefore.UnixMicro()
		}),
	)
}

func column[T any](rows []newRow, value func(*newRow) T) []T {
	all := make([]T, len(rows))
	for i := range rows {
		all[i] = value(&rows[i])
	}
	return all
}

// rare is column for what few builds have: it is empty if none has.
func rare[T comparable](rows []newRow, value func(*newRow) T) []T {
	var none T
	for i := range rows {
		if value(&rows[i]) != none {
			return column(rows, value)
		}
	}
	return []T{}
}

func rareBytes(rows []newRow, value func(*newRow) []byte) [][]byte {
	for i := range rows {
		if len(value(&rows[i])) > 0 {
			return column(rows, value)
		}
	}
	return [][]byte{}
}

// perProject counts builds.
func (r *newRows) perProject() (projects []string, counts []int64) {
	rows := r.rows
	for i := range rows { // which are in order of project
		if i == 0 || rows[i].Project != rows[i-1].Project {
			projects, counts = append(projects, rows[i].Project), append(counts, 0)
		}
		counts[len(counts)-1]++
	}
	return projects, counts
}
