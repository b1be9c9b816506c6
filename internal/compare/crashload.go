package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/slipway-build/slipway/queue"
)

// A crashLoad is what goes on on a server that crashes, and what those were told who take part.
type crashLoad struct {
	db   *database
	side *slipwaySide

	ended atomic.Int64 // handlers that returned

	mu       sync.Mutex
	accepted map[queue.ID]bool        // builds whose submit returned success
	done     map[queue.AttemptID]bool // attempts that their handler carried through
}

func newCrashLoad(db *database, side *slipwaySide) *crashLoad {
	return &crashLoad{db: db, side: side, accepted: make(map[queue.ID]bool), done: make(map[queue.AttemptID]bool)}
}

// submit submits builds, each until it is told that it is there, until over is set. Every second names its id, and the others have
// idempotency keys.
func (l *crashLoad) submit(ctx context.Context, who int, over *atomic.Bool) error {
	for n := 0; !over.Load(); n++ {
		params, err := slipwayParams(newOrder(int64(n)))
		if err != nil {
			return err
		}
		if n%2 == 0 {
			params.ID = queue.NewID()
		} else {
			params.IdempotencyKey = fmt.Sprintf("%d/%d", who, n)
		}
		id, err := l.insist(ctx, params)
		if err != nil {
			return err
		}
		l.mu.Lock()
		l.accepted[id] = true
		l.mu.Unlock()
		if err := pause(ctx, rand.N(10*time.Millisecond)); err != nil {
			return err
		}
	}
	return nil
}

// insist submits a build until the outcome is known. A conflict is with the call before.
func (l *crashLoad) insist(ctx context.Context, params queue.Params) (queue.ID, error) {
	for {
		id, err := l.side.queue.Submit(ctx, params)
		switch {
		case err == nil:
			return id, nil
		case ctx.Err() != nil:
			return queue.ID{}, ctx.Err()
		case errors.Is(err, queue.ErrConflict) && !params.ID.IsZero():
			return params.ID, nil
		case !errors.Is(err, queue.ErrUnavailable) && !errors.Is(err, context.DeadlineExceeded):
			return queue.ID{}, fmt.Errorf("nobody can know whether to submit again: %w", err)
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return queue.ID{}, err
		}
	}
}

// work runs a worker with connections and a queue of its own, as a process of its own would.
func (l *crashLoad) work(ctx context.Context, name string) error {
	pool, err := openPool(ctx, l.db.url, crashConns)
	if err != nil {
		return err
	}
	defer pool.Close()
	side, err := openSlipway(pool, crashOptions)
	if err != nil {
		return err
	}
	worker := queue.NewWorker(side.queue, name, &queue.WorkerOptions{Slots: crashSlots})
	return worker.Run(ctx, func(ctx context.Context, job *queue.Job) error {
		if err := pause(ctx, rand.N(2*crashBuild)); err != nil {
			return err
		}
		l.mu.Lock()
		l.done[job.AttemptID] = true
		l.mu.Unlock()
		l.ended.Add(1)
		return nil
	})
}

// more waits until so many builds more were carried through.
func (l *crashLoad) more(ctx context.Context, builds int) error {
	for goal := l.ended.Load() + int64(builds); l.ended.Load() < goal; {
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return fmt.Errorf("%d builds were carried through, and no more: %w", l.ended.Load(), err)
		}
	}
	return nil
}

// drain waits until every build has ended.
func (l *crashLoad) drain(ctx context.Context) error {
	for {
		var left int
		err := l.db.pool.QueryRow(ctx, slipwayContender().unended).Scan(&left)
		if err == nil && left == 0 {
			return nil
		}
		if pause(ctx, 50*time.Millisecond) != nil {
			return fmt.Errorf("%d builds have not ended: %w", left, errors.Join(ctx.Err(), err))
		}
	}
}

// A crashRow is an attempt as it is stored, with its build.
type crashRow struct {
	id        queue.AttemptID
	succeeded bool // the build
	won       bool // the attempt
	reaped    bool // nobody reported its end
}

// attemptsSQL returns the attempts of all builds but of the one that made the class, which was canceled. Epoch 0 stands for a build without
// attempts. As it is stored, 5 is a success, 7 is canceled, and an attempt whose end somebody reported has a result.
const attemptsSQL = `
SELECT b.id::text, coalesce(a.epoch, 0), b.state = 5, coalesce(a.outcome = 5, false), a.epoch IS NOT NULL AND a.result IS NULL
FROM slipway.build b LEFT JOIN slipway.attempt a ON a.build_id = b.id
WHERE b.state <> 7`

// settle holds what is stored against what was told.
func (l *crashLoad) settle(ctx context.Context, crashes int) ([]finding, error) {
	rows, err := l.db.pool.Query(ctx, attemptsSQL)
	if err != nil {
		return nil, err
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (r crashRow, err error) {
		var id string
		if err := row.Scan(&id, &r.id.Epoch, &r.succeeded, &r.won, &r.reaped); err != nil {
			return r, err
		}
		r.id.Build, err = queue.ParseID(id)
		return r, err
	})
	if err != nil {
		return nil, err
	}
	return append(l.judge(all),
		finding{Figure: "crash.kills", Unit: "times that all processes of the server were killed", Value: float64(crashes)},
		finding{Figure: "crash.stopped", Unit: "seconds for which the server was stopped once", Value: crashStop.Seconds()},
	), nil
}

// judge says what is wrong with attempts that are stored.
func (l *crashLoad) judge(all []crashRow) []finding {
	l.mu.Lock()
	defer l.mu.Unlock()
	stored, wins := make(map[queue.ID]bool), make(map[queue.ID]int)
	var strays, reaped, winners float64
	for _, r := range all {
		if !stored[r.id.Build] && !l.accepted[r.id.Build] {
			strays++
		}
		stored[r.id.Build] = stored[r.id.Build] || r.succeeded
		if r.reaped {
			reaped++
		}
		if r.won {
			if wins[r.id.Build]++; wins[r.id.Build] > 1 || !l.done[r.id] {
				winners++
			}
		}
	}
	var lost, unended float64
	for id := range l.accepted {
		succeeded, there := stored[id]
		switch {
		case !there:
			lost++
		case !succeeded || wins[id] == 0:
			unended++
		}
	}
	return []finding{
		{Figure: "crash.lost", Unit: "builds that are not there, and whose submit returned success", Value: lost, Limit: new(0.0)},
		{Figure: "crash.strays", Unit: "builds that are there twice, or that nobody submitted", Value: strays, Limit: new(0.0)},
		{Figure: "crash.winners", Unit: "attempts that won after another, or that nobody carried through", Value: winners, Limit: new(0.0)},
		{Figure: "crash.unended", Unit: "builds that did not succeed", Value: unended, Limit: new(0.0)},
		{Figure: "crash.reaped", Unit: "attempts that were ended without their worker, which lived", Value: reaped, Limit: new(0.0)},
		{Figure: "crash.builds", Unit: "builds submitted", Value: float64(len(l.accepted))},
		{Figure: "crash.attempts", Unit: "attempts", Value: float64(len(all))},
	}
}
