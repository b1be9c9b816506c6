package workertest

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/slipway-build/slipway/internal/ws"
	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/worker/wire"
)

// ControllerOptions configure a [Controller]. The zero value, and nil, mean the defaults.
type ControllerOptions struct {
	// Credential is the one that workers must have. Default: "slw_worker_canary".
	Credential string
	// Heartbeat, Lease and KillTime are what welcome says. Defaults: 200 ms, 30 s, 10 s.
	Heartbeat, Lease, KillTime time.Duration
	// CancelGrace is that of offers and cancels. Default: 5 s.
	CancelGrace time.Duration
	// RunTimeout is that of offers. Default: 5 min.
	RunTimeout time.Duration
	// LogFrame and LogWindow are what welcome says, in bytes. Defaults: 64 KiB and 1 MiB.
	LogFrame, LogWindow int64
	// LogCap is that of offers, in bytes. Default: 64 MiB.
	LogCap int64
}

// A Controller is one that knows no queue: a test offers builds to the workers that come, and sees what they do. What the worker must be answered
// to get on it answers by itself, unless [Session.Manual] says otherwise: heartbeats, log frames and reports. It keeps logs and artifacts
// over connections, serves sources, and ends with the test.
type Controller struct {
	tb     testing.TB
	opts   ControllerOptions
	server *httptest.Server
	serves sync.WaitGroup

	sessions chan *Session

	mu       sync.Mutex
	refusal  int
	requests []*http.Request
	attempts map[wire.Ref]*served
	open     []*Session // also those that have ended
}

// A served is what a controller keeps of an attempt.
type served struct {
	log       []byte
	hash      queue.Digest
	source    []byte
	announced map[string]announced
	artifacts map[string][]byte
}

// NewController starts a controller.
func NewController(tb testing.TB, o *ControllerOptions) *Controller {
	tb.Helper()
	c := &Controller{tb: tb, sessions: make(chan *Session, 64), attempts: make(map[wire.Ref]*served)}
	if o != nil {
		c.opts = *o
	}
	orDefault(&c.opts.Credential, "slw_worker_canary")
	orDefault(&c.opts.Heartbeat, 200*time.Millisecond)
	orDefault(&c.opts.Lease, 30*time.Second)
	orDefault(&c.opts.KillTime, 10*time.Second)
	orDefault(&c.opts.CancelGrace, 5*time.Second)
	orDefault(&c.opts.RunTimeout, 5*time.Minute)
	orDefault(&c.opts.LogFrame, wire.MaxLogData)
	orDefault(&c.opts.LogWindow, wire.DefaultLogWindow)
	orDefault(&c.opts.LogCap, wire.DefaultLogCap)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/worker/connect", c.connect)
	mux.HandleFunc("GET /v1/worker/builds/{build}/{epoch}/source", c.serveSource)
	mux.HandleFunc("POST /v1/worker/builds/{build}/{epoch}/artifacts", c.announceArtifact)
	mux.HandleFunc("PUT /v1/worker/builds/{build}/{epoch}/artifacts/{name...}", c.putArtifact)
	c.server = httptest.NewServer(mux)
	tb.Cleanup(c.end)
	return c
}

func orDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func (c *Controller) end() {
	c.server.CloseClientConnections()
	c.mu.Lock()
	open := slices.Clone(c.open)
	c.mu.Unlock()
	for _, s := range open {
		s.Drop()
	}
	c.serves.Wait()
	c.server.Close()
	for _, s := range open {
		s.report()
	}
}

// URL returns where workers find the controller.
func (c *Controller) URL() string { return c.server.URL }

// Refuse has handshakes answered with an HTTP status from now on; with zero they are accepted again.
func (c *Controller) Refuse(status int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refusal = status
}

// Handshakes returns the requests to connect that have come so far, those that were refused among them. Their bodies are not for reading.
func (c *Controller) Handshakes() []*http.Request {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.requests)
}

// Log returns what has come of an attempt's log, over all connections.
func (c *Controller) Log(ref wire.Ref) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.attemptLocked(ref).log)
}

// Artifact returns the bytes of an artifact, if it was uploaded.
func (c *Controller) Artifact(ref wire.Ref, name string) ([]byte, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	content, ok := c.attemptLocked(ref).artifacts[name]
	return content, ok
}

func (c *Controller) attemptLocked(ref wire.Ref) *served {
	if c.attempts[ref] == nil {
		c.attempts[ref] = &served{announced: make(map[string]announced), artifacts: make(map[string][]byte)}
	}
	return c.attempts[ref]
}

// Next waits for the next connection that says hello, which welcome answers when the test says so.
func (c *Controller) Next() *Session {
	c.tb.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	select {
	case s := <-c.sessions:
		return s
	case <-deadline.C:
		c.tb.Fatal("waited in vain for a worker to connect and say hello")
		panic("unreachable")
	}
}

// Welcomed waits for the next connection and welcomes it.
func (c *Controller) Welcomed(decisions ...wire.Decision) *Session {
	c.tb.Helper()
	s := c.Next()
	s.Welcome(decisions...)
	return s
}

func (c *Controller) connect(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	refusal := c.refusal
	c.requests = append(c.requests, r)
	c.mu.Unlock()
	if refusal == 0 && r.Header.Get("Authorization") != "Bearer "+c.opts.Credential {
		refusal = http.StatusUnauthorized
	}
	if refusal != 0 {
		refuse(w, refusal)
		return
	}
	conn, err := ws.Accept(w, r, &ws.Options{Subprotocols: wire.Subprotocols(), ReadTimeout: time.Minute})
	if err != nil {
		refuse(w, http.StatusUpgradeRequired)
		return
	}
	s := &Session{Peer: newPeer(c.tb, conn), controller: c, manual: make(map[wire.Type]bool), lost: make(map[wire.Ref]bool)}
	c.mu.Lock()
	c.open = append(c.open, s)
	c.serves.Add(1)
	c.mu.Unlock()
	defer c.serves.Done()
	s.serve(context.WithoutCancel(r.Context()), s.react)
}

// refuse answers with a problem document.
func refuse(w http.ResponseWriter, status int) {
	code := map[int]string{
		http.StatusUpgradeRequired: "unsupported_version", http.StatusUnauthorized: "unauthorized", http.StatusConflict: "conflict",
		http.StatusUnprocessableEntity: "digest_mismatch",
	}[status]
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{ // who has gone needs no answer
		"type": "about:blank", "title": http.StatusText(status), "status": status, "code": code, "supported": wire.Subprotocols(),
	})
}
