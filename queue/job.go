package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
)

// A Job is one attempt of a build that a [Handler] carries out. Only the handler uses it, and only until it returns.
type Job struct {
	Claimed

	shift *shift
	ctx   context.Context
	stop  context.CancelCauseFunc
	log   jobLog
	end   Completion // once the handler has returned

	reported bool // the handler may have reported the outcome itself; guarded by shift.mu
}

// newJob returns a job of the shift, which stops it by its stop, and not by the end of a context: a thousand contexts that hang on one are
// all in its way.
func newJob(s *shift, c Claimed) *Job {
	job := &Job{Claimed: c, shift: s}
	job.ctx, job.stop = context.WithCancelCause(s.base)
	job.log.init(job.ctx, s.logging)
	return job
}

// Log returns the attempt's log. What is written to it is stored within a second or so, and all of it before the outcome is. Writes
// block while much is waiting to be stored. After the lease is lost they fail with [ErrStaleLease], after [Job.Completion] with
// [ErrLogClosed]. Any number of goroutines may write.
func (j *Job) Log() io.Writer { return &j.log }

// Completion closes the log, stores the rest of it and returns what ends the attempt with an outcome, for a handler that does so by itself,
// in a transaction of its own: the Finish functions of package pgqueue and sqlitequeue take it. When the transaction has committed, the
// handler returns nil. Whatever else it returns changes nothing. If the transaction failed, the handler calls Completion again, or returns
// an error, and that is the outcome.
//
// What was written to the log before is stored when Completion returns, and nothing more is taken: in that transaction the log is locked,
// and what is stored for all jobs together would wait for it. With an error the log goes on.
//
// Errors: those of [Queue.AppendLog].
func (j *Job) Completion(ctx context.Context, outcome State, reason string) (Completion, error) {
	if err := j.log.seal(ctx, j.shift.queue, j.AttemptID); err != nil {
		return Completion{}, err
	}
	j.shift.mu.Lock()
	j.reported = true
	j.shift.mu.Unlock()
	return j.completion(outcome, reason), nil
}

func (j *Job) completion(outcome State, reason string) Completion {
	c := Completion{AttemptID: j.AttemptID, Session: j.Session, Outcome: outcome, Reason: reason}
	c.LogLength, c.LogSHA256 = j.log.sum()
	return c
}

// run has the handler carry out the job and hands on what came of it, also if the handler ends its goroutine.
func (j *Job) run(handler Handler) {
	ctx, cancel := context.WithTimeout(j.ctx, j.RunTimeout)
	err := errors.New("the handler did not return")
	defer func() {
		outcome, reason := judge(context.Cause(ctx), err)
		cancel()
		j.stop(nil)
		j.end = j.completion(outcome, reason)
		j.log.close(j)
	}()
	err = j.call(ctx, handler)
}

// call turns a panic into an error.
func (j *Job) call(ctx context.Context, handler Handler) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v", r)
			j.shift.log().Error("handler panicked", "build", j.Build, "epoch", j.Epoch, "panic", r, "stack", string(debug.Stack()))
		}
	}()
	return handler(ctx, j)
}

// judge tells what a handler's error means, given why its context ended, if it did.
func judge(cause, err error) (State, string) {
	switch {
	case errors.Is(cause, ErrStaleLease):
		return Lost, "the worker could not keep its lease"
	case err == nil:
		return Succeeded, ""
	case errors.Is(cause, ErrCanceled):
		return Canceled, ""
	case errors.Is(cause, context.DeadlineExceeded):
		return TimedOut, "ran longer than its run timeout"
	case cause != nil, errors.Is(err, ErrTryAgain):
		return Lost, err.Error()
	default:
		return Failed, err.Error()
	}
}

// JSONSpec returns the spec of a build for a handler that [JSON] made: v in JSON.
//
// Errors: [ErrInvalid], if v cannot be written in JSON, or not in [MaxSpec] bytes.
func JSONSpec(v any) ([]byte, error) {
	spec, err := json.Marshal(v)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: spec: %w", ErrInvalid, err)
	case len(spec) > MaxSpec:
		return nil, invalid("spec", "must be at most %d bytes", MaxSpec)
	default:
		return spec, nil
	}
}

// JSON returns a handler for builds whose spec is a T in JSON, as [JSONSpec] writes it. A spec that is none fails the build.
func JSON[T any](handle func(ctx context.Context, job *Job, spec T) error) Handler {
	return func(ctx context.Context, job *Job) error {
		var spec T
		if err := json.Unmarshal(job.Spec, &spec); err != nil {
			return fmt.Errorf("spec is not the JSON of a %T: %w", spec, err)
		}
		return handle(ctx, job, spec)
	}
}
