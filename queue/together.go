package queue

import (
	"context"
	"errors"
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

// A submit is a build on its way.
type submit struct {
	build NewBuild
	turn  chan struct{} // closed when batch is set, or all is over
	batch []*submit     // those it is to store, itself the first; none if another has stored it
	err   error
	again bool // nobody knows whether it was stored: whoever took it along gave up
}

// submit stores a build, and returns after that.
func (s *submits) submit(ctx context.Context, build NewBuild) error {
	b := &submit{build: build, turn: make(chan struct{})}
	if !s.begin(b) {
		select {
		case <-b.turn:
		case <-ctx.Done():
			if s.leave(b) {
				return context.Cause(ctx)
			}
			<-b.turn
		}
	}
	if b.batch != nil {
		defer s.end()
		s.call(ctx, b.batch)
	}
	if b.again {
		return s.repeat(ctx, b)
	}
	return b.err
}

// begin reports whether b may go at once; else it waits for its turn.
func (s *submits) begin(b *submit) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.calls == togetherCalls {
		s.waiting = append(s.waiting, b)
		return false
	}
	s.calls++
	b.batch = []*submit{b}
	return true
}

// leave takes b out of those who wait. It reports false if its turn has come already.
func (s *submits) leave(b *submit) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.Index(s.waiting, b)
	if i < 0 {
		return false
	}
	s.waiting = slices.Delete(s.waiting, i, i+1)
	return true
}

// end passes the turn on to the first of those who wait, with as many as go together.
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
	first := s.waiting[0]
	first.batch = slices.Clone(s.waiting[:n])
	s.waiting = slices.Delete(s.waiting, 0, n)
	close(first.turn)
}

// call stores the builds of a batch, and tells all but the first what came of it.
func (s *submits) call(ctx context.Context, batch []*submit) {
	builds := make([]NewBuild, len(batch))
	for i, b := range batch {
		builds[i] = b.build
	}
	_, err := s.store(ctx, builds)
	batch[0].err = err
	for _, b := range batch[1:] {
		b.err, b.again = err, err != nil && ctx.Err() != nil
		close(b.turn)
	}
}

// repeat stores a build that may have been stored before. That its id, which nobody else has, is taken says that it was.
func (s *submits) repeat(ctx context.Context, b *submit) error {
	_, err := s.store(ctx, []NewBuild{b.build})
	if errors.Is(err, ErrConflict) {
		return nil
	}
	return err
}
