package server_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/slipway-build/slipway/auth"
	"github.com/slipway-build/slipway/examples/internal/server"
	"github.com/slipway-build/slipway/worker"
)

// internals are what a backend may say to the log and never to a client.
const internals = `ERROR: relation "slipway.build" does not exist (SQLSTATE 42P01) in SELECT spec FROM build; open /var/lib/slipway/blobs/x: permission denied; canary7f3a`

func wantNothingInternal(f *fixture, what string, r *reply) {
	f.Helper()
	text := string(r.body) + fmt.Sprint(r.Header)
	for _, internal := range []string{canary, "SELECT", "SQLSTATE", "/var/", "relation", "goroutine", ".go:", "runtime", "panic", "memqueue"} {
		if strings.Contains(text, internal) {
			f.Errorf("%s: the answer holds %q: %s", what, internal, text)
		}
	}
}

// eachRoute asks for every route that a fault in a backend can reach, as somebody who may.
func eachRoute(f *fixture, id string, do func(route server.Route, r *reply)) {
	for _, route := range f.server.Routes() {
		if route.May == server.Anybody {
			continue
		}
		who := submitter
		if route.May == auth.Manage {
			who = admin
		} else if route.May == auth.Connect {
			who = agent
		}
		method, path, body := target(route, id)
		r, err := f.try(who, method, path, body)
		if err != nil && route.May == auth.Connect {
			continue // the hub drops the connection of a request that panicked
		}
		f.check(err)
		do(route, r)
	}
}

// TestFaults lets every backend fail under every route.
func TestFaults(t *testing.T) {
	f := newFixture(t, nil)
	build := f.submit()
	id := f.start(build.ID)
	f.addArtifact(id, "bin/app", "an app")
	for _, tt := range []struct {
		name   string
		err    error
		status int
		code   string
	}{
		{"an error", fmt.Errorf("%s", internals), http.StatusInternalServerError, "internal"},
		{"a timeout", fmt.Errorf("%s: %w", internals, context.DeadlineExceeded), http.StatusServiceUnavailable, "unavailable"},
		{"no connection", fmt.Errorf("%s: %w", internals, &net.OpError{Op: "dial", Err: net.ErrClosed}), http.StatusServiceUnavailable, "unavailable"},
		{"a cut connection", fmt.Errorf("%s: %w", internals, io.ErrUnexpectedEOF), http.StatusServiceUnavailable, "unavailable"},
		{"a panic", fmt.Errorf("%s: %w", internals, errPanic), http.StatusInternalServerError, "internal"},
	} {
		for backend, fault := range map[string]*fault{
			"queue": &f.queueBackend.fault, "storage": &f.storeBackend.fault, "auth": &f.authBackend.fault,
		} {
			fault.set(tt.err)
			failed := 0
			eachRoute(f, build.ID.String(), func(route server.Route, r *reply) {
				what := fmt.Sprintf("%s of %s under %s", tt.name, backend, route.Pattern)
				wantNothingInternal(f, what, r)
				switch {
				case route.May == auth.Connect:
					// The hub says of keys that it cannot look up that it is unavailable, whatever the reason.
					if r.StatusCode == http.StatusUnauthorized || r.StatusCode == http.StatusForbidden {
						t.Errorf("%s: %s, for which a worker gives up", what, r.Status)
					}
				case r.StatusCode >= http.StatusInternalServerError:
					failed++
					wantStatus(f, r, tt.status, tt.code)
					if tt.status == http.StatusServiceUnavailable && r.Header.Get("Retry-After") == "" {
						t.Errorf("%s: no Retry-After", what)
					}
				}
			})
			fault.set(nil)
			if failed < 3 {
				t.Errorf("%s of %s: only %d routes were reached", tt.name, backend, failed)
			}
		}
	}
	if log := f.log.String(); !strings.Contains(log, "canary7f3a") || !strings.Contains(log, "stack=") || !strings.Contains(log, "request_id=") {
		t.Error("the log lacks what the answers leave out")
	}
	f.want(f.call(viewer, "GET", "/v1/builds/"+build.ID.String(), nil), http.StatusOK, nil)
}

