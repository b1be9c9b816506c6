package queue

import (
	"context"
	"time"
)

// maintain is Maintain as a chore.
func (q *Queue) maintain(ctx context.Context) (bool, error) {
	begun := time.Now()
	done, err := q.Maintain(ctx)
	if done.Requeued+done.Lost+done.TimedOut+done.Canceled > 0 {
		q.opts.Logger.Warn("attempts ended without their worker's report", "requeued", done.Requeued, "lost", done.Lost,
			"timed_out", done.TimedOut, "canceled", done.Canceled)
	}
	if done.Deleted > 0 {
		q.bells.archive.ring() // their logs may be there
	}
	if err == nil && done.More && !done.urgent() {
		sleep(ctx, min(time.Since(begun), time.Second))
	}
	return done.More, err
}

// urgent reports whether anybody may wait for what a call of Maintain has left, going by what it did. What is only deleted takes half of
// a connection at most: whoever claims builds meanwhile has the other half of what the database can do.
func (m *Maintained) urgent() bool {
	return m.Interned+m.Queued+m.Expired+m.Released+m.TimedOut+m.Canceled+m.Requeued+m.Lost > 0
}

// admitLimit bounds how many lanes one call of Admit looks at, and how many builds it moves.
const admitLimit = 512

// An admission walks along the lanes in which builds wait to be admitted.
type admission struct {
	queue *Queue
	after Lane
	left  bool // a lane of this walk may have more to move
}

// walk goes a part of the way. It reports whether to go on: the walk is not over, or has left something behind.
func (a *admission) walk(ctx context.Context) (bool, error) {
	done, err := a.queue.backend.Admit(ctx, a.after, admitLimit, time.Time{})
	if err != nil {
		a.after, a.left = Lane{}, false
		return false, err
	}
	if len(done.Heads) > 0 {
		a.queue.tell(Hint{Heads: done.Heads})
	}
	a.after = done.Next
	a.left = a.left || done.Queued+done.Held >= admitLimit
	if a.after != (Lane{}) {
		return true, nil
	}
	left := a.left
	a.left = false
	return left, nil
}

// A service is what this process has said that its sessions serve.
type service struct {
	queue *Queue
	said  map[ClassID]time.Time
}

// renew learns about new classes and says which are served, those that were not said before at once and all of them well before it is
// forgotten.
func (s *service) renew(ctx context.Context) (bool, error) {
	q := s.queue
	if q.fleet.due(learnEvery / 2) {
		grown, err := q.fleet.learn(ctx, q.backend)
		if err != nil {
			return false, err
		}
		if grown {
			q.listeners.ring(ForClaims)
		}
	}
	begun := time.Now()
	ttl := q.opts.ControllerTTL
	served := q.fleet.served()
	var due []ClassID
	var fresh bool
	for _, class := range served {
		said, ok := s.said[class]
		if !ok || begun.Sub(said) >= ttl/3 {
			due = append(due, class)
		}
		fresh = fresh || !ok || begun.Sub(said) >= ttl
	}
	if len(due) == 0 {
		return false, nil
	}
	if err := q.backend.Serve(ctx, due, ttl, time.Time{}); err != nil {
		return false, err
	}
	said := make(map[ClassID]time.Time, len(served))
	for _, class := range served {
		said[class] = s.said[class]
	}
	for _, class := range due {
		said[class] = begun
	}
	s.said = said
	if fresh {
		q.bells.admit.ring()
	}
	return false, nil
}

// notify sends what the outbox has. A hint that could not be sent is lost: the others poll.
func (q *Queue) notify(ctx context.Context, waker Waker) error {
	h := q.outbox.take()
	if h.empty() {
		return nil
	}
	h.From = q.controller
	return waker.Notify(ctx, h)
}

// listen hears what other processes send.
func (q *Queue) listen(ctx context.Context, waker Waker) {
	trouble := trouble{log: q.opts.Logger, what: "listen for hints"}
	backoff := pace{shortest: 100 * time.Millisecond, longest: 2 * time.Second}
	backoff.quicken()
	for ctx.Err() == nil {
		err := waker.Listen(ctx, func(h Hint) {
			trouble.note(ctx, nil)
			backoff.quicken()
			if h.From.IsZero() || h.From != q.controller { // of what this process has sent it heard before
				q.hear(h)
			}
		})
		trouble.note(ctx, err)
		sleep(ctx, backoff.next())
	}
}
