package worker

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/slipway-build/slipway/worker/wire"
)

// perform runs the attempt and uploads what came of it. It returns the report without what is said of the log, or nil if the attempt
// lives on and must not be reported: it keeps its slot and its lease until the controller ends it for good, at the latest when its
// run timeout is over.
func (t *attempt) perform() *wire.Finished {
	ctx, cancel := context.WithTimeoutCause(t.ctx, t.offer.Limits.RunTimeout.Duration(), ErrTimeout)
	defer cancel()
	t.checkLease(thisMoment()) // the start may have been long in coming
	t.spool.hide(t.hidden()...)
	result, err := t.execute(ctx)
	if errors.Is(err, ErrNotKilled) {
		t.log.Error("the build cannot be killed: nothing is reported, so that no other worker starts it while it lives")
		t.spool.close()
		return nil
	}
	cause := context.Cause(ctx)
	t.mu.Lock()
	t.quiet = true
	t.mu.Unlock()
	end := t.ending(cause, result, err)
	if end.Outcome != wire.OutcomeLost && len(result.Artifacts) > 0 && t.ctx.Err() == nil {
		t.phase(wire.PhaseArtifacts)
		sent := t.upload(t.ctx, result.Artifacts)
		end.Artifacts, end.PartialReason = sent.done, wire.Text(sent.missing)
		if sent.missing != "" && errors.Is(context.Cause(t.ctx), ErrCanceled) {
			end.Outcome, end.PartialReason = wire.OutcomeCanceled, ""
		}
	}
	end.Reason, end.PartialReason = wire.Text(t.mask(string(end.Reason))), wire.Text(t.mask(string(end.PartialReason)))
	if err != nil && cause == nil {
		t.spool.notice("%s", end.Reason)
	}
	t.spool.close()
	t.keep(end)
	t.log.Info("build ended", "outcome", string(end.Outcome), "reason", string(end.Reason), "artifacts", end.Artifacts)
	return end
}

// execute gets the source and runs the executor. Whatever the executor does stays in the attempt.
func (t *attempt) execute(ctx context.Context) (result Result, err error) {
	defer func() {
		if p := recover(); p != nil {
			t.log.Error("panic while running a build", "panic", t.mask(fmt.Sprint(p)), "stack", string(debug.Stack()))
			result, err = Result{}, errors.New("the executor panicked")
		}
	}()
	if ctx.Err() != nil {
		return Result{}, context.Cause(ctx)
	}
	source := t.sourceDir()
	if err := os.Mkdir(t.workDir(), 0o700); err != nil {
		return Result{}, err
	}
	if t.offer.Source != nil {
		t.phase(wire.PhaseSource)
	}
	if err := t.fetchSource(ctx, source); err != nil {
		return Result{}, err
	}
	t.phase(wire.PhaseRunning)
	return t.agent.opts.Executor.Run(ctx, Job{
		Build: t.ref.Build, Epoch: t.ref.Epoch, Spec: t.offer.Spec, Dir: t.workDir(), Source: source, Env: t.environment(), Log: t.spool,
		Grace: patience(t.offer.Limits.CancelGrace.Duration()), Kill: t.kill, Lease: t.mayLive,
	})
}

// ending judges how the attempt ended. What made it stop counts before what the executor says of it.
func (t *attempt) ending(cause error, result Result, err error) *wire.Finished {
	end := &wire.Finished{Ref: t.ref}
	switch {
	case errors.Is(cause, ErrCanceled):
		end.Outcome = wire.OutcomeCanceled
	case errors.Is(cause, ErrTimeout):
		end.Outcome = wire.OutcomeTimedOut
		end.Reason = wire.Text(fmt.Sprintf("ran longer than %v", t.offer.Limits.RunTimeout.Duration()))
	case errors.Is(cause, ErrLeaseLost):
		end.Outcome, end.Reason = wire.OutcomeLost, "the worker's lease was not renewed in time"
	case cause != nil:
		end.Outcome, end.Reason = wire.OutcomeLost, "the worker was stopped"
	case errors.Is(err, ErrBadSpec), errors.Is(err, errBadSource):
		end.Outcome, end.Reason = wire.OutcomeFailed, wire.Text(err.Error())
	case err != nil:
		end.Outcome, end.Reason = wire.OutcomeLost, wire.Text(err.Error())
	case result.Signal != "":
		end.Outcome, end.Reason = wire.OutcomeFailed, wire.Text("ended by "+result.Signal)
	case result.ExitCode != 0:
		end.Outcome, end.Reason = wire.OutcomeFailed, wire.Text(fmt.Sprintf("exit code %d", result.ExitCode))
	default:
		end.Outcome = wire.OutcomeSucceeded
	}
	if err != nil {
		return end
	}
	switch {
	case result.Signal != "":
		end.Signal = result.Signal
	case result.ExitCode != -1:
		end.ExitCode = new(min(max(result.ExitCode, math.MinInt32), math.MaxInt32))
	}
	end.Usage = wire.Usage{
		UserTime:   wire.MillisOf(max(0, result.Usage.UserTime)),
		SystemTime: wire.MillisOf(max(0, result.Usage.SystemTime)),
		MaxRSS:     max(0, result.Usage.MaxRSS),
	}
	return end
}

// report says how the attempt ended, once all of its log has arrived, until the controller has stored it or does not want it.
func (t *attempt) report(end *wire.Finished) {
	t.mu.Lock()
	t.stage, t.exit = wire.StageFinished, end.ExitCode
	t.mu.Unlock()
	repeat := time.NewTicker(t.agent.opts.Repeat)
	defer repeat.Stop()
	missing := end.PartialReason
	for {
		if t.dropped() {
			return
		}
		if limit, ok := t.shipment.arrived(); ok {
			t.finish(end, limit, string(missing))
		}
		select {
		case <-t.over:
			return
		case <-t.again:
		case <-repeat.C:
		}
	}
}

func (t *attempt) finish(end *wire.Finished, limit int64, missing string) {
	log, err := t.spool.end(limit)
	if err != nil {
		t.log.Error("log cannot be read back from the spool; trying again", "error", err)
		return
	}
	end.LogLen, end.LogSHA256 = log.length, log.sum
	end.PartialReason = wire.Text(strings.Trim(log.cut+"; "+missing, "; "))
	end.Partial = end.PartialReason != ""
	if _, err := wire.Encode(end); err != nil {
		t.log.Error("the executor's result cannot be reported", "error", err)
		end.Outcome, end.Reason = wire.OutcomeLost, "the executor's result cannot be reported"
		end.ExitCode, end.Signal = nil, ""
	}
	if l := t.agent.link.Load(); l != nil {
		l.send(context.Background(), end)
	}
}
