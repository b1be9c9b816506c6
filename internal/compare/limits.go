package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/slipway-build/slipway/queue"
)

const (
	// limitKeys is how many concurrency keys there are; the limit of the i-th is i.
	limitKeys       = 12
	limitSubmitters = 4
	limitClaimers   = 8
	// claimerSlots is how many builds a claimer runs at once: all of them together more than the limits allow.
	claimerSlots = 16
	claimerConns = 4
	// limitBuild is how long a build takes on average.
	limitBuild = 50 * time.Millisecond
	// limitWaiting is how many builds there are of a key, for each that may run.
	limitWaiting = 20
	// limitLook is how often the database is asked.
	limitLook = 20 * time.Millisecond
	// limitPatience is how long the last builds may take.
	limitPatience = 90 * time.Second
)

// limitOptions are those of every process: so short that what a killed process held comes back while the others work. No build is lost for
// good.
var limitOptions = queue.Options{
	ControllerTTL: 4 * time.Second, Grace: 4 * time.Second, Avoid: 100 * time.Millisecond, MaxAttempts: queue.MaxMaxAttempts,
	Backoff: queue.Backoff{Base: 50 * time.Millisecond, Max: time.Second},
}

// A limitsRun is a queue whose builds all have concurrency keys, and what was seen of it.
type limitsRun struct {
	*bench
	side *slipwaySide
	db   *database

	mu         sync.Mutex
	open       map[string]int // builds of each key that have not ended, as of the last look
	admitted   map[string]int // how many were admitted and had not ended, at most
	looks      int
	executions []execution
	kills      int
}

// runLimits has processes claim builds with concurrency keys, kills some of them, and counts what runs, by what the processes tell and by
// what the database says.
func runLimits(ctx context.Context, b *bench) error {
	var over, overStored, unreached, leaked, builds, kills, looks []float64
	for range b.runs {
		r, left, err := b.limitsRun(ctx)
		if err != nil {
			return err
		}
		told := peaks(r.executions)
		over = append(over, excess(told))
		overStored = append(overStored, excess(r.admitted))
		unreached = append(unreached, r.unreached(told))
		leaked = append(leaked, float64(left))
		builds, kills, looks = append(builds, float64(len(r.executions))), append(kills, float64(r.kills)), append(looks, float64(r.looks))
	}
	return b.report.findings(
		worst("limits.over.claimers", "builds of a key that ran beyond its limit, as their workers told", over, new(0.0)),
		worst("limits.over.stored", "builds of a key that were admitted beyond its limit, as the database said", overStored, new(0.0)),
		worst("limits.unreached", "keys of which there never ran as many builds as may", unreached, new(0.0)),
		worst("limits.leaked", "builds that had not ended, and room that was taken, in the end", leaked, new(0.0)),
		finding{Figure: "limits.executions", Unit: "attempts that ran", Value: median(builds), Runs: builds},
		finding{Figure: "limits.kills", Unit: "processes killed", Value: median(kills), Runs: kills},
		finding{Figure: "limits.looks", Unit: "looks into the database", Value: median(looks), Runs: looks},
	)
}

// excess is by how much the most excessive key went beyond its limit.
func excess(most map[string]int) (by float64) {
	for i := range limitKeys {
		by = max(by, float64(most[limitKey(i+1)]-(i+1)))
	}
	return by
}

// unreached counts the keys that never went up to their limit.
func (r *limitsRun) unreached(most map[string]int) (n float64) {
	for i := range limitKeys {
		if got := most[limitKey(i+1)]; got < i+1 {
			r.progress("limits: at most %d builds of %d ran at once", got, i+1)
			n++
		}
	}
	return n
}

// limitsRun returns what happened, and how much was left in the end that should not have been.
func (b *bench) limitsRun(ctx context.Context) (r *limitsRun, left int, err error) {
	db, side, err := b.slipway(ctx, "limits", limitOptions)
	if err != nil {
		return nil, 0, err
	}
	defer db.pool.Close()
	r = &limitsRun{bench: b, side: side, db: db, open: make(map[string]int), admitted: make(map[string]int)}
	for i := range limitKeys {
		if err := side.queue.SetLimit(ctx, slipwayProject, limitKey(i+1), i+1); err != nil {
			return nil, 0, err
		}
	}
	background := inBackground(ctx, func(ctx context.Context) error {
		loops, ctx := errgroup.WithContext(ctx)
		loops.Go(func() error { return side.keep(ctx) })
		loops.Go(func() error { return r.look(ctx) })
		return loops.Wait()
	})
	err = r.load(ctx)
	err = errors.Join(err, background())
	if err != nil {
		return nil, 0, fmt.Errorf("limits: %w", err)
	}
	left, err = r.left(ctx)
	return r, left, err
}

// load has builds submitted and claimed, and claimers killed, and waits for the end of it all.
func (r *limitsRun) load(ctx context.Context) error {
	claimers, claimersCtx := errgroup.WithContext(ctx)
	var crew []*claimerProcess
	start := func(worker string) (*claimerProcess, error) {
		p, err := startClaimer(claimersCtx, r.db, worker)
		if err != nil {
			return nil, err
		}
		claimers.Go(func() error {
			all, err := p.follow()
			r.mu.Lock()
			defer r.mu.Unlock()
			r.executions = append(r.executions, all...)
			return err
		})
		return p, nil
	}
	for i := range limitClaimers {
		p, err := start(fmt.Sprintf("claimer-%d", i))
		if err != nil {
			return err
		}
		crew = append(crew, p)
	}
	loaded, end := context.WithTimeout(claimersCtx, r.sizes.limits)
	defer end()
	group, groupCtx := errgroup.WithContext(loaded)
	for range limitSubmitters {
		group.Go(func() error { return r.submit(groupCtx) })
	}
	group.Go(func() error { return r.killSome(groupCtx, crew, start) })
	err := unlessEnded(loaded, group.Wait())
	if err == nil {
		err = r.drain(claimersCtx)
	}
	for _, p := range crew {
		err = errors.Join(err, p.stop())
	}
	return errors.Join(err, claimers.Wait())
}

// submit submits builds of every key that has not many.
func (r *limitsRun) submit(ctx context.Context) error {
	for {
		var params []queue.Params
		r.mu.Lock()
		for i := range limitKeys {
			key := limitKey(i + 1)
			for range min(i+1, limitWaiting*(i+1)-r.open[key]) {
				params = append(params, queue.Params{Project: slipwayProject, ConcurrencyKey: key, Spec: []byte(key)})
			}
		}
		r.mu.Unlock()
		if _, err := r.side.queue.SubmitMany(ctx, params); err != nil {
			return err
		}
		if err := pause(ctx, limitLook); err != nil {
			return err
		}
	}
}

// killSome kills one claimer after the other, and starts another in its place: with the name of the first, so that its session is replaced
// but nobody adopts its builds, or with a new one, so that the session lasts as long as the process counts as alive.
func (r *limitsRun) killSome(ctx context.Context, crew []*claimerProcess, start func(worker string) (*claimerProcess, error)) error {
	every := r.sizes.limits / time.Duration(r.sizes.kills+1)
	for n := range r.sizes.kills {
		if err := pause(ctx, every); err != nil {
			return err
		}
		at := n % len(crew)
		if err := crew[at].kill(); err != nil {
			return err
		}
		r.kills++
		worker := crew[at].worker
		if n%2 == 1 {
			worker = fmt.Sprintf("claimer-%d", len(crew)+n)
		}
		p, err := start(worker)
		if err != nil {
			return err
		}
		crew[at] = p
	}
	return nil
}
