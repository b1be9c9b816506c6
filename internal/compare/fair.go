package main

import (
	"context"
	"fmt"
	"maps"
	"math"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/slipway-build/slipway/queue"
)

const (
	fairSlots = 4
	// fairBuild is how long each build takes where the time matters in which builds are admitted.
	fairBuild = 200 * time.Millisecond
	// The large project has submitted fairLarge builds when the small one submits fairSmall.
	fairLarge = 1000
	fairSmall = 10
)

// A fairWorker is a worker with few slots in a fair pool, whose builds all take equally long: when one ends, it claims the next.
type fairWorker struct {
	*claimer
	wakes   *queue.Wakes
	running [][]queue.Completion // what ends them, oldest first
}

// next ends the oldest build if all slots are taken, claims one and returns its project.
func (w *fairWorker) next(ctx context.Context) (project string, err error) {
	if len(w.running) == fairSlots {
		if _, err := w.queue.FinishMany(ctx, w.running[0]); err != nil {
			return "", err
		}
		w.running = w.running[1:]
	}
	for w.wakes.Next(ctx) {
		offers, err := w.queue.Claim(ctx, []queue.Idle{{Session: w.session, Slots: 1}})
		if err != nil {
			return "", err
		}
		if len(offers) > 0 {
			w.running = append(w.running, succeeded(offers, w.session))
			w.wakes.Ring()
			return offers[0].Project, nil
		}
	}
	return "", ctx.Err()
}

// runFair measures how long a small project waits beside a large one, and how exactly weights are kept.
func runFair(ctx context.Context, b *bench) error {
	var late, firsts, lasts, deviations []float64
	for range b.runs {
		var positions []int
		if err := b.inFairPool(ctx, nil, func(ctx context.Context, side *slipwaySide, w *fairWorker) (err error) {
			positions, err = smallBesideLarge(ctx, side, w)
			return err
		}); err != nil {
			return err
		}
		b.progress("fair: the small project's builds were claimed at %v", positions)
		late = append(late, lateness(positions))
		firsts, lasts = append(firsts, float64(positions[0])), append(lasts, float64(positions[fairSmall-1]))

		weights := map[string]int{"one": 1, "another": 1, "double": 2}
		var shares map[string]float64
		if err := b.inFairPool(ctx, weights, func(ctx context.Context, side *slipwaySide, w *fairWorker) (err error) {
			shares, err = sharesOf(ctx, side, w, weights, b.sizes.fairClaims)
			return err
		}); err != nil {
			return err
		}
		b.progress("fair: shares in percent by weights %v: %v", weights, shares)
		deviations = append(deviations, deviation(shares, weights))
	}
	return b.report.findings(
		worst("fair.first", "claims until the small project's first build, itself included", firsts, new(2.0*1+fairSlots)),
		worst("fair.last", "claims until its tenth", lasts, new(2.0*fairSmall+fairSlots)),
		worst("fair.late", "claims after 2k+4 until its k-th, at the worst k", late, new(0.0)),
		worst("fair.weights", "percentage points between a project's share and its weight's, weights 1:1:2", deviations, new(3.0)),
	)
}

// inFairPool has do use a fair pool with a worker, while all goes on that must.
func (b *bench) inFairPool(
	ctx context.Context, weights map[string]int, do func(context.Context, *slipwaySide, *fairWorker) error,
) error {
	db, side, err := b.slipway(ctx, "fair", queue.Options{})
	if err != nil {
		return err
	}
	defer db.pool.Close()
	if err := side.queue.ChangePool(ctx, queue.DefaultPool, queue.PoolChange{Fair: new(true), Weights: weights}); err != nil {
		return err
	}
	c, err := openClaimer(ctx, side, nil, fairSlots)
	if err != nil {
		return err
	}
	w := &fairWorker{claimer: c, wakes: side.queue.Wakes(queue.ForClaims, 100*time.Millisecond)}
	defer w.wakes.Stop()
	working, enough := context.WithTimeout(ctx, 5*time.Minute)
	defer enough()
	group, groupCtx := errgroup.WithContext(working)
	for _, loop := range []func(context.Context) error{side.keep, c.beat} {
		group.Go(func() error { return unlessEnded(groupCtx, loop(groupCtx)) })
	}
	group.Go(func() error {
		defer enough()
		return do(groupCtx, side, w)
	})
	return group.Wait()
}

// smallBesideLarge returns at which claim after its submit each build of the small project was claimed, counted from 1.
func smallBesideLarge(ctx context.Context, side *slipwaySide, w *fairWorker) (positions []int, err error) {
	if err := submitFor(ctx, side, "large", fairLarge); err != nil {
		return nil, err
	}
	next := func() (string, error) {
		project, err := w.next(ctx)
		if err != nil {
			return "", err
		}
		return project, pause(ctx, fairBuild/fairSlots)
	}
	for range 5 * fairSlots {
		if _, err := next(); err != nil {
			return nil, err
		}
	}
	if err := submitFor(ctx, side, "small", fairSmall); err != nil {
		return nil, err
	}
	for position := 1; len(positions) < fairSmall; position++ {
		if position > fairLarge/2 {
			return nil, fmt.Errorf("%d of %d builds of the small project were claimed among %d", len(positions), fairSmall, position)
		}
		project, err := next()
		if err != nil {
			return nil, err
		}
		if project == "small" {
			positions = append(positions, position)
		}
	}
	return positions, nil
}

// lateness is by how many claims the k-th build came after the (2k+4)th, at the worst k. It is negative if all came before.
func lateness(positions []int) float64 {
	by := math.Inf(-1)
	for i, position := range positions {
		by = max(by, float64(position-(2*(i+1)+fairSlots)))
	}
	return by
}

// sharesOf returns the shares of projects in so many claims, in percent, while all have builds waiting. It begins to count when each of them has
// had a claim: until then some may not have been admitted yet.
func sharesOf(ctx context.Context, side *slipwaySide, w *fairWorker, projects map[string]int, claims int) (map[string]float64, error) {
	for project := range projects {
		if err := submitFor(ctx, side, project, 2*claims); err != nil {
			return nil, err
		}
	}
	for waiting := maps.Clone(projects); len(waiting) > 0; {
		project, err := w.next(ctx)
		if err != nil {
			return nil, err
		}
		delete(waiting, project)
	}
	shares := make(map[string]float64)
	for range claims {
		project, err := w.next(ctx)
		if err != nil {
			return nil, err
		}
		shares[project] += 100 / float64(claims)
	}
	return shares, nil
}

// deviation is the greatest distance of a share from what its weight asks for, in percentage points.
func deviation(shares map[string]float64, weights map[string]int) (most float64) {
	var sum int
	for _, weight := range weights {
		sum += weight
	}
	for project, weight := range weights {
		most = max(most, math.Abs(shares[project]-100*float64(weight)/float64(sum)))
	}
	return most
}

// submitFor submits builds of a project, all at once.
func submitFor(ctx context.Context, side *slipwaySide, project string, builds int) error {
	params := make([]queue.Params, builds)
	for i := range params {
		params[i].Project = project
	}
	_, err := side.queue.SubmitMany(ctx, params)
	return err
}
