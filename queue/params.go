package queue

import (
	"maps"
	"math"
	"slices"
	"time"
)

// Limits of a submitted build.
const (
	// MaxSpec is the largest spec, in bytes.
	MaxSpec = 256 << 10
	// MaxTimeout is the longest queue or run timeout.
	MaxTimeout = 30 * 24 * time.Hour
	// MaxMaxAttempts is the largest number of attempts that may be asked for.
	MaxMaxAttempts = 100
	// MaxPriority is the highest priority, and its negative the lowest.
	MaxPriority = 100
	// MaxMetadata is the largest size of a build's metadata, in bytes of all keys and values.
	MaxMetadata = 4 << 10
	// MaxBatch is the largest number of items that any method takes at once.
	MaxBatch = 10_000
	// MaxBatchBytes is the largest size of all the specs, or all the log bytes, that any method takes at once.
	MaxBatchBytes = 64 << 20
)

// PriorityStep is what a step of priority is worth: a build of priority p is claimed as if it had been submitted p steps earlier.
const PriorityStep = time.Minute

// DefaultPool is the pool of a build whose submitter names none.
const DefaultPool = "default"

// Params are what a submitter says of a build.
type Params struct {
	// ID is the id the build shall have, made by [NewID] or like it. Default: a new one. Submitting the same id twice is
	// [ErrConflict].
	ID ID
	// Project is the tenant that the build belongs to. Required; see [CheckName].
	Project string
	// Pool is the set of workers that may be offered the build. Default: [DefaultPool].
	Pool string
	// Labels are what a worker must have. Default: none, any worker of the pool fits.
	Labels Labels
	// Spec is what the executor makes the build from: opaque bytes, at most [MaxSpec].
	Spec []byte
	// Source is the archive that is unpacked for the build. It must lie in the project's storage before a worker
	// asks for it. Default: none.
	Source *Source
	// QueueTimeout ends a build that waits longer than this for a worker: counted from the submit, or from NotBefore if that is
	// later, and anew from the end of an attempt after which it is attempted again. Offers that come to nothing do not interrupt
	// the wait. At most [MaxTimeout]. Default: it waits forever.
	QueueTimeout time.Duration
	// RunTimeout ends an attempt that runs longer. At most [MaxTimeout]. Default: [Options.RunTimeout].
	RunTimeout time.Duration
	// MaxAttempts is how often the build may be started, when workers are lost. At most [MaxMaxAttempts].
	// Default: [Options.MaxAttempts].
	MaxAttempts int
	// Backoff is the wait before the build is attempted again. Default: [Options.Backoff].
	Backoff Backoff
	// RetryFailed has the build attempted again also when it failed by its own doing, while it has attempts left. Default: a failure
	// is the end.
	RetryFailed bool
	// Priority moves the build ahead of others of its class, or behind them: one step counts as much as having been submitted a
	// [PriorityStep] earlier. So whatever waits long enough comes first in the end. From -[MaxPriority] to [MaxPriority]. In a fair
	// pool it orders the builds of one project among themselves. Default: 0.
	Priority int
	// NotBefore is when the build may be claimed at the earliest; it takes its place in the queue as if it were submitted then.
	// Default: at once.
	NotBefore time.Time
	// ConcurrencyKey counts the build among those of its project that have the same key: no more of them are claimed or running at a
	// time than [Queue.SetLimit] says. At most 200 bytes of printable text. Default: none.
	ConcurrencyKey string
	// IdempotencyKey makes a submit repeatable: a second one with the same key in the same project adds nothing and returns the id
	// of the first, if all else is the same, and fails with [ErrConflict] if not. A key is forgotten a day after its build has ended.
	// At most 200 bytes of printable text. Default: none.
	IdempotencyKey string
	// Metadata is kept for the submitter and shown to readers. The queue makes nothing of it. At most [MaxMetadata].
	Metadata map[string]string

	retryOf ID // by Queue.Retry
}

// A NewBuild is a checked build with every default filled in, ready for a backend. [Queue.Prepare] makes it.
type NewBuild struct {
	ID             ID
	Project        string
	Pool           string
	Labels         Labels
	Spec           []byte
	Source         *Source
	QueueTimeout   time.Duration // zero: none
	RunTimeout     time.Duration
	MaxAttempts    int
	Backoff        Backoff
	RetryFailed    bool
	Priority       int
	NotBefore      time.Time // zero: at once; whole microseconds, in UTC
	ConcurrencyKey string    // empty: none
	Metadata       map[string]string
	RetryOf        ID // the build that this one repeats; zero: none
	Slot           Slot

	IdempotencyKey string // empty: none
	// IdempotencyHash is of all that the submitter asked for, but for the id. Zero if there is no key.
	IdempotencyHash Digest
}

// Rank returns the build's place in the queue of its class: lower ranks are claimed first. It is in microseconds, of the time from which
// on the build may be claimed if it is submitted now, less its priority. Fair pools have ranks of their own.
func (b *NewBuild) Rank(now time.Time) int64 {
	if b.NotBefore.After(now) {
		now = b.NotBefore
	}
	return now.UnixMicro() - int64(b.Priority)*PriorityStep.Microseconds()
}

