package queue

import "sync"

// An outbox gathers what this process has to tell the others until Run sends it.
type outbox struct {
	mu      sync.Mutex
	open    bool // somebody sends what is put in
	pending Hint
	bell    bell
}

// add puts a hint in. It never waits. While nobody sends, the hint is dropped.
func (o *outbox) add(h Hint) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.open || h.empty() {
		return
	}
	o.pending.add(h)
	o.bell.ring()
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
