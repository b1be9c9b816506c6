// Command demo shows Slipway's main job on this machine, from nothing to a clean end, and fails on any deviation. `make demo` runs it.
//
// It builds the controller, the agent and the command line, starts the first two as processes of their own on a free loopback port with
// keys made for the occasion, and then
//
//   - submits this repository's source with a command that compiles the agent, follows the log while it grows, downloads the
//     artifact, checks it and runs it
//   - has a build fail with exit code 3
//   - cancels a build that runs, and sees all its processes gone in time
//   - kills the agent in the middle of a build, sees that nothing of the build lives on, and another agent finish it
//   - kills the controller in the middle of a build and starts it again, and sees the build finish undisturbed with a whole log
//
// The queue is in SQLite, or in a new schema of the PostgreSQL database named by SLIPWAY_TEST_DATABASE_URL. Bytes are in files of a
// temporary directory. Afterwards nothing of all this is left, whatever happened, and it looks that nothing is.
//
// It needs Go, git and a C compiler, and takes about a minute; after five it gives up.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// patience is how long the whole of it may take.
const patience = 5 * time.Minute

func main() {
	err := start(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo: FAILED:", err)
		os.Exit(1)
	}
}

func start(args []string) error {
	if len(args) > 0 {
		return job(args)
	}
	// Caught until the end: neither a second ctrl-C nor a reader that has gone must keep the demo from cleaning up.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	defer stop()
	return run(ctx, os.Stdout)
}

func run(interrupted context.Context, stdout io.Writer) (err error) {
	ctx, cancel := context.WithTimeoutCause(interrupted, patience, fmt.Errorf("it is not done after %v", patience))
	defer cancel()
	d, err := newDemo(stdout)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil && interrupted.Err() == nil {
			d.showLogs()
		}
		err = errors.Join(err, d.close(context.WithoutCancel(ctx)))
		if err == nil {
			fmt.Fprintf(stdout, "demo: ok (%v)\n", time.Since(d.begun).Round(time.Second))
		}
	}()
	for _, step := range []struct {
		title string
		do    func(*demo, context.Context) error
	}{
		{"build the programs", (*demo).buildPrograms},
		{"start a controller and an agent", (*demo).start},
		{"compile this repository's agent, and fetch it", (*demo).compile},
		{"a build that fails", (*demo).fail},
		{"cancel a build that runs", (*demo).cancel},
		{"kill -9 the agent in the middle of a build", (*demo).killAgent},
		{"kill -9 the controller in the middle of a build", (*demo).killController},
	} {
		d.heading(step.title)
		if err := step.do(d, ctx); err != nil {
			if ctx.Err() != nil {
				err = context.Cause(ctx) // whatever else went wrong came of it
			}
			return fmt.Errorf("%s: %w", step.title, err)
		}
	}
	return nil
}
