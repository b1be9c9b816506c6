package wire

import "github.com/slipway-build/slipway/queue"

// An ErrorCode tells a program what was refused and why.
type ErrorCode string

// The codes of an [Error].
const (
	// CodeStaleLease: (build, epoch) is not, or no longer, the worker's. It kills the process and forgets the attempt.
	CodeStaleLease ErrorCode = "stale_lease"
	// CodeUnknownBuild: there is no such build. As for a stale lease.
	CodeUnknownBuild ErrorCode = "unknown_build"
	// CodeBadState: the attempt's state does not admit that message. The next heartbeat_ok tells how it stands.
	CodeBadState ErrorCode = "bad_state"
	// CodeGap: bytes before these are missing.
	CodeGap ErrorCode = "gap"
	// CodeTooLarge: what was sent is larger than its limit. Sending it again is of no use.
	CodeTooLarge ErrorCode = "too_large"
	// CodeQuota: the project has used up its quota. The worker gives up on it and reports its result as partial.
	CodeQuota ErrorCode = "quota"
	// CodeUnsupported: a message or a frame of a kind that the receiver does not know and must not ignore.
	CodeUnsupported ErrorCode = "unsupported"
	// CodeUnauthorized: the credential does not allow it.
	CodeUnauthorized ErrorCode = "unauthorized"
	// CodeRateLimited: too much at once; to be tried again after RetryAfter.
	CodeRateLimited ErrorCode = "rate_limited"
	// CodeInternal: the receiver failed. To be tried again.
	CodeInternal ErrorCode = "internal"
)

var errorCodes = []ErrorCode{
	CodeStaleLease, CodeUnknownBuild, CodeBadState, CodeGap, CodeTooLarge, CodeQuota, CodeUnsupported, CodeUnauthorized,
	CodeRateLimited, CodeInternal,
}

// Error says that a message was refused. The connection goes on.
type Error struct {
	Code ErrorCode `json:"code"`
	// Re is the type of the message that was refused; empty if it was a log frame or none in particular.
	Re Type `json:"re,omitempty"`
	// Build and Epoch name the attempt that it was about; both are zero if it was about none.
	Build queue.ID `json:"build,omitzero"`
	Epoch int64    `json:"epoch,omitempty"`
	// Message explains to people.
	Message Text `json:"message,omitempty"`
	// RetryAfter is how long to wait before trying again, if that is known.
	RetryAfter Millis `json:"retry_after,omitempty"`
}

// Type implements [Message].
func (*Error) Type() Type { return TypeError }

func (m *Error) check(c *checker) {
	oneOf(c, "code", m.Code, errorCodes)
	if m.Re != "" && !m.Re.wellFormed() {
		c.fail("re", `must be 1 to 64 of a-z, 0-9 and "_"`)
	}
	if ref := m.Ref(); ref != (Ref{}) {
		ref.check(c)
	}
	c.duration("retry_after", m.RetryAfter)
}

// Ref returns the attempt that the error is about; it is zero if it is about none.
func (m *Error) Ref() Ref { return Ref{Build: m.Build, Epoch: m.Epoch} }
