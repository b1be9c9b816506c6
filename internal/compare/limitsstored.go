package main

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// openSQL counts the builds of each key that have not ended, and those of them that use up room: 1 is queued, 4 cancelling.
const openSQL = `
SELECT limit_key, count(*), count(*) FILTER (WHERE state BETWEEN 1 AND 4)
FROM slipway.build WHERE finished_at IS NULL GROUP BY limit_key`

// look asks the database again and again, until ctx ends.
func (r *limitsRun) look(ctx context.Context) error {
	for {
		rows, err := r.db.pool.Query(ctx, openSQL)
		if err != nil {
			return err
		}
		open := make(map[string]int)
		admitted := make(map[string]int)
		var key string
		var all, used int
		if _, err := pgx.ForEachRow(rows, []any{&key, &all, &used}, func() error {
			open[key], admitted[key] = all, used
			return nil
		}); err != nil {
			return err
		}
		r.mu.Lock()
		r.open = open
		for key, n := range admitted {
			r.admitted[key] = max(r.admitted[key], n)
		}
		r.looks++
		r.mu.Unlock()
		if err := pause(ctx, limitLook); err != nil {
			return err
		}
	}
}

// drain waits until every build has ended, but not forever.
func (r *limitsRun) drain(ctx context.Context) error {
	for end := time.Now().Add(limitPatience); time.Now().Before(end); {
		if n, err := r.unended(ctx); err != nil || n == 0 {
			return err
		}
		if err := pause(ctx, limitLook); err != nil {
			return err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.progress("limits: not ended, by key: %v", r.open)
	return nil
}

func (r *limitsRun) unended(ctx context.Context) (n int, err error) {
	err = r.db.pool.QueryRow(ctx, slipwayContender().unended).Scan(&n)
	return n, err
}

// left counts the builds that have not ended, and what is used of the limits.
func (r *limitsRun) left(ctx context.Context) (int, error) {
	n, err := r.unended(ctx)
	if err != nil {
		return 0, err
	}
	limits, err := r.side.queue.Limits(ctx, slipwayProject, "", limitKeys)
	for _, l := range limits {
		n += l.Used
	}
	return n, err
}
