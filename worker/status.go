package worker

import (
	"cmp"
	"slices"
	"time"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/worker/wire"
)

// An AgentStatus says what an [Agent] does at a moment. It holds no secret.
type AgentStatus struct {
	// Worker is the name of the agent's worker.
	Worker string
	// Slots is how many builds run at once.
	Slots int
	// Draining says that the agent accepts nothing more.
	Draining bool
	// Controller is the URL of the controller that the agent is connected to, and Session what the controller calls the connection. They
	// are empty while there is none.
	Controller string
	Session    string
	// Connected is when the connection was opened; zero while there is none.
	Connected time.Time
	// Answered is when the newest message was sent that a controller has answered as only one does that renews leases: a hello or a
	// heartbeat. It outlasts its connection, and is zero before there was one.
	Answered time.Time
	// Attempts are those that take a slot, in the order of their ids.
	Attempts []AttemptStatus
}

// An AttemptStatus says how far an agent is with an attempt.
type AttemptStatus struct {
	queue.AttemptID
	// Stage is how far it is.
	Stage wire.Stage
	// Since is when this process took it.
	Since time.Time
	// Lease is how long it may go on unless its lease is renewed. It is not positive before the attempt has started, when the lease is
	// over, and for what an earlier process of the agent has left to be reported.
	Lease time.Duration
	// LogBytes is the length of its log on the disk of this machine.
	LogBytes int64
}

// Status returns what the agent does now. It may be called at any time, by any goroutine.
func (a *Agent) Status() AgentStatus {
	s := AgentStatus{Worker: a.opts.Worker, Slots: a.opts.Slots}
	if l := a.link.Load(); l != nil {
		s.Controller, s.Session, s.Connected = l.base.String(), l.welcome.Session, l.hello.wall
	}
	if sent := a.answered.Load(); sent != nil {
		s.Answered = sent.monotonic
	}
	now := thisMoment()
	for _, t := range a.all() {
		s.Attempts = append(s.Attempts, t.status(now))
	}
	slices.SortFunc(s.Attempts, func(x, y AttemptStatus) int {
		return cmp.Or(cmp.Compare(x.Build.String(), y.Build.String()), cmp.Compare(x.Epoch, y.Epoch))
	})
	a.mu.Lock()
	s.Draining = a.leaving
	a.mu.Unlock()
	return s
}

func (t *attempt) status(now moment) AttemptStatus {
	length, _ := t.spool.size()
	t.mu.Lock()
	defer t.mu.Unlock()
	return AttemptStatus{
		AttemptID: queue.AttemptID(t.ref), Stage: t.stage, Since: t.since, Lease: t.lease.left(now), LogBytes: length,
	}
}