// TestLogHasNoSecrets sends secrets along the ways there are and looks for them in the log.
func TestLogHasNoSecrets(t *testing.T) {
	f := newFixture(t, nil)
	r := f.call(admin, "POST", "/v1/keys", `{"kind":"api","role":"viewer","name":"x","project":"web"}`)
	created := string(r.body)
	f.call(submitter, "POST", "/v1/builds", `{"spec":"c3BlYzpjYW5hcnk3ZjNh"}`)
	f.call(viewer, "GET", "/v1/builds?token="+canary, nil)
	f.call(anonymous, "GET", "/v1/builds", nil, "Authorization", "Bearer "+f.secrets[viewer]+"x")
	f.authBackend.set(fmt.Errorf("no database"))
	for who := range f.secrets {
		f.call(who, "GET", "/v1/builds", nil)
		f.call(who, "GET", "/v1/worker/connect", nil)
	}
	log := f.log.String()
	for who, secret := range f.secrets {
		if secret != "" && strings.Contains(log, secret[len(secret)/2:]) {
			t.Errorf("the log holds the key of the %s", who)
		}
	}
	_, key, _ := strings.Cut(created, `"key":"`)
	key, _, _ = strings.Cut(key, `"`)
	if key == "" || strings.Contains(log, key[len(key)/2:]) || strings.Contains(log, canary) || strings.Contains(log, "c3BlYzpjYW5") {
		t.Errorf("the log holds a created key, a query or a spec:\n%s", log)
	}
}

// TestRoutesShowNoSecret asks every route as everybody, with the credential where it belongs, cut, of another scheme and in the query,
// while all goes well and while backends fail and panic. No answer, header or line of the log has any credential.
func TestRoutesShowNoSecret(t *testing.T) {
	f := newFixture(t, nil)
	build := f.submit()
	f.addArtifact(f.start(build.ID), "bin/app", "an app")
	var said strings.Builder
	ask := func(who string, route server.Route, query string, headers ...string) {
		method, path, body := target(route, build.ID.String())
		r, err := f.try(who, method, path+query, body, headers...)
		if err != nil {
			return // a panic in the hub ends the connection
		}
		fmt.Fprintln(&said, r.Status, r.Header, string(r.body))
	}
	for _, fails := range []error{nil, fmt.Errorf("no database"), fmt.Errorf("no database: %w", errPanic)} {
		for _, route := range f.server.Routes() {
			for who, key := range f.secrets {
				for _, backend := range []*fault{&f.queueBackend.fault, &f.storeBackend.fault, &f.authBackend.fault} {
					backend.set(fails)
					ask(who, route, "")
					ask(who, route, "?project=web&key="+key)
					backend.set(nil)
				}
				if key != "" {
					ask(who, route, "", "Authorization", "Bearer "+key[:len(key)-1])
					ask(who, route, "", "Authorization", "Basic "+key)
					ask(who, route, "", "Authorization", key)
				}
			}
		}
	}
	all := said.String() + f.log.String()
	if n := strings.Count(said.String(), "\n"); n < 1000 || !strings.Contains(all, "stack=") {
		t.Errorf("%d answers were looked through", n)
	}
	for who, key := range f.secrets {
		if key == "" {
			continue
		}
		if i := strings.Index(all, key[len(key)/2:len(key)-2]); i >= 0 {
			t.Errorf("the key of the %s is shown: %s…", who, all[max(0, i-300):i])
		}
	}
}

