package queue

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"
)

// cancelPoll is how often a worker looks for builds to stop, if nothing hints that there are some.
const cancelPoll = 500 * time.Millisecond

// beatLoop keeps this process alive in the eyes of others, and holds the jobs against the leases that are stored.
func (s *shift) beatLoop(ctx context.Context) error {
	ttl := s.queue.opts.ControllerTTL
	for {
		begun := time.Now()
		call, cancel := context.WithTimeout(ctx, ttl/2)
		beat, err := s.queue.Beat(call)
		if err == nil {
			s.mu.Lock()
			s.beaten = begun
			s.mu.Unlock()
			if slices.Contains(beat.Ended, s.session) {
				s.replace()
			}
			err = s.reconcile(call)
		}
		cancel()
		if err != nil && ctx.Err() == nil {
			s.opts.Logger.Warn("heartbeat failed", "worker", s.name, "error", err)
		}
		if !s.alive() {
			s.stopAll(ErrStaleLease)
		}
		every := ttl / 4
		if err != nil {
			every = min(every, time.Second)
		}
		if !pause(ctx, every) {
			return nil
		}
	}
}

// replace notes that the session is over.
func (s *shift) replace() {
	s.mu.Lock()
	s.replaced = true
	s.mu.Unlock()
	s.stopAll(ErrStaleLease)
	s.wakes.Ring()
}

// reconcile stops what has no lease any more, and ends as lost what has a lease and is not known here: a claim whose answer did not
// arrive. No claim is under way meanwhile.
func (s *shift) reconcile(ctx context.Context) error {
	s.claiming.Lock()
	defer s.claiming.Unlock()
	s.mu.Lock()
	before := make(map[AttemptID]bool, len(s.jobs))
	for id := range s.jobs {
		before[id] = true
	}
	s.mu.Unlock()
	leases, err := s.queue.Leases(ctx)
	if err != nil {
		return err
	}
	var unknown []Completion
	s.mu.Lock()
	for _, l := range leases {
		if l.Session != s.session {
			continue
		}
		if job := s.jobs[l.AttemptID]; job != nil {
			delete(before, l.AttemptID)
			if l.State == Cancelling {
				job.stop(ErrCanceled)
			}
		} else if l.State.Leased() && !before[l.AttemptID] {
			unknown = append(unknown, Completion{
				AttemptID: l.AttemptID, Session: s.session, Outcome: Lost, Reason: "the answer to its claim was lost", LogPartial: true,
			})
		}
		delete(before, l.AttemptID)
	}
	for id := range before {
		if job := s.jobs[id]; job != nil && !job.reported {
			job.stop(ErrStaleLease)
		}
	}
	s.mu.Unlock()
	_, err = s.queue.FinishMany(ctx, unknown)
	return err
}

// cancelLoop looks for builds that are to be stopped, while any run.
func (s *shift) cancelLoop(ctx context.Context) error {
	for pause(ctx, cancelPoll) {
		if s.holds() == 0 {
			continue
		}
		leases, err := s.queue.Cancels(ctx)
		if err != nil {
			continue // the heartbeat tells
		}
		s.mu.Lock()
		for _, l := range leases {
			if job := s.jobs[l.AttemptID]; job != nil {
				job.stop(ErrCanceled)
			}
		}
		s.mu.Unlock()
	}
	return nil
}

// finishLoop stores outcomes: all that there are at a time. While it does, others gather for the next.
func (s *shift) finishLoop(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.ending:
		}
		for {
			s.mu.Lock()
			jobs := s.ended[:min(len(s.ended), MaxBatch)]
			s.ended = slices.Clone(s.ended[len(jobs):])
			s.mu.Unlock()
			if len(jobs) == 0 {
				break
			}
			if !s.finish(ctx, jobs) {
				return nil
			}
		}
	}
}

// finish stores the outcomes of jobs, however long that takes, and frees their slots. It reports false if ctx ended before.
func (s *shift) finish(ctx context.Context, jobs []*Job) bool {
	ends := make([]Completion, len(jobs))
	for i, job := range jobs {
		ends[i] = job.end
	}
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		done, err := s.queue.FinishMany(ctx, ends)
		if err == nil {
			if stale := len(ends) - len(done); stale > 0 {
				s.opts.Logger.Warn("outcomes did not count: their leases were lost", "worker", s.name, "builds", stale)
			}
			break
		}
		s.opts.Logger.Warn("outcomes not stored yet", "worker", s.name, "builds", len(ends), "error", err)
		if !pause(ctx, wait) {
			return false
		}
	}
	s.mu.Lock()
	for _, job := range jobs {
		delete(s.jobs, job.AttemptID)
	}
	empty := len(s.jobs) == 0
	s.mu.Unlock()
	s.wakes.Ring()
	if empty {
		signal(s.over)
	}
	return true
}

// pause waits for about d, and reports false if ctx ends before.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d - d/8 + rand.N(d/4+1))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
