package queue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"time"
)

// A Handler carries out one attempt of a build in this process. Returning nil ends the build as [Succeeded], an error as [Failed] with
// the error's text as the reason, or, if it wraps [ErrTryAgain], the attempt as [Lost], so that the build is attempted again. A panic
// is an error.
//
// ctx ends when the build must stop, and [context.Cause] tells why: [ErrCanceled], [context.DeadlineExceeded] at the end of the run
// timeout, [ErrStaleLease] when the lease is lost, [ErrStopping] when the worker has waited long enough for its end. What a handler
// then returns as an error leads to [Canceled], [TimedOut], or, for the last two, Lost; nil still means that the build succeeded, but
// for a lost lease: another worker may have the build by now.
type Handler func(ctx context.Context, job *Job) error

// What handlers and a [Worker] tell each other.
var (
	// ErrTryAgain is for handlers to wrap: the attempt could not be carried through, by no fault of the build.
	ErrTryAgain = errors.New("try again")
	// ErrCanceled is the cause of a handler's context when somebody canceled the build.
	ErrCanceled = errors.New("build was canceled")
	// ErrStopping is the cause of a handler's context when its worker stops.
	ErrStopping = errors.New("worker is stopping")
	// ErrReplaced says that another process, or another Run, opened a session of the same worker.
	ErrReplaced = errors.New("another session of the worker was opened")
)

// WorkerOptions configure a [Worker]. The zero value, and nil, mean the defaults.
type WorkerOptions struct {
	// Pools are whose builds the worker takes. Default: [DefaultPool].
	Pools []string
	// Labels are what the worker has. Default: none, so that it takes builds that require none.
	Labels Labels
	// Slots is how many handlers run at once, at most [MaxSlots]. Default: the number of CPUs that the process may use.
	Slots int
	// StopTimeout is how long handlers may go on when Run's context has ended. Default: 30 s.
	StopTimeout time.Duration
	// Poll is the longest time between two looks for builds, if nothing hints that there are some. Default: 1 s.
	Poll time.Duration
	// Logger takes what happens in the background. Default: the [Queue]'s.
	Logger *slog.Logger
}

// A Worker runs builds in the process that has the queue, without a network in between. It is one worker of the queue, with its name,
// labels and slots; what package worker does for machines elsewhere, it does here with a function.
//
// A worker's slot is free again when the outcome of its build is stored. What the process submits by [Queue.Submit] or [Queue.SubmitMany]
// while a slot is free and nothing waits starts at once, often before the submit returns: builds that any worker might have been given
// at once, without an idempotency key.
type Worker struct {
	queue *Queue
	name  string
	opts  WorkerOptions
}

// NewWorker returns a worker of a name, which no other worker may have while it runs; see [CheckName]. A nil o means the defaults.
func NewWorker(q *Queue, name string, o *WorkerOptions) *Worker {
	w := &Worker{queue: q, name: name}
	if o != nil {
		w.opts = *o
	}
	if len(w.opts.Pools) == 0 {
		w.opts.Pools = []string{DefaultPool}
	}
	if w.opts.Slots <= 0 {
		w.opts.Slots = runtime.GOMAXPROCS(0)
	}
	if w.opts.StopTimeout <= 0 {
		w.opts.StopTimeout = 30 * time.Second
	}
	if w.opts.Poll <= 0 {
		w.opts.Poll = time.Second
	}
	if w.opts.Logger == nil {
		w.opts.Logger = q.opts.Logger
	}
	return w
}

// Run takes builds and has handler carry them out until ctx ends; it also runs the queue ([Queue.Run]). Then it takes no more, waits [WorkerOptions].StopTimeout for the handlers that still run, ends their contexts, waits for them to return, and stores
// what they left. It then returns nil. A handler that never returns keeps Run from returning.
//
// It survives an outage of the backend, but not one at the very begin. When it cannot tell for [Options.ControllerTTL] that this
// process is alive, it ends the handlers' contexts: their builds may be given to others soon.
//
// Errors: [ErrInvalid], about the name or the options; [ErrReplaced]; what the backend says when the session cannot be opened.
func (w *Worker) Run(ctx context.Context, handler Handler) error {
	s, err := w.begin(ctx, handler)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	// What follows goes on while the last handlers end.
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var loops sync.WaitGroup
	loops.Go(func() { _ = s.queue.Run(background) }) // which returns nil
	for _, loop := range []func(context.Context){s.beatLoop, s.cancelLoop, s.logLoop, s.finishLoop} {
		loops.Go(func() { loop(background) })
	}
	w.queue.crew.join(s)
	defer context.AfterFunc(ctx, func() { w.queue.crew.leave(s) })()
	err = s.claimLoop(ctx, background)
	w.queue.crew.leave(s) // from here on no slot is reserved
	s.wakes.Stop()
	s.drain(background)
	stop()
	loops.Wait()
	s.deadline.Stop()
	s.end(ctx)
	return err
}

