package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/slipway-build/slipway/queue"
)

// pageLimit is how long a page of a list, or statistics, may take, in milliseconds.
const pageLimit = 5

// runMillion measures reading, and cleaning up, a long history.
func runMillion(ctx context.Context, b *bench) error {
	var all [][]finding
	for range b.runs {
		found, err := b.millionRun(ctx)
		if err != nil {
			return err
		}
		all = append(all, found)
	}
	return b.report.findings(medians(all)...)
}

// medians are the findings of one run after the other, put together.
func medians(runs [][]finding) []finding {
	var all []finding
	for i, f := range runs[0] {
		for _, found := range runs {
			f.Runs = append(f.Runs, found[i].Value)
		}
		f.Value = median(f.Runs)
		all = append(all, f)
	}
	return all
}

func (b *bench) millionRun(ctx context.Context) ([]finding, error) {
	db, side, err := b.slipway(ctx, "million", queue.Options{})
	if err != nil {
		return nil, err
	}
	defer b.server.drop(context.WithoutCancel(ctx), db.name) //nolint:errcheck // the server itself goes soon
	defer db.pool.Close()
	begin := time.Now()
	if err := fillHistory(ctx, db, b.sizes.history); err != nil {
		return nil, err
	}
	b.progress("million: %d builds inserted in %v", b.sizes.history, time.Since(begin).Round(time.Second))
	var found []finding
	for _, r := range readings(side.queue) {
		times, err := r.measure(ctx, b.sizes.readings)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", r.name, err)
		}
		for _, p := range []float64{50, 99} {
			found = append(found, finding{
				Figure: fmt.Sprintf("million.%s.p%v", r.name, p), Unit: "ms", Value: percentile(times, p), Limit: new(float64(pageLimit)),
			})
		}
	}
	cleaned, err := b.retention(ctx, db, side)
	return append(found, cleaned...), err
}

// A reading is a kind of read, with arguments at random.
type reading struct {
	name string
	read func(ctx context.Context, random *rand.Rand, now time.Time) error
}

// measure reads so many times and returns how many milliseconds each took, a few at the begin apart.
func (r *reading) measure(ctx context.Context, times int) (took []float64, err error) {
	random := rand.New(rand.NewPCG(1, 2))
	now := time.Now()
	const warmUp = 10
	for i := range warmUp + times {
		begin := time.Now()
		if err := r.read(ctx, random, now); err != nil {
			return nil, err
		}
		if i >= warmUp {
			took = append(took, time.Since(begin).Seconds()*1e3)
		}
	}
	return took, nil
}

// readings are lists and statistics. Half of the pages begin at the newest build, and half anywhere.
func readings(q *queue.Queue) []reading {
	list := func(name string, filter func(random *rand.Rand, now time.Time) queue.Filter) reading {
		return reading{"list." + name, func(ctx context.Context, random *rand.Rand, now time.Time) error {
			f := filter(random, now)
			if random.IntN(2) == 0 && f.Before.IsZero() {
				f.Before = queue.IDAt(historyTime(now, random.Float64()))
			}
			_, err := q.List(ctx, f)
			return err
		}}
	}
	stats := func(name string, project func(random *rand.Rand) string) reading {
		return reading{"stats." + name, func(ctx context.Context, random *rand.Rand, now time.Time) error {
			_, err := q.Stats(ctx, project(random), now.AddDate(0, 0, -30), now)
			return err
		}}
	}
	return []reading{
		list("project", func(random *rand.Rand, _ time.Time) queue.Filter {
			return queue.Filter{Project: someProject(random)}
		}),
		list("state", func(random *rand.Rand, _ time.Time) queue.Filter {
			return queue.Filter{AllProjects: true, States: someStates(random)}
		}),
		list("project-state", func(random *rand.Rand, _ time.Time) queue.Filter {
			return queue.Filter{Project: someProject(random), States: someStates(random)}
		}),
		list("worker", func(random *rand.Rand, _ time.Time) queue.Filter {
			return queue.Filter{AllProjects: true, Worker: fmt.Sprintf("worker-%d", random.IntN(historyWorkers))}
		}),
		list("time", func(random *rand.Rand, now time.Time) queue.Filter {
			from := historyTime(now, random.Float64())
			return queue.Filter{AllProjects: true, Since: queue.IDAt(from), Before: queue.IDAt(from.Add(time.Hour))}
		}),
		list("project-time", func(random *rand.Rand, now time.Time) queue.Filter {
			from := historyTime(now, random.Float64())
			return queue.Filter{Project: someProject(random), Since: queue.IDAt(from), Before: queue.IDAt(from.AddDate(0, 0, 1))}
		}),
		stats("project", someProject),
		stats("all", func(*rand.Rand) string { return "" }),
	}
}

// someProject is any of the projects, large or small.
func someProject(random *rand.Rand) string {
	return fmt.Sprintf("project-%d", random.IntN(historyProjects))
}

// someStates are one state or, now and then, two.
func someStates(random *rand.Rand) []queue.State {
	all := queue.States()
	random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all[:1+random.IntN(5)/4]
}
