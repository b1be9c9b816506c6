package queue

import (
	"context"
	"fmt"
	"time"
)

// Submit adds a build and returns its id. When it returns nil, the build is stored and will be given to a worker. An id that is not
// params.ID, if that was given, is of an earlier build with the same idempotency key.
//
// Builds with neither an id nor an idempotency key that many goroutines submit at once are stored a few dozen at a time, in changes that they
// share; each returns when its own is stored. So a thousand callers cost the backend little more than one.
//
// Errors: [ErrInvalid]; [ErrConflict] if params.ID is taken, or if the idempotency key was used for a build that differs. So a submit
// whose outcome was not learned can be made again with the same id or, better, the same key.
func (q *Queue) Submit(ctx context.Context, params Params) (ID, error) {
	if !params.ID.IsZero() || params.IdempotencyKey != "" { // it may have to wait for another submit of the same, and nobody else for that
		ids, err := q.SubmitMany(ctx, []Params{params})
		if err != nil {
			return ID{}, err
		}
		return ids[0], nil
	}
	builds, err := q.Prepare(params)
	if err != nil {
		return ID{}, wrap("submit", ID{}, err)
	}
	if _, err := q.submits.Do(ctx, builds[0]); err != nil {
		return ID{}, wrap("submit", builds[0].ID, err)
	}
	return builds[0].ID, nil
}

// SubmitMany adds builds, all or none, and returns their ids in the order of params. At most [MaxBatch] at once.
func (q *Queue) SubmitMany(ctx context.Context, params []Params) ([]ID, error) {
	return q.submitBy(params, func(builds []NewBuild) ([]Submitted, error) { return q.store(ctx, builds) })
}

// store submits builds to the backend, hands over those that start at once, and tells of the others. Where some may start, a caller that
// gives up does not take the submit along: what has started is to be run.
func (q *Queue) store(ctx context.Context, builds []NewBuild) ([]Submitted, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	h := q.handOver(builds)
	if !h.any() {
		return q.storeAll(ctx, builds, h)
	}
	type answer struct {
		done []Submitted
		err  error
	}
	answered := make(chan answer, 1)
	go func() { // until the backend returns, which it does within a limit of its own
		done, err := q.storeAll(context.WithoutCancel(ctx), builds, h)
		answered <- answer{done, err}
	}()
	select {
	case a := <-answered:
		return a.done, a.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (q *Queue) storeAll(ctx context.Context, builds []NewBuild, h handover) ([]Submitted, error) {
	done, err := q.backend.Submit(ctx, builds, time.Time{})
	if err == nil && len(done) != len(builds) {
		err = fmt.Errorf("the backend told what became of %d builds, of %d", len(done), len(builds))
	}
	h.end(q, builds, done, err)
	if err == nil {
		q.tell(submitted(done))
	}
	return done, err
}

// SubmitBy prepares builds as [Queue.Prepare] does, has insert store them, all or none, and returns their ids in the order of params.
// It is for backends that submit in a caller's own transaction, after which the caller says so by [Queue.Wake]. Without params, insert is not
// called. Errors are [*Error].
func (q *Queue) SubmitBy(params []Params, insert func([]NewBuild) ([]Submitted, error)) ([]ID, error) {
	return q.submitBy(params, func(builds []NewBuild) ([]Submitted, error) {
		done, err := insert(builds)
		if err == nil {
			q.unsaid.add(submitted(done))
		}
		return done, err
	})
}

func (q *Queue) submitBy(params []Params, insert func([]NewBuild) ([]Submitted, error)) ([]ID, error) {
	builds, err := q.Prepare(params...)
	if err != nil {
		return nil, wrap("submit", ID{}, err)
	}
	if len(builds) == 0 {
		return nil, nil
	}
	done, err := insert(builds)
	if err != nil {
		return nil, wrap("submit", builds[0].ID, err)
	}
	ids := make([]ID, len(done))
	for i := range done {
		ids[i] = done[i].ID
	}
	return ids, nil
}
