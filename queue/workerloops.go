package queue

import (
	"context"
	"maps"
	"slices"
	"time"
)

// cancelPoll is how often a worker looks for builds to stop, if nothing hints that there are some.
const cancelPoll = 500 * time.Millisecond

// beatLoop keeps this process alive in the eyes of others, and holds the jobs against the leases that are stored.
func (s *shift) beatLoop(ctx context.Context) {
	trouble := trouble{log: s.log(), what: "heartbeat of the worker"}
	every := s.queue.opts.ControllerTTL / 4
	for {
		err := s.beat(ctx)
		trouble.note(ctx, err)
		wait := every
		if err != nil {
			wait = min(every, time.Second)
		}
		if !sleep(ctx, jitter(wait)) {
			return
		}
	}
}

// beat says once that this process is alive.
func (s *shift) beat(ctx context.Context) error {
	defer s.fence() // the timer of it stands still while a machine sleeps
	ttl := s.queue.opts.ControllerTTL
	ctx, cancel := context.WithTimeout(ctx, ttl/2)
	defer cancel()
	begun := time.Now()
	beat, err := s.queue.Beat(ctx)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.beaten = begun
	s.mu.Unlock()
	s.deadline.Reset(ttl - time.Since(begun))
	if slices.Contains(beat.Ended, s.session) {
		s.replace()
	}
	if s.isUnsure() {
		s.wakes.Ring() // it looks before it claims
	}
	return s.reconcile(ctx)
}

// replace notes that the session is over.
func (s *shift) replace() {
	s.mu.Lock()
	s.replaced = true
	s.mu.Unlock()
	s.stopAll(ErrStaleLease)
	s.wakes.Ring()
}

// reconcile stops what has no lease any more.
func (s *shift) reconcile(ctx context.Context) error {
	s.mu.Lock()
	before := slices.Collect(maps.Keys(s.jobs)) // what is claimed from now on may not be among the leases that are read
	s.mu.Unlock()
	if len(before) == 0 {
		return nil
	}
	leases, err := s.queue.Leases(ctx)
	if err != nil {
		return err
	}
	held := make(map[AttemptID]bool, len(leases))
	for _, l := range leases {
		held[l.AttemptID] = true
	}
	s.cancel(leases)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range before {
		if job := s.jobs[id]; job != nil && !held[id] && !job.reported {
			job.stop(ErrStaleLease)
		}
	}
	return nil
}

// cancelLoop looks for builds that are to be stopped, while any run.
func (s *shift) cancelLoop(ctx context.Context) {
	wakes := s.queue.Wakes(ForCancels, cancelPoll)
	defer wakes.Stop()
	for wakes.Next(ctx) {
		if s.holds() == 0 {
			continue
		}
		if leases, err := s.queue.Cancels(ctx); err == nil { // else the heartbeat tells
			s.cancel(leases)
		}
	}
}

// cancel stops the jobs among the leases that are to be canceled.
func (s *shift) cancel(leases []Lease) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range leases {
		if job := s.jobs[l.AttemptID]; job != nil && l.State == Cancelling {
			job.stop(ErrCanceled)
		}
	}
}

// finishLoop stores outcomes: all that there are at a time. While it does, others gather for the next.
func (s *shift) finishLoop(ctx context.Context) {
	trouble := trouble{log: s.log(), what: "store outcomes"}
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.ending:
		}
		for jobs := s.takeEnded(); len(jobs) > 0; jobs = s.takeEnded() {
			if !s.finish(ctx, jobs, &trouble) {
				return
			}
		}
	}
}

func (s *shift) takeEnded() []*Job {
	s.mu.Lock()
	defer s.mu.Unlock()
	jobs := s.ended
	s.ended = nil
	return jobs
}

// finish stores the outcomes of jobs, however long that takes, and frees their slots. It reports false if ctx ended before.
func (s *shift) finish(ctx context.Context, jobs []*Job, trouble *trouble) bool {
	ends := make([]Completion, len(jobs))
	for i, job := range jobs {
		ends[i] = job.end
	}
	backoff := pace{shortest: 100 * time.Millisecond, longest: 2 * time.Second}
	backoff.quicken()
	for {
		done, err := s.queue.FinishMany(ctx, ends)
		trouble.note(ctx, err)
		if err == nil {
			if stale := len(ends) - len(done); stale > 0 {
				s.log().Warn("outcomes did not count: their leases were lost", "builds", stale)
			}
			break
		}
		if !sleep(ctx, backoff.next()) {
			return false
		}
	}
	s.mu.Lock()
	for _, job := range jobs {
		delete(s.jobs, job.AttemptID)
	}
	empty, sated := len(s.jobs) == 0, s.sated
	s.mu.Unlock()
	if !sated {
		s.wakes.Ring()
	}
	if empty {
		s.over.ring()
	}
	return true
}
