package sqlauth

import (
	"context"
	"time"

	"github.com/uptrace/bun"

	"github.com/slipway-build/slipway/auth"
	"github.com/slipway-build/slipway/internal/together"
)

// When a controller is started thousands of workers come back to it at once. Their keys are looked up, and the uses of them noted, together;
// whoever comes alone waits for nobody.
var (
	lookupLimits = together.Limits[string]{Calls: 1, Most: 500, Gather: 5 * time.Millisecond}
	touchLimits  = together.Limits[use]{Calls: 1, Most: 500, Gather: 50 * time.Millisecond}
)

// A looked is what was found under an id.
type looked struct {
	record auth.Record
	err    error
}

// A use is that of a key.
type use struct {
	id string
	at time.Time
}

// Lookup implements [auth.Backend].
func (b *Backend) Lookup(ctx context.Context, id string) (auth.Record, error) {
	ctx, cancel := b.deadline(ctx)
	defer cancel()
	found, err := b.lookups.Do(ctx, id)
	if err != nil {
		return auth.Record{}, err
	}
	return found.record, found.err
}

func (b *Backend) lookUp(ctx context.Context, ids []string) ([]looked, error) {
	ctx, cancel := b.deadline(ctx)
	defer cancel()
	var rows []row
	if err := b.db.NewSelect().Model(&rows).ModelTableExpr(b.table+" AS k").Where("id IN (?)", bun.List(ids)).Scan(ctx); err != nil {
		return nil, err
	}
	byID := make(map[string]looked, len(rows))
	for i := range rows {
		record, err := rows[i].record()
		byID[rows[i].ID] = looked{record, err}
	}
	found := make([]looked, len(ids))
	for i, id := range ids {
		one, ok := byID[id]
		if !ok {
			one.err = auth.ErrNotFound
		}
		found[i] = one
	}
	return found, nil
}

// touchSQL passes over a key that somebody else notes the use of.
const touchSQL = `WITH used AS MATERIALIZED (
	SELECT id FROM {schema}.auth_key WHERE id IN (?1) AND (last_used_at IS NULL OR last_used_at < ?0) ORDER BY id {lock}
)
UPDATE {schema}.auth_key SET last_used_at = ?0 WHERE id IN (SELECT id FROM used)`

// Touch implements [auth.Backend]. Uses that are noted together are so with the time of the last.
func (b *Backend) Touch(ctx context.Context, id string, at time.Time) error {
	ctx, cancel := b.deadline(ctx)
	defer cancel()
	_, err := b.touches.Do(ctx, use{id, at})
	return err
}

func (b *Backend) touchAll(ctx context.Context, uses []use) ([]struct{}, error) {
	ctx, cancel := b.deadline(ctx)
	defer cancel()
	ids, at := make([]string, len(uses)), uses[0].at
	for i, u := range uses {
		ids[i] = u.id
		if u.at.After(at) {
			at = u.at
		}
	}
	if _, err := b.db.ExecContext(ctx, b.touch, at, bun.List(ids)); err != nil {
		return nil, err
	}
	return make([]struct{}, len(uses)), nil
}
