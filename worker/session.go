package worker

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/slipway-build/slipway/internal/ws"
	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/worker/wire"
)

const (
	// controlLane is how many messages may wait to be written to a worker.
	controlLane = 256
	// maxOffers is how many offers a worker gets at once, so that they find room among those messages.
	maxOffers = 128
)

// A session is one connection of a worker. Its reading goroutine answers from memory, so that heartbeats never wait for the database;
// what needs the database is done by a second one, in order, which there is only while there is something to do.
type session struct {
	hub      *Hub
	conn     *ws.Conn
	identity Identity
	log      *slog.Logger

	impatience *time.Timer // closes the connection unless hello comes

	// Set by hello, before anybody else knows the session.
	id     queue.SessionID
	worker string
	slots  int
	most   int // operations that may wait

	operator sync.WaitGroup // the goroutine that does operations

	mu         sync.Mutex
	ending     bool          // the connection does
	draining   bool          // wants no offers any more
	paused     bool          // wants none until it resumes
	full       bool          // has declined for want of a slot, and has not said since that it has one
	busy       int           // slots that are taken by nothing that is leased
	resting    bool          // it declined since its machine is not fit, a moment ago
	told       int           // how many offers it would take, as the hub knows
	rest       time.Duration // how long it is left alone after the next such decline, at least
	rested     *time.Timer
	leases     map[queue.AttemptID]*held
	operations []operation // what waits for the database
	operating  bool        // somebody does what waits
}

// An operation is a message of the worker that needs the database.
type operation struct {
	ref  wire.Ref
	kind wire.Type
	do   func(context.Context)
}

// A held is what a session remembers of an attempt that is offered to its worker or run by it.
type held struct {
	round    uint64 // the reading of all leases that had begun when it was remembered
	started  bool   // the worker was told so
	canceled *wire.Cancel
	told     time.Time // when the worker was last told of the cancel
}

// connect serves GET /v1/worker/connect. The connection outlasts the request.
func (h *Hub) connect(w http.ResponseWriter, r *http.Request) error {
	identity, err := h.authenticate(r)
	if err != nil {
		return h.unauthenticated(err)
	}
	ctx, err := h.enter()
	if err != nil {
		w.Header().Set("Retry-After", "1") // it may just have begun
		return err
	}
	if err := h.gate.enter(identity.Worker); err != nil {
		h.sessions.Done()
		return err
	}
	exit := func() {
		h.gate.leave(identity.Worker)
		h.sessions.Done()
	}
	served := false
	defer func() {
		if !served { // also if there was a panic
			exit()
		}
	}()
	conn, err := ws.Accept(w, r, &ws.Options{
		Subprotocols: wire.Subprotocols(),
		MaxMessage:   wire.MaxMessage,
		ReadTimeout:  h.opts.ReadTimeout,
		WriteTimeout: h.opts.WriteTimeout,
		ControlLane:  controlLane,
	})
	if err != nil {
		return notAccepted(err, identity.Worker)
	}
	s := &session{hub: h, conn: conn, identity: identity, log: h.opts.Logger.With("worker", identity.Worker)}
	served = true
	go func() { // the handler returns, so that what the HTTP server keeps for the request is freed
		defer exit()
		s.serve(ctx)
	}()
	return nil
}

// unauthenticated makes an answer of an error of the host. What it does not say to be final is its own trouble, for which no worker
// shall give up.
func (h *Hub) unauthenticated(err error) error {
	if errors.Is(err, ErrUnauthorized) || errors.Is(err, ErrForbidden) || errors.Is(err, ErrUnavailable) {
		return err
	}
	h.opts.Logger.Error("worker not authenticated, by no fault of its own", "error", err)
	return ErrUnavailable
}

// notAccepted makes an answer of a handshake of a worker that failed.
func notAccepted(err error, worker string) error {
	refusal, ok := errors.AsType[*ws.UpgradeError](err)
	if !ok {
		return errGone
	}
	problem := &Problem{
		Type: "about:blank", Title: "The connection was not accepted: " + refusal.Reason + ".", Status: refusal.Status,
		Code: codeHandshake, Detail: "This controller speaks " + strings.Join(wire.Subprotocols(), ", ") + " over WebSocket.",
		Supported: wire.Subprotocols(), Worker: worker,
	}
	if errors.Is(err, ws.ErrSubprotocol) {
		problem.Code = codeVersion
	}
	return problem
}

// serve runs the connection to its end. Whatever happens in it stays in it.
func (s *session) serve(hubCtx context.Context) {
	defer func() {
		s.recovered(recover())
		s.operator.Wait()
		if s.rested != nil {
			s.rested.Stop()
		}
		s.hub.leave(s)
		if hubCtx.Err() != nil {
			return // Run writes off all sessions at once
		}
		if err := s.hub.writeLost(hubCtx); err != nil && hubCtx.Err() == nil {
			s.log.Warn("loss of the session not written down; trying again", "error", err)
		}
	}()
	s.impatience = time.AfterFunc(s.hub.opts.HelloTimeout, func() { s.close(wire.CloseHelloTimeout) })
	defer s.impatience.Stop()
	err := s.conn.Run(hubCtx, func(ctx context.Context, kind ws.Kind, data []byte) error {
		err := s.handle(ctx, kind, data)
		if err != nil {
			s.set(&s.ending, true)
		}
		return err
	})
	if err != nil && hubCtx.Err() == nil {
		s.log.Info("connection lost", "error", err)
	}
}

