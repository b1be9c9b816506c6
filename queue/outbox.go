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
	bell    bell
	rung    time.Time // when the bell last was, for a change
}

// add puts a hint in, and calls whoever sends it. What is only about changes waits for its turn. It never blocks. While nobody sends, the
// hint is dropped.
func (o *outbox) add(h Hint) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.open || h.empty() {
		return
	}
	o.pending.add(h)
	changes := len(h.Heads) == 0 && !h.Cancel && !h.Any
	if now := time.Now(); !changes || now.Sub(o.rung) >= changedEvery {
		o.rung = now
		o.bell.ring()
	}
}

func (o *outbox) setOpen(open bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.open, o.pending = open, Hint{}
}

// take empties the outbox.
func (o *outbox) take() Hint {
	o.mu.Lock()
	defer o.mu.Unlock()
	h := o.pending
	o.pending = Hint{}
	return h
}

// unsaidFor is how long after the last change in a caller's transaction it is remembered. Of transactions that take longer the others
// learn by their polls.
const unsaidFor = time.Minute

// Unsaid is what follows from changes in transactions of callers, which alone know when, and whether, they are committed.
type unsaid struct {
	mu      sync.Mutex
	hint    Hint
	changes int
	last    time.Time
}

// add remembers what follows from a change.
func (u *unsaid) add(h Hint) {
	u.mu.Lock()
	defer u.mu.Unlock()
	now := time.Now()
	if now.Sub(u.last) > unsaidFor {
		u.hint, u.changes = Hint{}, 0
	}
	u.hint.add(h)
	u.changes++
	u.last = now
}

// take returns a hint for a transaction that was committed: that of all changes that nobody has said yet, since nobody knows which of
// them are its own. They are forgotten when there were as many commits.
func (u *unsaid) take() Hint {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.changes == 0 {
		return Hint{Waiting: true, Any: true}
	}
	h := u.hint
	h.Heads, h.Changed = slices.Clone(h.Heads), slices.Clone(h.Changed)
	if u.changes--; u.changes == 0 {
		u.hint = Hint{}
	}
	return h
}
