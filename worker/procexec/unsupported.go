//go:build !linux && !darwin

package procexec

import (
	"context"
	"errors"
	"fmt"
	"runtime"

	"github.com/slipway-build/slipway/worker"
)

// Guardian must be called at the top of main. On this system it does nothing and [New] fails.
func Guardian() {}

func ownProgram() (string, error) {
	return "", fmt.Errorf("procexec: builds cannot be run on %s: %w", runtime.GOOS, errors.ErrUnsupported)
}

func (*Executor) supervise(context.Context, worker.Job, order, *buildLog) (worker.Result, error) {
	return worker.Result{}, errors.ErrUnsupported
}

// Reap implements [worker.Reaper].
func (*Executor) Reap(context.Context, worker.Job) error { return errors.ErrUnsupported }
