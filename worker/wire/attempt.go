package wire

import (
	"math"

	"github.com/slipway-build/slipway/queue"
)

// Offer offers a build to a worker. It starts nothing; the worker keeps a slot free until it has answered, or until Expires has
// passed without a [Start].
type Offer struct {
	Ref
	// Expires is how long the offer stands, counted from when it arrives.
	Expires Millis `json:"expires"`
	Project string `json:"project"`
	Pool    string `json:"pool"`
	// Spec is what the submitter wrote for the executor, at most [queue.MaxSpec] bytes.
	Spec []byte `json:"spec,omitempty"`
	// Source is where to fetch what the attempt works on; nil if it needs nothing.
	Source *Source       `json:"source,omitempty"`
	Limits AttemptLimits `json:"limits"`
}

// Type implements [Message].
func (*Offer) Type() Type { return TypeOffer }

func (m *Offer) check(c *checker) {
	m.Ref.check(c)
	c.interval("expires", m.Expires)
	c.name("project", m.Project)
	c.name("pool", m.Pool)
	if len(m.Spec) > queue.MaxSpec {
		c.fail("spec", "must be at most %d bytes long", queue.MaxSpec)
	}
	if m.Source != nil {
		m.Source.check(c)
	}
	m.Limits.check(c)
}

// A Source is the archive that an attempt works on. It is fetched with the build token.
type Source struct {
	// URL is an absolute path, with an optional query, to be resolved against the URL of the controller that the worker is connected
	// to. It cannot name another host, so that the token goes nowhere else.
	URL string `json:"url"`
	// Size is in bytes.
	Size   int64        `json:"size"`
	SHA256 queue.Digest `json:"sha256"`
}

func (s *Source) check(c *checker) {
	c.path("source.url", s.URL)
	c.size("source.size", s.Size)
	c.digest("source.sha256", s.SHA256)
}

// AttemptLimits are the limits of one attempt.
type AttemptLimits struct {
	// RunTimeout is how long the attempt may run.
	RunTimeout Millis `json:"run_timeout"`
	// CancelGrace is how long it has to end by itself, when it is canceled or out of time, before it is killed.
	CancelGrace Millis `json:"cancel_grace"`
	// LogCap is how many bytes of its log will be stored.
	LogCap int64 `json:"log_cap"`
}

func (l *AttemptLimits) check(c *checker) {
	c.interval("limits.run_timeout", l.RunTimeout)
	c.duration("limits.cancel_grace", l.CancelGrace)
	c.size("limits.log_cap", l.LogCap)
}

// Accept takes an [Offer]. It is answered with [Start], or with an [Error] of [CodeStaleLease] if it came too late.
type Accept struct {
	Ref
	// TokenHash is the SHA-256 of the build token, which the worker made and keeps to itself.
	TokenHash queue.Digest `json:"token_hash"`
}

// Type implements [Message].
func (*Accept) Type() Type { return TypeAccept }

func (m *Accept) check(c *checker) {
	m.Ref.check(c)
	c.digest("token_hash", m.TokenHash)
}

// A DeclineReason is why a worker does not take a build.
type DeclineReason string

// The reasons to decline.
const (
	// DeclineNoSlot says that every slot is taken.
	DeclineNoSlot DeclineReason = "no_slot"
	// DeclineDraining says that the worker accepts nothing more.
	DeclineDraining DeclineReason = "draining"
	// DeclinePreflight says that the machine is not fit at the moment: no disk space, a tool missing.
	DeclinePreflight DeclineReason = "preflight"
	// DeclineUnsupported says that the worker cannot run builds of this kind.
	DeclineUnsupported DeclineReason = "unsupported"
)

var declineReasons = []DeclineReason{DeclineNoSlot, DeclineDraining, DeclinePreflight, DeclineUnsupported}

// Decline refuses an [Offer]. The build goes back without using up an attempt, and avoids the worker for a while.
type Decline struct {
	Ref
	Reason DeclineReason `json:"reason"`
	// Message explains the reason to people.
	Message Text `json:"message,omitempty"`
}

// Type implements [Message].
func (*Decline) Type() Type { return TypeDecline }

func (m *Decline) check(c *checker) {
	m.Ref.check(c)
	oneOf(c, "reason", m.Reason, declineReasons)
}

// Start says that the attempt is running, as far as the controller's database is concerned. A worker that never gets it runs nothing.
// It may come twice.
type Start struct {
	Ref
	// Lease is how long the lease lasts, counted from when the worker sent its accept, or the hello that named the attempt.
	Lease Millis `json:"lease"`
	// Secrets are variables for the build's environment. The worker keeps them in memory only, and out of all that it writes or sends.
	Secrets Secrets `json:"secrets,omitempty"`
}

// Type implements [Message].
func (*Start) Type() Type { return TypeStart }

func (m *Start) check(c *checker) {
	m.Ref.check(c)
	c.interval("lease", m.Lease)
	m.Secrets.check(c)
}

// The phases that Slipway's own worker reports. A worker may report others: up to [MaxToken] visible ASCII characters.
const (
	PhaseSource    = "source"    // fetching and unpacking the source
	PhaseRunning   = "running"   // the command runs
	PhaseArtifacts = "artifacts" // uploading artifacts
)

// StateReport says how far an attempt is. Its type on the wire is "state". It is for people; nothing follows from it.
type StateReport struct {
	Ref
	// Phase is what the attempt is doing, such as [PhaseRunning].
	Phase string `json:"phase"`
	// Percent is how much of the phase is done, from 0 to 100; nil if that is not known.
	Percent *int `json:"percent,omitempty"`
	Message Text `json:"message,omitempty"`
}

