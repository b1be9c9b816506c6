package main

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	batchSize = 1_000
	// copySize is the size of a batch for which one would reach for COPY: the largest that Slipway takes at once.
	copySize = 10_000
)

// enqueueFamilies are how fast builds get into a queue.
func enqueueFamilies(b *bench) []family {
	sides := []contender{slipwayContender(), riverContender(riverDefaults), bareContender(false)}
	rate := func(name, unit string, target float64, measure func(context.Context, *trial) (values, error)) family {
		return family{
			name: name, contenders: sides, measure: measure, limit: 2 * time.Minute,
			figures: []figure{{name: name, unit: unit, value: "rate", river: "river", bare: "bare", target: target}},
		}
	}
	return []family{
		rate("enqueue.1", "builds/s", 1.5, oneByOne(1, side.submit)),
		rate("enqueue.16", "builds/s", 2, oneByOne(16, side.submit)),
		rate("batch", "builds/s in batches of 1,000", 1.5, inBatches(b.sizes.bulk, batchSize, side.submitMany)),
		rate("copy", "builds/s in batches of 10,000", 1.5, inBatches(b.sizes.bulk, copySize, side.submitCopy)),
		rate("enqueue.tx", "transactions/s, one connection", 1.2, oneByOne(1, side.submitTx)),
	}
}

// oneByOne measures how many orders per second a number of goroutines submit, each by a call of its own.
func oneByOne(goroutines int, submit func(side, context.Context, order) error) func(context.Context, *trial) (values, error) {
	run := func(ctx context.Context, t *trial, length time.Duration) (float64, error) {
		var count atomic.Int64
		begin := time.Now()
		group, ctx := errgroup.WithContext(ctx)
		for range goroutines {
			group.Go(func() error {
				for time.Since(begin) < length {
					if err := submit(t.side, ctx, newOrder(count.Add(1))); err != nil {
						return err
					}
				}
				return nil
			})
		}
		err := group.Wait()
		return float64(count.Load()) / time.Since(begin).Seconds(), err
	}
	return func(ctx context.Context, t *trial) (values, error) {
		if _, err := run(ctx, t, t.sizes.enqueue/8); err != nil {
			return nil, err
		}
		if err := t.db.settle(ctx); err != nil {
			return nil, err
		}
		rate, err := run(ctx, t, t.sizes.enqueue)
		return values{"rate": rate}, err
	}
}

// inBatches measures how many orders per second one goroutine submits, many with each call.
func inBatches(total, size int, submit func(side, context.Context, []order) error) func(context.Context, *trial) (values, error) {
	size = min(size, total)
	total -= total % size
	batch := orders(size)
	return func(ctx context.Context, t *trial) (values, error) {
		for range 2 {
			if err := submit(t.side, ctx, batch); err != nil {
				return nil, err
			}
		}
		if err := t.db.settle(ctx); err != nil {
			return nil, err
		}
		begin := time.Now()
		for range total / size {
			if err := submit(t.side, ctx, batch); err != nil {
				return nil, err
			}
		}
		return values{"rate": float64(total) / time.Since(begin).Seconds()}, nil
	}
}

// load submits so many orders that others will measure.
func (t *trial) load(ctx context.Context, total int) error {
	for batch := range slices.Chunk(orders(total), batchSize) {
		if err := t.side.submitMany(ctx, batch); err != nil {
			return err
		}
	}
	return nil
}
