package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/queue/pgqueue"
)

const (
	slipwayProject = "compare"
	slipwayWorker  = "compare"
	slipwaySlots   = queue.MaxSlots
)

func slipwayContender() contender {
	return contender{
		name:    "slipway",
		migrate: migrateSlipway,
		open:    func(pool *pgxpool.Pool) (side, error) { return openSlipway(pool, queue.Options{}) },
		unended: "SELECT count(*) FROM slipway.build WHERE finished_at IS NULL",
		settings: fmt.Sprintf("defaults; a worker of %d slots in this process; a build counts as ended when the worker's Run, told to stop "+
			"when the last build has begun, has returned: then all ends are written", slipwaySlots),
	}
}

func openSlipway(pool *pgxpool.Pool, o queue.Options) (*slipwaySide, error) {
	o.Logger = slog.New(slog.DiscardHandler)
	backend, err := pgqueue.New(pool, nil)
	if err != nil {
		return nil, err
	}
	return &slipwaySide{
		backend: backend,
		queue:   queue.New(backend, &o),
		pool:    pool,
	}, nil
}

// migrateSlipway also makes the class of the orders known, as it is in any service that has submitted before.
func migrateSlipway(ctx context.Context, pool *pgxpool.Pool) error {
	s, err := openSlipway(pool, queue.Options{})
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

// slipway makes a database with a queue that has nothing in it.
func (b *bench) slipway(ctx context.Context, name string, o queue.Options) (*database, *slipwaySide, error) {
	db, err := b.server.database(ctx, "compare_"+name, b.pool)
	if err != nil {
		return nil, nil, err
	}
	side, err := openSlipway(db.pool, o)
	if err == nil {
		err = migrateSlipway(ctx, db.pool)
	}
	if err != nil {
		db.pool.Close()
		return nil, nil, err
	}
	return db, side, nil
}

// A slipwaySide is Slipway.
type slipwaySide struct {
	backend *pgqueue.Backend
	queue   *queue.Queue
	pool    *pgxpool.Pool
}

func slipwayParams(o order) (queue.Params, error) {
	spec, err := json.Marshal(o)
	return queue.Params{Project: slipwayProject, Spec: spec}, err
}

func manyParams(all []order) ([]queue.Params, error) {
	params := make([]queue.Params, len(all))
	for i, o := range all {
		var err error
		if params[i], err = slipwayParams(o); err != nil {
			return nil, err
		}
	}
	return params, nil
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
	params, err := manyParams(all)
	if err != nil {
		return err
	}
	_, err = s.queue.SubmitMany(ctx, params)
	return err
}

func (s *slipwaySide) submitCopy(ctx context.Context, all []order) error {
	params, err := manyParams(all)
	if err != nil {
		return err
	}
	_, err = pgqueue.SubmitCopy(ctx, s.queue, params...)
	return err
}

func (s *slipwaySide) submitTx(ctx context.Context, o order) error {
	params, err := slipwayParams(o)
	if err != nil {
		return err
	}
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, insertOwn, ownNote); err != nil {
			return err
		}
		_, err := pgqueue.SubmitPgx(ctx, s.queue, tx, params)
		return err
	})
	if err == nil {
		s.queue.Wake()
	}
	return err
}

func (s *slipwaySide) consume(ctx context.Context, w watcher) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var handled atomic.Int64
	err := queue.NewWorker(s.queue, slipwayWorker, &queue.WorkerOptions{Slots: slipwaySlots}).Run(ctx, func(_ context.Context, job *queue.Job) error {
		var o order
		if err := json.Unmarshal(job.Spec, &o); err != nil {
			return err
		}
		w.started(o.N)
		if handled.Add(1) == int64(w.total) {
			stop()
		}
		return nil
	})
	// What was handled is stored when Run returns.
	w.ended(int(handled.Load()))
	return err
}

// keep does what a process that submits owes the queue.
func (s *slipwaySide) keep(ctx context.Context) error { return s.queue.Run(ctx) }
