package main

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/slipway-build/slipway/worker"
)

func TestHealth(t *testing.T) {
	online := worker.AgentStatus{Controller: "http://a/", Slots: 3, Answered: time.Now(), Attempts: make([]worker.AttemptStatus, 2)}
	leaving := online
	leaving.Draining = true
	for name, tt := range map[string]struct {
		status worker.AgentStatus
		path   string
		code   int
		body   string
	}{
		"live":      {worker.AgentStatus{}, "/livez", http.StatusOK, "live"},
		"offline":   {worker.AgentStatus{}, "/readyz", http.StatusServiceUnavailable, "not connected"},
		"online":    {online, "/readyz", http.StatusOK, "connected to http://a/, 2 of 3 slots taken"},
		"draining":  {leaving, "/readyz", http.StatusServiceUnavailable, "draining"},
		"numbers":   {online, "/metrics", http.StatusOK, "# TYPE slipway_agent_slots_taken gauge\nslipway_agent_slots_taken 2\n"},
		"no answer": {worker.AgentStatus{}, "/metrics", http.StatusOK, "\nslipway_agent_connected 0\n"},
		"else":      {online, "/status", http.StatusNotFound, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := httptest.NewRecorder()
			healthOf(func() worker.AgentStatus { return tt.status }).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, tt.path, nil))
			if w.Code != tt.code || !strings.Contains(w.Body.String(), tt.body) {
				t.Errorf("%d: %s", w.Code, w.Body)
			}
		})
	}
}

func TestHealthIsForThisMachine(t *testing.T) {
	for address, good := range map[string]bool{
		"": true, "127.0.0.1:0": true, "[::1]:8081": true, "localhost:1": true,
		":8081": false, "0.0.0.0:8081": false, "10.0.0.1:8081": false, "builder:8081": false, "127.0.0.1": false,
	} {
		s := &settings{health: address}
		if err := s.checkHealth(); (err == nil) != good || err != nil && (exitCode(err) != exitUsage || !strings.HasPrefix(err.Error(), "-health must ")) {
			t.Errorf("%q: %v", address, err)
		}
	}
}

func TestHealthIsServed(t *testing.T) {
	address := make(chan string, 1)
	log := slog.New(slog.NewTextHandler(io.Discard, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == "address" {
			address <- a.Value.String()
		}
		return a
	}}))
	stop, err := serveHealth(context.Background(), "127.0.0.1:0", newAgent(t, t.TempDir()), log)
	if err != nil {
		t.Fatal(err)
	}
	where := <-address
	if _, err := serveHealth(t.Context(), where, newAgent(t, t.TempDir()), log); err == nil {
		t.Error("two serve at one address")
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+where+"/livez", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("%v, %v", resp.Status, err)
	}
	stop()
	if conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", where); err == nil {
		_ = conn.Close()
		t.Error("it is served after its end")
	}
}
