package queuetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/slipway-build/slipway/queue"
)

// crowd is how many goroutines do the same thing at once.
const crowd = 8

var concurrencyCases = []testCase{
	{
		"ClaimOnce",
		"A method may be called by any number of goroutines at once: each claim of a build has an epoch of its own, one above the last.",
		func(s *subject) {
			builds := s.drafts(60)
			s.submit(builds...)
			s.maintain(s.rules())
			class := s.class(builds[0].Pool, builds[0].Labels)
			var sessions []queue.SessionID
			for range crowd {
				sessions = append(sessions, s.worker())
			}
			var mu sync.Mutex
			epochs := make(map[queue.ID][]int64)
			var finished atomic.Int64
			s.together(func(ctx context.Context, i int) error {
				slots := []queue.SessionID{sessions[i], sessions[i], sessions[i]}
				if i%2 > 0 { // a backend may have a shorter way for one session
					slots[0] = sessions[i-1]
				}
				demand := []queue.Demand{demand(class, slots...)}
				for finished.Load() < int64(len(builds)) {
					claimed, err := s.Claim(ctx, demand, offerTime, s.now)
					if err != nil {
						return err
					}
					for _, c := range claimed {
						mu.Lock()
						twice := slices.Contains(epochs[c.Build], c.Epoch)
						epochs[c.Build] = append(epochs[c.Build], c.Epoch)
						mu.Unlock()
						if twice {
							return fmt.Errorf("%v was claimed twice", c.AttemptID)
						}
						ended, err := s.work(ctx, c)
						if err != nil {
							return err
						}
						if ended {
							finished.Add(1)
						}
					}
				}
				return nil
			})
			for _, b := range builds {
				got := s.get(b)
				slices.Sort(epochs[b.ID])
				for i, epoch := range epochs[b.ID] {
					if epoch != int64(i+1) {
						s.Errorf("build %v was claimed with epochs %v", b.ID, epochs[b.ID])
						break
					}
				}
				if got.State != queue.Succeeded || got.Epoch != int64(len(epochs[b.ID])) || got.AttemptsUsed != 1 {
					s.Errorf("build is %s after epochs %v", describe(got), epochs[b.ID])
				}
			}
		},
	},
	{
		"SubmitTwins",
		"If an id is taken, nothing is inserted: of several submits of one id at once, one counts.",
		func(s *subject) {
			id := queue.NewID()
			builds := s.drafts(crowd)
			var won atomic.Int64
			s.together(func(ctx context.Context, i int) error {
				b := builds[i]
				b.ID, b.Spec = id, fmt.Appendf(nil, "spec %d", i)
				_, err := s.Submit(ctx, []queue.NewBuild{b}, s.now)
				if err == nil {
					won.Add(1)
				}
				if errors.Is(err, queue.ErrConflict) {
					return nil
				}
				return err
			})
			if won.Load() != 1 {
				s.Errorf("%d submits of one id counted", won.Load())
			}
		},
	},
	{
		"SessionTwins",
		"OpenSessions ends any other session of the same worker: of several at once, one stays.",
		func(s *subject) {
			builds := s.drafts(2 * crowd)
			s.submit(builds...)
			s.maintain(s.rules())
			facts := s.facts()
			s.beat(facts.Controller)
			var sessions [crowd]queue.SessionID
			s.together(func(ctx context.Context, i int) (err error) {
				sessions[i], err = Open(ctx, s, facts, s.now)
				return err
			})
			live := 0
			for _, session := range sessions {
				if len(s.claim(builds[0], session)) == 1 {
					live++
				}
			}
			if ended := s.beat(facts.Controller).Ended; live != 1 || len(ended) != crowd-1 {
				s.Errorf("%d sessions of one worker are live and %v have ended, want 1 and %d", live, ended, crowd-1)
			}
		},
	},
	{
		"MaintainTwins",
		"Maintain may run in many processes at once: what is due is moved once.",
		func(s *subject) {
			builds := s.drafts(40)
			for i := range builds {
				builds[i].QueueTimeout = runTimeout
			}
			s.submit(builds...)
			maintain := func(what string, count func(queue.Maintained) int, want int64) {
				s.Helper()
				var sum atomic.Int64
				s.together(func(ctx context.Context, _ int) error {
					for {
						done, err := s.Maintain(ctx, s.rules(), s.now)
						sum.Add(int64(count(done)))
						if err != nil || !done.More {
							return err
						}
					}
				})
				sum.Add(int64(count(s.maintain(s.rules()))))
				if sum.Load() != want {
					s.Errorf("%d %s in all, want %d", sum.Load(), what, want)
				}
			}
			maintain("queued", func(m queue.Maintained) int { return m.Queued }, 40)
			s.wantHead(builds[0], 40)
			s.pass(2 * runTimeout)
			maintain("expired", func(m queue.Maintained) int { return m.Expired }, 40)
		},
	},
	{
		"SubmitWhileInterning",
		"A build of an unknown class is held until Maintain has made its class: none stays held, however submits and Maintain meet.",
		func(s *subject) {
			builds := s.drafts(crowd * 5)
			s.together(func(ctx context.Context, i int) error {
				for _, b := range builds[5*i : 5*i+5] {
					if _, err := s.Submit(ctx, []queue.NewBuild{b}, s.now); err != nil {
						return err
					}
					if i%2 == 0 {
						if _, err := s.Maintain(ctx, s.rules(), s.now); err != nil {
							return err
						}
					}
				}
				return nil
			})
			s.maintain(s.rules())
			s.wantHead(builds[0], len(builds))
			if classes, err := s.Classes(s.ctx, 0, 100); err != nil || len(classes) != 1 {
				s.Errorf("classes are %v, %v, want one", classes, err)
			}
		},
	},
	{
		"ClassesWhileInterning",
		"A class never becomes visible after one with a higher id, so that a reader who remembers the highest misses none.",
		func(s *subject) {
			var drafts [crowd][]queue.NewBuild
			for i := range drafts {
				for range 5 {
					drafts[i] = append(drafts[i], s.draft())
				}
			}
			var writers atomic.Int64
			writers.Store(crowd - 1)
			var seen []queue.Class
			s.together(func(ctx context.Context, i int) error {
				if i == 0 {
					for last := queue.ClassID(0); ; {
						open := writers.Load()
						page, err := s.Classes(ctx, last, 3)
						if err != nil || open == 0 && len(page) == 0 {
							return err
						}
						for _, c := range page {
							seen, last = append(seen, c), c.ID
						}
					}
				}
				defer writers.Add(-1)
				for _, b := range drafts[i] {
					if _, err := s.Submit(ctx, []queue.NewBuild{b}, s.now); err != nil {
						return err
					}
					if _, err := s.Maintain(ctx, s.rules(), s.now); err != nil {
						return err
					}
				}
				return nil
			})
			all, err := s.Classes(s.ctx, 0, 1000)
			s.must(err)
			if len(all) != 5*(crowd-1) || len(seen) != len(all) {
				s.Errorf("a reader who remembers the highest class found %d of %d, want %d", len(seen), len(all), 5*(crowd-1))
			}
		},
	},
}

