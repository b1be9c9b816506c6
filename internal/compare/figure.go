package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// A figure compares one value of two sides.
type figure struct {
	name   string
	unit   string
	value  string // which of the values that its family measures
	slow   bool   // lower values are better
	river  string // the contender that stands for River
	bare   string // the contender that stands for plain SQL
	target float64
}

// ratio is how many times better Slipway is: above 1, it is better.
func (f *figure) ratio(slipway, river float64) float64 {
	if f.slow {
		slipway, river = river, slipway
	}
	if slipway == river {
		return 1
	}
	return slipway / river
}

// A family is figures that are measured together.
type family struct {
	name       string
	contenders []contender
	figures    []figure
	measure    func(ctx context.Context, t *trial) (values, error)
	// limit is how long one contender may take for one measurement.
	limit time.Duration
}

// values are what a trial has measured, by name.
type values map[string]float64

// A trial is one contender's turn at one measurement.
type trial struct {
	*bench
	contender contender
	run       int // counted from 0
	db        *database
	side      side
	// leave ends what goes on in the background.
	leave func() error
}

// samples are all values of a family: by contender, by name, one for each run.
type samples map[string]map[string][]float64

// run lets the contenders of f take turns.
func (f *family) run(ctx context.Context, b *bench) (samples, error) {
	found := make(samples)
	for run := range b.runs {
		turns := slices.Clone(f.contenders)
		if run%2 == 1 {
			slices.Reverse(turns)
		}
		for _, c := range turns {
			measured, err := f.turn(ctx, b, c, run)
			if err != nil {
				return nil, fmt.Errorf("%s of %s: %w", f.name, c.name, err)
			}
			if found[c.name] == nil {
				found[c.name] = make(map[string][]float64)
			}
			for name, value := range measured {
				found[c.name][name] = append(found[c.name][name], value)
			}
			b.progress("run %d  %-12s %-14s %s", run+1, f.name, c.name, measured)
		}
	}
	return found, nil
}

// turn measures one contender once, on a database of its own.
func (f *family) turn(ctx context.Context, b *bench, c contender, run int) (values, error) {
	ctx, cancel := context.WithTimeout(ctx, f.limit)
	defer cancel()
	db, err := b.server.database(ctx, "compare_"+f.name+"_"+c.name, b.pool)
	if err != nil {
		return nil, err
	}
	defer b.server.drop(context.WithoutCancel(ctx), db.name) //nolint:errcheck // the server itself goes soon
	defer db.pool.Close()
	if err := c.migrate(ctx, db.pool); err != nil {
		return nil, err
	}
	if _, err := db.pool.Exec(ctx, ownTable); err != nil {
		return nil, err
	}
	side, err := c.open(db.pool)
	if err != nil {
		return nil, err
	}
	stop, err := b.profile(ctx, f.name, c.name)
	if err != nil {
		return nil, err
	}
	leave := inBackground(ctx, side.keep)
	measured, err := f.measure(ctx, &trial{bench: b, contender: c, run: run, db: db, side: side, leave: leave})
	return measured, errors.Join(err, stop(), leave())
}

// inBackground calls f and returns what ends its context and waits for it.
func inBackground(ctx context.Context, f func(context.Context) error) (end func() error) {
	ctx, cancel := context.WithCancel(ctx)
	var group errgroup.Group
	group.Go(func() error { return unlessEnded(ctx, f(ctx)) })
	return func() error {
		cancel()
		return group.Wait()
	}
}

// String lists values in the order of their names.
func (v values) String() string {
	var texts []string
	for _, name := range slices.Sorted(maps.Keys(v)) {
		texts = append(texts, name+" "+number(v[name]))
	}
	return strings.Join(texts, "  ")
}

// median is the middle value, or the mean of the two in the middle.
func median(all []float64) float64 {
	if len(all) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(all))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// percentile is the smallest value that p percent of all do not exceed.
func percentile(all []float64, p float64) float64 {
	if len(all) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(all))
	return sorted[max(0, int(math.Ceil(p/100*float64(len(sorted))))-1)]
}
