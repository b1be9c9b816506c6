package memqueue

import (
	"maps"
	"slices"
	"time"

	"github.com/slipway-build/slipway/queue"
)

// A build is a row of the queue. Its methods are the arrows of the table of states, and the only code that sets state.
type build struct {
	queue.NewBuild
	project  *project
	pool     *pool
	class    *class // nil until it is made
	rank     int64
	state    queue.State
	queued   bool // Pending only: it may be claimed, and is in its class's queue
	gated    bool // Pending only: it waits for nothing but to be admitted
	admitted bool // it was, and has not been held again since
	virtual  bool // its rank is a time of its fair pool

	epoch    int64
	attempts []*attempt // the accepted ones, oldest first; there are as many as were used
	session  *session   // nil unless Offered, Running or Cancelling
	worker   string

	due       time.Time // when the offer, the run or the cancel has lasted long enough
	expires   time.Time // when the wait has; zero: never
	notBefore time.Time // Pending only: until when it is held for its time's sake

	avoid      string // the worker that shall not have it before avoidUntil
	avoidUntil time.Time

	createdAt, startedAt, finishedAt time.Time

	reason   string
	exitCode *int
	signal   string
}

// An attempt is an accepted claim with all that its worker sent.
type attempt struct {
	queue.Attempt
	token     queue.Digest
	log       stream
	artifacts map[string]*queue.Artifact
	// led is the state to which Finish led the build; zero if Finish did not end the attempt.
	led queue.State
}

// An ending is what is stored of the end of an attempt.
type ending struct {
	outcome  queue.State
	reason   string
	exitCode *int
	signal   string
}

var noTime time.Time

// is reports whether id is the newest attempt of the build. A nil build has none.
func (bd *build) is(id queue.AttemptID) bool {
	return bd != nil && bd.epoch == id.Epoch && id.Epoch > 0
}

// leases reports whether id is leased: the fence of whatever a worker writes.
func (bd *build) leases(id queue.AttemptID) bool { return bd.is(id) && bd.state.Leased() }

// current returns the newest accepted attempt, nil if there is none.
func (bd *build) current() *attempt {
	if len(bd.attempts) == 0 {
		return nil
	}
	return bd.attempts[len(bd.attempts)-1]
}

// attempt returns the accepted attempt with that epoch, zero standing for the newest; nil if there is none.
func (bd *build) attempt(epoch int64) *attempt {
	if epoch == 0 {
		return bd.current()
	}
	for _, a := range bd.attempts {
		if a.Epoch == epoch {
			return a
		}
	}
	return nil
}

// ownRank is the rank that the build has outside of fair pools, however often it is attempted.
func (bd *build) ownRank() int64 { return bd.Rank(bd.createdAt) }

// lane is where the build waits when it has to be admitted.
func (bd *build) lane() queue.Lane {
	return queue.Lane{Pool: bd.Pool, Project: bd.Project, Key: bd.ConcurrencyKey}
}

// enter queues a build that waits for nothing, or leaves it to Admit.
func (bd *build) enter() {
	bd.notBefore = noTime
	if bd.ConcurrencyKey != "" || bd.pool.Fair || bd.project.Paused {
		bd.gated = true
		return
	}
	bd.rank, bd.virtual = bd.ownRank(), false
	bd.class.add(bd)
}

// hold takes a queued build out of its queue, to be admitted anew.
func (bd *build) hold() {
	bd.class.remove(bd)
	bd.gated, bd.admitted = true, false
}

// reenter queues a build again at its place; not in a pool that has become fair meanwhile or ceased to be, where that place means nothing.
func (bd *build) reenter() {
	bd.class.add(bd)
	if bd.virtual != bd.pool.Fair {
		bd.hold()
	}
}

// claim gives a queued build to a session.
func (bd *build) claim(s *session) {
	bd.class.remove(bd)
	bd.epoch++
	bd.session, bd.worker = s, s.Worker
}

// offer makes a claimed build wait for an answer.
func (bd *build) offer(until time.Time) { bd.state, bd.due = queue.Offered, until }

// start makes a claimed or offered build run.
func (bd *build) start(token queue.Digest, slack time.Duration, now time.Time) {
	bd.state, bd.due = queue.Running, now.Add(bd.RunTimeout+slack)
	bd.startedAt = now
	bd.attempts = append(bd.attempts, &attempt{
		Attempt: queue.Attempt{
			AttemptID: queue.AttemptID{Build: bd.ID, Epoch: bd.epoch},
			Worker:    bd.worker,
			StartedAt: now,
		},
		token:     token,
		artifacts: make(map[string]*queue.Artifact),
	})
}

// release takes back an offer.
func (bd *build) release() {
	bd.vacate(queue.Pending)
	bd.reenter()
}

