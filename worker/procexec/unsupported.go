//go:build !linux && !darwin

package procexec

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
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

// An account is a user that builds run as, which there is none of here.
type account struct{}

func findAccount(string) (*account, error) { return nil, errors.ErrUnsupported }

func (*account) own(string, ...string) error { return errors.ErrUnsupported }

func (*account) owns(fs.DirEntry) bool { return true }

func (*account) makeDir(string) error { return errors.ErrUnsupported }

// CheckReach returns nil on this system.
func (*Executor) CheckReach(string) error { return nil }

// Reap implements [worker.Reaper].
func (*Executor) Reap(context.Context, worker.Job) error { return errors.ErrUnsupported }
