package queue

import (
	"encoding/hex"
	"time"
)

// A Digest is a SHA-256.
type Digest [32]byte

// ParseDigest reads 64 hexadecimal digits. Anything else is an error that wraps [ErrInvalid].
func ParseDigest(s string) (Digest, error) {
	var d Digest
	if len(s) != 2*len(d) {
		return Digest{}, invalid("sha256", "must be 64 hexadecimal digits")
	}
	if _, err := hex.Decode(d[:], []byte(s)); err != nil {
		return Digest{}, invalid("sha256", "must be 64 hexadecimal digits")
	}
	return d, nil
}

// String returns 64 hexadecimal digits in lower case.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// MarshalText implements [encoding.TextMarshaler].
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (d *Digest) UnmarshalText(b []byte) (err error) {
	*d, err = ParseDigest(string(b))
	return err
}

// A Source is the blob that a build starts from: an archive of files, kept by a storage under the build's project.
type Source struct {
	Digest Digest
	Size   int64 // bytes
}

// A Build is one unit of work, as it was when it was read.
type Build struct {
	ID      ID
	Project string
	Pool    string
	Labels  Labels // required of a worker
	State   State
	// Spec is what the submitter wrote for the executor. [Queue.List] leaves it out.
	Spec   []byte
	Source *Source // nil if the build needs none

	// Epoch counts the claims of the build. Zero: never claimed.
	Epoch int64
	// AttemptsUsed counts the claims that were accepted; MaxAttempts is how many there may be.
	AttemptsUsed int
	MaxAttempts  int
	// Worker is who holds the build, or held it last; empty if nobody ever did.
	Worker string

	RunTimeout   time.Duration
	QueueTimeout time.Duration // zero: waits forever
	Backoff      Backoff
	RetryFailed  bool

	Priority       int
	ConcurrencyKey string            // empty: none
	IdempotencyKey string            // empty: none, or forgotten
	Metadata       map[string]string // nil: none
	RetryOf        ID                // the build that this one repeats; zero: none

	CreatedAt time.Time
	// NotBefore is when a build that is held back may be claimed; zero if it is not held back by time.
	NotBefore  time.Time
	StartedAt  time.Time // of the newest attempt; zero before
	FinishedAt time.Time // zero before the end

	// Reason is a short text that says why the build ended as it did, or is being canceled.
	Reason   string
	ExitCode *int   // nil unless a command ended by itself
	Signal   string // the signal that ended the command, or empty
}

// An AttemptID names one attempt: the claim of a build that raised its epoch to Epoch.
// It is the fence: every write of a worker carries it, and counts only while it is the newest.
type AttemptID struct {
	Build ID
	Epoch int64
}

// An Attempt is one accepted claim of a build.
type Attempt struct {
	AttemptID
	Worker    string
	StartedAt time.Time
	EndedAt   time.Time // zero while the attempt lasts
	// Outcome is the state that the attempt's end led to, [Lost] for an attempt that was lost even if the build
	// was attempted again; zero while the attempt lasts.
	Outcome  State
	Reason   string
	ExitCode *int
	Signal   string
	// LogLength is how many bytes of log are stored. LogSHA256 is the worker's sum of all it sent, once it reported.
	LogLength int64
	LogSHA256 Digest
	// LogComplete says that the worker reported the end of its log and all of it is stored.
	LogComplete bool
	// LogCut says that the log was longer than it may be.
	LogCut bool
}

// An Artifact is a named output of an attempt. Its bytes are a blob in the project's storage.
type Artifact struct {
	AttemptID
	Project string
	Name    string
	Digest  Digest
	Size    int64 // bytes
	// Committed says that the bytes are in the storage. Until then the artifact is only reserved and not shown to readers.
	Committed bool
	CreatedAt time.Time
}