// Prepare checks params and fills in defaults, without touching the backend. Backends that submit in a caller's own
// transaction start with it. Its error wraps [ErrInvalid] and says which of several params is at fault; it is no [*Error] yet, since
// Prepare is a step of a submit.
func (q *Queue) Prepare(params ...Params) ([]NewBuild, error) {
	if len(params) > MaxBatch {
		return nil, invalid("batch", "must be at most %d builds", MaxBatch)
	}
	builds := make([]NewBuild, len(params))
	var size int
	for i, p := range params {
		b, err := q.prepare(p)
		if err != nil {
			if len(params) > 1 {
				err = wrapItem(i, err)
			}
			return nil, err
		}
		builds[i] = b
		size += len(b.Spec)
	}
	if size > MaxBatchBytes {
		return nil, invalid("batch", "must have specs of at most %d bytes in all", MaxBatchBytes)
	}
	return builds, nil
}

func (q *Queue) prepare(p Params) (NewBuild, error) {
	b := NewBuild{
		ID: p.ID, Project: p.Project, Pool: p.Pool, Labels: maps.Clone(p.Labels), Spec: slices.Clone(p.Spec),
		QueueTimeout: wholeMicroseconds(p.QueueTimeout), RunTimeout: wholeMicroseconds(p.RunTimeout), MaxAttempts: p.MaxAttempts,
		Backoff:     Backoff{Base: wholeMicroseconds(p.Backoff.Base), Max: wholeMicroseconds(p.Backoff.Max)},
		RetryFailed: p.RetryFailed, Priority: p.Priority, ConcurrencyKey: p.ConcurrencyKey, IdempotencyKey: p.IdempotencyKey,
		Metadata: maps.Clone(p.Metadata), RetryOf: p.retryOf,
	}
	if !p.NotBefore.IsZero() {
		b.NotBefore = p.NotBefore.UTC().Truncate(time.Microsecond)
	}
	if b.ID.IsZero() {
		b.ID = NewID()
	}
	if b.Pool == "" {
		b.Pool = DefaultPool
	}
	if b.RunTimeout == 0 {
		b.RunTimeout = q.opts.RunTimeout
	}
	if b.MaxAttempts == 0 {
		b.MaxAttempts = q.opts.MaxAttempts
	}
	b.Backoff = b.Backoff.or(q.opts.Backoff)
	if p.Source != nil {
		b.Source = new(*p.Source)
	}
	if err := b.check(); err != nil {
		return b, err
	}
	if b.IdempotencyKey != "" {
		b.IdempotencyHash = b.hash()
	}
	return b, nil
}

// wholeMicroseconds rounds a timeout up to what every database can keep: rounded down, a very short one would be none.
func wholeMicroseconds(d time.Duration) time.Duration {
	if rest := d % time.Microsecond; rest > 0 {
		d += time.Microsecond - rest
	}
	return d
}

func (b *NewBuild) check() error {
	if !b.ID.valid() {
		return invalid("id", "must be a UUID of version 7")
	}
	if err := CheckName("project", b.Project); err != nil {
		return err
	}
	if err := CheckName("pool", b.Pool); err != nil {
		return err
	}
	if err := b.Labels.Check(); err != nil {
		return err
	}
	if err := checkText("concurrency key", b.ConcurrencyKey); err != nil {
		return err
	}
	if err := checkText("idempotency key", b.IdempotencyKey); err != nil {
		return err
	}
	if err := checkMetadata(b.Metadata); err != nil {
		return err
	}
	switch {
	case len(b.Spec) > MaxSpec:
		return invalid("spec", "must be at most %d bytes", MaxSpec)
	case b.Source != nil && (b.Source.Size < 0 || b.Source.Size == math.MaxInt64):
		return invalid("source size", "must be a number of bytes")
	case b.QueueTimeout < 0 || b.QueueTimeout > MaxTimeout:
		return invalid("queue timeout", "must be between 0 and %v", MaxTimeout)
	case b.RunTimeout < 0 || b.RunTimeout > MaxTimeout:
		return invalid("run timeout", "must be between 0 and %v", MaxTimeout)
	case b.MaxAttempts < 0 || b.MaxAttempts > MaxMaxAttempts:
		return invalid("max attempts", "must be between 1 and %d", MaxMaxAttempts)
	case b.Backoff.Base < 0 || b.Backoff.Max < b.Backoff.Base || b.Backoff.Max > MaxTimeout:
		return invalid("back-off", "must have 0 ≤ base ≤ max ≤ %v", MaxTimeout)
	case b.Priority < -MaxPriority || b.Priority > MaxPriority:
		return invalid("priority", "must be between %d and %d", -MaxPriority, MaxPriority)
	case !b.NotBefore.IsZero() && (b.NotBefore.Year() < 2000 || b.NotBefore.Year() > 2200):
		return invalid("not before", "must lie between the years 2000 and 2200")
	}
	return nil
}
