package main

import (
	"context"
	"time"
)

// footprintFamily is what a build leaves behind in the server, from its submit in a batch to its end.
func footprintFamily() family {
	one := func(name, unit string, target float64) figure {
		return figure{name: name, unit: unit, value: name, slow: true, river: riverBurning.name, bare: "bare", target: target}
	}
	return family{
		name:       "footprint",
		contenders: []contender{slipwayContender(), riverContender(riverBurning), bareContender(false)},
		limit:      5 * time.Minute,
		figures: []figure{
			one("wal", "bytes of WAL per build", 1),
			one("dead", "dead tuples per build, without autovacuum", 1),
			one("changes", "updated and deleted tuples per build", 0),
		},
		measure: measureFootprint,
	}
}

const (
	walSQL = `SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::float8`
	// deadSQL counts the tables of a user, not those that the server keeps for itself.
	deadSQL = `SELECT coalesce(sum(n_dead_tup), 0)::float8, coalesce(sum(n_tup_upd + n_tup_del), 0)::float8 FROM pg_stat_user_tables`
)

func measureFootprint(ctx context.Context, t *trial) (values, error) {
	if err := t.server.autovacuum(ctx, false); err != nil {
		return nil, err
	}
	defer t.server.autovacuum(context.WithoutCancel(ctx), true) //nolint:errcheck // the next to measure this will say so
	if err := t.db.settle(ctx); err != nil {
		return nil, err
	}
	total := t.sizes.footprint
	var before, after float64
	if err := t.server.admin.QueryRow(ctx, walSQL).Scan(&before); err != nil {
		return nil, err
	}
	if err := t.load(ctx, total); err != nil {
		return nil, err
	}
	if _, err := t.burn(ctx, total); err != nil {
		return nil, err
	}
	if err := t.server.admin.QueryRow(ctx, walSQL).Scan(&after); err != nil {
		return nil, err
	}
	// A connection tells its counts when it is closed.
	if err := t.leave(); err != nil {
		return nil, err
	}
	if err := t.server.leave(ctx, t.db); err != nil {
		return nil, err
	}
	pool, err := openPool(ctx, t.db.url, 1)
	if err != nil {
		return nil, err
	}
	defer pool.Close()
	var dead, changes float64
	if err := pool.QueryRow(ctx, deadSQL).Scan(&dead, &changes); err != nil {
		return nil, err
	}
	n := float64(total)
	return values{"wal": (after - before) / n, "dead": dead / n, "changes": changes / n}, nil
}

// autovacuum switches the server's own vacuuming on or off.
func (s *server) autovacuum(ctx context.Context, on bool) error {
	sql := `ALTER SYSTEM SET autovacuum = off`
	if on {
		sql = `ALTER SYSTEM RESET autovacuum`
	}
	for _, sql := range []string{sql, `SELECT pg_reload_conf()`} {
		if _, err := s.admin.Exec(ctx, sql); err != nil {
			return err
		}
	}
	return nil
}