// Type implements [Message].
func (*StateReport) Type() Type { return TypeState }

func (m *StateReport) check(c *checker) {
	m.Ref.check(c)
	c.token("phase", m.Phase)
	if m.Percent != nil {
		c.between("percent", int64(*m.Percent), 0, 100)
	}
}

// Cancel tells the worker to end an attempt. It is repeated, here and in [HeartbeatOK], until the worker has sent finished.
type Cancel struct {
	Ref
	// Reason is shown to people.
	Reason Text `json:"reason,omitempty"`
	// Grace is how long the attempt has to end by itself, from the first time this is received, before it is killed.
	Grace Millis `json:"grace"`
}

// Type implements [Message].
func (*Cancel) Type() Type { return TypeCancel }

func (m *Cancel) check(c *checker) {
	m.Ref.check(c)
	c.duration("grace", m.Grace)
}

// Cancelling says that the worker is ending an attempt.
type Cancelling struct {
	Ref
}

// Type implements [Message].
func (*Cancelling) Type() Type { return TypeCancelling }

func (m *Cancelling) check(c *checker) { m.Ref.check(c) }

// An Outcome is how an attempt ended, as its worker sees it. Each is the name of a [queue.State].
type Outcome string

// The outcomes that a worker may report.
const (
	// OutcomeSucceeded: the command did what it should.
	OutcomeSucceeded Outcome = "succeeded"
	// OutcomeFailed: the build failed by its own doing. It is not attempted again.
	OutcomeFailed Outcome = "failed"
	// OutcomeCanceled: it was told to end.
	OutcomeCanceled Outcome = "canceled"
	// OutcomeTimedOut: it ran longer than its run timeout.
	OutcomeTimedOut Outcome = "timed_out"
	// OutcomeLost: the worker or its machine failed, or the result is not known. The build is attempted again if it may be.
	OutcomeLost Outcome = "lost"
)

var outcomes = []Outcome{OutcomeSucceeded, OutcomeFailed, OutcomeCanceled, OutcomeTimedOut, OutcomeLost}

// ReasonAgentRestart is the reason of a [Finished] that a new process of the worker sends for an attempt it found in its spool.
const ReasonAgentRestart = "agent_restart"

// Finished is the end of an attempt. A worker sends it when the log is acknowledged and the artifacts are uploaded, or, after a
// deadline of its own, with Partial. It is sent again until [FinishedOK] comes; sending it twice changes nothing.
type Finished struct {
	Ref
	Outcome Outcome `json:"outcome"`
	// ExitCode is nil unless a command ended by itself. Signal names the one that ended it ("SIGKILL"), or is empty.
	// There is never both.
	ExitCode *int   `json:"exit_code,omitempty"`
	Signal   string `json:"signal,omitempty"`
	// Reason says in short why it ended like this.
	Reason Text `json:"reason,omitempty"`
	// LogLen and LogSHA256 are the length and the sum of the log: all that was written, or its beginning up to the cap.
	LogLen    int64        `json:"log_len"`
	LogSHA256 queue.Digest `json:"log_sha256"`
	// Partial says that a part of the log or of the artifacts is missing for good; PartialReason says which and why.
	Partial       bool `json:"partial,omitempty"`
	PartialReason Text `json:"partial_reason,omitempty"`
	// Artifacts is how many were uploaded.
	Artifacts int   `json:"artifacts"`
	Usage     Usage `json:"usage"`
}

// Type implements [Message].
func (*Finished) Type() Type { return TypeFinished }

func (m *Finished) check(c *checker) {
	m.Ref.check(c)
	oneOf(c, "outcome", m.Outcome, outcomes)
	c.exitCode("exit_code", m.ExitCode)
	if m.Signal != "" {
		c.token("signal", m.Signal)
		if m.ExitCode != nil {
			c.fail("signal", "must not come with exit_code")
		}
	}
	c.size("log_len", m.LogLen)
	c.digest("log_sha256", m.LogSHA256)
	if m.Partial != (m.PartialReason != "") {
		c.fail("partial_reason", "must be there if, and only if, partial is true")
	}
	c.between("artifacts", int64(m.Artifacts), 0, math.MaxInt32)
	m.Usage.check(c)
}

// Usage is what an attempt used of its machine; what is not known is zero.
type Usage struct {
	// UserTime and SystemTime are processor time, which many cores may make longer than [MaxDuration].
	UserTime   Millis `json:"user_time,omitempty"`
	SystemTime Millis `json:"system_time,omitempty"`
	// MaxRSS is the largest resident set of any one process, in bytes.
	MaxRSS int64 `json:"max_rss,omitempty"`
}

func (u *Usage) check(c *checker) {
	c.between("usage.user_time", int64(u.UserTime), 0, maxUsage)
	c.between("usage.system_time", int64(u.SystemTime), 0, maxUsage)
	c.size("usage.max_rss", u.MaxRSS)
}

// maxUsage is the longest processor time, in milliseconds, that fits a time.Duration.
const maxUsage = math.MaxInt64 / 1_000_000

// FinishedOK says that the end of the attempt is stored: the worker may delete what it kept of it.
type FinishedOK struct {
	Ref
}

// Type implements [Message].
func (*FinishedOK) Type() Type { return TypeFinishedOK }

func (m *FinishedOK) check(c *checker) { m.Ref.check(c) }
