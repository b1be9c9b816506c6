package queue

import (
	"context"
	"slices"
	"sync"
)

// As a database commits in groups, so goroutines submit: one that comes while others are with the backend waits for one of them to
// return, and then goes together with all that came meanwhile. A batch costs the backend little more than a single build, so that the rate
// of many submitters does not end where that of single changes does. Whoever comes alone waits for nobody.
const (
	// togetherCalls is how many calls of the backend are under way before others wait: one that it works on, and one on its way.
	togetherCalls = 2
	// togetherBuilds and togetherBytes bound a batch.
	togetherBuilds = 500
	togetherBytes  = 4 << 20
)

// Submits bring single builds to a backend, together.
type submits struct {
	store func(ctx context.Context, builds []NewBuild) ([]Submitted, error)

	mu      sync.Mutex
	calls   int
	waiting []*submit
}

// A submit is a build that waits to go with others, or is on its way.
type submit struct {
	ctx   context.Context
	build NewBuild
	done  chan struct{} // closed when err is known
	err   error
}

// submit stores a build, and returns after that, or when ctx ends: then the build may be stored all the same, unless it was still waiting.
func (s *submits) submit(ctx context.Context, build NewBuild) error {
	b := &submit{ctx: ctx, build: build, done: make(chan struct{})}
	if s.begin(b) {
		defer s.end()
		_, err := s.store(ctx, []NewBuild{build})
		return err
	}
	select {
	case <-b.done:
		return b.err
	case <-ctx.Done():
	}
	s.leave(b)
	select {
	case <-b.done:
		return b.err
	default:
		return ctx.Err()
	}
}

// begin reports whether b may go at once; else it waits.
func (s *submits) begin(b *submit) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.calls == togetherCalls {
		s.waiting = append(s.waiting, b)
		return false
	}
	s.calls++
	return true
}

// leave takes b out of those who wait, if it still does.
func (s *submits) leave(b *submit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting = slices.DeleteFunc(s.waiting, func(other *submit) bool { return other == b })
}

// end follows each call: it begins another for those who wait. That is nobody's own, and goes on if some of them give up.
func (s *submits) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.waiting) == 0 {
		s.calls--
		return
	}
	var n, size int
	for n < min(len(s.waiting), togetherBuilds) {
		if size += len(s.waiting[n].build.Spec); n > 0 && size > togetherBytes {
			break
		}
		n++
	}
	batch := slices.Clone(s.waiting[:n])
	s.waiting = slices.Delete(s.waiting, 0, n)
	go s.call(batch) // until the backend returns, which it does within a limit of its own, whoever still waits
}

// call stores the builds of a batch.
func (s *submits) call(batch []*submit) {
	defer s.end()
	builds := make([]NewBuild, len(batch))
	for i, b := range batch {
		builds[i] = b.build
	}
	_, err := s.store(context.WithoutCancel(batch[0].ctx), builds)
	for _, b := range batch {
		b.err = err
		close(b.done)
	}
}
