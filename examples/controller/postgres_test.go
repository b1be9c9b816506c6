package main

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
)

// postgres starts a throw-away PostgreSQL, which ends with the test, and returns how to reach it.
func postgres(t *testing.T) *pgx.ConnConfig {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(bin, "pgtemp"), "--", "sh", "-c", `echo "$SLIPWAY_TEST_DATABASE_URL"; cat`)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		_ = cmd.Wait() // what matters is that it has ended
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err, stderr.String())
	}
	config, err := pgx.ParseConfig(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	return config
}

// A switchboard leads TCP connections to a PostgreSQL, until it is cut.
type switchboard struct {
	listener net.Listener
	target   string // a Unix socket
	copying  sync.WaitGroup

	mu    sync.Mutex
	cut   bool
	conns map[net.Conn]bool
}

func newSwitchboard(t *testing.T, config *pgx.ConnConfig) *switchboard {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &switchboard{
		listener: listener, target: filepath.Join(config.Host, ".s.PGSQL."+strconv.Itoa(int(config.Port))), conns: make(map[net.Conn]bool),
	}
	s.copying.Go(s.accept)
	t.Cleanup(func() {
		listener.Close()
		s.set(true)
		s.copying.Wait()
	})
	return s
}

// set cuts all connections and refuses new ones, or lets them through again.
func (s *switchboard) set(cut bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cut = cut
	if cut {
		for conn := range s.conns {
			conn.Close()
		}
		clear(s.conns)
	}
}

func (s *switchboard) accept() {
	for {
		client, err := s.listener.Accept()
		if err != nil {
			return
		}
		server, err := new(net.Dialer).DialContext(context.Background(), "unix", s.target)
		s.mu.Lock()
		if err != nil || s.cut {
			client.Close()
			if err == nil {
				server.Close()
			}
			s.mu.Unlock()
			continue
		}
		s.conns[client], s.conns[server] = true, true
		s.mu.Unlock()
		for _, way := range [][2]net.Conn{{client, server}, {server, client}} {
			s.copying.Go(func() {
				_, _ = io.Copy(way[0], way[1]) // cut or ended, it is over
				way[0].Close()
			})
		}
	}
}

// TestPostgres works on PostgreSQL and loses it for a while: the controller says so, goes on, and says so again.
func TestPostgres(t *testing.T) {
	config := postgres(t)
	board := newSwitchboard(t, config)
	secret := "canary7f3a"
	url := "postgres://" + config.User + ":" + secret + "@" + board.listener.Addr().String() + "/" + config.Database + "?sslmode=disable"
	env := []string{"SLIPWAY_DATABASE_URL=" + url}
	times := []string{
		"-probe-every", "10ms", "-controller-ttl", "2s", "-database-timeout", "1s", "-poll", "50ms", "-schema", "builds", "-log-level", "debug",
	}
	first := start(t, env, times...)
	second := start(t, env, times...)
	build := first.submit()
	if got := second.status("/v1/builds/" + build.ID.String()); got != http.StatusOK {
		t.Errorf("the other controller finds the build: %d", got)
	}

	board.set(true)
	for _, p := range []*program{first, second} {
		p.eventually("not ready", func() bool { return p.status("/readyz") == http.StatusServiceUnavailable })
		if got := p.status("/livez"); got != http.StatusOK {
			t.Errorf("livez: %d", got)
		}
		if got := p.status("/v1/builds"); got != http.StatusServiceUnavailable {
			t.Errorf("a list while the database is away: %d\n%s", got, p.stderr.String())
		}
	}
	// Long enough for the controller's own row to run out.
	first.eventually("the hub has noticed", func() bool {
		return first.status("/readyz") == http.StatusServiceUnavailable && strings.Contains(first.stderr.String(), "component=hub")
	})

	board.set(false)
	for _, p := range []*program{first, second} {
		p.eventually("ready", func() bool { return p.status("/readyz") == http.StatusOK })
		if got := p.status("/v1/builds/" + build.ID.String()); got != http.StatusOK {
			t.Errorf("after the outage: %d", got)
		}
		if text := p.stderr.String(); strings.Contains(text, "panic") {
			t.Errorf("log:\n%s", text)
		}
		p.wantSecret(secret)
	}
	second.submit()

	board.set(true)
	away := launch(t, append(env, adminKeyVariable+"="+goodKey), append(times, "-listen", "127.0.0.1:0")...)
	away.wantRefusal(1, "database")
	away.wantSecret(secret)
}
