package wire

import (
	"time"

	"github.com/slipway-build/slipway/queue"
)

// Hello is the first message of a worker on every connection. A controller that does not get it within
// [DefaultHelloTimeout] closes with [CloseHelloTimeout].
type Hello struct {
	// Worker is the worker's name, which must be the one its credential was given for.
	Worker string `json:"worker"`
	// Instance names this process of the worker: a new UUID of version 7 at every start. Two instances that take turns are two
	// machines with one credential.
	Instance queue.ID `json:"instance"`
	// Version is the version of the worker's program.
	Version string `json:"version"`
	// OS and Arch are the machine's, by the names Go gives them (GOOS, GOARCH).
	OS   string `json:"os"`
	Arch string `json:"arch"`
	// Slots is how many attempts the worker runs at once, at most [MaxSlots]. Zero: it only reports what it has.
	Slots int `json:"slots"`
	// Labels are the facts about the worker that builds may require.
	Labels queue.Labels `json:"labels,omitempty"`
	// Draining says that the worker wants no offers.
	Draining bool `json:"draining,omitempty"`
	// Running is every attempt that the worker holds or still owes a report for.
	Running []Running `json:"running,omitempty"`
}

// Type implements [Message].
func (*Hello) Type() Type { return TypeHello }

func (m *Hello) check(c *checker) {
	c.name("worker", m.Worker)
	c.id("instance", m.Instance)
	c.token("version", m.Version)
	c.token("os", m.OS)
	c.token("arch", m.Arch)
	c.between("slots", int64(m.Slots), 0, MaxSlots)
	if err := m.Labels.Check(); err != nil {
		c.fail("labels", "must be at most %d, with short keys and values of letters, digits and a few signs", queue.MaxLabels)
	}
	each(c, "running", m.Running, (*Running).check)
}

// A Stage is how far a worker is with an attempt.
type Stage string

// The stages of an attempt on its worker.
const (
	// StageAccepted attempts were accepted; no start has come yet.
	StageAccepted Stage = "accepted"
	// StageRunning attempts were started.
	StageRunning Stage = "running"
	// StageCancelling attempts were started and are being ended.
	StageCancelling Stage = "cancelling"
	// StageFinished attempts have ended; no finished_ok has come yet.
	StageFinished Stage = "finished"
)

var stages = []Stage{StageAccepted, StageRunning, StageCancelling, StageFinished}

// Running is an attempt in [Hello].
type Running struct {
	Ref
	State Stage `json:"state"`
	// LogLen is how many bytes of log the attempt has written so far.
	LogLen int64 `json:"log_len"`
	// Exit is the exit code of a finished attempt whose command ended by itself.
	Exit *int `json:"exit,omitempty"`
}

func (r *Running) check(c *checker) {
	r.Ref.check(c)
	oneOf(c, "state", r.State, stages)
	c.size("log_len", r.LogLen)
	if r.Exit != nil && r.State != StageFinished {
		c.fail("exit", "is only for finished attempts")
	}
	c.exitCode("exit", r.Exit)
}

// Welcome answers [Hello]. From here on the worker may be sent offers, and its leases count from when it sent hello.
type Welcome struct {
	// Session is the controller's name for this connection, for logs.
	Session string `json:"session"`
	// Heartbeat is the time between two heartbeats of a worker that has an attempt, and IdleHeartbeat of one that has none. It is not less
	// than Heartbeat; zero means the same.
	Heartbeat     Millis `json:"heartbeat"`
	IdleHeartbeat Millis `json:"idle_heartbeat,omitempty"`
	// Lease is how long the kept leases last. It is longer than Heartbeat.
	Lease Millis `json:"lease"`
	// KillTime is how long after the end of a lease the worker may take until nothing of the attempt is left alive.
	KillTime Millis        `json:"kill_time"`
	Limits   SessionLimits `json:"limits"`
	// ServerTime is the controller's time, in UTC. It is for reports of a wrong clock only; nothing is computed from it.
	ServerTime time.Time `json:"server_time"`
	// Decisions has one element for each attempt in hello.
	Decisions []Decision `json:"decisions,omitempty"`
}

// Type implements [Message].
func (*Welcome) Type() Type { return TypeWelcome }

