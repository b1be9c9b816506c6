package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"
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
	for _, f := range []finding{
		{Figure: "snapshot.p99.start", Unit: "ms per claim", Value: median(starts), Runs: starts},
		{Figure: "snapshot.p99.end", Unit: "ms per claim", Value: median(ends), Runs: ends},
		{Figure: "snapshot.p99.ratio", Unit: "end to start", Value: median(ratios), Limit: 2, Runs: ratios},
	} {
		if err := b.report.finding(f); err != nil {
			return err
		}
	}
	return nil
}

// snapshotRun returns the 99th percentiles of claims in the first and in the last sixth of the time that the snapshot is held.
func (b *bench) snapshotRun(ctx context.Context) (start, end float64, err error) {
	db, err := b.server.database(ctx, "compare_snapshot", b.pool)
	if err != nil {
		return 0, 0, err
	}
	defer db.pool.Close()
	if err := migrateSlipway(ctx, db.pool); err != nil {
		return 0, 0, err
	}
	side, err := openSlipway(db.pool)
	if err != nil {
		return 0, 0, err
	}
	c, err := openClaimer(ctx, side, nil)
	if err != nil {
		return 0, 0, err
	}
	if err := db.settle(ctx); err != nil {
		return 0, 0, err
	}
	warmUp, held := b.sizes.snapshot/12, b.sizes.snapshot
	var claims []timedClaim
	var pinned time.Time
	working, enough := context.WithCancel(ctx)
	defer enough()
	group, groupCtx := errgroup.WithContext(working)
	for _, loop := range []func(context.Context) error{side.keep, c.beat, c.finish} {
		group.Go(func() error { return loop(groupCtx) })
	}
	group.Go(func() (err error) {
		claims, err = c.claim(groupCtx, snapshotSlots)
		return err
	})
	group.Go(func() error {
		p := pace{rate: snapshotRate, length: warmUp + held}
		_, err := p.submit(groupCtx, side)
		return err
	})
	group.Go(func() (err error) {
		if pinned, err = pin(groupCtx, db, warmUp, held); err == nil {
			enough()
		}
		return err
	})
	if err := errors.Join(unlessEnded(working, group.Wait()), ctx.Err()); err != nil {
		return 0, 0, fmt.Errorf("snapshot: %w", err)
	}
	return p99Between(claims, pinned, held/6), p99Between(claims, pinned.Add(held-held/6), held/6), nil
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

func p99Between(claims []timedClaim, begin time.Time, length time.Duration) float64 {
	var took []float64
	for _, c := range claims {
		if d := c.at.Sub(begin); d >= 0 && d < length {
			took = append(took, c.took)
		}
	}
	return percentile(took, 99)
}
