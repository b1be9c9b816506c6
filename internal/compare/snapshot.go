package main

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/slipway-build/slipway/queue"
)

const (
	snapshotRate = 1000 // builds a second
	// snapshotSlots is how many builds a claim may bring.
	snapshotSlots = 64
)

// runSnapshot measures claims under a steady load while a transaction keeps the server from cleaning up behind them.
func runSnapshot(ctx context.Context, b *bench) error {
	var starts, ends, ratios []float64
	for run := range b.runs {
		start, end, err := b.snapshotRun(ctx)
		if err != nil {
			return err
		}
		b.progress("run %d  snapshot  p99 %s ms at the start, %s ms at the end", run+1, number(start), number(end))
		starts, ends, ratios = append(starts, start), append(ends, end), append(ratios, end/start)
	}
	return b.report.findings(
		finding{Figure: "snapshot.p99.start", Unit: "ms per claim", Value: median(starts), Runs: starts},
		finding{Figure: "snapshot.p99.end", Unit: "ms per claim", Value: median(ends), Runs: ends},
		finding{Figure: "snapshot.p99.ratio", Unit: "end to start", Value: median(ratios), Limit: new(2.0), Runs: ratios},
	)
}

// snapshotRun returns the 99th percentiles of claims in the first and in the last sixth of the time that the snapshot is held.
func (b *bench) snapshotRun(ctx context.Context) (start, end float64, err error) {
	db, side, err := b.slipway(ctx, "snapshot", queue.Options{})
	if err != nil {
		return 0, 0, err
	}
	defer db.pool.Close()
	if err := db.settle(ctx); err != nil {
		return 0, 0, err
	}
	warmUp, held := b.sizes.snapshot/12, b.sizes.snapshot
	var pinned time.Time
	claims, err := underLoad(ctx, side, snapshotSlots, pace{rate: snapshotRate, length: warmUp + held}, func(ctx context.Context) (err error) {
		pinned, err = pin(ctx, db, warmUp, held)
		return err
	})
	return p99Between(claims, pinned, held/6), p99Between(claims, pinned.Add(held-held/6), held/6), err
}

// pin holds a snapshot for a while, after a while, and returns when it began.
func pin(ctx context.Context, db *database, after, held time.Duration) (pinned time.Time, err error) {
	if err := pause(ctx, after); err != nil {
		return time.Time{}, err
	}
	err = pgx.BeginTxFunc(ctx, db.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead}, func(tx pgx.Tx) error {
		// The first statement takes the snapshot.
		if _, err := tx.Exec(ctx, "SELECT 1"); err != nil {
			return err
		}
		pinned = time.Now()
		return pause(ctx, held)
	})
	return pinned, err
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
