package worker_test

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/worker"
)

// TestTLS has a controller behind TLS, below a path of its host. An agent that does not trust it says nothing to it.
func TestTLS(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.controller(nil)
	mux := http.NewServeMux()
	mux.Handle("/ci/v1/worker/", http.StripPrefix("/ci", c.hub))
	server := httptest.NewUnstartedServer(mux)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	trusted := x509.NewCertPool()
	trusted.AddCert(server.Certificate())

	w.agent("wary", succeed, nil, server.URL+"/ci")
	eventually(t, "the agent that does not trust the controller was refused by itself", func() bool {
		return strings.Contains(w.log.String(), "certificate")
	})
	id := w.submit(func(p *queue.Params) { p.Source = w.source(map[string]string{"a": "b"}) })
	if b := w.build(id); b.State != queue.Pending {
		t.Errorf("the build is %v", b.State)
	}
	w.agent("one", succeed, func(o *worker.AgentOptions) {
		o.TLS = &tls.Config{RootCAs: trusted, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2"}}
	}, server.URL+"/ci/")
	if b := w.end(id); b.State != queue.Succeeded || b.Worker != "one" {
		t.Errorf("the build ended as %v at %q: %s", b.State, b.Worker, b.Reason)
	}
}
