package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/slipway-build/slipway/worker/wire"
	"github.com/slipway-build/slipway/worker/workertest"
)

// A fault is something that goes wrong, and is over when happen returns, which tells how often it really happened.
type fault struct {
	name        string
	happen      func(context.Context, *cell) (fired int, err error)
	ownPostgres bool
	ownDisk     bool
	clock       bool          // the programs' clocks have to be such as can be set
	brief       bool          // it is over long before the grace: what the worker knows by then need not be found out again
	grace       time.Duration // what the cell needs at least; zero is any
}

// quick are the faults of schedules.
var quick = faults[:11]

var faults = []fault{
	{name: "kill agent", happen: killAgent, brief: true},
	{name: "kill controller", happen: killController, brief: true},
	{name: "replace controller", happen: replaceController, brief: true},
	{name: "short partition", happen: partition(lease / 3)},
	{name: "long partition", happen: partition(readTimeout + 8*time.Second + 2*time.Second)},
	{name: "half-open", happen: halfOpen},
	{name: "duplicate connection", happen: duplicate, brief: true},
	{name: "two machines", happen: twoMachines},
	{name: "frames twice", happen: frames(workertest.Double), brief: true},
	{name: "frames lost", happen: frames(workertest.Lose), brief: true},
	{name: "suspended agent", happen: suspend},
	{name: "disk full", happen: diskFull, ownDisk: true},
	{name: "clock +1h", happen: clock(time.Hour), clock: true},
	{name: "clock -1h", happen: clock(-time.Hour), clock: true},
	{name: "PostgreSQL away for 30 s", happen: stopPostgres(30 * time.Second), ownPostgres: true, grace: 45 * time.Second},
	{name: "PostgreSQL away past the grace", happen: stopPostgres(12 * time.Second), ownPostgres: true},
}

func killAgent(_ context.Context, c *cell) (int, error) {
	c.agent().kill()
	return 1, c.restartAgent()
}

func killController(ctx context.Context, c *cell) (int, error) {
	return killControllerOf(ctx, c, c.serving())
}

func killControllerOf(ctx context.Context, c *cell, i int) (int, error) {
	c.controllers[i].kill()
	return 1, c.startController(ctx, i)
}

// serving is the number of a controller that is there.
func (c *cell) serving() int {
	if c.controllers[1] != nil {
		return 1
	}
	return 0
}

// replaceController has another controller take over.
func replaceController(ctx context.Context, c *cell) (int, error) {
	old := c.serving()
	if old == 1 { // there is no third: it is as if the second were moved
		c.controllers[1].kill()
		return 1, c.startController(ctx, 1)
	}
	if err := c.startController(ctx, 1); err != nil {
		return 0, err
	}
	c.proxies[1].Lead(c.addresses[1])
	c.proxies[1].Refuse(false)
	c.controllers[0].kill()
	return 1, nil
}

// count returns how much the proxies have done of something.
func (c *cell) count(of func(workertest.Counts) int) int {
	return of(c.proxies[0].Counts()) + of(c.proxies[1].Counts())
}

// partition has nothing go through for a while, and nobody told.
func partition(d time.Duration) func(context.Context, *cell) (int, error) {
	return func(ctx context.Context, c *cell) (int, error) {
		for _, p := range c.proxies {
			p.Hold()
		}
		sleep(ctx, d)
		for _, p := range c.proxies {
			p.Release()
		}
		return 1, ctx.Err()
	}
}

// halfOpen has the connections that there are end without a word.
func halfOpen(ctx context.Context, c *cell) (int, error) {
	cut := func(n workertest.Counts) int { return n.Cut }
	before := c.count(cut)
	for _, p := range c.proxies {
		p.Deaden()
	}
	sleep(ctx, lease+killTime) // until somebody has noticed
	return c.count(cut) - before, ctx.Err()
}

// duplicate has the agent come back while the controller believes that its old connection is alive.
func duplicate(ctx context.Context, c *cell) (int, error) {
	cut := func(n workertest.Counts) int { return n.Cut }
	before := c.count(cut)
	for _, p := range c.proxies {
		p.Orphan()
	}
	sleep(ctx, time.Second)
	return c.count(cut) - before, ctx.Err()
}

// twoMachines has a second agent use the same name and credential for a while.
func twoMachines(ctx context.Context, c *cell) (int, error) {
	return 1, c.beside(ctx, "twin", "one", func() { sleep(ctx, 4*time.Second) })
}

// frames has each type of message, in either direction, once lost or doubled.
func frames(v workertest.Verdict) func(context.Context, *cell) (int, error) {
	return func(ctx context.Context, c *cell) (int, error) {
		var mu sync.Mutex
		seen := map[string]bool{}
		judge := func(f workertest.Frame) workertest.Verdict {
			mu.Lock()
			defer mu.Unlock()
			id := fmt.Sprint(f.Direction, f.Type)
			if f.Type == "" || f.Type == wire.TypeHello || f.Type == wire.TypeWelcome || seen[id] {
				return workertest.Pass // without these there is no connection
			}
			seen[id] = true
			return v
		}
		of := func(n workertest.Counts) int { return n.Lost + n.Doubled }
		before := c.count(of)
		for _, p := range c.proxies {
			p.Judge(judge)
			p.Release()
		}
		if err := c.openGate(); err != nil {
			return 0, err
		}
		sleep(ctx, 4*time.Second)
		return c.count(of) - before, ctx.Err()
	}
}

// suspend has the agent stand still until its lease is over, the controller has lost patience, and the build was given to another.
func suspend(ctx context.Context, c *cell) (int, error) {
	c.agent().signal(syscall.SIGSTOP)
	defer c.agent().signal(syscall.SIGCONT)
	return 1, c.beside(ctx, "spare", "two", func() {
		sleep(ctx, readTimeout+c.grace+3*time.Second)
		c.agent().signal(syscall.SIGCONT)
		sleep(ctx, time.Second)
	})
}

// clock sets the clocks of all programs that start or run from now on.
func clock(by time.Duration) func(context.Context, *cell) (int, error) {
	return func(ctx context.Context, c *cell) (int, error) {
		name := c.path("clock")
		if err := os.WriteFile(name+".new", fmt.Appendf(nil, "%d\n", int64(by.Seconds())), 0o600); err != nil {
			return 0, err
		}
		if err := os.Rename(name+".new", name); err != nil {
			return 0, err
		}
		sleep(ctx, 2*time.Second)
		return 1, ctx.Err()
	}
}

func stopPostgres(d time.Duration) func(context.Context, *cell) (int, error) {
	return func(ctx context.Context, c *cell) (int, error) {
		if err := c.postgres.Kill(); err != nil {
			return 0, err
		}
		sleep(ctx, d)
		return 1, c.postgres.Restart(ctx)
	}
}

// diskFull has the agent's file system be full for a while.
func diskFull(ctx context.Context, c *cell) (int, error) {
	if !c.mounted() {
		return 0, impossible("the agent's directory cannot be a file system of its own: mount(2) is not permitted here")
	}
	filler := filepath.Join(c.path("agent"), "filler")
	f, err := os.Create(filler)
	if err != nil {
		return 0, err
	}
	block := make([]byte, 4096)
	for err == nil {
		_, err = f.Write(block)
	}
	_ = f.Close()
	sleep(ctx, 3*time.Second)
	return 1, os.Remove(filler)
}
