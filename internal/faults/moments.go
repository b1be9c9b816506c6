package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/worker/workertest"
)

// A moment is a time in the life of a build.
type moment struct {
	name  string
	reach func(context.Context, *cell) error
}

// soon is how long a build may take to get to a moment on a machine that has much else to do.
const soon = 40 * time.Second

var moments = []moment{
	{"offered", offered},
	{"running", running},
	{"cancelling", cancelling},
	{"uploading", uploading},
	{"finishing", finishing},
}

// offered submits a build, whose offer the agent cannot answer.
func offered(ctx context.Context, c *cell) (err error) {
	if err := c.see(ctx, "the agent is connected", func() bool { return logged(c.agent().log, "msg=connected") }); err != nil {
		return err
	}
	c.proxies[0].Hold(workertest.ToController)
	if c.build, err = c.submit(ctx, c.path("truth")); err != nil {
		return err
	}
	return c.await(ctx, soon, queue.Offered)
}

// running submits a build and waits until it has written something.
func running(ctx context.Context, c *cell) (err error) {
	if c.build, err = c.submit(ctx, c.path("truth")); err != nil {
		return err
	}
	if err := c.await(ctx, soon, queue.Running); err != nil {
		return err
	}
	return c.see(ctx, "the build writes", func() bool {
		b, err := os.ReadFile(c.path("truth", "1"+wroteName))
		return err == nil && bytes.Count(b, []byte("\n")) > 20
	})
}

func cancelling(ctx context.Context, c *cell) error {
	if err := running(ctx, c); err != nil {
		return err
	}
	if _, err := c.queue.Cancel(ctx, project, c.build, "enough"); err != nil {
		return err
	}
	return c.await(ctx, soon, queue.Cancelling)
}

func uploading(ctx context.Context, c *cell) error {
	if err := running(ctx, c); err != nil {
		return err
	}
	c.proxies[0].Throttle(workertest.ToController, 1<<20)
	if err := c.openGate(); err != nil {
		return err
	}
	return c.see(ctx, "artifacts are uploaded", func() bool { return logged(c.agent().log, "phase=artifacts") })
}

// finishing waits until the agent knows how the build ended, and has not told.
func finishing(ctx context.Context, c *cell) error {
	if err := running(ctx, c); err != nil {
		return err
	}
	if err := c.openGate(); err != nil {
		return err
	}
	c.proxies[0].Judge(func(f workertest.Frame) workertest.Verdict {
		if f.Type == "finished" {
			return workertest.Lose
		}
		return workertest.Pass
	})
	return c.see(ctx, "the end of the build is on the disk", func() bool {
		_, err := os.Stat(filepath.Join(c.path("agent"), c.build.String(), "1", "result.json"))
		return err == nil
	})
}

// see waits for anything.
func (c *cell) see(ctx context.Context, what string, met func() bool) error {
	return until(ctx, soon, func() string { return what }, met)
}

// logged reports whether a program has logged something.
func logged(log, text string) bool {
	b, err := os.ReadFile(log)
	return err == nil && bytes.Contains(b, []byte(text))
}
