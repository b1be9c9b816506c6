package server

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/slipway-build/slipway/auth"
	"github.com/slipway-build/slipway/examples/internal/api"
	"github.com/slipway-build/slipway/worker"
)

// livez says that the process serves requests, whatever the state of what it depends on.
func (s *Server) livez(w http.ResponseWriter, _ *http.Request) error { return writeStatus(w, "live") }

// readyz says whether requests can be served, and which component keeps them from it, by name: why is in the log.
func (s *Server) readyz(w http.ResponseWriter, r *http.Request) error {
	failing := s.failing(r.Context())
	if len(failing) == 0 {
		return writeStatus(w, "ready")
	}
	p := worker.ProblemFor(worker.ErrUnavailable)
	p.Code, p.Detail = "not_ready", "Not ready: "+strings.Join(failing, ", ")+"."
	w.Header().Set("Retry-After", "1")
	p.Write(w)
	return nil
}

func writeStatus(w http.ResponseWriter, status string) error {
	body, err := json.Marshal(api.Status{Status: status})
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(body) // a client that has gone needs no answer
	return nil
}

// probes keeps what the last look at the components has shown.
type probes struct {
	mu      sync.Mutex
	until   time.Time // how long it is good for
	failing []string
}

// failing names the components that are not ready.
func (s *Server) failing(ctx context.Context) []string {
	select {
	case <-s.draining:
		return []string{"draining"}
	default:
	}
	p := &s.probes
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Now().Before(p.until) {
		return p.failing
	}
	before := len(p.failing)
	p.failing = s.probe(context.WithoutCancel(ctx)) // others read the result as well
	p.until = time.Now().Add(s.opts.ProbeEvery)
	if before > 0 && len(p.failing) == 0 {
		s.opts.Logger.Info("ready again")
	}
	return p.failing
}

// probe asks every component, all at once.
func (s *Server) probe(ctx context.Context) []string {
	components := []struct {
		name string
		ping func(context.Context) error
	}{
		{"queue", s.Queue.Ping},
		{"keys", func(ctx context.Context) error {
			_, err := s.Keys.List(ctx, auth.Filter{Limit: 1})
			return err
		}},
		{"storage", s.Store.Ping},
		{"hub", func(context.Context) error { return s.Hub.Ready() }},
	}
	ctx, cancel := context.WithTimeout(ctx, s.opts.ProbeTimeout)
	defer cancel()
	errs := make([]error, len(components))
	var asked sync.WaitGroup
	for i, c := range components {
		asked.Go(func() { errs[i] = c.ping(ctx) })
	}
	asked.Wait()
	var failing []string
	for i, err := range errs {
		if err != nil {
			failing = append(failing, components[i].name)
			s.opts.Logger.Warn("component not ready", "component", components[i].name, "error", err)
		}
	}
	return failing
}
