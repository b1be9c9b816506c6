package queue

import (
	"slices"
	"sync"
	"time"
)

// changedEvery is how often what is only about changes of builds is sent on. Nobody waits for it but who looks at builds in other
// processes; and each hint costs a commit.
const changedEvery = 100 * time.Millisecond

// An outbox gathers what this process has to tell the others until Run sends it.
type outbox struct {
	mu      sync.Mutex
	open    bool // somebody sends what is put in
	pending Hint
	builds  int // that pending tells of, each as often as it was told of
	bell    bell
	rung    time.Time // when the bell last was, for a change
	taken   time.Time
	gap     time.Duration // from the last hint to the next
}

// Hints cost submitters in one process what they save workers in others. So each build is told of at once where few come, and where many
// come they go together, for whom it matters less: a millisecond between two hints at 500 builds a second, ten from 5,000 on.
const (
	hintGap     = time.Millisecond
	hintGapMost = 10 * time.Millisecond
	hintPace    = 2 * time.Millisecond // the gap when one build comes each millisecond
)

// add puts a hint in, and calls whoever sends it. What is only about changes waits for its turn. It never blocks. While nobody sends, the
// hint is dropped.
func (o *outbox) add(h Hint) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.open || h.empty() {
		return
	}
	o.pending.add(h)
	o.builds += len(h.Changed)
	for _, head := range h.Heads {
		o.builds += max(1, head.Count)
	}
	changes := len(h.Heads) == 0 && !h.Cancel && !h.Any
	if now := time.Now(); !changes || now.Sub(o.rung) >= changedEvery {
		o.rung = now
		o.bell.ring()
	}
}

func (o *outbox) setOpen(open bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.open, o.pending, o.builds = open, Hint{}, 0
}

// take empties the outbox.
func (o *outbox) take() Hint {
	o.mu.Lock()
	defer o.mu.Unlock()
	now, h := time.Now(), o.pending
	perMillisecond := float64(o.builds) / max(1, float64(now.Sub(o.taken))/float64(time.Millisecond))
	o.gap = min(max(time.Duration(perMillisecond*float64(hintPace)), hintGap), hintGapMost)
	o.pending, o.builds, o.taken = Hint{}, 0, now
	return h
}

// rest returns how long after a hint was sent the next one may be, given what that took: a fifth of a connection is for hints, or less, but
// where they are that slow that it would take them too long.
func (o *outbox) rest(cost time.Duration) time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	return max(o.gap, min(4*cost, hintGapMost))
}

// How much is remembered of changes in transactions of callers, which alone know when, and whether, they are committed.
const (
	// unsaidMost is how many changes are remembered, and unsaidFor how long one of which nobody has said that it is committed.
	unsaidMost = 64
	unsaidFor  = time.Minute
	// unsaidAgain is how long after a change it is told again, with what is told then.
	unsaidAgain = time.Second
)

// Unsaid is what follows from changes in transactions of callers.
type unsaid struct {
	mu      sync.Mutex
	changes []unsaidChange // the newest last
	open    []time.Time    // when those were made that are not known to be committed
}

type unsaidChange struct {
	hint Hint
	at   time.Time
	told bool
}

// add remembers what follows from a change.
func (u *unsaid) add(h Hint) {
	u.mu.Lock()
	defer u.mu.Unlock()
	now := time.Now()
	u.forget(now)
	u.changes = append(u.changes, unsaidChange{hint: h, at: now})
	u.open = append(u.open, now)
	if len(u.changes) > unsaidMost {
		u.changes = slices.Delete(u.changes, 0, 1)
	}
	if len(u.open) > 2*unsaidMost { // far more than are remembered: it does not matter how many
		u.open = slices.Delete(u.open, 0, unsaidMost/2)
	}
}

// take returns a hint for a transaction that was committed: that of all changes that are remembered, since nobody knows which of them are
// its own, and of everything if its own may be forgotten.
func (u *unsaid) take() Hint {
	u.mu.Lock()
	defer u.mu.Unlock()
	now := time.Now()
	u.forget(now)
	if len(u.open) == 0 {
		return Hint{Waiting: true, Any: true}
	}
	var h Hint
	for i := range u.changes {
		c := &u.changes[len(u.changes)-1-i] // of more builds than a hint holds the older ones are left out
		h.add(c.hint)
		c.told = true
	}
	if len(u.changes) < len(u.open) {
		h.Waiting, h.Any = true, true
	}
	if u.open = u.open[1:]; len(u.open) == 0 {
		u.changes, u.open = nil, nil
	}
	return h
}

// forget forgets what is too old.
func (u *unsaid) forget(now time.Time) {
	u.changes = slices.DeleteFunc(u.changes, func(c unsaidChange) bool {
		age := now.Sub(c.at)
		return age > unsaidFor || c.told && age > unsaidAgain
	})
	u.open = slices.DeleteFunc(u.open, func(at time.Time) bool { return now.Sub(at) > unsaidFor })
}
