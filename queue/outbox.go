package queue

import (
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
