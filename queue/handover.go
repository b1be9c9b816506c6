package queue

import (
	"cmp"
	"errors"
	"slices"
	"sync"
	"time"
)

// A build that is submitted where a worker of the same process has a free slot, and nothing waits, starts there in the change that stores
// it, instead of being queued for a claim that would follow at once. What a claim would not have given to that worker is queued: see
// [Transitions] Submit.

// Crew are the workers of this process, to hand builds over to.
type crew struct {
	mu     sync.Mutex
	shifts []*shift
}

func (c *crew) join(s *shift) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.shifts = append(c.shifts, s)
}

func (c *crew) leave(s *shift) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.shifts = slices.DeleteFunc(c.shifts, func(other *shift) bool { return other == s })
}

func (c *crew) any() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.shifts) > 0
}

// reserve has a worker that serves a class reserve a slot for a build of it. It returns nil if there is none, or no slot.
func (c *crew) reserve(id ID, class ClassID) *reservation {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, s := range c.shifts {
		if !s.queue.fleet.serves(s.session, class) {
			continue
		}
		if r := s.reserve(id); r != nil {
			c.shifts = append(slices.Delete(c.shifts, i, i+1), s) // the others are next
			return r
		}
	}
	return nil
}

// A reservation is a slot of a worker that is kept for a build while that is being submitted.
type reservation struct {
	shift *shift
	build ID
	begun time.Time
}

// A handover is of builds that are being submitted: the reservation for each, nil if there is none.
type handover []*reservation

func (h handover) any() bool {
	return slices.ContainsFunc(h, func(r *reservation) bool { return r != nil })
}

// handOver reserves slots for builds, as many as there are, in the order in which they would be claimed, and writes them into builds.
func (q *Queue) handOver(builds []NewBuild) handover {
	if !q.crew.any() || slices.ContainsFunc(builds, func(b NewBuild) bool { return b.IdempotencyKey != "" }) {
		return nil
	}
	order := make([]int, len(builds))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, j int) int { return cmp.Compare(builds[j].Priority, builds[i].Priority) })
	h, now, none := make(handover, len(builds)), time.Now(), make(map[ClassID]bool)
	for _, i := range order {
		b := &builds[i]
		class := q.fleet.class(b.Pool, b.Labels)
		if class == 0 || none[class] || b.ConcurrencyKey != "" || b.NotBefore.After(now) {
			continue
		}
		if h[i] = q.crew.reserve(b.ID, class); h[i] == nil {
			none[class] = true // also if a slot becomes free meanwhile: nobody behind this one goes first
			continue
		}
		b.Slot = Slot{Session: h[i].shift.session, Floor: q.floors.of(class).Floor, Slack: q.opts.OfferTimeout}
	}
	return h
}

// end starts what the backend has started, and gives the other slots back.
func (h handover) end(q *Queue, builds []NewBuild, done []Submitted, err error) {
	var started []Claimed
	for i, r := range h {
		switch {
		case r == nil:
		case errors.Is(err, ErrConflict):
			r.free()
		case err != nil:
			r.lose()
		case done[i].Started:
			started = append(started, builds[i].started(done[i]))
			r.start(started[len(started)-1])
		default:
			r.refuse()
		}
	}
	q.floors.took(started)
	q.watchers.ringClaimed(started)
}

// started returns what a worker is told of a build that has started in its slot.
func (b *NewBuild) started(s Submitted) Claimed {
	return Claimed{
		AttemptID: AttemptID{Build: b.ID, Epoch: 1}, Session: b.Slot.Session, Class: s.Class, Rank: s.Rank, Project: b.Project, Pool: b.Pool,
		Spec: b.Spec, SpecSize: len(b.Spec), Source: b.Source, RunTimeout: b.RunTimeout, Attempt: 1, Metadata: b.Metadata,
	}
}

// reserve keeps a free slot for a build that is being submitted, if there is one and nothing is queued as far as is known.
func (s *shift) reserve(id ID) *reservation {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.sated || s.refused || !s.lives() || s.free() < 1 {
		return nil
	}
	r := &reservation{shift: s, build: id, begun: time.Now()}
	s.reserved[r] = struct{}{}
	s.handlers.Add(1)
	return r
}

// awaits reports whether a build is being submitted for which a slot is kept. The caller holds s.mu.
func (s *shift) awaits(build ID) bool {
	for r := range s.reserved {
		if r.build == build {
			return true
		}
	}
	return false
}

// free frees the slot again: the build did not start.
func (r *reservation) free() {
	r.release(r.shift.again)
}

// refuse frees the slot: something kept the build back that a claim would not have given it either. The next ones would not start as well.
func (r *reservation) refuse() {
	s := r.shift
	r.release(func() {
		s.refused = true
		s.again()
	})
}

// again has a slot that is free again claimed for, unless nothing was left. The caller holds s.mu.
func (s *shift) again() {
	if !s.sated {
		s.wakes.Ring()
	}
}

// lose frees the slot, but it may turn out that the build has started.
func (r *reservation) lose() {
	s := r.shift
	r.release(func() {
		s.doubt()
		s.wakes.Ring()
	})
}

// release gives the slot back, with the shift locked for what goes with that.
func (r *reservation) release(also func()) {
	s := r.shift
	defer s.handlers.Done()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.reserved, r)
	also()
}

// start starts the handler of the build, which has started in the slot.
func (r *reservation) start(c Claimed) {
	s := r.shift
	s.mu.Lock()
	delete(s.reserved, r)
	job := s.start(c, r.begun)
	s.mu.Unlock()
	go func() {
		defer s.handlers.Done()
		job.run(s.handler)
	}()
}
