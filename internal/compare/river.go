package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
)

// riverSettings are those of River's settings that decide how fast it is.
type riverSettings struct {
	name              string
	fetchCooldown     time.Duration // also between two notifications of a client that inserts
	fetchPollInterval time.Duration
	maxWorkers        int
}

var (
	// riverDefaults are what River does if it is told nothing; the number of workers is that of its documentation.
	riverDefaults = riverSettings{name: "river", maxWorkers: 100}
	// riverTuned are for latency: the shortest cooldown that River takes, which is the wait between two fetches and between two
	// notifications. Polls are only its fallback; more frequent ones cost more than they bring.
	riverTuned = riverSettings{
		name: "river-tuned", fetchCooldown: river.FetchCooldownMin, fetchPollInterval: 20 * time.Millisecond, maxWorkers: 100,
	}
	// riverBurning are for throughput: what River's own benchmark program chooses.
	riverBurning = riverSettings{
		name: "river-burning", fetchCooldown: 2 * time.Millisecond, fetchPollInterval: 20 * time.Millisecond, maxWorkers: 2000,
	}
)

// riverEvents is how many events River may be ahead of those who count them. Those that do not fit are dropped.
const riverEvents = 1 << 19

// riverStop bounds how long River may take to stop.
const riverStop = 30 * time.Second

func riverContender(s riverSettings) contender {
	orDefault := func(d, otherwise time.Duration) string {
		if d == 0 {
			return fmt.Sprintf("%v (default)", otherwise)
		}
		return d.String()
	}
	return contender{
		name:    s.name,
		migrate: migrateRiver,
		open: func(pool *pgxpool.Pool) (side, error) {
			client, err := river.NewClient(riverpgxv5.New(pool), s.config())
			return &riverSide{pool: pool, settings: s, client: client}, err
		},
		unended: "SELECT count(*) FROM river_job WHERE finalized_at IS NULL",
		settings: fmt.Sprintf("FetchCooldown %s, FetchPollInterval %s, MaxWorkers %d, LISTEN and NOTIFY on, the default completer, which "+
			"takes the ends of jobs into memory, where a worker's return leaves them, and writes them in batches; a job counts as ended when "+
			"the client's subscription says so, which is after that write",
			orDefault(s.fetchCooldown, river.FetchCooldownDefault), orDefault(s.fetchPollInterval, river.FetchPollIntervalDefault), s.maxWorkers),
	}
}

// config is of a client that only inserts.
func (s *riverSettings) config() *river.Config {
	return &river.Config{
		FetchCooldown:     s.fetchCooldown,
		FetchPollInterval: s.fetchPollInterval,
		Logger:            slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})),
	}
}

func migrateRiver(ctx context.Context, pool *pgxpool.Pool) error {
	m, err := rivermigrate.New(riverpgxv5.New(pool), &rivermigrate.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	_, err = m.Migrate(ctx, rivermigrate.DirectionUp, nil)
	return err
}

// A riverSide is River.
type riverSide struct {
	pool     *pgxpool.Pool
	settings riverSettings
	client   *river.Client[pgx.Tx] // inserts
}

func (r *riverSide) submit(ctx context.Context, o order) error {
	_, err := r.client.Insert(ctx, o, nil)
	return err
}

func (r *riverSide) submitMany(ctx context.Context, all []order) error {
	_, err := r.client.InsertMany(ctx, insertParams(all))
	return err
}

func (r *riverSide) submitCopy(ctx context.Context, all []order) error {
	_, err := r.client.InsertManyFast(ctx, insertParams(all))
	return err
}

func insertParams(all []order) []river.InsertManyParams {
	params := make([]river.InsertManyParams, len(all))
	for i, o := range all {
		params[i].Args = o
	}
	return params
}

func (r *riverSide) submitTx(ctx context.Context, o order) error {
	return pgx.BeginFunc(ctx, r.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, insertOwn, ownNote); err != nil {
			return err
		}
		_, err := r.client.InsertTx(ctx, tx, o, nil)
		return err
	})
}

// A riverWorker does orders.
type riverWorker struct {
	river.WorkerDefaults[order]
	started func(n int64)
}

// Work does an order.
func (w *riverWorker) Work(_ context.Context, job *river.Job[order]) error {
	w.started(job.Args.N)
	return nil
}

func (r *riverSide) consume(ctx context.Context, w watcher) error {
	workers := river.NewWorkers()
	river.AddWorker(workers, &riverWorker{started: w.started})
	config := r.settings.config()
	config.Workers = workers
	config.Queues = map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: r.settings.maxWorkers}}
	client, err := river.NewClient(riverpgxv5.New(r.pool), config)
	if err != nil {
		return err
	}
	completed, unsubscribe := client.SubscribeConfig(&river.SubscribeConfig{
		ChanSize: riverEvents, Kinds: []river.EventKind{river.EventKindJobCompleted},
	})
	defer unsubscribe()
	if err := client.Start(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), riverStop)
		defer cancel()
		_ = client.Stop(ctx)
	}()
	for n := 0; w.total == 0 || n < w.total; n++ {
		select {
		case <-ctx.Done():
			return nil
		case <-completed:
			w.ended(1)
		}
	}
	return nil
}

// keep has nothing to do: River's clients notify with each insert.
func (r *riverSide) keep(context.Context) error { return nil }
