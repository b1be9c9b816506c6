package queue

import (
	"context"
	"maps"
	"sync"
	"time"
)

const (
	// surveyEvery is how often all of the classes that this process serves are looked at from their very beginning, at most; and
	// surveyShare is how much longer than such a look took it is not taken again.
	surveyEvery = time.Second
	surveyShare = 20
	// advanceEvery is how often floors are moved up meanwhile.
	advanceEvery = 250 * time.Millisecond
	// A look from the beginning is slow if it takes longer than slowLook, and slowRatio times as long as one from the floors on.
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
	// due is when the next look from the beginning is. Only the survey uses it.
	due time.Time
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

// begin starts a survey of classes. It returns the floors that are in force, nil if there are none, and the highest ranks that were seen
// before.
func (f *floors) begin() (raised, tops map[ClassID]int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.heard, f.dropped = make(map[ClassID]int64), false
	tops = make(map[ClassID]int64, len(f.tops))
	maps.Copy(tops, f.tops)
	return maps.Clone(f.raised), tops
}

// end ends a survey with the floors that it found, or without any. What was told of meanwhile counts.
func (f *floors) end(found map[ClassID]int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for class, rank := range f.heard {
		lower(found, class, rank)
	}
	f.heard = nil
	if f.dropped {
		found = nil
	}
	f.raised = found
}

// survey looks at all the classes that this process serves from their beginning, and again from what came first in each, to tell
// whether it is the beginning that takes long. While there are floors it moves them up between such looks.
func (q *Queue) survey(ctx context.Context) (more bool, err error) {
	classes := q.fleet.served()
	raised, tops := q.floors.begin()
	var found map[ClassID]int64
	defer func() { q.floors.end(found) }()
	if time.Now().Before(q.floors.due) {
		if len(raised) == 0 {
			return false, nil
		}
		for class, floor := range raised {
			tops[class] = max(tops[class], floor)
		}
		found, _, err = q.look(ctx, classes, raised, tops)
		return false, err
	}
	if len(classes) == 0 {
		return false, nil
	}
	seen, whole, err := q.look(ctx, classes, nil, tops)
	q.floors.due = time.Now().Add(max(surveyEvery, surveyShare*whole))
	if err != nil || whole < slowLook {
		return false, err
	}
	seen, rest, err := q.look(ctx, classes, seen, seen)
	if err == nil && whole >= slowRatio*rest {
		found = seen
	}
	return false, err
}

// look looks for the first build of each class, from its floor on. It returns the rank of that or, of a class without builds, the top of
// what was there before, and how long the look took.
func (q *Queue) look(ctx context.Context, classes []ClassID, floors, tops map[ClassID]int64) (map[ClassID]int64, time.Duration, error) {
	reaches := make([]Reach, len(classes))
	found := make(map[ClassID]int64, len(classes))
	for i, class := range classes {
		reaches[i] = Reach{Class: class, Floor: NoFloor}
		if floor, ok := floors[class]; ok {
			reaches[i].Floor = floor
		}
		if top, ok := tops[class]; ok {
			found[class] = top
		}
	}
	begun := time.Now()
	fronts, err := q.backend.Probe(ctx, reaches, 1)
	took := time.Since(begun)
	if err != nil {
		return nil, took, err
	}
	for _, f := range fronts {
		found[f.Class] = f.Ranks[0]
	}
	return found, took, nil
}
