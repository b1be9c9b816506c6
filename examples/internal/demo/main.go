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
