package main

import (
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/slipway-build/slipway/worker"
)

// newSystemd returns what listens as systemd does, and asks for signs of life if limit is not 0.
func newSystemd(t *testing.T, limit time.Duration) *net.UnixConn {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	if limit > 0 {
		t.Setenv("WATCHDOG_USEC", strconv.FormatInt(limit.Microseconds(), 10))
		t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	}
	return conn
}

// heard returns what was told until now.
func heard(t *testing.T, conn *net.UnixConn) string {
	t.Helper()
	const end = "END"
	if _, err := daemon.SdNotify(false, end); err != nil {
		t.Fatal(err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	var all []string
	buffer := make([]byte, 4096)
	for {
		n, err := conn.Read(buffer)
		if err != nil {
			t.Fatal(err)
		}
		if string(buffer[:n]) == end {
			return strings.Join(all, "; ")
		}
		all = append(all, string(buffer[:n]))
	}
}

func TestWhatSystemdIsTold(t *testing.T) {
	conn := newSystemd(t, time.Hour)
	n := newNotifier(slog.New(slog.DiscardHandler))
	if n == nil {
		t.Fatal("there is no notifier")
	}
	if got := heard(t, conn); got != "STATUS=connecting" {
		t.Errorf("at first it is told %q", got)
	}
	begin := time.Now()
	idle := worker.AgentStatus{Slots: 2}
	online := worker.AgentStatus{Slots: 2, Controller: "http://a/", Answered: begin}
	build := func(lease time.Duration) []worker.AttemptStatus { return []worker.AttemptStatus{{Lease: lease}} }
	for _, step := range []struct {
		what   string
		status worker.AgentStatus
		want   string
	}{
		{"not connected", idle, "STATUS=not connected, 0 of 2 slots taken"},
		{"still not", idle, ""},
		{"connected", online, "READY=1; STATUS=connected to http://a/, 0 of 2 slots taken; WATCHDOG=1"},
		{"no new answer", online, ""},
		{"an answer", worker.AgentStatus{Slots: 2, Controller: "http://a/", Answered: begin.Add(1)}, "WATCHDOG=1"},
		{
			"a build, no controller",
			worker.AgentStatus{Slots: 2, Answered: begin.Add(1), Attempts: build(time.Second)},
			"STATUS=not connected, 1 of 2 slots taken; WATCHDOG=1",
		},
		{"it still has its lease", worker.AgentStatus{Slots: 2, Answered: begin.Add(1), Attempts: build(1)}, "WATCHDOG=1"},
		{"its lease is over", worker.AgentStatus{Slots: 2, Answered: begin.Add(1), Attempts: build(-1)}, ""},
		{
			"connected again",
			worker.AgentStatus{Slots: 2, Controller: "http://b/", Answered: begin.Add(2), Draining: true},
			"STATUS=connected to http://b/, draining, 0 of 2 slots taken; WATCHDOG=1",
		},
	} {
		n.look(step.status)
		if got := heard(t, conn); got != step.want {
			t.Errorf("%s: told %q, want %q", step.what, got, step.want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	n.run(ctx, newAgent(t, t.TempDir()))
	if got := heard(t, conn); got != "STOPPING=1\nSTATUS=stopping" {
		t.Errorf("at the end it is told %q", got)
	}
}

func TestNobodyToTell(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	if newNotifier(slog.New(slog.DiscardHandler)) != nil {
		t.Error("there is a notifier")
	}
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "nobody"))
	if newNotifier(slog.New(slog.DiscardHandler)) != nil {
		t.Error("there is a notifier for nobody")
	}
}

// TestWithoutWatchdog has a systemd that wants no signs of life.
func TestWithoutWatchdog(t *testing.T) {
	conn := newSystemd(t, 0)
	t.Setenv("WATCHDOG_USEC", "")
	n := newNotifier(slog.New(slog.DiscardHandler))
	n.look(worker.AgentStatus{Controller: "http://a/", Answered: time.Now()})
	if got := heard(t, conn); strings.Contains(got, "WATCHDOG") || !strings.Contains(got, "READY=1") {
		t.Errorf("told %q", got)
	}
}