func TestRequestID(t *testing.T) {
	f := newFixture(t, nil)
	for id, taken := range map[string]bool{
		"abc-123_X.9": true, strings.Repeat("a", 64): true, strings.Repeat("a", 65): false, "a b": false, "a\"b": false, "é": false, "<x>": false,
	} {
		r := f.call(viewer, "GET", "/v1/builds/x", nil, "X-Request-Id", id)
		got := r.Header.Get("X-Request-Id")
		if (got == id) != taken || got == "" || r.problem.RequestID != got {
			t.Errorf("%q: got %q, in the problem %q", id, got, r.problem.RequestID)
		}
		if !strings.Contains(f.log.String(), "request_id="+got) {
			t.Errorf("%q is not in the log", got)
		}
	}
	if a, b := f.call(viewer, "GET", "/livez", nil), f.call(viewer, "GET", "/livez", nil); a.Header.Get("X-Request-Id") == b.Header.Get("X-Request-Id") {
		t.Error("two requests have one id")
	}
}

func TestHealth(t *testing.T) {
	f := newFixture(t, &server.Options{ProbeEvery: time.Nanosecond})
	ready := func(want string) {
		t.Helper()
		f.want(f.call(anonymous, "GET", "/livez", nil), http.StatusOK, nil)
		r := f.call(anonymous, "GET", "/readyz", nil)
		if want == "" {
			f.want(r, http.StatusOK, nil)
			return
		}
		if detail := f.wantProblem(r, http.StatusServiceUnavailable, "not_ready"); detail != "Not ready: "+want+"." {
			t.Errorf("detail %q, want %s", detail, want)
		}
		wantNothingInternal(f, want, r)
	}
	ready("")
	for name, fault := range map[string]*fault{"queue": &f.queueBackend.fault, "storage": &f.storeBackend.fault, "keys": &f.authBackend.fault} {
		for _, err := range []error{errors.New(internals), fmt.Errorf("%s: %w", internals, errPanic)} {
			fault.set(err)
			ready(name)
			fault.set(nil)
			ready("")
		}
	}
	f.queueBackend.set(fmt.Errorf("%s", internals))
	f.storeBackend.set(fmt.Errorf("%s", internals))
	ready("queue, storage")
	f.queueBackend.set(nil)
	f.storeBackend.set(nil)
	ready("")
	f.server.Drain()
	f.server.Drain() // again
	ready("draining")
}

// TestHealthIsAskedSeldom: whoever asks all the time does not wear out the storage.
func TestHealthIsAskedSeldom(t *testing.T) {
	f := newFixture(t, &server.Options{ProbeEvery: time.Hour})
	f.want(f.call(anonymous, "GET", "/readyz", nil), http.StatusOK, nil)
	f.storeBackend.set(fmt.Errorf("down"))
	f.want(f.call(anonymous, "GET", "/readyz", nil), http.StatusOK, nil)
}

func TestHealthWithoutHub(t *testing.T) {
	f := newFixture(t, nil)
	hub := must(worker.NewHub(f.queue, noBlobs{}, func(*http.Request) (worker.Identity, error) { return worker.Identity{}, nil }, nil))
	f.listen(must(server.New(server.Parts{Queue: f.queue, Store: f.store, Keys: f.server.Keys, Hub: hub}, &server.Options{Logger: slog.New(slog.DiscardHandler)})))
	if detail := f.wantProblem(f.call(anonymous, "GET", "/readyz", nil), http.StatusServiceUnavailable, "not_ready"); detail != "Not ready: hub." {
		t.Errorf("detail %q", detail)
	}
}

func TestNew(t *testing.T) {
	f := newFixture(t, nil)
	parts := f.server.Parts
	for name, without := range map[string]func(*server.Parts){
		"queue": func(p *server.Parts) { p.Queue = nil }, "store": func(p *server.Parts) { p.Store = nil },
		"keys": func(p *server.Parts) { p.Keys = nil }, "hub": func(p *server.Parts) { p.Hub = nil },
	} {
		incomplete := parts
		without(&incomplete)
		if _, err := server.New(incomplete, nil); err == nil {
			t.Errorf("a server without %s", name)
		}
	}
}

type noBlobs struct{ worker.Blobs }
