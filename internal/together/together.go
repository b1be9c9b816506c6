package together

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"time"
)

// Limits bound what goes together.
type Limits[T any] struct {
	// Calls is how many are under way before others wait. At least 1.
	Calls int
	// Most is how many items go together. At least 1.
	Most int
	// Size and Bytes, if Size is set, bound them also by the sum of their sizes. One item may be larger alone.
	Size  func(T) int
	Bytes int
	// Gather is how long after a call has returned whoever comes waits, for more to come along: it bounds the rate of calls. Default:
	// zero.
	Gather time.Duration
}

// A Group brings the items of many goroutines to a function, together. It starts goroutines only for items that wait, and only while
// they do, and has a timer for [Limits].Gather after each call.
type Group[T, R any] struct {
	do     func(ctx context.Context, items []T) ([]R, error)
	limits Limits[T]

	mu      sync.Mutex
	calls   int
	waiting []*request[T, R]
}

// A request is an item that waits to go with others, or is on its way.
type request[T, R any] struct {
	ctx    context.Context
	item   T
	done   chan struct{} // closed when what follows is known
	result R
	err    error
	panic  any // of do
}

// outcome returns what became of r, once it is done. A panic is that of whoever waited, as it would be if it had gone alone: in a goroutine
// that nobody can recover it would be the end of the process.
func (r *request[T, R]) outcome() (R, error) {
	if r.panic != nil {
		panic(r.panic)
	}
	return r.result, r.err
}

// NewGroup returns a Group. It calls do with one item or more, and do returns as many results in their order, or an error for all of
// them. The context of a call for several is nobody's own, so do must end by itself. If do panics so does each [Group.Do] that waited for it.
func NewGroup[T, R any](do func(ctx context.Context, items []T) ([]R, error), limits Limits[T]) *Group[T, R] {
	return &Group[T, R]{do: do, limits: limits}
}

// Do returns what became of an item, or the error of ctx when that ends: then the item may be done all the same, unless it was still
// waiting.
func (g *Group[T, R]) Do(ctx context.Context, item T) (result R, err error) {
	r := &request[T, R]{ctx: ctx, item: item, done: make(chan struct{})}
	if g.begin(r) {
		defer g.end()
		results, err := g.try(ctx, []T{item})
		if err != nil {
			return result, err
		}
		return results[0], nil
	}
	select {
	case <-r.done:
		return r.outcome()
	case <-ctx.Done():
	}
	g.leave(r)
	select {
	case <-r.done:
		return r.outcome()
	default:
		return result, ctx.Err()
	}
}

// try checks that each item has its result.
func (g *Group[T, R]) try(ctx context.Context, items []T) ([]R, error) {
	results, err := g.do(ctx, items)
	if err == nil && len(results) != len(items) {
		err = fmt.Errorf("together: %d results for %d items", len(results), len(items))
	}
	return results, err
}

// begin reports whether r may go at once; else it waits.
func (g *Group[T, R]) begin(r *request[T, R]) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.calls == g.limits.Calls {
		g.waiting = append(g.waiting, r)
		return false
	}
	g.calls++
	return true
}

// leave takes r out of those who wait, if it still does.
func (g *Group[T, R]) leave(r *request[T, R]) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.waiting = slices.DeleteFunc(g.waiting, func(other *request[T, R]) bool { return other == r })
}

// end follows each call: it begins others for those who wait. They are nobody's own, and go on if some of those give up.
func (g *Group[T, R]) end() {
	if g.limits.Gather > 0 { // also if nobody waits yet: calls that are over before the next item comes would go as often as items come
		time.AfterFunc(g.limits.Gather, g.next)
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.waiting) == 0 {
		g.calls--
		return
	}
	go g.call(g.take()) // until do returns, whoever still waits
}

// next calls for those who have waited for more to come.
func (g *Group[T, R]) next() {
	g.mu.Lock()
	batch := g.take()
	if len(batch) == 0 { // nobody has come, or all have given up
		g.calls--
	}
	g.mu.Unlock()
	if len(batch) > 0 {
		g.call(batch)
	}
}

// take returns those who go next. The caller holds g.mu.
func (g *Group[T, R]) take() []*request[T, R] {
	var n, size int
	for n < min(len(g.waiting), g.limits.Most) {
		if g.limits.Size != nil {
			if size += g.limits.Size(g.waiting[n].item); n > 0 && size > g.limits.Bytes {
				break
			}
		}
		n++
	}
	batch := slices.Clone(g.waiting[:n])
	g.waiting = slices.Delete(g.waiting, 0, n)
	return batch
}

// call does the items of a batch.
func (g *Group[T, R]) call(batch []*request[T, R]) {
	defer g.end()
	items := make([]T, len(batch))
	for i, r := range batch {
		items[i] = r.item
	}
	err := errors.New("together: the call never returned") // it ended its goroutine
	var results []R
	defer func() {
		cause := recover()
		if cause != nil {
			cause = fmt.Sprintf("%v\n\nin a call for %d:\n%s", cause, len(items), debug.Stack())
		}
		for i, r := range batch {
			if r.err, r.panic = err, cause; err == nil {
				r.result = results[i]
			}
			close(r.done)
		}
	}()
	results, err = g.try(context.WithoutCancel(batch[0].ctx), items)
}