func (s *session) handle(ctx context.Context, kind ws.Kind, data []byte) error {
	switch {
	case s.id == 0:
		return s.hello(ctx, kind, data)
	case kind == ws.Log:
		return s.receiveLog(ctx, data)
	default:
		return s.receive(ctx, data)
	}
}

// operate does what waits for the database, also when the connection has ended: what the worker has said counts.
func (s *session) operate(ctx context.Context) {
	for {
		s.mu.Lock()
		if len(s.operations) == 0 {
			s.operations, s.operating = nil, false
			s.mu.Unlock()
			return
		}
		next := s.operations[0]
		s.operations = s.operations[1:]
		s.mu.Unlock()
		s.do(ctx, next)
	}
}

// do keeps a panic of one operation from the rest of the process.
func (s *session) do(ctx context.Context, o operation) {
	defer func() { s.recovered(recover()) }()
	o.do(ctx)
}

func (s *session) recovered(p any) {
	if p != nil {
		s.log.Error("panic while serving a worker", "panic", p, "stack", string(debug.Stack()))
		s.close(wire.CloseInternal)
	}
}

// later hands a message to the session's second goroutine, unless the same one waits there already: workers repeat themselves while
// the database is slow. A worker that asks for more than it can have reason to is disconnected.
func (s *session) later(ref wire.Ref, m wire.Message, do func(context.Context)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.ContainsFunc(s.operations, func(o operation) bool { return o.ref == ref && o.kind == m.Type() }) {
		return nil
	}
	if len(s.operations) >= s.most {
		return closeError(wire.CloseRateLimited)
	}
	s.operations = append(s.operations, operation{ref, m.Type(), do})
	if !s.operating {
		s.operating = true
		s.operator.Go(func() { s.operate(s.hub.running) }) // which was set before there were sessions
	}
	return nil
}

// close has the connection end, and no offers be made meanwhile.
func (s *session) close(code wire.CloseCode) {
	s.conn.Close(int(code), code.String())
	s.set(&s.ending, true)
}

func closeError(code wire.CloseCode) error {
	return &ws.CloseError{Code: int(code), Reason: code.String()}
}

// send encodes and sends a control message. A connection that cannot take it is on its way out; what was said is said again.
func (s *session) send(ctx context.Context, m wire.Message) bool {
	data, ok := s.encode(m)
	return ok && s.conn.SendControl(ctx, data) == nil
}

// sendNow is send for the hub's loops: a worker that does not read its messages must not hold up the others.
func (s *session) sendNow(m wire.Message) {
	if data, ok := s.encode(m); ok {
		_ = s.conn.TryControl(data)
	}
}

func (s *session) encode(m wire.Message) ([]byte, bool) {
	data, err := wire.Encode(m)
	if err != nil {
		s.log.Error("message not sent", "type", m.Type(), "error", err)
	}
	return data, err == nil
}

// free returns how many offers the worker would take now. The caller holds s.mu.
func (s *session) free() int {
	if s.ending || s.draining || s.paused || s.full || s.resting || s.conn.Ended() {
		return 0
	}
	return max(0, min(s.slots-s.busy-len(s.leases), maxOffers))
}

// tellFree returns how many offers the worker would take now. The hub is told when that changes.
func (s *session) tellFree() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.told = s.free()
	return s.told
}

// stir tells the hub if the worker would take more offers, or fewer, than it was told. The caller holds s.mu.
func (s *session) stir() {
	if s.free() != s.told {
		s.hub.stir(s)
	}
}

// patience returns how long the worker may be silent. The caller holds s.mu, or nobody else knows the session.
func (s *session) patience() time.Duration {
	if len(s.leases) > 0 {
		return s.hub.opts.ReadTimeout
	}
	return max(s.hub.opts.ReadTimeout, 3*s.hub.opts.IdleHeartbeat)
}

// remember notes that the session holds id.
func (s *session) remember(id queue.AttemptID) {
	round := s.hub.currentRound()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leases == nil {
		s.leases = make(map[queue.AttemptID]*held)
	}
	s.conn.SetReadTimeout(s.hub.opts.ReadTimeout)
	if s.leases[id] == nil {
		s.leases[id] = &held{round: round}
	}
	s.stir()
}

func (s *session) forget(id queue.AttemptID) {
	s.mu.Lock()
	delete(s.leases, id)
	s.stir()
	s.mu.Unlock()
	s.hub.logs.drop(s, id)
}

func (s *session) holds(id queue.AttemptID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.leases[id] != nil
}

// keepOnly forgets what was remembered before a reading of the rows began and was not found by it. The worker learns
// of it by the answer to its next heartbeat.
func (s *session) keepOnly(rows map[queue.AttemptID]bool, round uint64) {
	s.mu.Lock()
	var gone []queue.AttemptID
	for id, l := range s.leases {
		if l.round < round && !rows[id] {
			gone = append(gone, id)
			delete(s.leases, id)
		}
	}
	s.stir()
	s.mu.Unlock()
	for _, id := range gone {
		s.hub.logs.drop(s, id)
		s.log.Info("lease is over", "build", id.Build, "epoch", id.Epoch)
	}
	if len(gone) > 0 {
		s.hub.claims.Ring()
	}
}
