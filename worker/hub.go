package worker

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/worker/wire"
)

// A Hub is the controller's side of the worker protocol: it holds the connections of workers, offers them builds of a queue, and
// writes down what they report. Any number of processes may each have a Hub on the same queue; a worker may connect to any of them.
//
// A Hub is an [http.Handler] for the paths below /v1/worker/ and a loop, [Hub.Run]; it takes no connections while Run does not run. A
// host that mounts it below a prefix strips that ([http.StripPrefix]) and gives agents a URL with it. The queue's rows are all it
// knows: what it keeps in memory is connections, and hints about them.
type Hub struct {
	queue        *queue.Queue
	blobs        Blobs
	authenticate func(*http.Request) (Identity, error)
	opts         HubOptions
	routes       *http.ServeMux
	logs         *logPipe
	gate         *gate
	idle         *queue.IdleSet // used by dispatch alone

	sessions sync.WaitGroup // connections being served
	begun    time.Time      // when Run was called
	moved    atomic.Int64   // how long after that the dispatch loop last came round

	mu       sync.Mutex
	running  context.Context // of Run; nil before
	claims   *queue.Wakes    // when to look for builds; set by Run
	ended    bool            // that context has
	beaten   moment          // when the last beat that succeeded was begun
	byID     map[queue.SessionID]*session
	byWorker map[string]*session
	stirred  map[*session]struct{} // whose free slots may have changed since dispatch looked
	lost     []queue.SessionID     // sessions whose loss has not been written down yet
	writing  bool                  // somebody writes it down
	round    uint64                // counts readings of all leases
}

// NewHub returns a hub that offers the builds of q and moves bytes through blobs. It calls authenticate for each request to connect
// and refuses it if that returns an error: with 401 if the error wraps [ErrUnauthorized], with 403 if it wraps [ErrForbidden], both of
// which are final and make an [Agent] give up, and otherwise with 503, after which it tries again.
//
// It is an error if the options do not go together, or not with those of q: see [HubOptions.Margin].
func NewHub(q *queue.Queue, blobs Blobs, authenticate func(*http.Request) (Identity, error), o *HubOptions) (*Hub, error) {
	if q == nil || blobs == nil || authenticate == nil {
		return nil, errors.New("worker: NewHub needs a queue, blobs and an authenticate function")
	}
	opts := o.withDefaults()
	if err := opts.check(q.Options()); err != nil {
		return nil, err
	}
	h := &Hub{
		queue: q, blobs: blobs, authenticate: authenticate, opts: opts,
		byID:     make(map[queue.SessionID]*session),
		byWorker: make(map[string]*session),
		stirred:  make(map[*session]struct{}),
		idle:     q.NewIdleSet(),
	}
	h.gate = newGate(opts.MaxSessions)
	h.logs = newLogPipe(q, opts.LogWindow, opts.Logger)
	h.routes = h.newRoutes()
	return h, nil
}

// ServeHTTP serves workers: their connections, their sources and their artifacts.
func (h *Hub) ServeHTTP(w http.ResponseWriter, r *http.Request) { h.routes.ServeHTTP(w, r) }

// Ready returns nil while workers can be served: Run runs and the database says that this process is alive. Otherwise the error
// wraps [ErrUnavailable].
func (h *Hub) Ready() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.running == nil || h.ended {
		return fmt.Errorf("worker: the hub does not run: %w", ErrUnavailable)
	}
	if !h.aliveLocked() {
		return fmt.Errorf("worker: the hub has not reached its database in time: %w", ErrUnavailable)
	}
	return nil
}

// Run serves, and runs the queue ([queue.Queue.Run]), until ctx ends; then it closes every connection as going away, which leaves the workers' builds running for another
// controller to adopt, and returns nil. It may be called once.
func (h *Hub) Run(ctx context.Context) error {
	if err := h.start(ctx); err != nil {
		return err
	}
	defer h.claims.Stop()
	var loops sync.WaitGroup
	for _, loop := range []func(context.Context){h.beatLoop, h.dispatchLoop, h.cancelLoop, h.logs.run} {
		loops.Go(func() { loop(ctx) })
	}
	loops.Go(func() { _ = h.queue.Run(ctx) }) // which returns nil
	<-ctx.Done()
	h.end()
	loops.Wait()
	h.sessions.Wait() // connections end with ctx too
	h.farewell(ctx)
	return nil
}

