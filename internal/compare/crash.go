package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/slipway-build/slipway/queue"
)

const (
	crashSubmitters = 4
	crashWorkers    = 3
	crashSlots      = 8
	crashConns      = 6
	// crashBuild is how long a build takes on average.
	crashBuild = 30 * time.Millisecond
	// crashPatience is how long everything may take.
	crashPatience = 10 * time.Minute
)

// crashOptions are of every process: times so short that the server may be stopped for longer. A worker that cannot tell that it lives gives
// its builds up, which costs an attempt; there are enough of those.
var crashOptions = queue.Options{
	ControllerTTL: 3 * time.Second, Grace: 5 * time.Second, Avoid: 100 * time.Millisecond, MaxAttempts: queue.MaxMaxAttempts,
	Backoff: queue.Backoff{Base: 50 * time.Millisecond, Max: time.Second},
}

// crashStop is how long the server is stopped: until every process counts as dead, for the grace after that, and for a while more.
var crashStop = crashOptions.ControllerTTL + crashOptions.Grace + 2*time.Second

// runCrash kills the server again and again while builds are submitted and run, stops it for longer than the grace, and holds what is stored
// in the end against what submitters and workers were told.
func runCrash(ctx context.Context, b *bench) error {
	ctx, cancel := context.WithTimeout(ctx, crashPatience*time.Duration(b.runs))
	defer cancel()
	var runs [][]finding
	for range b.runs {
		found, err := b.crashRun(ctx)
		if err != nil {
			return err
		}
		runs = append(runs, found)
	}
	all := medians(runs)
	for i, f := range all {
		if f.Limit != nil {
			all[i] = worst(f.Figure, f.Unit, f.Runs, f.Limit)
		}
	}
	return b.report.findings(all...)
}

func (b *bench) crashRun(ctx context.Context) ([]finding, error) {
	db, side, err := b.slipway(ctx, "crash", crashOptions)
	if err != nil {
		return nil, err
	}
	defer db.pool.Close()
	l := newCrashLoad(db, side)
	working, enough := context.WithCancel(ctx)
	defer enough()
	group, groupCtx := errgroup.WithContext(working)
	var submitters errgroup.Group
	var over atomic.Bool
	group.Go(func() error { return side.keep(groupCtx) })
	for i := range crashWorkers {
		group.Go(func() error { return l.work(groupCtx, fmt.Sprintf("worker-%d", i)) })
	}
	for i := range crashSubmitters {
		submitters.Go(func() error { return l.submit(groupCtx, i, &over) })
	}
	group.Go(func() error {
		defer enough()
		err := b.crashes(groupCtx, l)
		over.Store(true)
		return errors.Join(err, submitters.Wait(), l.drain(groupCtx))
	})
	if err := group.Wait(); err != nil {
		return nil, fmt.Errorf("crash: %w", err)
	}
	return l.settle(ctx, b.sizes.crashes)
}

// crashes kills the server, so many times, and stops it once, each time after it has worked for a while.
func (b *bench) crashes(ctx context.Context, l *crashLoad) error {
	for n := range b.sizes.crashes {
		if err := l.more(ctx, b.sizes.crashBuilds); err != nil {
			return err
		}
		if err := b.server.crash(ctx); err != nil {
			return err
		}
		begin := time.Now()
		if err := b.server.restart(ctx); err != nil {
			return err
		}
		b.progress("crash %d: after %d builds, recovered in %v", n+1, l.ended.Load(), time.Since(begin).Round(time.Millisecond))
	}
	if err := l.more(ctx, b.sizes.crashBuilds); err != nil {
		return err
	}
	if err := b.server.cluster.Kill(); err != nil {
		return err
	}
	if err := pause(ctx, crashStop); err != nil {
		return err
	}
	if err := b.server.restart(ctx); err != nil {
		return err
	}
	b.progress("crash: stopped for %v after %d builds", crashStop, l.ended.Load())
	// After the grace, and not before, somebody may sweep.
	if err := pause(ctx, crashOptions.Grace+2*time.Second); err != nil {
		return err
	}
	return l.more(ctx, b.sizes.crashBuilds)
}

// crash ends all processes of the server as kill -9 does. The first that dies takes others with it.
func (s *server) crash(ctx context.Context) error {
	var pids []int
	err := insist(ctx, func() error {
		return s.admin.QueryRow(ctx, `
			SELECT array_prepend(split_part(pg_read_file('postmaster.pid'), E'\n', 1)::int, array_agg(pid)) FROM pg_stat_activity`).Scan(&pids)
	})
	for _, pid := range pids {
		_ = syscall.Kill(pid, syscall.SIGKILL) // it may be gone
	}
	return err
}

// restart starts the server. As long as processes are left of the one before, it does not start.
func (s *server) restart(ctx context.Context) error {
	return insist(ctx, func() error { return s.cluster.Restart(ctx) })
}

// insist makes a call until it succeeds or ctx ends.
func insist(ctx context.Context, call func() error) error {
	for {
		err := call()
		if err == nil {
			return nil
		}
		if pause(ctx, 50*time.Millisecond) != nil {
			return errors.Join(ctx.Err(), err)
		}
	}
}
