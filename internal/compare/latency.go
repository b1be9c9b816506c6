package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// submitters is how many submits may be under way at once; none waits for another unless all are.
	submitters = 16
	warmUps    = 32
	// patience is how long the last builds may take to start.
	patience = 10 * time.Second
)

// latencyFamilies are how long builds wait for idle workers.
func latencyFamilies(b *bench) []family {
	var all []family
	for _, pace := range []pace{{rate: 50, length: b.sizes.slow}, {rate: 500, length: b.sizes.fast}} {
		all = append(all, latencyFamily(pace, "here"), latencyFamily(pace, "there"))
	}
	return all
}

// latencyFamily has the submitters in the process of the workers, here, or in another, there.
func latencyFamily(p pace, where string) family {
	bare, target, measure := "bare", 8.0, submitHere
	if where == "there" {
		bare, target, measure = "bare-notify", 4, submitThere
	}
	f := family{
		name: fmt.Sprintf("latency.%d.%s", p.rate, where),
		contenders: []contender{
			slipwayContender(), riverContender(riverDefaults), riverContender(riverTuned), bareContender(where == "there"),
		},
		limit: p.length + time.Minute,
		measure: func(ctx context.Context, t *trial) (values, error) {
			p := p
			p.seed = uint64(t.run)
			return measureLatency(ctx, t, p, measure)
		},
	}
	for _, river := range []string{riverDefaults.name, riverTuned.name} {
		against := map[string]string{riverDefaults.name: "default", riverTuned.name: "tuned"}[river]
		for _, value := range []string{"p50", "p99"} {
			name := fmt.Sprintf("%s.%s.%s", f.name, value, against)
			f.figures = append(f.figures,
				figure{name: name, unit: "ms", value: value, slow: true, river: river, bare: bare, target: target},
				figure{name: name + ".from-call", unit: "ms", value: value + ".from-call", slow: true, river: river, bare: bare})
		}
	}
	return f
}

// A pace says when orders are submitted: at random times, rate of them a second. The same seed gives the same times.
type pace struct {
	rate   int
	length time.Duration
	seed   uint64
}

func (p *pace) total() int { return int(float64(p.rate) * p.length.Seconds()) }

// A submission is when the submit of an order was called and when it returned, in nanoseconds since 1970. So is the time at which it
// started, which may be told by another process on this machine.
type submission struct{ Called, Returned int64 }

// submit submits orders at the pace and returns when it did.
func (p *pace) submit(ctx context.Context, s side) ([]submission, error) {
	for range warmUps {
		if err := s.submit(ctx, newOrder(unnumbered)); err != nil {
			return nil, err
		}
	}
	times := make([]submission, p.total())
	turns := make(chan int, len(times))
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		defer close(turns)
		return p.each(ctx, func(i int) { turns <- i })
	})
	for range submitters {
		group.Go(func() error {
			for i := range turns {
				called := time.Now().UnixNano()
				if err := s.submit(ctx, newOrder(int64(i))); err != nil {
					return err
				}
				times[i] = submission{Called: called, Returned: time.Now().UnixNano()}
			}
			return nil
		})
	}
	return times, group.Wait()
}

// each calls f at each of the times.
func (p *pace) each(ctx context.Context, f func(i int)) error {
	random := rand.New(rand.NewPCG(p.seed, uint64(p.rate)))
	timer := time.NewTimer(0)
	defer timer.Stop()
	next := time.Now()
	for i := range p.total() {
		next = next.Add(time.Duration(random.ExpFloat64() / float64(p.rate) * float64(time.Second)))
		timer.Reset(time.Until(next))
		select {
		case <-timer.C:
			f(i)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// measureLatency has the side consume while orders are submitted.
func measureLatency(
	ctx context.Context, t *trial, p pace, submit func(context.Context, *trial, pace) ([]submission, error),
) (values, error) {
	starts := make([]atomic.Int64, p.total())
	var started atomic.Int64
	all := make(chan struct{})
	watch := watcher{
		started: func(n int64) {
			now := time.Now().UnixNano()
			if n < 0 || n >= int64(len(starts)) || !starts[n].CompareAndSwap(0, now) {
				return
			}
			if started.Add(1) == int64(len(starts)) {
				close(all)
			}
		},
		ended: func(int) {},
	}
	if err := t.db.settle(ctx); err != nil {
		return nil, err
	}
	consuming, enough := context.WithCancel(ctx)
	defer enough()
	group, groupCtx := errgroup.WithContext(consuming)
	group.Go(func() error { return t.side.consume(groupCtx, watch) })
	var submissions []submission
	group.Go(func() (err error) {
		defer enough()
		if submissions, err = submit(groupCtx, t, p); err != nil {
			return err
		}
		return within(groupCtx, patience, all)
	})
	if err := group.Wait(); err != nil {
		return nil, fmt.Errorf("%d of %d builds started: %w", started.Load(), len(starts), err)
	}
	return latencies(submissions, starts), nil
}

func submitHere(ctx context.Context, t *trial, p pace) ([]submission, error) {
	return p.submit(ctx, t.side)
}

// latencies sums up how long orders took from their submissions to their starts. One that started before the answer to its submit
// arrived did not wait.
func latencies(submissions []submission, starts []atomic.Int64) values {
	var waits, whole []float64
	for i, s := range submissions {
		const ms = 1e6
		waits = append(waits, float64(max(0, starts[i].Load()-s.Returned))/ms)
		whole = append(whole, float64(starts[i].Load()-s.Called)/ms)
	}
	return values{
		"p50": percentile(waits, 50), "p99": percentile(waits, 99),
		"p50.from-call": percentile(whole, 50), "p99.from-call": percentile(whole, 99),
	}
}

// within waits for done for a limited time.
func within(ctx context.Context, limit time.Duration, done <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
