//go:build linux || darwin

package procexec

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/slipway-build/slipway/worker"
)

// lockName is the file in a job's directory that its guardian holds locked for as long as it lives.
const lockName = "guardian.lock"

// lockJob returns the open lock of a job's directory, which belongs to whoever has the file open: to the guardian, who is given it.
func lockJob(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Reap implements [worker.Reaper]: it waits until the guardian of an attempt, which kills the build when its agent is gone, has done so.
// Then it kills what it finds that a guardian has left which was killed itself: on Linux, what has the variables of the attempt in the
// environment it was started with.
//
// It fails with [ErrNotKilled] if anything is alive after [Options.KillTimeout] and a bit, and with the error of ctx.
func (e *Executor) Reap(ctx context.Context, job worker.Job) error {
	deadline := time.Now().Add(e.killTimeout + drainTimeout)
	if err := awaitGuardian(ctx, job.Dir, deadline); err != nil {
		return err
	}
	for pause := time.Millisecond; ; pause = min(2*pause, maxPause) {
		left := killAttempt(job.Build.String(), job.Epoch)
		switch {
		case len(left) == 0:
			return nil
		case time.Now().After(deadline):
			return fmt.Errorf("%w: processes %v", ErrNotKilled, left)
		case !sleep(ctx, pause):
			return context.Cause(ctx)
		}
	}
}

// awaitGuardian returns nil when no guardian lives that works in the directory.
func awaitGuardian(ctx context.Context, dir string, deadline time.Time) error {
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // none was started, or the build is hostile and has removed it
	}
	if err != nil {
		return fmt.Errorf("procexec: %w", err)
	}
	defer f.Close()
	for pause := time.Millisecond; ; pause = min(2*pause, maxPause) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR):
			return fmt.Errorf("procexec: %s: %w", lockName, err)
		case time.Now().After(deadline):
			return fmt.Errorf("%w: its guardian lives", ErrNotKilled)
		case !sleep(ctx, pause):
			return context.Cause(ctx)
		}
	}
}

// sleep waits, and reports whether ctx has not ended.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
