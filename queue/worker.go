package queue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// A Handler carries out one attempt of a build in this process. Returning nil ends the build as [Succeeded], an error as [Failed] with
// the error's text as the reason, or, if it wraps [ErrTryAgain], the attempt as [Lost], so that the build is attempted again. A panic
// is an error.
//
// ctx ends when the build must stop, and [context.Cause] tells why: [ErrCanceled], [context.DeadlineExceeded] at the end of the run
// timeout, [ErrStaleLease] when the lease is lost, [ErrStopping] when the worker has waited long enough for its end. What a handler
// then returns as an error leads to [Canceled], [TimedOut], or, for the last two, Lost; nil still means that the build succeeded.
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
// A worker's slot is free again when the outcome of its build is stored.
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
		return err
	}
	// What follows goes on while the last handlers end.
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	loops, background := errgroup.WithContext(background)
	for _, loop := range []func(context.Context) error{s.queue.Run, s.beatLoop, s.cancelLoop, s.logLoop, s.finishLoop} {
		loops.Go(func() error { return loop(background) })
	}
	err = s.claimLoop(ctx, background)
	s.wakes.Stop()
	s.drain(background)
	stop()
	_ = loops.Wait() // each ended because it was told to, or for the reason that claimLoop returned
	s.end(ctx)
	return err
}

// A shift is one Run of a Worker.
type shift struct {
	*Worker
	handler Handler
	session SessionID
	// handlers are those that run; each ends its job.
	handlers sync.WaitGroup

	// claiming is held from before a claim until what was claimed is in jobs.
	claiming sync.Mutex

	mu       sync.Mutex
	jobs     map[AttemptID]*Job // from their claim until their outcome is stored
	ended    []*Job             // those whose outcome is to be stored
	beaten   time.Time          // when the last beat that succeeded was begun
	replaced bool

	wakes   *Wakes        // also rung when there is a free slot, or the end
	logging chan struct{} // a log has much to store, or its job waits for that
	ending  chan struct{} // there is something in ended
	over    chan struct{} // ended ran empty
}

// begin opens the session.
func (w *Worker) begin(ctx context.Context, handler Handler) (*shift, error) {
	s := &shift{
		Worker: w, handler: handler, jobs: make(map[AttemptID]*Job), beaten: time.Now(),
		logging: make(chan struct{}, 1), ending: make(chan struct{}, 1), over: make(chan struct{}, 1),
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
	s.wakes = w.queue.Wakes(ForClaims, w.opts.Poll)
	return s, nil
}

// end tells the backend that the session is over, so that what may have been claimed and is not known waits no longer than it must.
func (s *shift) end(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := s.queue.LoseSessions(ctx, s.session); err != nil {
		s.opts.Logger.Warn("worker's session not ended; it ends with its controller", "worker", s.name, "error", err)
	}
}

// alive reports whether builds may be claimed and run.
func (s *shift) alive() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.replaced && elapsed(s.beaten) < s.queue.opts.ControllerTTL
}

// elapsed returns how much time has passed by the monotonic or the wall clock, whichever says more: the one may stand still while the
// machine sleeps, the other may be set.
func elapsed(since time.Time) time.Duration {
	now := time.Now()
	return max(now.Sub(since), now.Round(0).Sub(since.Round(0)))
}

// claimLoop claims builds until ctx ends. Their handlers' contexts derive from background.
func (s *shift) claimLoop(ctx, background context.Context) error {
	for s.wakes.Next(ctx) {
		claimed, err := s.claim(ctx, background)
		if err != nil && ctx.Err() == nil {
			s.opts.Logger.Warn("claim failed", "worker", s.name, "error", err)
		}
		if claimed > 0 {
			s.wakes.Found()
			s.wakes.Ring()
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

// claim claims once for all free slots and starts the handlers of what it got.
func (s *shift) claim(ctx, background context.Context) (int, error) {
	if ctx.Err() != nil || !s.alive() {
		return 0, nil
	}
	s.claiming.Lock()
	defer s.claiming.Unlock()
	s.mu.Lock()
	free := s.opts.Slots - len(s.jobs)
	s.mu.Unlock()
	if free <= 0 {
		return 0, nil
	}
	offers, err := s.queue.Claim(ctx, []Idle{{Session: s.session, Slots: free}})
	jobs := make([]*Job, len(offers))
	s.mu.Lock()
	for i, o := range offers {
		jobs[i] = newJob(background, s, o.Claimed)
		s.jobs[o.AttemptID] = jobs[i]
	}
	s.mu.Unlock()
	for _, job := range jobs {
		s.handlers.Go(func() { job.run(s.handler) })
	}
	return len(offers), err
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
			s.opts.Logger.Error("worker stops, outcomes not stored", "worker", s.name, "builds", s.holds())
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
	for _, job := range s.jobs {
		job.stop(cause)
	}
}

// signal wakes the one who waits on c, now or when it comes to wait.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