// A shift is one Run of a Worker.
type shift struct {
	*Worker
	handler Handler
	session SessionID
	// base is what the contexts of handlers derive from; it does not end.
	base context.Context
	// handlers are those that run, of which each ends its job, and slots that are reserved for one.
	handlers sync.WaitGroup

	wakes    *Wakes      // to claim; also rung when there is a free slot, or the end
	deadline *time.Timer // goes off when this process counts as dead, unless a beat succeeds before

	mu       sync.Mutex
	jobs     map[AttemptID]*Job // from their claim until their outcome is stored
	claiming int                // slots that a claim under way may fill
	reserved map[*reservation]struct{}
	unsure   time.Time // until when a claim, or a start at a submit, may turn out to have been made whose answer was lost
	sated    bool      // the last claim left nothing behind: what comes since is told of, or found by a poll
	refused  bool      // a build did not start in the slot that was kept for it, and none is kept until the next claim
	stopped  error     // why every handler must stop; nil while they may go on
	ended    []*Job    // those whose outcome is to be stored
	beaten   time.Time // when the last beat that succeeded was begun
	replaced bool

	logging bell // a log has much to store, or its job waits for that
	ending  bell // there is something in ended
	over    bell // nothing is left in jobs
}

// begin opens the session.
func (w *Worker) begin(ctx context.Context, handler Handler) (*shift, error) {
	s := &shift{
		Worker: w, handler: handler, base: context.WithoutCancel(ctx), jobs: make(map[AttemptID]*Job), reserved: make(map[*reservation]struct{}),
		beaten:  time.Now(),
		logging: newBell(), ending: newBell(), over: newBell(),
	}
	if _, err := w.queue.Beat(ctx); err != nil {
		return nil, err
	}
	id := NewID()
	session, err := w.queue.OpenSession(ctx, NewSession{
		Worker: w.name, Instance: id.String(), Labels: w.opts.Labels, Pools: w.opts.Pools, Slots: w.opts.Slots, Direct: true,
	})
	if err != nil {
		return nil, err
	}
	s.session = session
	s.deadline = time.AfterFunc(w.queue.opts.ControllerTTL, s.fence)
	s.wakes = w.queue.Wakes(ForClaims, w.opts.Poll)
	return s, nil
}

// end tells the backend that the session is over.
func (s *shift) end(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if s.isUnsure() {
		_ = s.disown(ctx) // what is not disowned now is lost after its grace
	}
	if err := s.queue.LoseSessions(ctx, s.session); err != nil {
		s.log().Warn("worker's session not ended; it ends with its controller", "error", err)
	}
}

// log is where what happens in the background is told.
func (s *shift) log() *slog.Logger { return s.opts.Logger.With("worker", s.name) }

// fence stops all handlers if this process may be counted as dead by now.
func (s *shift) fence() {
	if !s.alive() {
		s.stopAll(ErrStaleLease)
	}
}

// alive reports whether builds may be claimed and run.
func (s *shift) alive() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lives()
}

// lives is alive for callers that hold s.mu.
func (s *shift) lives() bool { return !s.replaced && elapsed(s.beaten) < s.queue.opts.ControllerTTL }

// elapsed returns how much time has passed by the monotonic or the wall clock, whichever says more: the one may stand still while the
// machine sleeps, the other may be set.
func elapsed(since time.Time) time.Duration {
	now := time.Now()
	return max(now.Sub(since), now.Round(0).Sub(since.Round(0)))
}

// claimLoop claims builds until ctx ends. Their handlers' contexts derive from background, and so do claims: one that has begun is
// waited for, since what it claims is this worker's.
func (s *shift) claimLoop(ctx, background context.Context) error {
	trouble := trouble{log: s.log(), what: "claim"}
	for s.wakes.Next(ctx) {
		claimed, err := s.claim(background)
		trouble.note(ctx, err)
		switch {
		case err != nil:
			sleep(ctx, jitter(200*time.Millisecond))
		case claimed > 0:
			s.wakes.Found()
		}
		if s.isReplaced() {
			return fmt.Errorf("queue: worker %q: %w", s.name, ErrReplaced)
		}
	}
	return nil
}

