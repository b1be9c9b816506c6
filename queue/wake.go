package queue

import (
	"context"
	"time"
)

// Wake hints that there may be something to claim, to admit, or to cancel. [Queue.Submit] and its like do so by themselves; a service
// that submitted or finished in its own transaction may call Wake once after its commit, to save the wait for the next poll. What that has
// changed q knows, if it was made by q; else it looks for everything.
func (q *Queue) Wake() {
	h := q.unsaid.take()
	if h.Any && len(h.Changed) > 0 { // builds are to be attempted again, with the ranks that they had
		q.floors.drop()
	}
	q.tell(h)
}

// A Purpose is what somebody waits for.
type Purpose uint8

const (
	// ForClaims is to look for builds that the sessions of this process may be given, by [Queue.Claim].
	ForClaims Purpose = iota + 1
	// ForCancels is to look for builds that the sessions of this process should stop, by [Queue.Cancels].
	ForCancels
)

// Wakes say when it is time to look for something: when a hint arrives and, because hints may be lost, every so often without one:
// soon after something was found, more and more seldom while nothing is. One goroutine uses them.
//
//	wakes := q.Wakes(queue.ForClaims, time.Second)
//	defer wakes.Stop()
//	for wakes.Next(ctx) {
//		// look, and call wakes.Found if there was something
//	}
type Wakes struct {
	queue *Queue
	bell  bell
	timer *time.Timer
	pace  pace
}

// Wakes returns the occasions to look for something. The poll is the longest time between two of them, give or take a fifth. Hints reach
// any number of Wakes, those of other processes while [Queue.Run] runs. Stop must be called in the end.
func (q *Queue) Wakes(purpose Purpose, poll time.Duration) *Wakes {
	w := &Wakes{queue: q, bell: newBell(), timer: time.NewTimer(0), pace: newPace(poll)}
	q.listeners.add(w.bell, purpose)
	return w
}

// Next waits until it is time to look. It reports false when ctx has ended. The first call returns at once.
func (w *Wakes) Next(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return false
	case <-w.bell:
	case <-w.timer.C:
	}
	w.timer.Reset(w.pace.next())
	return ctx.Err() == nil
}

// Found says that the last look has found something, so that the next is due soon.
func (w *Wakes) Found() {
	w.pace.quicken()
	w.timer.Reset(w.pace.next())
}

// Ring has Next return at once, for a reason that no hint tells of. It may be called by any goroutine.
func (w *Wakes) Ring() { w.bell.ring() }

// Stop frees what w has. Hints do not reach it any more.
func (w *Wakes) Stop() {
	w.timer.Stop()
	w.queue.listeners.remove(w.bell)
}

// tell passes on what this process did: at once to itself, and to the others while Run runs.
func (q *Queue) tell(h Hint) {
	q.hear(h)
	h.Waiting = false // this process sees to it itself
	q.outbox.add(h)
}

// hear acts on a hint, whoever gave it.
func (q *Queue) hear(h Hint) {
	q.floors.lower(h.Heads)
	q.fronts.lower(h.Heads)
	serves, unknown := q.fleet.concerns(h.Heads)
	if unknown {
		q.bells.serve.ring()
	}
	if h.Any {
		q.fronts.forget()
		q.bells.survey.ring()
	}
	if h.Waiting {
		q.bells.maintain.ring()
		q.bells.admit.ring()
	}
	if serves || h.Any {
		q.listeners.ring(ForClaims)
	}
	if h.Cancel || h.Any {
		q.listeners.ring(ForCancels)
	}
	q.watchers.ring(h.Changed)
}

// maxHint bounds the classes, and the builds, that one hint names.
const maxHint = 64

// head adds a head to a hint, or says that there are too many.
func (h *Hint) head(head Head) {
	for i := range h.Heads {
		if h.Heads[i].Class == head.Class {
			h.Heads[i].Rank = min(h.Heads[i].Rank, head.Rank)
			h.Heads[i].Count += head.Count
			return
		}
	}
	if len(h.Heads) == maxHint {
		h.Any = true
		return
	}
	h.Heads = append(h.Heads, head)
}

// add merges another hint into h. Of changed builds that are too many some are left out: whoever watches them polls.
func (h *Hint) add(more Hint) {
	for _, head := range more.Heads {
		h.head(head)
	}
	room := maxHint - len(h.Changed)
	h.Changed = append(h.Changed, more.Changed[:min(room, len(more.Changed))]...)
	h.Waiting = h.Waiting || more.Waiting
	h.Cancel = h.Cancel || more.Cancel
	h.Any = h.Any || more.Any
}

func (h *Hint) empty() bool {
	return len(h.Heads) == 0 && len(h.Changed) == 0 && !h.Waiting && !h.Cancel && !h.Any
}

// submitted, canceled and finished say what follows from changes.
func submitted(done []Submitted) Hint {
	var h Hint
	for _, s := range done {
		h.Waiting = h.Waiting || s.Waiting
		if s.Class != 0 && !s.Started {
			h.head(Head{Class: s.Class, Rank: s.Rank, Count: 1})
		}
	}
	return h
}

func canceled(done []CanceledBuild) Hint {
	var h Hint
	for _, c := range done {
		h.Cancel = h.Cancel || c.State == Cancelling
		h.Changed = append(h.Changed, c.ID)
	}
	return h
}

func finished(done []Finished) Hint {
	h := Hint{Changed: make([]ID, 0, len(done))}
	for _, f := range done {
		h.Any = h.Any || f.State == Pending
		h.Changed = append(h.Changed, f.Build)
	}
	return h
}
