package queue

// Wake hints that there may be something to claim, or a cancel to pass on. [Queue.Submit] and its like do so by themselves; a service that
// submitted in its own transaction may call Wake after its commit, to save the wait for the next poll.
func (q *Queue) Wake() { q.hint(Hint{Waiting: true, Any: true}) }

// Wakes returns the channel on which hints arrive, one for any number of calls of [Queue.Wake] since the last receive. There should
// be one receiver: the process's Hub. A hint can be missed, so poll as well.
func (q *Queue) Wakes() <-chan struct{} { return q.wake }

func (q *Queue) hint(Hint) {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// submitted, canceled and finished say what follows from changes.
func submitted(done []Submitted) Hint {
	var h Hint
	for _, s := range done {
		h.Waiting = h.Waiting || s.Waiting
		if s.Class != 0 {
			h.Heads = append(h.Heads, Head{Class: s.Class, Rank: s.Rank})
		}
	}
	return h
}

func canceled(done []CanceledBuild) Hint {
	var h Hint
	for _, c := range done {
		h.Cancel = h.Cancel || c.State == Cancelling
		h.Waiting = h.Waiting || c.Admitted && c.State == Canceled
		h.Changed = append(h.Changed, c.ID)
	}
	return h
}

func finished(done []Finished) Hint {
	var h Hint
	for _, f := range done {
		h.Waiting = h.Waiting || f.Admitted
		h.Any = h.Any || f.State == Pending
		h.Changed = append(h.Changed, f.Build)
	}
	return h
}