// together runs f in a crowd of goroutines, lets them go at the same moment, and reports the first error, which ends their context.
func (s *subject) together(f func(ctx context.Context, i int) error) {
	s.Helper()
	s.gather(crowd, f)
}

// gather is together with n goroutines.
func (s *subject) gather(n int, f func(ctx context.Context, i int) error) {
	s.Helper()
	ctx, cancel := context.WithCancelCause(s.ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-start
			if err := f(ctx, i); err != nil {
				cancel(err)
			}
		})
	}
	close(start)
	wg.Wait()
	s.must(context.Cause(ctx))
}

// work gives a claimed build back the first time if its id says so, or carries it through. It reports whether the build ended.
func (s *subject) work(ctx context.Context, c queue.Claimed) (ended bool, err error) {
	id := c.AttemptID
	if c.Epoch == 1 && id.Build[15]%3 == 0 {
		_, err := s.Release(ctx, []queue.AttemptID{id}, 0, s.now)
		return false, err
	}
	accepted, err := s.Accept(ctx, []queue.Acceptance{acceptance(id, c.Session)}, s.now)
	if err != nil || len(accepted) != 1 {
		return false, fmt.Errorf("accept of %v: %v, %w", id, accepted, err)
	}
	done, err := s.Finish(ctx, []queue.Completion{report(id, queue.Succeeded)}, avoid, s.now)
	if err != nil || len(done) != 1 {
		return false, fmt.Errorf("finish of %v: %v, %w", id, done, err)
	}
	return true, nil
}
