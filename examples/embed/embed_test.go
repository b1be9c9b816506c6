package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/worker"
	"github.com/slipway-build/slipway/worker/procexec"
)

func TestMain(m *testing.M) {
	procexec.Guardian()
	os.Exit(m.Run())
}

const (
	testKey       = "x5kq0Zl2vT8sYb4nJc7uPd1wRf6hGm3e"
	testWorkerKey = "Ue9oBt2iXa5zNv8kQy1rLp4gDs7jHw0c"
)

// newTestService returns a service that does not serve yet.
func newTestService(t *testing.T) *service {
	t.Helper()
	s, err := newService(t.Context(), settings{dir: t.TempDir(), key: testKey, workerKey: testWorkerKey, log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func (r *releases) count(t *testing.T) (rows, builds int) {
	t.Helper()
	if err := r.db.QueryRowContext(t.Context(), `SELECT count(*) FROM release`).Scan(&rows); err != nil {
		t.Fatal(err)
	}
	list, err := r.queue.List(t.Context(), queue.Filter{Project: project})
	if err != nil {
		t.Fatal(err)
	}
	return rows, len(list)
}

// There is never a release without a build or a build without a release.
func TestReleaseAndBuildAreOne(t *testing.T) {
	s := newTestService(t)
	expect := func(want int) {
		t.Helper()
		if rows, builds := s.releases.count(t); rows != want || builds != want {
			t.Errorf("there are %d releases and %d builds, want %d of each", rows, builds, want)
		}
	}
	id, err := s.releases.add(t.Context(), "v1")
	if err != nil {
		t.Fatal(err)
	}
	expect(1)
	if found, err := s.releases.get(t.Context(), "v1"); err != nil || found.Build != id || found.State != "pending" {
		t.Errorf("got %+v, %v", found, err)
	}

	if _, err := s.releases.add(t.Context(), "v1"); !errors.Is(err, errReleased) {
		t.Errorf("a second release of a tag: %v", err)
	}
	expect(1)

	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.releases.add(ended, "v2"); err == nil {
		t.Error("released although nobody waited for it")
	}
	expect(1)

	// The table refuses the row after the build has been submitted.
	if _, err := s.db.ExecContext(t.Context(), `CREATE TRIGGER closed BEFORE INSERT ON release BEGIN SELECT RAISE(ABORT, 'closed'); END`); err != nil {
		t.Fatal(err)
	}
	if _, err := s.releases.add(t.Context(), "v3"); err == nil {
		t.Error("released although the table is closed")
	}
	expect(1)
	if _, err := s.releases.get(t.Context(), "v3"); !errors.Is(err, errNoTag) {
		t.Errorf("got %v", err)
	}
}

// client asks a served service.
type client struct {
	t   *testing.T
	url string
	key string
}

func (c client) do(method, path, body string) (status int, answer string) {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), method, c.url+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+c.key)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// start serves a service and runs an agent for it until the test ends, and returns a client.
func start(t *testing.T, s *service) client {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	url := "http://" + listener.Addr().String()
	executor, err := procexec.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	agent, err := worker.NewAgent(worker.AgentOptions{
		URLs: []string{url}, Credential: testWorkerKey, Worker: "builder", Executor: executor, Dir: t.TempDir(),
		ReconnectMin: 10 * time.Millisecond, ReconnectMax: 50 * time.Millisecond, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	// The agent ends first: without a controller it would wait for the answer to its last report.
	for _, run := range []func(context.Context) error{
		func(ctx context.Context) error { return serve(ctx, listener, s) },
		agent.Run,
	} {
		ctx, cancel := context.WithCancel(context.Background())
		end := make(chan error, 1)
		go func() { end <- run(ctx) }()
		t.Cleanup(func() {
			cancel()
			if err := <-end; err != nil {
				t.Error(err)
			}
		})
	}
	return client{t: t, url: url, key: testKey}
}

func TestRelease(t *testing.T) {
	c := start(t, newTestService(t))
	status, answer := c.do("POST", "/releases", `{"tag": "v1.2.0"}`)
	if status != http.StatusCreated {
		t.Fatalf("got %d %s", status, answer)
	}
	var found release
	deadline := time.After(time.Minute)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for found.State != "succeeded" {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("the build did not succeed: %+v", found)
		}
		status, answer := c.do("GET", "/releases/v1.2.0", "")
		if err := json.Unmarshal([]byte(answer), &found); err != nil || status != http.StatusOK {
			t.Fatalf("got %d %s (%v)", status, answer, err)
		}
	}
	if status, log := c.do("GET", "/releases/v1.2.0/log", ""); status != http.StatusOK || log != "building v1.2.0\n" {
		t.Errorf("the log is %d %q", status, log)
	}
}

func TestRefusals(t *testing.T) {
	c := start(t, newTestService(t))
	stranger := c
	stranger.key = testWorkerKey
	tests := []struct {
		c                  client
		method, path, body string
		want               int
	}{
		{stranger, "POST", "/releases", `{"tag": "v1"}`, http.StatusUnauthorized},
		{stranger, "GET", "/releases/v1/log", "", http.StatusUnauthorized},
		{c, "GET", "/v1/worker/connect", "", http.StatusUnauthorized},
		{c, "GET", "/releases/v1", "", http.StatusNotFound},
		{c, "GET", "/releases/v1/log", "", http.StatusNotFound},
		{c, "POST", "/releases", `{"tag": "../x"}`, http.StatusBadRequest},
		{c, "POST", "/releases", `{`, http.StatusBadRequest},
		{c, "POST", "/releases", `{"tag": "v1"}`, http.StatusCreated},
		{c, "POST", "/releases", `{"tag": "v1"}`, http.StatusConflict},
	}
	for _, test := range tests {
		if status, answer := test.c.do(test.method, test.path, test.body); status != test.want {
			t.Errorf("%s %s %s: got %d %s, want %d", test.method, test.path, test.body, status, answer, test.want)
		}
	}
}

func TestRunRefuses(t *testing.T) {
	for name, keys := range map[string][2]string{
		"no key": {"", testWorkerKey}, "a short worker key": {testKey, testWorkerKey[:31]},
	} {
		getenv := func(variable string) string {
			return map[string]string{"EMBED_KEY": keys[0], "EMBED_WORKER_KEY": keys[1]}[variable]
		}
		err := run(t.Context(), []string{"-data", t.TempDir()}, getenv, io.Discard)
		if !errors.Is(err, errUsage) || !strings.Contains(err.Error(), "KEY") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if err := run(t.Context(), []string{"-nonsense"}, os.Getenv, io.Discard); !errors.Is(err, errUsage) {
		t.Errorf("got %v", err)
	}
}
