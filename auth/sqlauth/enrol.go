package sqlauth

import (
	"context"
	"time"

	"github.com/slipway-build/slipway/auth"
)

const nowSQL = `SELECT {micros}`

// Now implements [auth.Backend].
func (b *Backend) Now(ctx context.Context) (time.Time, error) {
	ctx, cancel := b.deadline(ctx)
	defer cancel()
	var micros int64
	if err := b.db.NewRaw(b.clock).Scan(ctx, &micros); err != nil {
		return time.Time{}, err
	}
	return time.UnixMicro(micros).UTC(), nil
}

// goodSQL is what an enroller t must be, of which n.used uses are spent.
const goodSQL = `t.role = 'enroller' AND t.revoked_at IS NULL AND t.expires_at > {now} AND n.used < t.uses`

// takenSQL tells whether a worker has a good key.
const takenSQL = `EXISTS (SELECT 1 FROM {schema}.auth_key AS t
	WHERE t.worker = ?worker AND t.role = 'worker' AND t.revoked_at IS NULL AND (t.expires_at IS NULL OR t.expires_at > {now}))`

const usedSQL = `(SELECT count(*) AS used FROM {schema}.auth_key WHERE enrolled_by = ?enrolled_by) AS n`

// enrolSQL spends a use, unless there is none. Of statements at once that count the same uses, the index on enrolled_nth lets one through.
const enrolSQL = `INSERT INTO {schema}.auth_key (id, kind, hash, name, role, project, pools, worker, created_at, enrolled_by, enrolled_nth)
SELECT ?id, ?kind, ?hash, ?name, ?role, '', t.pools, ?worker, {now}, t.id, n.used
FROM {schema}.auth_key AS t CROSS JOIN ` + usedSQL + `
WHERE t.id = ?enrolled_by AND ` + goodSQL + ` AND NOT ` + takenSQL + `
ON CONFLICT DO NOTHING`

// refusalSQL tells why enrolSQL did nothing. If it is for none of these reasons, it met another statement at the same moment.
const refusalSQL = `SELECT ` + goodSQL + ` AS good,
	` + takenSQL + ` OR EXISTS (SELECT 1 FROM {schema}.auth_key WHERE enrolled_by = ?enrolled_by AND hash = ?hash AND revoked_at IS NULL) AS taken,
	EXISTS (SELECT 1 FROM {schema}.auth_key WHERE id = ?id) AS conflict
FROM {schema}.auth_key AS t CROSS JOIN ` + usedSQL + ` WHERE t.id = ?enrolled_by`

type refusal struct {
	Good, Taken, Conflict bool
}

// Enrol implements [auth.Backend].
func (b *Backend) Enrol(ctx context.Context, r auth.Record) (auth.Key, error) {
	ctx, cancel := b.deadline(ctx)
	defer cancel()
	w := newRow(r)
	for {
		if _, err := b.db.NewRaw(b.enrol, w).Exec(ctx); err != nil {
			return auth.Key{}, err
		}
		// Whether this call or an earlier one has stored the key.
		var rows []row
		err := b.db.NewSelect().Model(&rows).ModelTableExpr(b.table+" AS k").
			Where("enrolled_by = ?", w.EnrolledBy).Where("hash = ?", w.Hash).Where("worker = ?", w.Worker).Where("revoked_at IS NULL").Scan(ctx)
		if err != nil {
			return auth.Key{}, err
		}
		if len(rows) > 0 {
			stored, err := rows[0].record()
			return stored.Key, err
		}
		var why []refusal
		if err := b.db.NewRaw(b.refusal, w).Scan(ctx, &why); err != nil {
			return auth.Key{}, err
		}
		switch {
		case len(why) == 0 || !why[0].Good:
			return auth.Key{}, auth.ErrNotFound
		case why[0].Taken:
			return auth.Key{}, auth.ErrTaken
		case why[0].Conflict:
			return auth.Key{}, auth.ErrConflict
		}
	}
}
