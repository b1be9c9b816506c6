package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/slipway-build/slipway/auth"
	"github.com/slipway-build/slipway/auth/sqlauth"
	"github.com/slipway-build/slipway/queue"
)

const (
	idlePool = "idle"
	// idleTargets is how many of the workers are sent builds.
	idleTargets = 50
	// idleGap is the time between two of those, on average.
	idleGap = 20 * time.Millisecond
	// connectLimit is how long the workers may take to be connected at all.
	connectLimit = 5 * time.Minute
)

// What thousands of workers that wait may cost, and how soon they are back when their controller was started again.
const (
	limitSession    = 48 << 10 // bytes of memory per session
	limitCore       = 5        // percent of a processor
	limitWrites     = 2        // statements that write, a second
	limitOfferP50   = 5        // milliseconds from the call of Submit to the offer
	limitOfferP99   = 25
	limitBackP99    = 60  // seconds
	limitStatements = 500 // a second
)

// runIdle measures what workers cost that wait: thousands, connected from a second process to one controller in a third.
func runIdle(ctx context.Context, b *bench) error {
	var all [][]finding
	for run := range b.runs {
		found, err := b.idleRun(ctx)
		if err != nil {
			return err
		}
		for _, f := range found {
			b.progress("run %d  %s  %s %s", run+1, f.Figure, number(f.Value), f.Unit)
		}
		all = append(all, found)
	}
	return b.report.findings(medians(all)...)
}

// An idleTrial is one run: a controller with a fleet.
type idleTrial struct {
	*bench
	db    *database
	side  *slipwaySide
	hub   *hubProcess
	fleet *fleetProcess
	empty float64 // memory of the controller before there were workers
	// address is where the controller is, and is again after its restarts.
	address string
}

func (b *bench) idleRun(ctx context.Context) (found []finding, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the processes whatever happens
	db, side, err := b.slipway(ctx, "idle", queue.Options{})
	if err != nil {
		return nil, err
	}
	defer b.server.drop(context.WithoutCancel(ctx), db.name) //nolint:errcheck // the server itself goes soon
	defer db.pool.Close()
	keys, err := workerKeys(ctx, db, b.sizes.idleWorkers)
	if err != nil {
		return nil, err
	}
	if err := db.settle(ctx); err != nil {
		return nil, err
	}
	t := &idleTrial{bench: b, db: db, side: side}
	if t.address, err = freeAddress(ctx); err != nil {
		return nil, err
	}
	if t.hub, err = startHub(ctx, db, t.address, b.pool); err != nil {
		return nil, err
	}
	if t.empty, err = t.hub.rss(); err != nil {
		return nil, err
	}
	order := fleetOrder{URL: "ws://" + t.address + "/v1/worker/connect", Keys: keys}
	if t.fleet, err = startFleet(ctx, order); err != nil {
		return nil, err
	}
	for _, measure := range []func(context.Context) ([]finding, error){t.connects, t.waits, t.offers, t.restarts} {
		more, err := measure(ctx)
		if err != nil {
			return nil, err
		}
		found = append(found, more...)
	}
	return found, errors.Join(t.fleet.stop(), t.hub.stop())
}

// workerKeys makes a key for each worker.
func workerKeys(ctx context.Context, db *database, workers int) ([]string, error) {
	backend, err := sqlauth.NewPostgres(db.pool, nil)
	if err == nil {
		err = backend.Migrate(ctx)
	}
	if err != nil {
		return nil, err
	}
	keys, err := auth.New(backend, nil)
	if err != nil {
		return nil, err
	}
	texts := make([]string, workers)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(submitters)
	for i := range texts {
		group.Go(func() error {
			name := workerName(i)
			_, secret, err := keys.Create(ctx, auth.NewKey{Name: name, Role: auth.Worker, Pools: []string{idlePool}, Worker: name})
			texts[i] = secret.Reveal()
			return err
		})
	}
	return texts, group.Wait()
}

