package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"golang.org/x/sync/errgroup"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/queue/pgqueue"
)

const (
	slipwayProject = "compare"
	slipwayWorker  = "compare"

	// slipwayFinishers is how many goroutines report ends.
	slipwayFinishers = 2
	slipwayPoll      = 20 * time.Millisecond
)

func slipwayContender() contender {
	return contender{
		name:     "slipway",
		migrate:  migrateSlipway,
		open:     func(pool *pgxpool.Pool) (side, error) { return openSlipway(pool) },
		settings: "defaults; a session in this process that claims straight into running, of 1,024 slots",
	}
}

func openSlipway(pool *pgxpool.Pool) (*slipwaySide, error) {
	backend, err := pgqueue.New(pool, nil)
	if err != nil {
		return nil, err
	}
	return &slipwaySide{
		backend: backend,
		queue:   queue.New(backend, &queue.Options{Logger: slog.New(slog.DiscardHandler)}),
		sql:     stdlib.OpenDBFromPool(pool),
	}, nil
}

// migrateSlipway also makes the class of the orders known, as it is in any service that has submitted before.
func migrateSlipway(ctx context.Context, pool *pgxpool.Pool) error {
	s, err := openSlipway(pool)
	if err != nil {
		return err
	}
	if err := s.backend.Migrate(ctx); err != nil {
		return err
	}
	id, err := s.queue.Submit(ctx, queue.Params{Project: slipwayProject})
	if err != nil {
		return err
	}
	if _, err := s.queue.Maintain(ctx); err != nil {
		return err
	}
	_, err = s.queue.Cancel(ctx, slipwayProject, id, "")
	return err
}

// A slipwaySide is Slipway.
type slipwaySide struct {
	backend *pgqueue.Backend
	queue   *queue.Queue
	sql     *sql.DB
}

func slipwayParams(o order) (queue.Params, error) {
	spec, err := json.Marshal(o)
	return queue.Params{Project: slipwayProject, Spec: spec}, err
}

func (s *slipwaySide) submit(ctx context.Context, o order) error {
	params, err := slipwayParams(o)
	if err != nil {
		return err
	}
	_, err = s.queue.Submit(ctx, params)
	return err
}

func (s *slipwaySide) submitMany(ctx context.Context, all []order) error {
	params := make([]queue.Params, len(all))
	for i, o := range all {
		var err error
		if params[i], err = slipwayParams(o); err != nil {
			return err
		}
	}
	_, err := s.queue.SubmitMany(ctx, params)
	return err
}

func (s *slipwaySide) submitCopy(ctx context.Context, all []order) error {
	return s.submitMany(ctx, all)
}

func (s *slipwaySide) submitTx(ctx context.Context, o order) error {
	params, err := slipwayParams(o)
	if err != nil {
		return err
	}
	tx, err := s.sql.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if _, err := tx.ExecContext(ctx, insertOwn, ownNote); err != nil {
		return err
	}
	if _, err := pgqueue.Submit(ctx, s.queue, tx, params); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	s.queue.Wake()
	return nil
}

// open opens a session that has labels and claims straight into running.
func (s *slipwaySide) open(ctx context.Context, labels queue.Labels) (queue.SessionID, error) {
	return s.queue.OpenSession(ctx, queue.NewSession{
		Worker: slipwayWorker, Instance: "1", Labels: labels, Pools: []string{queue.DefaultPool}, Slots: queue.MaxSlots, Direct: true,
	})
}

func (s *slipwaySide) consume(ctx context.Context, w watcher) error {
	session, err := s.open(ctx, nil)
	if err != nil {
		return err
	}
	c := &slipwayConsumer{slipwaySide: s, watcher: w, session: session, ends: make(chan []queue.Completion, slipwayFinishers)}
	loops, loopCtx := errgroup.WithContext(ctx)
	loops.Go(func() error { return c.keep(loopCtx) })
	loops.Go(func() error { return c.claim(loopCtx) })
	for range slipwayFinishers {
		loops.Go(func() error { return c.finish(loopCtx) })
	}
	return unlessEnded(ctx, loops.Wait())
}

// A slipwayConsumer works for one session.
type slipwayConsumer struct {
	*slipwaySide
	watcher
	session queue.SessionID
	ends    chan []queue.Completion
}

// keep does what a process that holds sessions owes the queue.
func (c *slipwayConsumer) keep(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		if _, err := c.queue.Beat(ctx); err != nil {
			return err
		}
		if _, err := c.queue.Maintain(ctx); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (c *slipwayConsumer) claim(ctx context.Context) error {
	poll := time.NewTicker(slipwayPoll)
	defer poll.Stop()
	for {
		offers, err := c.queue.Claim(ctx, []queue.Idle{{Session: c.session, Slots: queue.MaxClaim}})
		if err != nil {
			return err
		}
		if len(offers) > 0 {
			if err := c.work(ctx, offers); err != nil {
				return err
			}
			continue
		}
		select {
		case <-c.queue.Wakes():
		case <-poll.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// work does orders and has their ends reported.
func (c *slipwayConsumer) work(ctx context.Context, offers []queue.Offer) error {
	ends := make([]queue.Completion, len(offers))
	for i, offer := range offers {
		var o order
		if err := json.Unmarshal(offer.Spec, &o); err != nil {
			return err
		}
		c.started(o.N)
		ends[i] = queue.Completion{AttemptID: offer.AttemptID, Outcome: queue.Succeeded}
	}
	select {
	case c.ends <- ends:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *slipwayConsumer) finish(ctx context.Context) error {
	for {
		select {
		case ends := <-c.ends:
			done, err := c.queue.FinishMany(ctx, ends)
			if err != nil {
				return err
			}
			c.ended(len(done))
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
