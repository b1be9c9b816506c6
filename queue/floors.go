package queue

import (
	"context"
	"sync"
	"time"
)

const (
	// surveyEvery is how often all of the classes that this process serves are looked at from their very beginning, at most; and
	// surveyShare is how much longer than the look took it is not taken again.
	surveyEvery = time.Second
	surveyShare = 20
	// A look from the beginning is slow if it takes longer than slowLook and several times as long as one from the floors on.
	slowLook  = time.Millisecond
	slowRatio = 2
)

// Floors say from which rank on it is worth looking for builds of a class. Normally there are none. But rows of builds that were claimed
// cannot be cleared away while some transaction has an old snapshot of the database, and a look from the beginning walks over them; as
// long as a survey finds that slow, looks begin at what the survey saw first. Whatever tells of a lower rank lowers the floor at once, and
// what nobody tells of is found by the next survey.
type floors struct {
	mu     sync.Mutex
	raised map[ClassID]int64
	// tops are the highest ranks that builds of the classes are known to have had.
	tops map[ClassID]int64
	// heard has the lowest ranks that were told of since a survey began; nil while there is none.
	heard map[ClassID]int64
	// dropped says that builds of unknown ranks were queued since then.
	dropped bool
}

// of returns where to look.
func (f *floors) of(class ClassID) Reach {
	f.mu.Lock()
	defer f.mu.Unlock()
	if floor, ok := f.raised[class]; ok {
		return Reach{Class: class, Floor: floor}
	}
	return Reach{Class: class, Floor: NoFloor}
}

// lower makes sure that what is queued is within reach.
func (f *floors) lower(heads []Head) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, h := range heads {
		f.top(h.Class, h.Rank)
		lower(f.raised, h.Class, h.Rank)
		if f.heard != nil {
			if _, ok := f.heard[h.Class]; !ok {
				f.heard[h.Class] = h.Rank
			}
			lower(f.heard, h.Class, h.Rank)
		}
	}
}

// lower lowers what is there for a class.
func lower(ranks map[ClassID]int64, class ClassID, rank int64) {
	if at, ok := ranks[class]; ok && rank < at {
		ranks[class] = rank
	}
}

// top notes a rank that was seen. The caller holds f.mu.
func (f *floors) top(class ClassID, rank int64) {
	if f.tops == nil {
		f.tops = make(map[ClassID]int64)
	}
	if at, ok := f.tops[class]; !ok || rank > at {
		f.tops[class] = rank
	}
}

// took notes what was claimed.
func (f *floors) took(claimed []Claimed) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range claimed {
		f.top(claimed[i].Class, claimed[i].Rank)
	}
}

// drop takes all floors away, since a build was queued whose class and rank are not known.
func (f *floors) drop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dropped = true
	clear(f.raised)
}

// begin starts a survey of classes. It returns where each was found to end by what was claimed before.
func (f *floors) begin(classes []ClassID) map[ClassID]int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.heard, f.dropped = make(map[ClassID]int64), false
	ends := make(map[ClassID]int64, len(classes))
	for _, class := range classes {
		if top, ok := f.tops[class]; ok {
			ends[class] = top
		}
	}
	return ends
}

// end ends a survey with the floors that it found, or without any. What was told of meanwhile counts.
func (f *floors) end(found map[ClassID]int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for class, rank := range f.heard {
		lower(found, class, rank)
	}
	f.heard = nil
	if !f.dropped {
		f.raised = found
	}
}

// survey looks at all the classes that this process serves from their beginning, and again from what came first in each, to tell
// whether the beginning is what takes long.
func (q *Queue) survey(ctx context.Context) (bool, error) {
	classes := q.fleet.served()
	found := q.floors.begin(classes)
	if len(classes) == 0 {
		q.floors.end(nil)
		return false, nil
	}
	reaches := make([]Reach, len(classes))
	for i, class := range classes {
		reaches[i] = Reach{Class: class, Floor: NoFloor}
	}
	heads, whole, err := q.look(ctx, reaches)
	if err != nil || whole < slowLook {
		q.floors.end(nil)
		return false, err
	}
	for _, h := range heads {
		found[h.Class] = h.Rank
	}
	for i, class := range classes {
		if rank, ok := found[class]; ok {
			reaches[i].Floor = rank
		}
	}
	_, rest, err := q.look(ctx, reaches)
	if err != nil || whole < slowRatio*rest {
		found = nil
	}
	q.floors.end(found)
	return false, err
}

// look probes for the first build of each class and returns how long that took.
func (q *Queue) look(ctx context.Context, reaches []Reach) ([]Head, time.Duration, error) {
	begun := time.Now()
	heads, err := q.backend.Probe(ctx, reaches, 1)
	return heads, time.Since(begun), err
}

// surveyRest is how long a survey that took so long is the last.
func surveyRest(cost time.Duration) time.Duration { return max(surveyEvery, surveyShare*cost) }