func (m *Welcome) check(c *checker) {
	c.token("session", m.Session)
	c.interval("heartbeat", m.Heartbeat)
	if m.IdleHeartbeat != 0 {
		c.between("idle_heartbeat", int64(m.IdleHeartbeat), int64(m.Heartbeat), int64(MillisOf(MaxDuration)))
	}
	c.interval("lease", m.Lease)
	if m.Lease <= m.Heartbeat {
		c.fail("lease", "must be longer than heartbeat")
	}
	c.interval("kill_time", m.KillTime)
	m.Limits.check(c)
	if _, offset := m.ServerTime.Zone(); m.ServerTime.IsZero() || offset != 0 {
		c.fail("server_time", "must be a time in UTC")
	}
	each(c, "decisions", m.Decisions, (*Decision).check)
}

// SessionLimits are the limits that a worker keeps during a session.
type SessionLimits struct {
	// MaxMessage is the largest control message the controller reads, in bytes: from [MinSessionMessage] to [MaxMessage].
	MaxMessage int64 `json:"max_message"`
	// LogFrame is the largest number of log bytes in a frame, at most [MaxLogData].
	LogFrame int64 `json:"log_frame"`
	// LogWindow is how many log bytes of one attempt may be sent ahead of the last acknowledged offset, until a log_ack says
	// otherwise. It is at least LogFrame.
	LogWindow int64 `json:"log_window"`
	// LogFlush is how long the worker gathers log bytes before it sends them.
	LogFlush Millis `json:"log_flush"`
}

func (l *SessionLimits) check(c *checker) {
	c.between("limits.max_message", l.MaxMessage, MinSessionMessage, MaxMessage)
	c.between("limits.log_frame", l.LogFrame, 1, MaxLogData)
	if l.LogWindow < l.LogFrame {
		c.fail("limits.log_window", "must be at least limits.log_frame")
	}
	c.duration("limits.log_flush", l.LogFlush)
}

// An Action is what becomes of an attempt after a reconnect.
type Action string

// The actions that [Welcome] decides on.
const (
	// ActionKeep lets the attempt go on, its lease renewed. An accepted one is sent its start again.
	ActionKeep Action = "keep"
	// ActionCancel ends the attempt as a [Cancel] does, with the grace of its offer.
	ActionCancel Action = "cancel"
	// ActionAbandon says that the attempt is not, or no longer, the worker's: it kills the process at once, sends nothing more of
	// it and forgets it.
	ActionAbandon Action = "abandon"
	// ActionResendResult asks for the rest of the log from LogOffset on, and for finished.
	ActionResendResult Action = "resend_result"
)

var actions = []Action{ActionKeep, ActionCancel, ActionAbandon, ActionResendResult}

// A Decision says what becomes of one attempt in [Hello].
type Decision struct {
	Ref
	Action Action `json:"action"`
	// LogOffset is how many bytes of the attempt's log are stored: the worker goes on from there.
	LogOffset int64 `json:"log_offset"`
}

func (d *Decision) check(c *checker) {
	d.Ref.check(c)
	oneOf(c, "action", d.Action, actions)
	c.size("log_offset", d.LogOffset)
}

// Drain asks the worker to accept nothing more and to leave when all it runs is finished. From a worker it says that it does.
type Drain struct {
	// Reason is shown to people.
	Reason Text `json:"reason,omitempty"`
	// Deadline is when what still runs will be canceled, counted from now. Zero: never.
	Deadline Millis `json:"deadline,omitempty"`
}

// Type implements [Message].
func (*Drain) Type() Type { return TypeDrain }

func (m *Drain) check(c *checker) { c.duration("deadline", m.Deadline) }

// Pause says that the sender accepts no build, or offers none, until it sends [Resume]. What runs goes on.
type Pause struct {
	// Reason is shown to people.
	Reason Text `json:"reason,omitempty"`
}

// Type implements [Message].
func (*Pause) Type() Type { return TypePause }

func (*Pause) check(*checker) {}

// Resume ends a [Pause].
type Resume struct {
	// Reason is shown to people.
	Reason Text `json:"reason,omitempty"`
}

// Type implements [Message].
func (*Resume) Type() Type { return TypeResume }

func (*Resume) check(*checker) {}

// Bye says that the sender is about to close the connection and expects no answer. The close code tells whether to come back.
type Bye struct {
	// Reason is shown to people.
	Reason Text `json:"reason,omitempty"`
}

// Type implements [Message].
func (*Bye) Type() Type { return TypeBye }

func (*Bye) check(*checker) {}
