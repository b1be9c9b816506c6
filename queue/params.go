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
	// MaxBatch is the largest number of items that any method takes at once.
	MaxBatch = 10_000
	// MaxBatchBytes is the largest size of all the specs, or all the log bytes, that any method takes at once.
	MaxBatchBytes = 64 << 20
)

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
	// QueueTimeout ends a build that waits longer than this for a worker: counted from the submit, and anew from the loss of an
	// attempt. Offers that come to nothing do not interrupt the wait. At most [MaxTimeout]. Default: it waits forever.
	QueueTimeout time.Duration
	// RunTimeout ends an attempt that runs longer. At most [MaxTimeout]. Default: [Options.RunTimeout].
	RunTimeout time.Duration
	// MaxAttempts is how often the build may be started, when workers are lost. At most [MaxMaxAttempts].
	// Default: [Options.MaxAttempts].
	MaxAttempts int
}

// A NewBuild is a checked build with every default filled in, ready for a backend. [Queue.Prepare] makes it.
type NewBuild struct {
	ID           ID
	Project      string
	Pool         string
	Labels       Labels
	Spec         []byte
	Source       *Source
	QueueTimeout time.Duration // zero: none
	RunTimeout   time.Duration
	MaxAttempts  int
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
	if p.Source != nil {
		b.Source = new(*p.Source)
	}
	return b, b.check()
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
	}
	return nil
}
