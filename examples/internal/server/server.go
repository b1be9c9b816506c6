package server

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/slipway-build/slipway/auth"
	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/storage"
	"github.com/slipway-build/slipway/worker"
	"github.com/slipway-build/slipway/worker/storeblobs"
)

// Parts are what a [Server] serves. All are required.
type Parts struct {
	Queue *queue.Queue
	Store *storage.Store
	Keys  *auth.Keys
	// Hub serves workers. Whoever made it runs it.
	Hub *worker.Hub
}

// Options configure a [Server]. The zero value, and nil, mean the defaults.
type Options struct {
	// Version is the version of the program, for the description of the API. Default: "unknown".
	Version string
	// MaxSource is the largest source, in bytes. The storage must take as much. Default: 1 GiB.
	MaxSource int64
	// MaxLogWait is the longest that a reader may ask to wait. Default: 30 s.
	MaxLogWait time.Duration
	// MaxLogStreams is how many streams of logs are open at a time. Default: 2,000.
	MaxLogStreams int
	// LogBeat is how often a stream of a log says that it is alive while there is nothing else to say. Default: 15 s.
	LogBeat time.Duration
	// StallTimeout ends an upload or download that makes no progress. Default: 60 s.
	StallTimeout time.Duration
	// BodyTimeout is how long a JSON body may take to arrive, and its request to be handled. Default: 30 s.
	BodyTimeout time.Duration
	// ProbeEvery is how long the answer of /readyz is good for, so that nobody can wear out the storage by asking. Default: 1 s.
	ProbeEvery time.Duration
	// ProbeTimeout is how long one component may take to say that it is ready. Default: 3 s.
	ProbeTimeout time.Duration
	// Logger takes what happens. Default: [slog.Default].
	Logger *slog.Logger
}

func (o *Options) withDefaults() Options {
	var opts Options
	if o != nil {
		opts = *o
	}
	if opts.Version == "" {
		opts.Version = "unknown"
	}
	if opts.MaxSource <= 0 {
		opts.MaxSource = 1 << 30
	}
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&opts.MaxLogWait, 30 * time.Second},
		{&opts.LogBeat, 15 * time.Second},
		{&opts.StallTimeout, time.Minute},
		{&opts.BodyTimeout, 30 * time.Second},
		{&opts.ProbeEvery, time.Second},
		{&opts.ProbeTimeout, 3 * time.Second},
	} {
		if *d.field <= 0 {
			*d.field = d.value
		}
	}
	if opts.MaxLogStreams <= 0 {
		opts.MaxLogStreams = 2_000
	}
	if opts.Logger == nil {
		opts.Logger = slog.Default()
	}
	return opts
}

// A Server answers the requests of clients and, through its hub, of workers. It is safe for concurrent use.
type Server struct {
	Parts
	blobs    worker.Blobs // Store, with errors that have a meaning to clients
	opts     Options
	mux      *http.ServeMux
	api      huma.API
	routes   []Route
	draining drain
	streams  atomic.Int64 // of logs
	probes   probes
	refusals throttle
}

// New returns a server of the parts. A nil o means the defaults.
func New(parts Parts, o *Options) (*Server, error) {
	if parts.Queue == nil || parts.Store == nil || parts.Keys == nil || parts.Hub == nil {
		return nil, errors.New("server: a queue, a store, keys and a hub are required")
	}
	s := &Server{
		Parts: parts, blobs: storeblobs.New(parts.Store), opts: o.withDefaults(),
		mux: http.NewServeMux(),
	}
	s.draining.ctx, s.draining.begin = context.WithCancel(context.Background())
	s.api = newAPI(s)
	s.register()
	return s, nil
}

// Drain makes the server say that it is not ready and ends the waits and streams of log readers, so that a shutdown need not wait for them. Other
// requests are still served.
func (s *Server) Drain() { s.draining.begin() }

// A drain is the time before a server's end.
type drain struct {
	ctx   context.Context // ends when it begins
	begin func()
}

// cut has a wait end with the drain. What it returns takes that back.
func (d *drain) cut(cancel func()) func() bool { return context.AfterFunc(d.ctx, cancel) }

// ServeHTTP implements [http.Handler].
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.observe(w, r, http.HandlerFunc(s.dispatch))
}
