package main

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/slipway-build/slipway/queue"
)

// A claimer works as the worker of a session does, and tells how long its claims take.
type claimer struct {
	queue   *queue.Queue
	session queue.SessionID
	ends    chan []queue.Completion
}

// openClaimer opens a session that claims straight into running.
func openClaimer(ctx context.Context, s *slipwaySide, labels queue.Labels, slots int) (*claimer, error) {
	session, err := s.queue.OpenSession(ctx, queue.NewSession{
		Worker: slipwayWorker, Instance: "1", Labels: labels, Pools: []string{queue.DefaultPool}, Slots: slots, Direct: true,
	})
	return &claimer{queue: s.queue, session: session, ends: make(chan []queue.Completion, 1)}, err
}

// A timedClaim is when a claim that brought something was made, and how many milliseconds it took.
type timedClaim struct {
	at   time.Time
	took float64
}

// claim claims for so many slots, again and again, until ctx ends.
func (c *claimer) claim(ctx context.Context, slots int) (claims []timedClaim, err error) {
	wakes := c.queue.Wakes(queue.ForClaims, time.Second)
	defer wakes.Stop()
	for wakes.Next(ctx) {
		begin := time.Now()
		offers, err := c.queue.Claim(ctx, []queue.Idle{{Session: c.session, Slots: slots}})
		if err != nil {
			return claims, err
		}
		if len(offers) == 0 {
			continue
		}
		claims = append(claims, timedClaim{at: begin, took: time.Since(begin).Seconds() * 1e3})
		wakes.Found()
		wakes.Ring()
		select {
		case c.ends <- succeeded(offers, c.session):
		case <-ctx.Done():
		}
	}
	return claims, ctx.Err()
}

// succeeded are the ends of attempts that did what they should.
func succeeded(offers []queue.Offer, session queue.SessionID) []queue.Completion {
	ends := make([]queue.Completion, len(offers))
	for i, offer := range offers {
		ends[i] = queue.Completion{AttemptID: offer.AttemptID, Session: session, Outcome: queue.Succeeded}
	}
	return ends
}

// underLoad has builds submitted, claimed, so many at a time, and finished for as long as meanwhile takes, and returns the claims. There are
// submits for length at most.
func underLoad(
	ctx context.Context, side *slipwaySide, slots int, load pace, meanwhile func(context.Context) error,
) (claims []timedClaim, err error) {
	c, err := openClaimer(ctx, side, nil, slipwaySlots)
	if err != nil {
		return nil, err
	}
	working, enough := context.WithCancel(ctx)
	defer enough()
	group, groupCtx := errgroup.WithContext(working)
	for _, loop := range []func(context.Context) error{side.keep, c.beat, c.finish} {
		group.Go(func() error { return loop(groupCtx) })
	}
	group.Go(func() (err error) {
		claims, err = c.claim(groupCtx, slots)
		return err
	})
	group.Go(func() error {
		_, err := load.submit(groupCtx, side)
		return err
	})
	group.Go(func() error {
		err := meanwhile(groupCtx)
		if err == nil {
			enough()
		}
		return err
	})
	return claims, errors.Join(unlessEnded(working, group.Wait()), ctx.Err())
}

// p99Between returns the 99th percentile of the claims that were made from begin on for a time.
func p99Between(claims []timedClaim, begin time.Time, length time.Duration) float64 {
	var took []float64
	for _, c := range claims {
		if d := c.at.Sub(begin); d >= 0 && d < length {
			took = append(took, c.took)
		}
	}
	return percentile(took, 99)
}

// finish ends what was claimed, until ctx ends.
func (c *claimer) finish(ctx context.Context) error {
	for {
		select {
		case ends := <-c.ends:
			if _, err := c.queue.FinishMany(ctx, ends); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// beat keeps the session alive, until ctx ends.
func (c *claimer) beat(ctx context.Context) error {
	tick := time.NewTicker(c.queue.Options().ControllerTTL / 4)
	defer tick.Stop()
	for {
		if _, err := c.queue.Beat(ctx); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
