package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/slipway-build/slipway/worker"
)

// healthTimeout is how long a request for the agent's health may take.
const healthTimeout = 10 * time.Second

// checkHealth finds an address that others than this machine could reach.
func (s *settings) checkHealth() error {
	if s.health == "" {
		return nil
	}
	host, _, err := net.SplitHostPort(s.health)
	if err != nil {
		return s.wrong("health", "%s must have the form 127.0.0.1:8081")
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return s.wrong("health", "%s must be a loopback address, such as 127.0.0.1:8081: whoever reaches it needs no credential")
	}
	return nil
}

// serveHealth answers, until stop is called, whether the agent lives and is ready, and has its numbers.
func serveHealth(ctx context.Context, address string, a *worker.Agent, log *slog.Logger) (stop func(), err error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	log.Info("health is served", "address", listener.Addr().String())
	server := &http.Server{
		Handler: healthOf(a.Status), ReadTimeout: healthTimeout, WriteTimeout: healthTimeout,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(listener) // which ends with stop
	}()
	return func() {
		_ = server.Close()
		<-served
	}, nil
}

// healthOf serves what status says.
func healthOf(status func() worker.AgentStatus) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "live\n") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		s := status()
		if s.Controller == "" || s.Draining {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_, _ = io.WriteString(w, summary(s)+"\n")
	})
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		writeMetrics(w, status())
	})
	return mux
}

// writeMetrics writes the numbers in the text format of Prometheus.
func writeMetrics(w io.Writer, s worker.AgentStatus) {
	gauge := func(name, help string, value float64) {
		fmt.Fprintf(w, "# HELP slipway_agent_%s %s\n# TYPE slipway_agent_%[1]s gauge\nslipway_agent_%[1]s %[3]g\n", name, help, value)
	}
	truth := func(is bool) float64 {
		if is {
			return 1
		}
		return 0
	}
	gauge("connected", "Whether the agent is connected to a controller.", truth(s.Controller != ""))
	gauge("draining", "Whether the agent takes no more builds.", truth(s.Draining))
	gauge("slots", "How many builds run at once.", float64(s.Slots))
	gauge("slots_taken", "How many slots are taken.", float64(len(s.Attempts)))
	if !s.Answered.IsZero() {
		gauge("answer_age_seconds", "How long ago the newest heartbeat was sent that a controller has answered.", time.Since(s.Answered).Seconds())
	}
}
