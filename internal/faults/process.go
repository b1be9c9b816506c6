package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// adminKey is that of every controller.
const adminKey = "an-admin-key-for-the-fault-matrix-0123456789"

// Times of the real programs, shorter than in earnest: the lease is three seconds.
const (
	lease    = 3 * time.Second
	killTime = 2 * time.Second
	// readTimeout is how long a controller bears silence.
	readTimeout = 5 * time.Second
)

// A process is one of the programs.
type process struct {
	cmd   *exec.Cmd
	log   string
	ended chan struct{}
}

// launch starts a program. Its output goes to a file that is there for all of that name.
func (c *cell) launch(name string, env []string, program string, args ...string) (*process, error) {
	p := &process{cmd: exec.Command(filepath.Join(c.site.dir, program), args...), log: c.path(name + ".log"), ended: make(chan struct{})} //nolint:noctx // the cell ends it
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + c.dir, clockVariable + "=" + c.path("clock")}, env...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = p.cmd.Wait() // how it ended is in its log
		close(p.ended)
	}()
	return p, nil
}

func (p *process) signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) }

// kill ends the process without a word to it, and returns when it has.
func (p *process) kill() {
	p.signal(syscall.SIGKILL)
	<-p.ended
}

// startController starts a controller where it was before, or anywhere.
func (c *cell) startController(ctx context.Context, i int) error {
	name := fmt.Sprintf("controller%d", i)
	addrFile := c.path(name + ".address")
	_ = os.Remove(addrFile)
	p, err := c.launch(name, []string{"SLIPWAY_ADMIN_KEY=" + adminKey, "SLIPWAY_DATABASE_URL=" + c.postgres.URL()}, "controller",
		"-listen", c.addresses[i], "-addr-file", addrFile, "-data", c.path(name), "-storage", c.path("storage"), "-schema", c.schema,
		"-database-conns", "6", "-database-timeout", "2s", "-heartbeat", "500ms", "-lease", lease.String(), "-kill-time", killTime.String(),
		"-margin", "500ms", "-controller-ttl", "2s", "-grace", c.grace.String(), "-offer-timeout", "3s", "-avoid", "100ms", "-slack", "8s",
		"-cancel-grace", "4s", "-cancel-timeout", "15s", "-poll", "50ms", "-cancel-poll", "50ms", "-maintain-every", "100ms",
		"-read-timeout", readTimeout.String(), "-write-timeout", "3s", "-stall-timeout", "4s", "-log-flush", "50ms", "-min-free", "1MiB")
	if err != nil {
		return err
	}
	c.controllers[i] = p
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-p.ended:
			cancel()
		case <-ctx.Done():
		}
	}()
	return until(ctx, 40*time.Second, func() string { return name + " is not ready:\n" + tail(p.log) }, func() bool {
		b, err := os.ReadFile(addrFile)
		if err != nil || len(b) == 0 {
			return false
		}
		c.addresses[i] = strings.TrimSpace(string(b))
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.addresses[i]+"/readyz", nil)
		if err != nil {
			return false
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return false
		}
		return resp.Body.Close() == nil && resp.StatusCode == http.StatusOK
	})
}

// createKey makes the key of a worker.
func (c *cell) createKey(ctx context.Context, worker string) error {
	cmd := exec.CommandContext(ctx, filepath.Join(c.site.dir, "slipway"), "keys", "create", "-o", c.path(worker+".key"), "worker", "--worker", worker)
	cmd.Env = []string{"SLIPWAY_URL=http://" + c.addresses[0], "SLIPWAY_KEY=" + adminKey, "HOME=" + c.dir}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("slipway keys create: %w: %s", err, out)
	}
	return nil
}

// startAgent starts an agent of that name that works in a directory of the cell. It knows both controllers.
func (c *cell) startAgent(dir, name string) error {
	p, err := c.launch(dir, nil, "agent", "-url", c.proxies[0].URL(), "-url", c.proxies[1].URL(), "-name", name, "-key-file", c.path(name+".key"),
		"-dir", c.path(dir), "-reconnect-min", "50ms", "-reconnect-max", "300ms", "-stop-timeout", "3s", "-min-free", "1MiB")
	if err == nil {
		c.agents = append(c.agents, p)
	}
	return err
}

// agent returns the agent that is there, or was last.
func (c *cell) agent() *process { return c.agents[len(c.agents)-1] }

// restartAgent starts the agent again where it was.
func (c *cell) restartAgent() error { return c.startAgent("agent", "one") }

// beside runs another agent while something happens, and then stops it in order.
func (c *cell) beside(ctx context.Context, dir, name string, happen func()) error {
	if err := c.startAgent(dir, name); err != nil {
		return err
	}
	other := c.agent()
	c.agents = append([]*process{other}, c.agents[:len(c.agents)-1]...) // the first is the agent still
	happen()
	other.signal(syscall.SIGTERM)
	sleep(ctx, 100*time.Millisecond)
	other.signal(syscall.SIGTERM) // what runs is stopped, too
	select {
	case <-other.ended:
	case <-time.After(20 * time.Second):
		other.kill()
	}
	return ctx.Err()
}

// living returns the processes that belong to a build.
func living(build string) []string {
	names, _ := filepath.Glob("/proc/[0-9]*/environ")
	var found []string
	for _, name := range names {
		environ, _ := os.ReadFile(name) // may be no more
		if bytes.Contains(environ, []byte("SLIPWAY_BUILD_ID="+build)) {
			found = append(found, filepath.Base(filepath.Dir(name)))
		}
	}
	return found
}

func tail(name string) string {
	b, _ := os.ReadFile(name) // what there is is shown
	return string(b[max(0, len(b)-2000):])
}
