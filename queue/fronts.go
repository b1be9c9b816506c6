package queue

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

const (
	// recall is for how long it is remembered what a look has seen.
	recall = 250 * time.Millisecond
	// farsight is how many builds of a class a look sees, if it need not see more.
	farsight = 32
)

// Fronts remember which builds of each class come first, so that not every claim has to look before. They are what looks have seen,
// without what was claimed since; a hint adds what it tells of, and hides what is behind that, since it tells of one build at least.
//
// What they say of a class may be wrong in both directions: others claim too, and not everything is told. It is right
// about the present again when a claim has had less than it asked for, and after recall. That a class is empty is never taken from them by
// a claim that has nothing else to do.
type fronts struct {
	mu    sync.Mutex
	known map[ClassID]*front
	since time.Time // when the oldest of the looks began
	looks map[*look]struct{}
	count int // of the looks that have begun
}

// A front is what is known of one class.
type front struct {
	ranks []int64 // of its first builds, in order
	all   bool    // there are no others
	look  int     // which has seen this
}

// A look is one that is under way. It may have seen what is there now, or what was there when it began.
type look struct {
	number  int
	begun   time.Time
	lowered map[ClassID]int64 // what was told of since
	void    bool              // there was more than that
}

// A stock is what there is to claim of one class.
type stock struct {
	class ClassID
	first int64 // rank
	count int
}

// of returns what classes have, up to n builds each. It also returns the classes of which too little is known for that: if nothing is there
// to claim, these are all but those that a later look than the given has found empty.
func (f *fronts) of(classes []ClassID, n, after int) (stocks []stock, unknown []ClassID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if time.Since(f.since) > recall {
		clear(f.known)
	}
	for _, class := range classes {
		switch known := f.known[class]; {
		case known == nil || !known.all && len(known.ranks) < n:
			unknown = append(unknown, class)
		case len(known.ranks) > 0:
			stocks = append(stocks, stock{class, known.ranks[0], min(len(known.ranks), n)})
		}
	}
	if len(stocks) == 0 {
		unknown = slices.DeleteFunc(slices.Clone(classes), func(class ClassID) bool {
			known := f.known[class]
			return known != nil && known.all && known.look > after
		})
	}
	return stocks, unknown
}

// last returns the number of the look that began last.
func (f *fronts) last() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.count
}

// begin begins a look.
func (f *fronts) begin() *look {
	l := &look{begun: time.Now(), lowered: make(map[ClassID]int64)}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.looks == nil {
		f.looks, f.known = make(map[*look]struct{}), make(map[ClassID]*front)
	}
	f.count++
	l.number = f.count
	f.looks[l] = struct{}{}
	return l
}

// end ends a look at classes, which has seen so many builds of each as there are, or n. It is not remembered if it failed, in which case
// there are no classes.
func (f *fronts) end(l *look, classes []ClassID, seen []Front, n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.looks, l)
	if l.void || len(classes) == 0 {
		return
	}
	if len(f.known) == 0 || l.begun.Before(f.since) {
		f.since = l.begun
	}
	fresh := make(map[ClassID]*front, len(classes))
	for _, class := range classes {
		if known := f.known[class]; known == nil || known.look < l.number {
			fresh[class] = &front{all: true, look: l.number}
		}
	}
	for _, s := range seen {
		if front := fresh[s.Class]; front != nil {
			front.ranks, front.all = slices.Clone(s.Ranks), len(s.Ranks) < n
		}
	}
	for class, front := range fresh {
		if rank, ok := l.lowered[class]; ok {
			front.lower(rank)
		}
		f.known[class] = front
	}
}

// lower notes a build that is queued.
func (f *front) lower(rank int64) {
	if f == nil {
		return
	}
	if at, _ := slices.BinarySearch(f.ranks, rank); at < len(f.ranks) || f.all {
		f.ranks, f.all = append(f.ranks[:at], rank), false
	}
}

// lower notes what was queued.
func (f *fronts) lower(heads []Head) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, h := range heads {
		f.known[h.Class].lower(h.Rank)
		for l := range f.looks {
			if at, ok := l.lowered[h.Class]; !ok || h.Rank < at {
				l.lowered[h.Class] = h.Rank
			}
		}
	}
}

// forget forgets everything, since builds were queued of which no more is known.
func (f *fronts) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.known)
	for l := range f.looks {
		l.void = true
	}
}

// took crosses off what was claimed, and what should have come before it: that is gone, or not for everybody. Nothing is known any more of
// classes that had less than was asked for.
func (f *fronts) took(asked []Demand, got []Claimed) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, d := range asked {
		var ranks []int64
		for i := range got {
			if got[i].Class == d.Class {
				ranks = append(ranks, got[i].Rank)
			}
		}
		if len(ranks) < len(d.Slots) {
			delete(f.known, d.Class)
		} else if known := f.known[d.Class]; known != nil {
			known.drop(ranks)
		}
	}
}

// drop drops builds with these ranks, and all with ranks below them. Those that nobody took may still be there, for somebody else: after
// that no more is known than that something may be left.
func (f *front) drop(ranks []int64) {
	last := slices.Max(ranks)
	var same int
	for _, rank := range ranks {
		if rank == last {
			same++
		}
	}
	below, _ := slices.BinarySearch(f.ranks, last)
	for same > 0 && below < len(f.ranks) && f.ranks[below] == last {
		below, same = below+1, same-1
	}
	if !slices.Equal(f.ranks[:below], slices.Sorted(slices.Values(ranks))) {
		f.all = false
	}
	f.ranks = f.ranks[below:]
}

// merge returns the stocks of classes that are known, and of those that were seen now, in the order of their first builds.
func merge(known []stock, seen []Front, n int) []stock {
	for _, s := range seen {
		known = append(known, stock{s.Class, s.Ranks[0], min(len(s.Ranks), n)})
	}
	slices.SortFunc(known, func(x, y stock) int {
		return cmp.Or(cmp.Compare(x.first, y.first), cmp.Compare(x.class, y.class))
	})
	return known
}
