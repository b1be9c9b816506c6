package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/slipway-build/slipway/worker"
)

// controlTimeout is how long a question to an agent on this machine may take.
const controlTimeout = 10 * time.Second

// controlPath returns the socket of the agent that works in a directory. It has a directory of its own that nobody else can enter, so
// that there is no moment at which others could reach it.
func controlPath(dir string) string { return filepath.Join(dir, "control", "socket") }

// dialControl connects to the agent that works in a directory.
func dialControl(ctx context.Context, dir string) (net.Conn, error) {
	return (&net.Dialer{Timeout: controlTimeout}).DialContext(ctx, "unix", controlPath(dir))
}

// A control answers what status and drain ask an agent. Who may enter its directory may ask: the agent's user, and root.
type control struct {
	agent    *worker.Agent
	log      *slog.Logger
	server   *http.Server
	listener net.Listener
	lock     *os.File // kept, so that no other agent takes the socket for one that was left behind
	served   chan struct{}

	ended   chan struct{}
	outcome *worker.Problem // why the agent ended with builds unfinished; set before ended is closed
}

// openControl opens the socket, in the place of one that a killed agent has left.
func openControl(ctx context.Context, dir string, a *worker.Agent, log *slog.Logger) (*control, error) {
	c := &control{agent: a, log: log, served: make(chan struct{}), ended: make(chan struct{})}
	if err := c.listen(ctx, controlPath(dir)); err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", c.status)
	mux.HandleFunc("POST /drain", c.drain)
	c.server = &http.Server{Handler: mux, ReadHeaderTimeout: controlTimeout, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn)}
	go func() {
		defer close(c.served)
		_ = c.server.Serve(c.listener) // which ends with close
	}()
	return c, nil
}

func (c *control) listen(ctx context.Context, path string) (err error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := os.Chmod(dir, 0o700); err != nil { //nolint:gosec // it is a directory
		return err
	}
	if c.lock, err = os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = c.lock.Close()
		}
	}()
	if err := lock(c.lock); err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if c.listener, err = new(net.ListenConfig).Listen(ctx, "unix", path); err != nil {
		return err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return errors.Join(err, c.listener.Close())
	}
	return nil
}

// close answers those that wait for the agent's end, and goes. The agent has left if it ended for another reason than that all was done.
func (c *control) close(left bool) {
	if left {
		c.outcome = &worker.Problem{
			Type: "about:blank", Status: http.StatusConflict, Code: "stopped", Title: "The agent was stopped before its builds had ended.",
		}
	}
	close(c.ended)
	ctx, cancel := context.WithTimeout(context.Background(), controlTimeout)
	defer cancel()
	_ = c.server.Shutdown(ctx) // who does not take his answer goes without
	<-c.served
	_ = c.lock.Close()
}

func (c *control) status(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(reportOf(c.agent.Status())) // whoever asked may be gone
}

// drain has the agent drain. With the parameter wait it answers when the agent has ended.
func (c *control) drain(w http.ResponseWriter, r *http.Request) {
	wait := r.URL.Query().Has("wait")
	c.log.Info("draining: agent drain asks for it", "wait", wait)
	c.agent.Drain()
	if !wait {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	select {
	case <-r.Context().Done():
		return
	case <-c.ended:
	}
	if c.outcome != nil {
		c.outcome.Write(w)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// ask sends a request to the agent that works in a directory, and returns what it answers.
func ask(ctx context.Context, dir, method, path string) ([]byte, error) {
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return dialControl(ctx, dir) },
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://agent"+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		err = errors.Unwrap(err) // without the address, which is none
		if dial, ok := errors.AsType[*net.OpError](err); ok && dial.Op == "dial" {
			return nil, fmt.Errorf("no agent can be asked in %s; name its directory with -dir: %w", dir, err)
		}
		return nil, fmt.Errorf("the agent in %s does not answer: %w", dir, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode >= http.StatusMultipleChoices {
		return nil, worker.ReadProblem(resp)
	}
	const most = 4 << 20
	return io.ReadAll(io.LimitReader(resp.Body, most))
}
