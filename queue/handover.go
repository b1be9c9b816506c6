package queue

import (
	"cmp"
	"errors"
	"slices"
	"sync"
	"time"
)

// A build that is submitted where a worker of the same process has nothing to do starts there in the change that stores it, instead of being
// queued for a claim that would follow at once. What a claim would not have given to that worker is queued: see [Transitions] Submit.

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

// reserve returns a worker that has reserved a slot for a build, nil if none serves its class and has nothing to do.
func (c *crew) reserve(id ID, class ClassID) *shift {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, s := range c.shifts {
		if s.queue.fleet.serves(s.session, class) && s.reserve(id) {
			c.shifts = append(slices.Delete(c.shifts, i, i+1), s) // the others are next
			return s
		}
	}
	return nil
}

// A handover is of builds that are being submitted: who has reserved a slot for each, nil if nobody has.
type handover []*shift

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
	h := make(handover, len(builds))
	for _, i := range order {
		b := &builds[i]
		class := q.fleet.class(b.Pool, b.Labels)
		if class == 0 || b.ConcurrencyKey != "" || !b.NotBefore.IsZero() {
			continue
		}
		if h[i] = q.crew.reserve(b.ID, class); h[i] == nil {
			break // and nobody behind it goes first
		}
		b.Slot = Slot{Session: h[i].session, Floor: q.floors.of(class).Floor, Slack: q.opts.OfferTimeout}
	}
	return h
}

// end starts what the backend has started, and gives the other slots back.
func (h handover) end(q *Queue, builds []NewBuild, done []Submitted, err error) {
	var started []Claimed
	for i, s := range h {
		switch {
		case s == nil:
		case err != nil:
			s.unreserve(builds[i].ID, !errors.Is(err, ErrConflict))
		case done[i].Started:
			started = append(started, builds[i].started(done[i]))
			s.startReserved(started[len(started)-1])
		default:
			s.unreserve(builds[i].ID, false)
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

// reserve keeps a free slot for a build that is being submitted, if there is one and nothing is queued as far as is known. Whoever has
// reserved it ends that by startReserved or unreserve.
func (s *shift) reserve(id ID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.sated || !s.lives() || s.free() < 1 {
		return false
	}
	s.reserved[id] = true
	s.handlers.Add(1)
	return true
}

// unreserve frees a slot again. Unless it is known that the build did not start, it may turn out that it has.
func (s *shift) unreserve(id ID, unsure bool) {
	defer s.handlers.Done()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.reserved, id)
	if unsure {
		s.unsure = time.Now().Add(lateCommit)
	}
	if unsure || !s.sated {
		s.wakes.Ring()
	}
}

// startReserved starts the handler of a build that has started in a reserved slot.
func (s *shift) startReserved(c Claimed) {
	s.mu.Lock()
	delete(s.reserved, c.Build)
	job := s.start(c)
	s.mu.Unlock()
	go func() {
		defer s.handlers.Done()
		job.run(s.handler)
	}()
}