func (h *Hub) start(ctx context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.running != nil {
		return errors.New("worker: Hub.Run was called twice")
	}
	h.running, h.begun = ctx, time.Now()
	h.claims = h.queue.Wakes(queue.ForClaims, h.opts.Poll)
	return nil
}

// end lets no more connections in. Those that were let in have been counted when it returns.
func (h *Hub) end() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ended = true
}

// farewell writes down the sessions that ended with Run, so that their offers are pending again at once.
func (h *Hub) farewell(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := h.writeLost(ctx); err != nil {
		h.opts.Logger.Warn("sessions not written off; their grace begins when this controller's time is up", "error", err)
	}
}

// enter counts a connection in while Run runs. The context that it returns ends with Run.
func (h *Hub) enter() (context.Context, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.running == nil || h.ended || !h.aliveLocked() {
		return nil, ErrUnavailable
	}
	h.sessions.Add(1)
	return h.running, nil
}

// replace closes an older session of the worker of s, so that nothing more is heard of it once s has what it held.
func (h *Hub) replace(s *session) {
	h.mu.Lock()
	old := h.byWorker[s.worker]
	h.mu.Unlock()
	if old != nil && old.id < s.id {
		old.close(wire.CloseReplaced)
	}
}

// join makes s known to the loops, in place of an older session of its worker. If there is a newer one already, s is what is old.
func (h *Hub) join(s *session) {
	h.mu.Lock()
	old := h.byWorker[s.worker]
	h.byID[s.id] = s
	h.stirred[s] = struct{}{}
	if old == nil || old.id < s.id {
		h.byWorker[s.worker] = s
	} else {
		old = s
	}
	h.mu.Unlock()
	if old != nil {
		old.close(wire.CloseReplaced)
	}
	h.claims.Ring()
}

// leave forgets s and notes that its loss must be written down.
func (h *Hub) leave(s *session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.id == 0 {
		return // it never got so far
	}
	delete(h.byID, s.id)
	if h.byWorker[s.worker] == s {
		delete(h.byWorker, s.worker)
	}
	h.stirred[s] = struct{}{}
	h.lost = append(h.lost, s.id)
}

// stir has the next dispatch look how many free slots s has.
func (h *Hub) stir(s *session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stirred[s] = struct{}{}
}

// stirAll has it look how many all have.
func (h *Hub) stirAll() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.byID {
		h.stirred[s] = struct{}{}
	}
}

// whatStirred returns the sessions whose free slots may have changed since it was last called.
func (h *Hub) whatStirred() map[*session]struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.stirred) == 0 {
		return nil
	}
	stirred := h.stirred
	h.stirred = make(map[*session]struct{})
	return stirred
}

// session returns the session of that id, nil if it is not, or no longer, here.
func (h *Hub) session(id queue.SessionID) *session {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.byID[id]
}

// all returns the sessions there are.
func (h *Hub) all() []*session {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := make([]*session, 0, len(h.byID))
	for _, s := range h.byID {
		all = append(all, s)
	}
	return all
}

// alive reports whether leases may be granted and renewed. It must be asked right before: Accept or Adopt may have taken long.
func (h *Hub) alive() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.aliveLocked()
}

// aliveLocked goes by the wall clock too: the monotonic one may have stood still while the machine slept, and the others' did not.
func (h *Hub) aliveLocked() bool {
	return thisMoment().since(h.beaten) < h.queue.Options().ControllerTTL
}

// writeLost tells the queue which sessions were lost. While one call does so, others leave it theirs, so that sessions that end together
// are written off together. What could not be written is tried again by the next call.
func (h *Hub) writeLost(ctx context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.writing {
		return nil
	}
	h.writing = true
	defer func() { h.writing = false }()
	for len(h.lost) > 0 {
		lost := h.lost
		h.lost = nil
		if err := h.lose(ctx, lost); err != nil {
			h.lost = append(h.lost, lost...)
			return err
		}
	}
	return nil
}

// lose is LoseSessions of the queue, without h.mu, which the caller holds.
func (h *Hub) lose(ctx context.Context, sessions []queue.SessionID) error {
	h.mu.Unlock()
	defer h.mu.Lock()
	return h.queue.LoseSessions(ctx, sessions...)
}

// currentRound returns the number of the newest reading of all leases.
func (h *Hub) currentRound() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.round
}
