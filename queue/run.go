package queue

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// Run keeps the queue going until ctx ends, and then returns nil. It does what is due ([Queue.Maintain]), admits builds that wait for a
// limit or their share, passes hints between processes, says what the sessions of this process serve, brings logs to the archive, and
// looks out for what makes finding work slow. Some process must run it; any number may. A service that only submits builds runs it in
// one line, so that they are claimed at once; worker.Hub and [Worker] run it by themselves. Of several calls on one Queue the first
// does the work, and the next takes over when that ends.
//
// What fails is tried again for as long as it takes; that is logged once when it begins and once when it is over.
func (q *Queue) Run(ctx context.Context) error {
	select {
	case q.turn <- struct{}{}:
		defer func() {
			q.floors.drop() // nobody looks below them now
			<-q.turn
		}()
	case <-ctx.Done():
		return nil
	}
	chores := []chore{
		{what: "maintain", every: q.opts.MaintainEvery, bell: q.bells.maintain, do: q.maintain},
		{what: "admit", every: q.opts.MaintainEvery, bell: q.bells.admit, do: (&admission{queue: q}).walk},
		{what: "say what is served", every: learnEvery / 2, bell: q.bells.serve, do: (&service{queue: q}).renew},
		{what: "survey", every: advanceEvery, bell: q.bells.survey, do: q.survey},
	}
	if q.opts.Archive != nil {
		chores = append(chores, chore{what: "archive logs", every: archiveEvery, bell: q.bells.archive, do: q.archive})
	}
	var loops sync.WaitGroup
	if waker, ok := q.backend.(Waker); ok && !q.opts.PollOnly {
		q.outbox.setOpen(true)
		defer q.outbox.setOpen(false)
		chores = append(chores, chore{
			what: "send hints", every: changedEvery, bell: q.outbox.bell, rest: q.outbox.rest,
			do: func(ctx context.Context) (bool, error) { return false, q.notify(ctx, waker) },
		})
		loops.Go(func() { q.listen(ctx, waker) })
	}
	for _, c := range chores {
		loops.Go(func() { c.keep(ctx, q.opts.Logger) })
	}
	loops.Wait()
	return nil
}

// A chore is what Run does again and again: when its bell rings, and every so often without.
type chore struct {
	what  string
	every time.Duration
	bell  bell
	// do does a round. It reports whether there is more to do at once.
	do func(context.Context) (more bool, err error)
	// rest is how long it must be quiet after a round that took so long. Nil: four times as long.
	rest func(cost time.Duration) time.Duration
}

// keep does the chore until ctx ends.
func (c *chore) keep(ctx context.Context, log *slog.Logger) {
	trouble := trouble{log: log, what: c.what}
	backoff := pace{shortest: 200 * time.Millisecond, longest: 2 * time.Second}
	backoff.quicken()
	for ctx.Err() == nil {
		begun := time.Now()
		more, err := c.do(ctx)
		cost := time.Since(begun)
		trouble.note(ctx, err)
		if err != nil {
			sleep(ctx, backoff.next())
			continue
		}
		backoff.quicken()
		if !more {
			c.wait(ctx, cost)
		}
	}
}

// wait waits for the next round.
func (c *chore) wait(ctx context.Context, cost time.Duration) {
	rest := min(4*cost, time.Second)
	if c.rest != nil {
		rest = c.rest(cost)
	}
	if !sleep(ctx, rest) {
		return
	}
	timer := time.NewTimer(jitter(c.every))
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-c.bell:
	case <-timer.C:
	}
}

// A trouble logs the first failure of a row of failures, and their end.
type trouble struct {
	log   *slog.Logger
	what  string
	since time.Time
}

func (t *trouble) note(ctx context.Context, err error) {
	switch {
	case ctx.Err() != nil:
	case err != nil && t.since.IsZero():
		t.since = time.Now()
		t.log.Error("the queue does not answer; going on trying", "operation", t.what, "error", err)
	case err == nil && !t.since.IsZero():
		t.log.Info("the queue answers again", "operation", t.what, "after", time.Since(t.since))
		t.since = time.Time{}
	}
}

// sleep waits, and reports whether ctx has not ended.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
