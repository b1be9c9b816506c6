package queue

import (
	"context"
	"errors"
	"iter"
	"sync"
	"time"
)

// watchPoll is how often a watch looks without a hint, at the least.
const watchPoll = 2 * time.Second

// Wait waits for the end of a build and returns the build as it ended.
//
// Errors: [ErrNotFound], also when the build is deleted meanwhile; that of ctx when it ends first. A database that is away for a while
// after the first look is waited for.
func (q *Queue) Wait(ctx context.Context, project string, id ID) (Build, error) {
	var last Build
	for b, err := range q.Watch(ctx, project, id) {
		if err != nil {
			return Build{}, err
		}
		last = b
	}
	return last, nil
}

// Watch yields a build as it is, and again after each change of it that it sees, up to the end of the build. It reads the build when a
// hint says that it changed, and now and then without one, so of changes that follow each other closely it may see the last only. The
// spec comes along. It ends after the build has, or with an error as [Queue.Wait] has them, which comes with the zero Build. It may be
// ranged over again, which begins anew.
func (q *Queue) Watch(ctx context.Context, project string, id ID) iter.Seq2[Build, error] {
	return func(yield func(Build, error) bool) {
		changed := q.watchers.join(id)
		defer q.watchers.leave(id, changed)
		timer := time.NewTimer(watchPoll)
		defer timer.Stop()
		pace := newPace(watchPoll)
		var last Build
		for {
			b, err := q.Get(ctx, project, id)
			known := !last.ID.IsZero()
			switch {
			case err == nil && (!known || !b.same(&last)):
				last = b
				pace.quicken()
				if !yield(b, nil) || b.State.Terminal() {
					return
				}
			case err != nil && !(known && ctx.Err() == nil && errors.Is(err, ErrUnavailable)):
				yield(Build{}, err)
				return
			}
			timer.Reset(pace.next())
			select {
			case <-changed:
			case <-timer.C:
			case <-ctx.Done():
				yield(Build{}, wrap("watch", id, ctx.Err()))
				return
			}
		}
	}
}

// same reports whether nothing of a build has changed that can.
func (b *Build) same(o *Build) bool {
	return b.State == o.State && b.Epoch == o.Epoch && b.AttemptsUsed == o.AttemptsUsed && b.Worker == o.Worker &&
		b.Reason == o.Reason && b.IdempotencyKey == o.IdempotencyKey && b.NotBefore.Equal(o.NotBefore) &&
		b.StartedAt.Equal(o.StartedAt) && b.FinishedAt.Equal(o.FinishedAt)
}

// Watchers are those who wait for changes of builds, in this process. Each has a bell.
type watchers struct {
	mu   sync.Mutex
	byID map[ID]map[bell]bool
}

func (w *watchers) join(id ID) bell {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.byID == nil {
		w.byID = make(map[ID]map[bell]bool)
	}
	if w.byID[id] == nil {
		w.byID[id] = make(map[bell]bool)
	}
	b := newBell()
	w.byID[id][b] = true
	return b
}

func (w *watchers) leave(id ID, b bell) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.byID[id], b)
	if len(w.byID[id]) == 0 {
		delete(w.byID, id)
	}
}

// ring tells the watchers of builds that these changed.
func (w *watchers) ring(changed []ID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.byID) == 0 {
		return
	}
	for _, id := range changed {
		for b := range w.byID[id] {
			b.ring()
		}
	}
}

// ringClaimed tells the watchers of builds that a worker was given them.
func (w *watchers) ringClaimed(claimed []Claimed) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.byID) == 0 {
		return
	}
	for i := range claimed {
		for b := range w.byID[claimed[i].Build] {
			b.ring()
		}
	}
}

// ringAll has all look, when some builds changed that nobody names.
func (w *watchers) ringAll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, bells := range w.byID {
		for b := range bells {
			b.ring()
		}
	}
}
