package main

import (
	"context"
	"fmt"
	"time"

	"github.com/slipway-build/slipway/queue"
)

const (
	// retentionRate is how many builds a second are submitted while others are deleted.
	retentionRate  = 200
	retentionSlots = 64
	// retentionPatience is how long it may take.
	retentionPatience = 20 * time.Minute
)

// retention has a process delete what ended long ago while builds are claimed, and compares claims from before with claims during that.
func (b *bench) retention(ctx context.Context, db *database, side *slipwaySide) ([]finding, error) {
	ctx, cancel := context.WithTimeout(ctx, retentionPatience)
	defer cancel()
	var begin time.Time
	var took time.Duration
	load := pace{rate: retentionRate, length: retentionPatience}
	claims, err := underLoad(ctx, side, retentionSlots, load, func(ctx context.Context) error {
		if err := pause(ctx, b.sizes.calm); err != nil {
			return err
		}
		begin = time.Now()
		err := b.retire(ctx, db)
		took = time.Since(begin)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("retention: %w", err)
	}
	wrong, err := wronglyKept(ctx, db, b.sizes.history/10)
	if err != nil {
		return nil, err
	}
	before, during := p99Between(claims, begin.Add(-b.sizes.calm*3/4), b.sizes.calm*3/4), p99Between(claims, begin, took)
	return []finding{
		{Figure: "million.retention.rate", Unit: "builds deleted per second", Value: float64(b.sizes.history) * 0.9 / took.Seconds()},
		{Figure: "million.retention.p99.before", Unit: "ms per claim", Value: before},
		{Figure: "million.retention.p99.during", Unit: "ms per claim", Value: during},
		{Figure: "million.retention.p99.ratio", Unit: "during to before", Value: during / before, Limit: new(3.0)},
		{Figure: "million.retention.wrong", Unit: "rows kept or deleted against the rules", Value: wrong, Limit: new(0.0)},
	}, nil
}

// retire runs a queue that deletes builds until none is left to delete.
func (b *bench) retire(ctx context.Context, db *database) error {
	side, err := openSlipway(db.pool, queue.Options{Retention: historyKept * 24 * time.Hour})
	if err != nil {
		return err
	}
	leave := inBackground(ctx, side.keep)
	for left := true; left && err == nil; {
		const sql = `SELECT EXISTS (SELECT FROM slipway.build WHERE finished_at < now() - $1::interval)`
		if err = pause(ctx, 50*time.Millisecond); err == nil {
			err = db.pool.QueryRow(ctx, sql, fmt.Sprintf("%d days", historyKept)).Scan(&left)
		}
	}
	if err != nil {
		_ = leave()
		return err
	}
	return leave()
}

// wronglyKept counts builds of the history that were deleted and should not have been, or the other way around, and rows of builds that are
// not there. New builds, which ended in the last hour, are no part of it.
func wronglyKept(ctx context.Context, db *database, kept int) (float64, error) {
	const sql = `
SELECT abs($1 - (SELECT count(*) FROM slipway.build WHERE finished_at < now() - interval '30 minutes'))
	+ (SELECT count(*) FROM slipway.attempt a WHERE NOT EXISTS (SELECT FROM slipway.build b WHERE b.id = a.build_id))
	+ (SELECT count(*) FROM slipway.log_head h WHERE NOT EXISTS (SELECT FROM slipway.build b WHERE b.id = h.build_id))
	+ (SELECT count(*) FROM slipway.log_chunk c WHERE NOT EXISTS (SELECT FROM slipway.build b WHERE b.id = c.build_id))
	+ (SELECT count(*) FROM slipway.artifact a WHERE NOT EXISTS (SELECT FROM slipway.build b WHERE b.id = a.build_id))
	+ (SELECT count(*) FROM slipway.project p WHERE p.artifact_bytes
		<> (SELECT coalesce(sum(a.size), 0) FROM slipway.artifact a WHERE a.project = p.name))`
	var wrong float64
	err := db.pool.QueryRow(ctx, sql, kept).Scan(&wrong)
	return wrong, err
}