func (s *shift) isReplaced() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.replaced
}

// lateCommit is how long a change whose answer was lost is looked out for, a claim or a submit that hands over: a server may still be at its
// commit when nobody waits for it any more, and what it has given nobody runs.
const lateCommit = time.Minute

// doubt notes that an answer was lost. The caller holds s.mu.
func (s *shift) doubt() { s.unsure = time.Now().Add(lateCommit) }

// claim claims once for all free slots and starts the handlers of what it got.
func (s *shift) claim(ctx context.Context) (int, error) {
	if !s.alive() {
		return 0, nil
	}
	if s.isUnsure() {
		if err := s.disown(ctx); err != nil {
			return 0, err
		}
	}
	begun, slots := time.Now(), s.beginClaim()
	if slots < 1 {
		return 0, nil
	}
	offers, err := s.queue.Claim(ctx, []Idle{{Session: s.session, Slots: slots}})
	jobs := make([]*Job, len(offers))
	s.mu.Lock()
	if err != nil {
		s.doubt()
	}
	s.claiming, s.refused = 0, false
	for i, o := range offers {
		jobs[i] = s.start(o.Claimed, begun)
	}
	s.sated = err == nil && len(offers) < slots
	again := err == nil && !s.sated && s.free() > 0 // of slots that have become free meanwhile too
	s.mu.Unlock()
	if again {
		s.wakes.Ring()
	}
	for _, job := range jobs {
		s.handlers.Go(func() { job.run(s.handler) })
	}
	return len(offers), err
}

// free returns how many slots nobody has. The caller holds s.mu.
func (s *shift) free() int { return s.opts.Slots - len(s.jobs) - len(s.reserved) - s.claiming }

// beginClaim returns how many slots a claim is to fill. If there are none, there may be builds for those that become free.
func (s *shift) beginClaim() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	slots := min(s.free(), MaxClaim)
	if slots < 1 {
		s.sated = false
		return 0
	}
	s.claiming = slots
	return slots
}

// start begins a job that was asked for at a time, for a handler that the caller runs. The caller holds s.mu.
func (s *shift) start(c Claimed, asked time.Time) *Job {
	job := newJob(s, c)
	s.jobs[c.AttemptID] = job
	switch {
	case !s.lives(), elapsed(asked) >= s.queue.opts.ControllerTTL:
		job.stop(ErrStaleLease) // the answer came so late that others may have the build
	case s.stopped != nil:
		job.stop(s.stopped)
	}
	return job
}

func (s *shift) isUnsure() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Now().Before(s.unsure)
}

// disown ends as lost what this session has leased and nobody here knows of: what was claimed, or started at its submit, when the answer did
// not arrive. No claim is under way meanwhile.
func (s *shift) disown(ctx context.Context) error {
	leases, err := s.queue.Leases(ctx)
	if err != nil {
		return err
	}
	var unknown []Completion
	s.mu.Lock()
	for _, l := range leases {
		if l.Session == s.session && s.jobs[l.AttemptID] == nil && !s.awaits(l.Build) {
			unknown = append(unknown, Completion{
				AttemptID: l.AttemptID, Session: s.session, Outcome: Lost, Reason: "the answer to its claim or submit was lost", LogPartial: true,
			})
		}
	}
	s.mu.Unlock()
	_, err = s.queue.FinishMany(ctx, unknown) // what has ended meanwhile stays as it is
	return err
}

// drain waits for the handlers, and for their outcomes to be stored.
func (s *shift) drain(background context.Context) {
	done := make(chan struct{})
	var wait sync.WaitGroup
	wait.Go(func() {
		s.handlers.Wait()
		close(done)
	})
	defer wait.Wait()
	timeout := time.NewTimer(s.opts.StopTimeout)
	defer timeout.Stop()
	select {
	case <-done:
	case <-timeout.C:
		s.stopAll(ErrStopping)
		<-done
	}
	// If the backend does not answer, builds whose outcome is not stored count as lost after their grace.
	timeout.Reset(s.opts.StopTimeout)
	for s.holds() > 0 {
		select {
		case <-s.over:
		case <-timeout.C:
			s.log().Error("worker stops, outcomes not stored", "builds", s.holds())
			return
		case <-background.Done():
			return
		}
	}
}

func (s *shift) holds() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.jobs)
}

// stopAll ends the contexts of all handlers.
func (s *shift) stopAll(cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if errors.Is(cause, ErrStopping) { // which is for good; a worker may come back from its fence
		s.stopped = cause
	}
	for _, job := range s.jobs {
		job.stop(cause)
	}
}
