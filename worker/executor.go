package worker

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/slipway-build/slipway/queue"
)

// Reasons an attempt is told to stop, found with [context.Cause] on the context given to [Executor.Run].
var (
	// ErrCanceled says that somebody canceled the build.
	ErrCanceled = errors.New("worker: build canceled")
	// ErrTimeout says that the build ran longer than its run timeout.
	ErrTimeout = errors.New("worker: run timeout exceeded")
	// ErrLeaseLost says that the worker no longer holds the lease: another worker may be given the build.
	ErrLeaseLost = errors.New("worker: lease lost")
	// ErrShutdown says that the agent is being stopped: the build will be attempted again, elsewhere.
	ErrShutdown = errors.New("worker: agent is shutting down")
)

// An Executor runs one attempt of a build on the worker's machine.
// What a build's spec means is the executor's to say: everything else treats it as opaque bytes.
//
// An Executor must be safe for concurrent use: an agent with n slots calls Run up to n times at once.
type Executor interface {
	// Run runs the attempt and returns when nothing of it is left alive.
	//
	// When ctx ends, Run asks the attempt to stop, waits at most job.Grace, then kills it; when job.Kill is
	// closed it kills at once. Run still returns a Result in both cases.
	//
	// An error means that the attempt could not be run at all or that its result is not known: a bad spec (wrap
	// [ErrBadSpec]), a machine without the tools, a lost child; or that it could not be ended (wrap [ErrNotKilled]). A command that ran
	// and failed is a Result.
	Run(ctx context.Context, job Job) (Result, error)
}

// ErrBadSpec is wrapped by an [Executor] that cannot make sense of a build's spec. The build fails; it is not retried.
var ErrBadSpec = errors.New("worker: build spec not understood")

// ErrNotKilled is wrapped by an [Executor] that has given up killing an attempt of which something is still alive. The agent reports
// nothing then, so that the build is not started elsewhere: it ends as timed out, or canceled, when its time is over.
var ErrNotKilled = errors.New("worker: build not killed")

// A Job is what an [Executor] is given to run.
type Job struct {
	Build queue.ID
	Epoch int64
	// Spec is the build's spec as it was submitted.
	Spec []byte
	// Dir is the attempt's own directory. It exists, is empty but for what the source unpacked into Source, and is removed
	// by the agent after artifacts were uploaded.
	Dir string
	// Source is the directory below Dir that holds the unpacked source; the attempt's working directory.
	Source string
	// Env are the variables that Slipway gives to the attempt ("KEY=value"), the build token and the build's secrets among them. Log takes
	// those out of what is written to it; an executor writes them nowhere else.
	Env []string
	// Log takes the attempt's output, standard output and standard error in the order they were written.
	// Writes never fail and may block only briefly.
	Log io.Writer
	// Grace is how long a stopping attempt has before it is killed. The agent keeps a fifth of the cancel grace, a second at most,
	// for the killing.
	Grace time.Duration
	// Kill, when closed, ends the wait for Grace.
	Kill <-chan struct{}
	// Lease returns how long the attempt may live on if nothing more is heard of a controller; not positive: no longer. The agent sees to
	// that itself, by ctx and Kill. An executor that has a process of its own beside each attempt lets that see to it too, for the case
	// that the agent's process stands still. Nil: there is no lease. It is safe for concurrent use.
	Lease func() time.Duration
}

// A Result says how an attempt that ran came to its end.
type Result struct {
	// ExitCode is the command's exit code, or -1 when a signal ended it or the attempt was stopped before it began.
	ExitCode int
	// Signal names the signal that ended the command ("SIGKILL"), or is empty.
	Signal string
	// Artifacts are the files to upload.
	Artifacts []File
	// Usage is what the attempt used of the machine, as far as it is known.
	Usage Usage
}

// A File is one artifact of an attempt on the worker's disk.
type File struct {
	// Name is the artifact's name: a slash-separated relative path.
	Name string
	// Path is where the file lies on this machine.
	Path string
}

// Usage is what an attempt used of its machine.
type Usage struct {
	UserTime   time.Duration
	SystemTime time.Duration
	// MaxRSS is the largest resident set of any one process, in bytes.
	MaxRSS int64
}
