package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/slipway-build/slipway/internal/testenv"
	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/queue/pgqueue"
	"github.com/slipway-build/slipway/worker/procexec"
	"github.com/slipway-build/slipway/worker/workertest"
)

// What all builds have.
const (
	project = "acme"
	key     = "only-one"
)

// A cell is a build to which something happens.
type cell struct {
	site   *site
	name   string
	moment moment
	faults []fault
	pauses []time.Duration // after each fault

	dir      string
	postgres *testenv.Cluster
	pool     *pgxpool.Pool
	queue    *queue.Queue
	schema   string
	grace    time.Duration

	proxies     [2]*workertest.Proxy // in front of each controller
	addresses   [2]string            // of the controllers
	controllers [2]*process
	agents      []*process // the newest last
	build       queue.ID

	fired, attempts int
	end             string
	took            time.Duration
	impossible      string
	wrong           []string

	lost, doubled, bytes int
}

// String tells how it went.
func (c *cell) String() string {
	return fmt.Sprintf("%-40s %5.1fs  %s", c.story(), c.took.Seconds(), c.verdict())
}

// story names what happens in the cell.
func (c *cell) story() string {
	if c.pauses == nil {
		return c.name
	}
	names := make([]string, len(c.faults))
	for i, f := range c.faults {
		names[i] = f.name
	}
	return c.name + ": " + c.moment.name + ", " + strings.Join(names, ", ")
}

func (c *cell) verdict() string {
	switch {
	case c.impossible != "":
		return "impossible: " + c.impossible
	case len(c.wrong) > 0:
		return "FAILED: " + strings.Join(c.wrong, "; ")
	}
	return "ok"
}

func (c *cell) fail(format string, args ...any) {
	c.wrong = append(c.wrong, fmt.Sprintf(format, args...))
}

// An impossible says why a fault cannot be had here.
type impossible string

func (i impossible) Error() string { return string(i) }

// run runs the cell.
func (c *cell) run(ctx context.Context, keep bool) {
	begun := time.Now()
	ctx, cancel := context.WithTimeout(ctx, 4*time.Minute)
	defer cancel()
	err := c.play(ctx)
	if why, ok := errors.AsType[impossible](err); ok {
		c.impossible = string(why)
	} else if err != nil {
		c.fail("%v", err)
	}
	c.took = time.Since(begun)
	c.close(context.WithoutCancel(ctx), keep && len(c.wrong) > 0)
}

// play brings the build to its moment, lets the faults happen, and looks at what came of it.
func (c *cell) play(ctx context.Context) error {
	c.grace = 8 * time.Second
	for _, f := range c.faults {
		c.grace = max(c.grace, f.grace)
	}
	if err := c.open(ctx); err != nil {
		return fmt.Errorf("set up: %w", err)
	}
	if err := c.moment.reach(ctx, c); err != nil {
		return fmt.Errorf("reach the moment: %w", err)
	}
	for i, f := range c.faults {
		fired, err := f.happen(ctx, c)
		c.fired += fired
		if err != nil {
			return err
		}
		if i < len(c.pauses) && !sleep(ctx, c.pauses[i]) {
			return ctx.Err()
		}
	}
	c.heal()
	if err := c.openGate(); err != nil {
		return err
	}
	c.check(ctx)
	return nil
}

// heal makes the network whole.
func (c *cell) heal() {
	for _, p := range c.proxies {
		p.Judge(nil)
		p.Refuse(false)
		p.Throttle(workertest.ToController, 0)
		p.Release()
	}
}

func (c *cell) openGate() error {
	return os.WriteFile(filepath.Join(c.dir, "truth", gateFile), nil, 0o600)
}

