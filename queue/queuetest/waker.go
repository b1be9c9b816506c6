package queuetest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/slipway-build/slipway/queue"
)

// wakerCases check a backend that is a [queue.Waker], and nothing of one that is none.
var wakerCases = []testCase{
	{
		"Arrives",
		"Notify passes a hint on to all that listen. Listen begins with a hint of Any.",
		func(s *subject) {
			s.listening(2, func(w queue.Waker, ears []*ear) {
				for _, e := range ears {
					if h := e.next(s); !h.Any {
						s.Errorf("the first hint is %+v, want Any", h)
					}
				}
				sent := queue.Hint{
					Heads: []queue.Head{{Class: 3, Rank: -5}, {Class: 1, Rank: 1 << 60}}, Waiting: true, Cancel: true,
					Changed: []queue.ID{queue.NewID(), queue.NewID()},
				}
				for i, e := range ears {
					var got queue.Hint
					e.until(s, func() error { return w.Notify(s.ctx, sent) }, func(h queue.Hint) bool {
						got = merge(got, h)
						return covers(got, sent)
					})
					s.Helper()
					if !covers(got, sent) {
						s.Errorf("listener %d heard %+v, want %+v", i, got, sent)
					}
				}
			})
		},
	},
	{
		"TooLarge",
		"Any says that more changed than a hint holds: what is too large to be passed on is not lost without a word.",
		func(s *subject) {
			s.listening(1, func(w queue.Waker, ears []*ear) {
				ears[0].next(s)
				var sent queue.Hint
				for i := range 5000 {
					sent.Changed = append(sent.Changed, queue.NewID())
					sent.Heads = append(sent.Heads, queue.Head{Class: queue.ClassID(i + 1), Rank: int64(i) << 40})
				}
				var got queue.Hint
				ears[0].until(s, func() error { return w.Notify(s.ctx, sent) }, func(h queue.Hint) bool {
					got = merge(got, h)
					return got.Any || covers(got, sent)
				})
			})
		},
	},
	{
		"Ends",
		"Listen ends when ctx ends, with an error.",
		func(s *subject) {
			w, ok := s.Backend.(queue.Waker)
			if !ok {
				return
			}
			ctx, cancel := context.WithCancel(s.ctx)
			defer cancel()
			err := w.Listen(ctx, func(queue.Hint) { cancel() })
			if err == nil || s.ctx.Err() != nil {
				s.Errorf("Listen returned %v", err)
			}
			ended, cancel := context.WithCancel(s.ctx)
			cancel()
			if err := w.Listen(ended, func(queue.Hint) {}); err == nil {
				s.Errorf("Listen with a context that has ended returned no error")
			}
		},
	},
	{
		"OneByOne",
		"Calls of wake do not overlap.",
		func(s *subject) {
			w, ok := s.Backend.(queue.Waker)
			if !ok {
				return
			}
			ctx, cancel := context.WithCancel(s.ctx)
			defer cancel()
			var calls sync.Mutex
			var heard int
			var wg sync.WaitGroup
			wg.Go(func() {
				defer cancel()
				_ = w.Listen(ctx, func(queue.Hint) {
					if !calls.TryLock() {
						s.Errorf("calls of wake overlap")
						return
					}
					defer calls.Unlock()
					if heard++; heard > 3 {
						cancel()
					}
				})
			})
			for i := 0; ctx.Err() == nil; i++ {
				_ = w.Notify(ctx, queue.Hint{Heads: []queue.Head{{Class: queue.ClassID(i%100 + 1)}}})
			}
			wg.Wait()
			if s.ctx.Err() != nil {
				s.Errorf("%d hints were heard", heard)
			}
		},
	},
}

// An ear is somebody who listens.
type ear struct{ hints chan queue.Hint }

// listening runs f while n listen; not at all if the backend is no Waker.
func (s *subject) listening(n int, f func(w queue.Waker, ears []*ear)) {
	s.Helper()
	w, ok := s.Backend.(queue.Waker)
	if !ok {
		return
	}
	ctx, cancel := context.WithCancel(s.ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	var ears []*ear
	for range n {
		e := &ear{hints: make(chan queue.Hint, 1)}
		ears = append(ears, e)
		wg.Go(func() {
			err := w.Listen(ctx, func(h queue.Hint) {
				select {
				case e.hints <- h:
				case <-ctx.Done():
				}
			})
			if ctx.Err() == nil {
				s.Errorf("Listen ended: %v", err)
			}
		})
	}
	f(w, ears)
}

// next returns the next hint.
func (e *ear) next(s *subject) queue.Hint {
	s.Helper()
	select {
	case h := <-e.hints:
		return h
	case <-s.ctx.Done():
		s.Fatalf("no hint arrives")
		return queue.Hint{}
	}
}

// until sends, again and again since hints may be lost, until what was heard is enough.
func (e *ear) until(s *subject, send func() error, enough func(queue.Hint) bool) {
	s.Helper()
	again := time.NewTicker(500 * time.Millisecond)
	defer again.Stop()
	s.must(send())
	for {
		select {
		case h := <-e.hints:
			if enough(h) {
				return
			}
		case <-again.C:
			s.must(send())
		case <-s.ctx.Done():
			s.Fatalf("what was sent does not arrive: %v", fmt.Sprint(context.Cause(s.ctx)))
		}
	}
}

// merge puts two hints together.
func merge(x, y queue.Hint) queue.Hint {
	return queue.Hint{
		Heads: slices.Concat(x.Heads, y.Heads), Waiting: x.Waiting || y.Waiting, Cancel: x.Cancel || y.Cancel,
		Changed: slices.Concat(x.Changed, y.Changed), Any: x.Any || y.Any,
	}
}

// covers reports whether a hint says all that another does. The counts of heads do not matter.
func covers(got, want queue.Hint) bool {
	for _, h := range want.Heads {
		if !slices.ContainsFunc(got.Heads, func(g queue.Head) bool { return g.Class == h.Class && g.Rank == h.Rank }) {
			return false
		}
	}
	for _, id := range want.Changed {
		if !slices.Contains(got.Changed, id) {
			return false
		}
	}
	return (got.Waiting || !want.Waiting) && (got.Cancel || !want.Cancel)
}
