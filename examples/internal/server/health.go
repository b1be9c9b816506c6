package server

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
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
	case <-s.draining.ctx.Done():
		return []string{"draining"}
	default:
	}
	p := &s.probes
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Now().Before(p.until) {
		return p.failing
	}
	before := p.failing
	p.failing = nil
	for _, c := range s.probe(context.WithoutCancel(ctx)) { // others read the result as well
		p.failing = append(p.failing, c.name)
		if !slices.Contains(before, c.name) {
			s.opts.Logger.Warn("component not ready", "component", c.name, "error", c.err)
		}
	}
	p.until = time.Now().Add(s.opts.ProbeEvery)
	if len(before) > 0 && len(p.failing) == 0 {
		s.opts.Logger.Info("ready again")
	}
	return p.failing
}

// A component is what the server needs to serve requests.
type component struct {
	name string
	ping func(context.Context) error
	err  error // of the ping
}

// probe asks every component, all at once, and returns those that are not ready.
func (s *Server) probe(ctx context.Context) []component {
	components := []component{
		{name: "queue", ping: s.Queue.Ping},
		{name: "keys", ping: func(ctx context.Context) error {
			_, err := s.Keys.List(ctx, auth.Filter{Limit: 1})
			return err
		}},
		{name: "storage", ping: s.Store.Ping},
		{name: "hub", ping: func(context.Context) error { return s.Hub.Ready() }},
	}
	ctx, cancel := context.WithTimeout(ctx, s.opts.ProbeTimeout)
	defer cancel()
	var asked sync.WaitGroup
	for i := range components {
		c := &components[i]
		asked.Go(func() {
			defer func() {
				if p := recover(); p != nil {
					c.err = fmt.Errorf("panic: %v", p)
				}
			}()
			c.err = c.ping(ctx)
		})
	}
	asked.Wait()
	return slices.DeleteFunc(components, func(c component) bool { return c.err == nil })
}