// open starts everything.
func (c *cell) open(ctx context.Context) (err error) {
	if c.dir, err = os.MkdirTemp(c.site.dir, "cell-"); err != nil {
		return err
	}
	if err := os.Mkdir(c.path("truth"), 0o700); err != nil {
		return err
	}
	c.postgres = c.site.postgres
	for _, f := range c.faults {
		if f.ownPostgres && c.postgres == c.site.postgres {
			if c.postgres, err = startPostgres(ctx); err != nil {
				return err
			}
		}
	}
	c.schema = "cell_" + strings.ToLower(strings.TrimPrefix(filepath.Base(c.dir), "cell-"))
	config, err := pgxpool.ParseConfig(c.postgres.URL())
	if err != nil {
		return err
	}
	config.MaxConns = 3
	if c.pool, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return err
	}
	backend, err := pgqueue.New(c.pool, &pgqueue.Options{Schema: c.schema})
	if err != nil {
		return err
	}
	c.queue = queue.New(backend, nil)
	c.addresses = [2]string{"127.0.0.1:0", "127.0.0.1:0"}
	if err := c.startController(ctx, 0); err != nil {
		return err
	}
	for i := range c.proxies {
		if c.proxies[i], err = workertest.StartProxy("http://" + c.addresses[0]); err != nil {
			return err
		}
	}
	c.proxies[1].Refuse(true) // until there is a second controller
	for _, worker := range []string{"one", "two"} {
		if err := c.createKey(ctx, worker); err != nil {
			return err
		}
	}
	if err := c.queue.SetLimit(ctx, project, key, 1); err != nil {
		return err
	}
	for _, f := range c.faults {
		if f.ownDisk {
			if err := c.mountAgent(); err != nil {
				return err
			}
		}
	}
	return c.restartAgent()
}

func (c *cell) path(names ...string) string {
	return filepath.Join(append([]string{c.dir}, names...)...)
}

// close ends everything.
func (c *cell) close(ctx context.Context, keep bool) {
	for _, p := range append(c.agents, c.controllers[:]...) {
		if p != nil {
			p.kill()
		}
	}
	for _, p := range c.proxies {
		if p != nil {
			p.Close()
		}
	}
	if c.pool != nil {
		if c.postgres == c.site.postgres {
			_, _ = c.pool.Exec(ctx, "DROP SCHEMA IF EXISTS "+c.schema+" CASCADE") // the cluster goes away anyway
		}
		c.pool.Close()
	}
	if c.postgres != nil && c.postgres != c.site.postgres {
		_ = c.postgres.Stop()
	}
	c.unmount()
	if keep {
		kept := filepath.Join(os.TempDir(), "slipway-faults-"+strings.ReplaceAll(c.name, "/", "-"))
		_ = os.RemoveAll(kept)
		_ = os.Rename(c.dir, kept)
		return
	}
	_ = os.RemoveAll(c.dir)
}

// submit adds a build that runs this program as a job, which speaks with the cell in a directory.
func (c *cell) submit(ctx context.Context, dir string) (queue.ID, error) {
	spec, err := procexec.Spec{Command: []string{c.site.self, jobArgument, dir}, Artifacts: []string{"artifact"}}.Encode()
	if err != nil {
		return queue.ID{}, err
	}
	return c.queue.Submit(ctx, queue.Params{
		Project: project, Spec: spec, ConcurrencyKey: key, MaxAttempts: 20, RunTimeout: 2 * time.Minute,
		Backoff: queue.Backoff{Base: 50 * time.Millisecond, Max: 100 * time.Millisecond},
	})
}

// await waits until the build is in a state, or an end.
func (c *cell) await(ctx context.Context, limit time.Duration, states ...queue.State) error {
	var last queue.Build
	return until(ctx, limit, func() string { return fmt.Sprintf("the build is %v, want %v", last.State, states) }, func() bool {
		b, err := c.queue.Get(ctx, project, c.build)
		if err != nil {
			return false // the database may be away
		}
		last = b
		return slices.Contains(states, b.State)
	})
}

// until waits for a condition.
func until(ctx context.Context, limit time.Duration, what func() string, met func() bool) error {
	deadline := time.Now().Add(limit)
	for !met() {
		if time.Now().After(deadline) || !sleep(ctx, 10*time.Millisecond) {
			return fmt.Errorf("not within %v: %s", limit, what())
		}
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
