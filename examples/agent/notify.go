package main

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/slipway-build/slipway/worker"
)

// notifyEvery is how often it is looked for something to tell systemd.
const notifyEvery = time.Second

// A notifier tells systemd, where that has started the agent and asks for it, that the agent is ready, that it is alive and what it does.
type notifier struct {
	log      *slog.Logger
	every    time.Duration
	watchdog bool // systemd ends an agent that shows no life

	ready bool
	said  string    // the newest status
	fed   time.Time // the newest answer of a controller that was shown as a sign of life
}

// newNotifier returns nil if nobody wants to be told.
func newNotifier(log *slog.Logger) *notifier {
	n := &notifier{log: log, every: notifyEvery}
	if !n.tell("STATUS=connecting") {
		return nil
	}
	limit, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		log.Warn("systemd's watchdog is not understood, and gets no signs of life", "error", err)
	}
	if limit > 0 {
		n.watchdog, n.every = true, min(n.every, max(limit/4, time.Millisecond))
	}
	return n
}

// run looks at the agent until ctx ends, which is when it stops.
func (n *notifier) run(ctx context.Context, a *worker.Agent) {
	tick := time.NewTicker(n.every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			n.tell("STOPPING=1\nSTATUS=stopping")
			return
		case <-tick.C:
			n.look(a.Status())
		}
	}
}

// look tells what is new. The agent is ready once it has been connected. It shows life when a controller has answered another heartbeat, and
// for as long as a build runs within its lease: a clock alone would show that it ticks, and not that the agent is of any use.
func (n *notifier) look(s worker.AgentStatus) {
	if s.Controller != "" && !n.ready {
		n.ready = n.tell("READY=1")
	}
	if said := summary(s); said != n.said && n.tell("STATUS="+said) {
		n.said = said
	}
	leased := slices.ContainsFunc(s.Attempts, func(t worker.AttemptStatus) bool { return t.Lease > 0 })
	if n.watchdog && (leased || s.Answered.After(n.fed)) && n.tell("WATCHDOG=1") {
		n.fed = s.Answered
	}
}

// summary is what systemctl status shows.
func summary(s worker.AgentStatus) string {
	where := "not connected"
	if s.Controller != "" {
		where = "connected to " + s.Controller
	}
	if s.Draining {
		where += ", draining"
	}
	return fmt.Sprintf("%s, %d of %d slots taken", where, len(s.Attempts), s.Slots)
}

// tell reports whether systemd was told.
func (n *notifier) tell(state string) bool {
	told, err := daemon.SdNotify(false, state)
	if err != nil {
		n.log.Warn("systemd cannot be told", "error", err)
	}
	return told && err == nil
}
