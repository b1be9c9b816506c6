package main

import (
	"context"
	"encoding/json"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"
)

// The least that a queue can get by with: a state and an order by number, no history, no projects, no limits, nobody to notice that
// a worker died.
const (
	bareTable = `
CREATE TABLE job (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	state smallint NOT NULL DEFAULT 0,
	payload bytea NOT NULL,
	created_at timestamptz NOT NULL DEFAULT now(),
	finished_at timestamptz
) WITH (fillfactor = 80)`
	bareIndex = `CREATE INDEX job_queued ON job (id) WHERE state = 0`

	bareInsert       = `INSERT INTO job (payload) VALUES ($1)`
	bareInsertNotify = `WITH job AS (INSERT INTO job (payload) VALUES ($1)) SELECT pg_notify('job', '')`
	bareInsertMany   = `INSERT INTO job (payload) SELECT unnest($1::bytea[])`

	bareClaim = `
WITH picked AS MATERIALIZED (
	SELECT id FROM job WHERE state = 0 ORDER BY id LIMIT 512 FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE job SET state = 1 WHERE id = ANY (ARRAY(SELECT id FROM picked)) RETURNING id, payload`
	bareFinish = `UPDATE job SET state = 2, finished_at = now() WHERE id = ANY ($1::bigint[]) AND state = 1`
)

// bareConsumers is how many loops claim and finish at once.
const bareConsumers = 2

// bareContender is plain SQL; if it notifies, workers of other processes learn at once of what is inserted.
func bareContender(notify bool) contender {
	c := contender{
		name: "bare",
		migrate: func(ctx context.Context, pool *pgxpool.Pool) error {
			_, err := pool.Exec(ctx, bareTable+";"+bareIndex)
			return err
		},
		unended:  "SELECT count(*) FROM job WHERE finished_at IS NULL",
		settings: "one table, one partial index; claims of at most 512 by SKIP LOCKED; woken by a channel",
	}
	if notify {
		c.name, c.settings = "bare-notify", "the same, woken by a NOTIFY in the statement that inserts"
	}
	c.open = func(pool *pgxpool.Pool) (side, error) {
		return &bareSide{pool: pool, notify: notify, wake: make(chan struct{}, bareConsumers)}, nil
	}
	return c
}

// A bareSide is plain SQL through pgx.
type bareSide struct {
	pool   *pgxpool.Pool
	notify bool
	wake   chan struct{}
}

func (b *bareSide) hint() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

func (b *bareSide) submit(ctx context.Context, o order) error {
	payload, err := json.Marshal(o)
	if err != nil {
		return err
	}
	if b.notify {
		_, err = b.pool.Exec(ctx, bareInsertNotify, payload)
		return err
	}
	_, err = b.pool.Exec(ctx, bareInsert, payload)
	b.hint()
	return err
}

func (b *bareSide) submitMany(ctx context.Context, all []order) error {
	payloads, err := encoded(all)
	if err != nil {
		return err
	}
	_, err = b.pool.Exec(ctx, bareInsertMany, payloads)
	b.hint()
	return err
}

func (b *bareSide) submitCopy(ctx context.Context, all []order) error {
	payloads, err := encoded(all)
	if err != nil {
		return err
	}
	_, err = b.pool.CopyFrom(ctx, pgx.Identifier{"job"}, []string{"payload"},
		pgx.CopyFromSlice(len(payloads), func(i int) ([]any, error) { return []any{payloads[i]}, nil }))
	b.hint()
	return err
}

func encoded(all []order) ([][]byte, error) {
	payloads := make([][]byte, len(all))
	for i, o := range all {
		var err error
		if payloads[i], err = json.Marshal(o); err != nil {
			return nil, err
		}
	}
	return payloads, nil
}

func (b *bareSide) submitTx(ctx context.Context, o order) error {
	payload, err := json.Marshal(o)
	if err != nil {
		return err
	}
	return pgx.BeginFunc(ctx, b.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, insertOwn, ownNote); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, bareInsert, payload)
		return err
	})
}

func (b *bareSide) consume(ctx context.Context, w watcher) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	told, count := w.ended, atomic.Int64{}
	w.ended = func(builds int) {
		told(builds)
		if w.total > 0 && count.Add(int64(builds)) == int64(w.total) {
			stop()
		}
	}
	loops, loopCtx := errgroup.WithContext(ctx)
	if b.notify {
		loops.Go(func() error { return b.listen(loopCtx) })
	}
	for range bareConsumers {
		loops.Go(func() error { return b.loop(loopCtx, w) })
	}
	return unlessEnded(ctx, loops.Wait())
}

func (b *bareSide) loop(ctx context.Context, w watcher) error {
	poll := time.NewTicker(100 * time.Millisecond)
	defer poll.Stop()
	for ctx.Err() == nil {
		n, err := b.round(ctx, w)
		if err != nil {
			return err
		}
		if n > 0 {
			continue
		}
		select {
		case <-b.wake:
		case <-poll.C:
		case <-ctx.Done():
		}
	}
	return nil
}

// round claims what there is, up to a limit, and finishes it.
func (b *bareSide) round(ctx context.Context, w watcher) (int, error) {
	rows, err := b.pool.Query(ctx, bareClaim)
	if err != nil {
		return 0, err
	}
	var ids []int64
	var id int64
	var payload []byte
	_, err = pgx.ForEachRow(rows, []any{&id, &payload}, func() error {
		var o order
		if err := json.Unmarshal(payload, &o); err != nil {
			return err
		}
		w.started(o.N)
		ids = append(ids, id)
		return nil
	})
	if err != nil || len(ids) == 0 {
		return 0, err
	}
	done, err := b.pool.Exec(ctx, bareFinish, ids)
	w.ended(int(done.RowsAffected()))
	return len(ids), err
}

// listen passes notifications on.
func (b *bareSide) listen(ctx context.Context) error {
	conn, err := b.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	if _, err := conn.Exec(ctx, `LISTEN job`); err != nil {
		return err
	}
	for {
		if _, err := conn.Conn().WaitForNotification(ctx); err != nil {
			return err
		}
		b.hint()
	}
}

// unlessEnded returns nil for an error that is only the end of ctx.
func unlessEnded(ctx context.Context, err error) error {
	if err != nil && ctx.Err() == nil {
		return err
	}
	return nil
}

// keep has nothing to do.
func (b *bareSide) keep(context.Context) error { return nil }