// freeAddress is one where nobody listens.
func freeAddress(ctx context.Context) (string, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// connects waits until all are connected for the first time.
func (t *idleTrial) connects(ctx context.Context) ([]finding, error) {
	back, statements, err := t.connected(ctx, func() error { return nil })
	return []finding{
		{Figure: "idle.connect.p99", Unit: "s", Value: percentile(back, 99)},
		{Figure: "idle.connect.statements", Unit: "1/s at most", Value: statements},
	}, err
}

// connected has something happen, and returns how long after that each worker was connected, in seconds, and how many statements a
// second the server executed until then, in the second with the most.
func (t *idleTrial) connected(ctx context.Context, happen func() error) (took []float64, statements float64, err error) {
	counting, enough := context.WithCancel(ctx)
	group, groupCtx := errgroup.WithContext(counting)
	group.Go(func() (err error) {
		statements, err = t.busiest(groupCtx)
		return err
	})
	group.Go(func() error {
		defer enough()
		begun := time.Now()
		if err := happen(); err != nil {
			return err
		}
		there := make(map[int]bool)
		for len(there) < t.sizes.idleWorkers {
			e, err := t.fleet.await(groupCtx, connectLimit)
			if err != nil {
				return fmt.Errorf("%d of %d workers are connected: %w", len(there), t.sizes.idleWorkers, err)
			}
			if e.At > begun.UnixNano() && !e.Over && !e.Offered && !there[e.Worker] {
				there[e.Worker] = true
				took = append(took, time.Duration(e.At-begun.UnixNano()).Seconds())
			}
		}
		return nil
	})
	err = group.Wait()
	return took, statements, err
}

// callsSQL counts what clients had executed in a database, by statement, without the checks of references that the server makes of it.
const callsSQL = `SELECT s.queryid, sum(s.calls)::float8, sum(s.wal_records)::float8
FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid WHERE d.datname = $1 AND s.toplevel GROUP BY s.queryid`

// Calls are how often statements were executed, and how many records they had written to the log of the server.
type calls map[int64]struct{ calls, records float64 }

func (t *idleTrial) statements(ctx context.Context) (calls, error) {
	rows, err := t.server.admin.Query(ctx, callsSQL, t.db.name)
	if err != nil {
		return nil, err
	}
	all := make(calls)
	var id int64
	one := all[id]
	_, err = pgx.ForEachRow(rows, []any{&id, &one.calls, &one.records}, func() error {
		all[id] = one
		return nil
	})
	return all, err
}

// since counts executions after earlier ones, and those that may have written: each that did has left a record at least.
func (c calls) since(earlier calls) (executed, writing float64) {
	for id, now := range c {
		more, records := now.calls-earlier[id].calls, now.records-earlier[id].records
		executed += more
		writing += min(more, records)
	}
	return executed, writing
}

// busiest returns how many statements were executed in the second with the most, until ctx ends.
func (t *idleTrial) busiest(ctx context.Context) (most float64, err error) {
	last, err := t.statements(ctx)
	for err == nil && pause(ctx, time.Second) == nil {
		var now calls
		if now, err = t.statements(context.WithoutCancel(ctx)); err == nil {
			executed, _ := now.since(last)
			most, last = max(most, executed), now
		}
	}
	return most, err
}

// waits measures what it costs that all are connected and nothing happens.
func (t *idleTrial) waits(ctx context.Context) ([]finding, error) {
	if err := pause(ctx, t.sizes.idle/4); err != nil { // what connecting left behind goes
		return nil, err
	}
	cpu, err := t.hub.cpu()
	if err != nil {
		return nil, err
	}
	before, err := t.statements(ctx)
	if err != nil {
		return nil, err
	}
	stop, err := t.profile(ctx, "idle", "slipway")
	if err != nil {
		return nil, err
	}
	begun := time.Now()
	if err := pause(ctx, t.sizes.idle); err != nil {
		return nil, errors.Join(err, stop())
	}
	took := time.Since(begun)
	cpuAfter, err := t.hub.cpu()
	if err != nil {
		return nil, errors.Join(err, stop())
	}
	after, err := t.statements(ctx)
	if err != nil {
		return nil, errors.Join(err, stop())
	}
	executed, writing := after.since(before)
	rss, err := t.hub.rss()
	return []finding{
		{Figure: "idle.rss", Unit: "bytes per session", Value: (rss - t.empty) / float64(t.sizes.idleWorkers), Limit: new(float64(limitSession))},
		{Figure: "idle.cpu", Unit: "% of a core", Value: 100 * (cpuAfter - cpu).Seconds() / took.Seconds(), Limit: new(float64(limitCore))},
		{Figure: "idle.writes", Unit: "1/s", Value: writing / took.Seconds(), Limit: new(float64(limitWrites))},
		{Figure: "idle.statements", Unit: "1/s", Value: executed / took.Seconds()},
	}, errors.Join(err, stop())
}

// offers measures how long it takes until a build that one worker alone may have has been offered to it: builds of kinds that are new,
// then of kinds that there have been.
func (t *idleTrial) offers(ctx context.Context) ([]finding, error) {
	running := inBackground(ctx, t.side.keep)
	known := make([]float64, 0, t.sizes.idleBuilds)
	var fresh []float64
	err := func() error {
		if err := pause(ctx, time.Second); err != nil {
			return err
		}
		targets := rand.Perm(t.sizes.idleWorkers)[:min(idleTargets, t.sizes.idleWorkers)]
		for i := range len(targets) + t.sizes.idleBuilds {
			if err := pause(ctx, time.Duration(rand.ExpFloat64()*float64(idleGap))); err != nil {
				return err
			}
			took, err := t.offer(ctx, targets[i%len(targets)])
			if err != nil {
				return err
			}
			if i < len(targets) {
				fresh = append(fresh, took)
			} else {
				known = append(known, took)
			}
		}
		return nil
	}()
	return []finding{
		{Figure: "idle.offer.p50", Unit: "ms from the call of Submit", Value: percentile(known, 50), Limit: new(float64(limitOfferP50))},
		{Figure: "idle.offer.p99", Unit: "ms from the call of Submit", Value: percentile(known, 99), Limit: new(float64(limitOfferP99))},
		{Figure: "idle.offer.first.p50", Unit: "ms, first build with its labels", Value: percentile(fresh, 50)},
		{Figure: "idle.offer.first.p99", Unit: "ms, first build with its labels", Value: percentile(fresh, 99)},
	}, errors.Join(err, running())
}

// offer submits a build for a worker and returns how many milliseconds later it was offered to that.
func (t *idleTrial) offer(ctx context.Context, target int) (float64, error) {
	called := time.Now()
	id, err := t.side.queue.Submit(ctx, queue.Params{Project: slipwayProject, Pool: idlePool, Labels: workerLabels(target)})
	if err != nil {
		return 0, err
	}
	for {
		e, err := t.fleet.await(ctx, patience)
		if err != nil {
			return 0, fmt.Errorf("build for %s: %w", workerName(target), err)
		}
		switch {
		case !e.Offered || e.Build != id.String():
		case e.Worker != target:
			return 0, fmt.Errorf("a build for %s was offered to %s", workerName(target), workerName(e.Worker))
		default:
			return float64(e.At-called.UnixNano()) / 1e6, nil
		}
	}
}

// restarts measures how soon all are back after the controller was replaced in good order, and after it was killed.
func (t *idleTrial) restarts(ctx context.Context) (found []finding, err error) {
	for _, end := range []struct {
		name string
		do   func(*hubProcess) error
	}{{"restart", (*hubProcess).stop}, {"kill", (*hubProcess).kill}} {
		back, statements, err := t.connected(ctx, func() (err error) {
			if err := end.do(t.hub); err != nil {
				return err
			}
			t.hub, err = startHub(ctx, t.db, t.address, t.pool)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", end.name, err)
		}
		found = append(found,
			finding{Figure: "idle." + end.name + ".p99", Unit: "s until connected", Value: percentile(back, 99), Limit: new(float64(limitBackP99))},
			finding{
				Figure: "idle." + end.name + ".statements", Unit: "1/s at most", Value: statements, Limit: new(float64(limitStatements)),
			},
		)
	}
	return found, nil
}
