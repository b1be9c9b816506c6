package wire

// A CloseCode is the status with which either side closes the connection. Below 4000 they are those of RFC 6455.
type CloseCode int

// The close codes of version 1. [CloseCode.Retry] says what each means for a worker that gets it.
const (
	// CloseNormal ends a session whose worker said bye.
	CloseNormal CloseCode = 1000
	// CloseGoingAway: the controller is being stopped or deployed anew. Builds go on; another controller, or the next one, takes over.
	CloseGoingAway CloseCode = 1001
	// CloseProtocol: the peer sent what the protocol does not allow. One of the two programs is broken.
	CloseProtocol CloseCode = 1002
	// CloseTooBig: a frame was larger than the limit in [Welcome]. One of the two programs is broken.
	CloseTooBig CloseCode = 1009
	// CloseInternal: the controller failed, for instance because its database does not answer.
	CloseInternal CloseCode = 1011
	// CloseTryLater: the controller takes no more sessions at the moment.
	CloseTryLater CloseCode = 1013
	// CloseUnauthorized: the credential is not, or no longer, valid.
	CloseUnauthorized CloseCode = 4401
	// CloseDisabled: the worker was disabled by an administrator, who may enable it again.
	CloseDisabled CloseCode = 4403
	// CloseHelloTimeout: no hello came in time.
	CloseHelloTimeout CloseCode = 4408
	// CloseReplaced: another connection of the same worker took over. It may be one that the worker has given up and whose hello came
	// late: then the worker must be back before its leases are over. If this process did not open it, another machine uses the same
	// credential, which both report. A worker to which this happens twice in a row follows [RetrySlow], so that the two do not
	// replace each other all the time.
	CloseReplaced CloseCode = 4409
	// CloseVersion: the controller does not speak the version of the protocol that the worker does.
	CloseVersion CloseCode = 4426
	// CloseRateLimited: the worker connects, or sends, too often.
	CloseRateLimited CloseCode = 4429
)

// Retry is the rule by which a worker comes back.
type Retry int

const (
	// RetryBackoff: reconnect after a random pause, at first of up to [DefaultReconnectMin], then of up to twice as much each time,
	// at most of [DefaultReconnectMax]. A welcome ends the doubling. It is the rule for every end that has no other: codes that
	// are not listed, connections that break off, dials that fail.
	RetryBackoff Retry = iota
	// RetrySoon: reconnect after a random pause of up to [DefaultReconnectMin], as if the last attempt had succeeded.
	RetrySoon
	// RetrySlow: reconnect after a random pause between one and two times [DefaultReconnectMax].
	RetrySlow
	// RetryNever: end the attempts and exit. Coming back with the same credential and program is of no use.
	RetryNever
)

// String returns the rule's name: "backoff", "soon", "slow" or "never".
func (r Retry) String() string {
	switch r {
	case RetrySoon:
		return "soon"
	case RetrySlow:
		return "slow"
	case RetryNever:
		return "never"
	default:
		return "backoff"
	}
}

// Retry returns what a worker does when the controller closes with c.
func (c CloseCode) Retry() Retry {
	switch c {
	case CloseGoingAway:
		return RetrySoon
	case CloseProtocol, CloseTooBig, CloseTryLater, CloseDisabled, CloseRateLimited:
		return RetrySlow
	case CloseUnauthorized, CloseVersion:
		return RetryNever
	default:
		return RetryBackoff
	}
}

// String returns a short text for logs.
func (c CloseCode) String() string {
	switch c {
	case CloseNormal:
		return "normal"
	case CloseGoingAway:
		return "going away"
	case CloseProtocol:
		return "protocol error"
	case CloseTooBig:
		return "message too big"
	case CloseInternal:
		return "internal error"
	case CloseTryLater:
		return "try again later"
	case CloseUnauthorized:
		return "unauthorized"
	case CloseDisabled:
		return "worker disabled"
	case CloseHelloTimeout:
		return "hello timeout"
	case CloseReplaced:
		return "replaced by a newer connection"
	case CloseVersion:
		return "protocol version not supported"
	case CloseRateLimited:
		return "rate limited"
	default:
		return "unknown"
	}
}