// shun keeps the build from the worker that had it last, for a while.
func (bd *build) shun(avoid time.Duration, now time.Time) {
	bd.avoid, bd.avoidUntil = bd.worker, now.Add(avoid)
}

// cancel makes a running build one that shall stop.
func (bd *build) cancel(reason string, until time.Time) {
	bd.state, bd.reason, bd.due = queue.Cancelling, reason, until
}

// end ends the running attempt with an outcome that ends the build as well.
func (bd *build) end(e ending, now time.Time) {
	bd.close(e, now)
	if bd.state != queue.Cancelling || e.outcome != queue.Canceled {
		bd.reason = e.reason // a canceled build keeps the reason of its cancel
	}
	bd.exitCode, bd.signal = clonePointer(e.exitCode), e.signal
	bd.finish(e.outcome, now)
}

// endAttempt ends the running attempt with an outcome after which the build is attempted again, if it may be.
func (bd *build) endAttempt(e ending, avoid time.Duration, now time.Time) {
	used := len(bd.attempts)
	if used >= bd.MaxAttempts {
		bd.end(e, now)
		return
	}
	bd.close(e, now)
	bd.vacate(queue.Pending)
	bd.shun(avoid, now)
	bd.wait(now)
	if delay := bd.Backoff.Delay(used); delay > 0 {
		bd.notBefore, bd.admitted = now.Add(delay), false
	} else {
		bd.reenter()
	}
}

// close notes the end of the running attempt. Its log takes nothing more: leases says no from now on.
func (bd *build) close(e ending, now time.Time) {
	a := bd.current()
	a.EndedAt, a.Outcome = now, e.outcome
	a.Reason, a.ExitCode, a.Signal = e.reason, clonePointer(e.exitCode), e.signal
	bd.project.countAttempt(a)
}

// finish makes the build terminal.
func (bd *build) finish(state queue.State, now time.Time) {
	if bd.queued {
		bd.class.remove(bd)
	}
	bd.vacate(state)
	bd.finishedAt, bd.notBefore, bd.gated = now, noTime, false
	bd.project.countEnd(bd)
}

// vacate moves the build to a state in which nobody holds it.
func (bd *build) vacate(state queue.State) { bd.state, bd.session, bd.due = state, nil, noTime }

// wait starts the queue timeout.
func (bd *build) wait(from time.Time) {
	if bd.QueueTimeout > 0 {
		bd.expires = from.Add(bd.QueueTimeout)
	}
}

// public returns the build as readers see it, without its spec.
func (bd *build) public() queue.Build {
	return queue.Build{
		ID: bd.ID, Project: bd.Project, Pool: bd.Pool, Labels: cloneLabels(bd.Labels), State: bd.state, Source: clonePointer(bd.Source),
		Epoch: bd.epoch, AttemptsUsed: len(bd.attempts), MaxAttempts: bd.MaxAttempts, Worker: bd.worker,
		RunTimeout: bd.RunTimeout, QueueTimeout: bd.QueueTimeout, Backoff: bd.Backoff, RetryFailed: bd.RetryFailed,
		Priority: bd.Priority, ConcurrencyKey: bd.ConcurrencyKey, IdempotencyKey: bd.IdempotencyKey,
		Metadata: maps.Clone(bd.Metadata), RetryOf: bd.RetryOf,
		CreatedAt: bd.createdAt, NotBefore: bd.notBefore, StartedAt: bd.startedAt, FinishedAt: bd.finishedAt,
		Reason: bd.reason, ExitCode: clonePointer(bd.exitCode), Signal: bd.signal,
	}
}

// lease returns how the newest attempt stands.
func (bd *build) lease(now time.Time) queue.Lease {
	l := queue.Lease{
		AttemptID: queue.AttemptID{Build: bd.ID, Epoch: bd.epoch},
		Session:   bd.session.id, Worker: bd.worker, Project: bd.Project, State: bd.state,
		Source: clonePointer(bd.Source), Reason: bd.reason,
	}
	if bd.state.Leased() {
		l.TokenHash, l.LogLength = bd.current().token, bd.current().log.length
	}
	if bd.state == queue.Running {
		l.RunLeft = max(0, bd.startedAt.Add(bd.RunTimeout).Sub(now))
	}
	return l
}

func clonePointer[T any](p *T) *T {
	if p == nil {
		return nil
	}
	return new(*p)
}

func cloneLabels(l queue.Labels) queue.Labels {
	if l == nil {
		return queue.Labels{}
	}
	return maps.Clone(l)
}

func cloneBuild(n queue.NewBuild) queue.NewBuild {
	n.Labels, n.Spec, n.Source, n.Metadata = cloneLabels(n.Labels), slices.Clone(n.Spec), clonePointer(n.Source), maps.Clone(n.Metadata)
	return n
}
