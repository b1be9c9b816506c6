package wire

import "time"

// Subprotocol is the name of this version in the WebSocket handshake (Sec-WebSocket-Protocol).
const Subprotocol = "slipway.worker.v1"

// Subprotocols returns the names of all versions that this package speaks, the highest first. Of those that a worker names in its
// handshake the controller picks the highest that it speaks too.
func Subprotocols() []string { return []string{Subprotocol} }

// Limits of version 1. No side sends more, and both refuse more.
const (
	// MaxMessage is the largest control message, in bytes of JSON.
	MaxMessage = 1 << 20
	// MaxLogData is the largest number of log bytes in one binary frame.
	MaxLogData = 64 << 10
	// MaxList is the largest number of elements of a list or fields of an object, known or not.
	MaxList = 1024
	// MaxDepth is how deep JSON objects and lists may nest, the envelope counted.
	MaxDepth = 16
	// MaxText is the largest length of a [Text], in bytes.
	MaxText = 1024
	// MaxToken is the largest length of a version, a phase and other short words, in bytes.
	MaxToken = 64
	// MaxPath is the largest length of a source's path, in bytes.
	MaxPath = 1024
	// MaxSlots is the largest number of slots of a worker.
	MaxSlots = 512
	// MaxSecrets is the largest number of secrets of a build.
	MaxSecrets = 64
	// MaxSecretBytes is the largest size of a build's secrets, names and values together.
	MaxSecretBytes = 64 << 10
	// MinSecret is the least number of bytes of a secret's value.
	MinSecret = 6
	// MaxEpoch is the largest epoch: a log frame holds it in 32 bits.
	MaxEpoch = 1<<32 - 1
	// MaxDuration is the longest duration.
	MaxDuration = 30 * 24 * time.Hour
	// MinSessionMessage is the smallest value a controller may announce as [SessionLimits.MaxMessage].
	MinSessionMessage = 64 << 10
)

// Default durations of a session. Each is a setting; the ones that both sides need are in [Welcome] or in the message they
// belong to, so that a controller alone decides.
const (
	// DefaultHeartbeat is the time between two heartbeats, give or take [HeartbeatJitter].
	DefaultHeartbeat = 10 * time.Second
	// DefaultIdleHeartbeat is the time between two heartbeats of a worker that has nothing to renew.
	DefaultIdleHeartbeat = 40 * time.Second
	// HeartbeatJitter is the fraction of the interval by which each heartbeat is early or late, at random.
	HeartbeatJitter = 0.2
	// DefaultReadTimeout is how long either side waits for any frame before it takes the peer for dead.
	DefaultReadTimeout = 30 * time.Second
	// DefaultWriteTimeout is how long the writing of one frame may take.
	DefaultWriteTimeout = 10 * time.Second
	// DefaultLease is how long a lease lasts. The worker counts from when it sent what was answered.
	DefaultLease = 30 * time.Second
	// DefaultKillTime is how long after the end of its lease a worker may take until nothing of the attempt is left alive.
	DefaultKillTime = 10 * time.Second
	// DefaultGrace is how long after the loss of a session its running builds stay with the worker. It must exceed lease and
	// kill time together, so that the old process is dead before a new one starts.
	DefaultGrace = 60 * time.Second
	// DefaultHelloTimeout is how long a controller waits for hello; then it closes with [CloseHelloTimeout].
	DefaultHelloTimeout = 10 * time.Second
	// DefaultOfferTimeout is how long an offer stands unanswered.
	DefaultOfferTimeout = 10 * time.Second
	// DefaultCancelGrace is how long a canceled attempt has to end by itself before it is killed.
	DefaultCancelGrace = 10 * time.Second
	// DefaultLogFlush is how long a worker gathers log bytes before it sends them.
	DefaultLogFlush = 200 * time.Millisecond
	// DefaultReconnectMin and DefaultReconnectMax bound the random, doubling pause before a reconnect. See [Retry].
	DefaultReconnectMin = 500 * time.Millisecond
	DefaultReconnectMax = 30 * time.Second
)

// Default sizes of a session, in bytes.
const (
	// DefaultLogWindow is how many log bytes of one attempt may be sent ahead of the last acknowledged offset.
	DefaultLogWindow = 1 << 20
	// DefaultLogCap is how many log bytes are stored of one attempt.
	DefaultLogCap = 64 << 20
	// DefaultSpool is how many log bytes of one attempt a worker keeps on its disk until they are acknowledged.
	DefaultSpool = 256 << 20
	// DefaultUploadChunk is how many bytes of an artifact are uploaded in one resumable step.
	DefaultUploadChunk = 8 << 20
)

// DefaultAttempts is how often a build is started when its workers are lost.
const DefaultAttempts = 3
