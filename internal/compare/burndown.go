package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"
)

// burndownFamily is how fast one process starts and ends builds that do nothing.
func burndownFamily() family {
	return family{
		name:       "burndown",
		contenders: []contender{slipwayContender(), riverContender(riverBurning), bareContender(false)},
		limit:      5 * time.Minute,
		figures: []figure{
			{name: "burndown", unit: "builds/s", value: "rate", river: riverBurning.name, bare: "bare", target: 1},
		},
		measure: func(ctx context.Context, t *trial) (values, error) {
			if err := t.load(ctx, t.sizes.burndown); err != nil {
				return nil, err
			}
			if err := t.db.settle(ctx); err != nil {
				return nil, err
			}
			took, err := t.burn(ctx, t.sizes.burndown)
			return values{"rate": float64(t.sizes.burndown) / took.Seconds()}, err
		},
	}
}

// burn has the side start and end all of the builds that wait, and returns how long that took: from nobody being there to the end of
// the last build.
func (t *trial) burn(ctx context.Context, total int) (time.Duration, error) {
	begin := time.Now()
	var count, started, took atomic.Int64
	err := t.side.consume(ctx, watcher{
		total:   total,
		started: func(int64) { started.Add(1) },
		ended: func(builds int) {
			if count.Add(int64(builds)) == int64(total) {
				took.Store(int64(time.Since(begin)))
			}
		},
	})
	if err != nil {
		return 0, err
	}
	if took.Load() == 0 {
		return 0, fmt.Errorf("%d of %d builds ended, %d started: %w", count.Load(), total, started.Load(), context.Cause(ctx))
	}
	var left int
	if err := t.db.pool.QueryRow(ctx, t.contender.unended).Scan(&left); err != nil {
		return 0, err
	}
	if left > 0 {
		return 0, fmt.Errorf("%d builds have not ended, whatever was said", left)
	}
	return time.Duration(took.Load()), nil
}
