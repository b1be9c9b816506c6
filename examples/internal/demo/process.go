package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"
)

// A process is a program that runs beside the demo, in a process group of its own.
type process struct {
	name  string
	log   string // what it prints
	cmd   *exec.Cmd
	ended chan struct{} // closed when it has, and err is set
	err   error
}

// launch starts a program and lets it run. Without an output of its own, what it prints is its log.
func (d *demo) launch(name string, cmd *exec.Cmd) (*process, error) {
	p := &process{name: name, log: d.path(name + ".log"), cmd: cmd, ended: make(chan struct{})}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	if cmd.Stdout == nil {
		cmd.Stdout = log
	}
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	d.processes = append(d.processes, p)
	d.waiting.Go(func() {
		defer close(p.ended)
		p.err = cmd.Wait()
	})
	return p, nil
}

// command prepares a program to be started, in a process group that is killed when ctx ends.
func (d *demo) command(ctx context.Context, env []string, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...)
	// Whoever runs the demo may have settings of his own.
	inherited := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "SLIPWAY_") })
	cmd.Env = slices.Concat(inherited, []string{d.mark}, env)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return killGroup(cmd.Process.Pid) }
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

func killGroup(pid int) error {
	err := syscall.Kill(-pid, syscall.SIGKILL)
	if errors.Is(err, syscall.ESRCH) {
		return os.ErrProcessDone
	}
	return err
}

// kill ends the process like a power failure would: it alone, and without a word to it.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // one that has ended is as dead
	<-p.ended
}

// A result is what a program printed, and how it ended.
type result struct {
	stdout, stderr string
	code           int
}

// run runs a program to its end, at most for limit.
func (d *demo) run(ctx context.Context, limit time.Duration, env []string, program string, args ...string) (result, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("it did not end within %v", limit))
	defer cancel()
	var stdout, stderr bytes.Buffer
	cmd := d.command(ctx, env, program, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	r := result{stdout: stdout.String(), stderr: stderr.String(), code: cmd.ProcessState.ExitCode()}
	if ctx.Err() != nil {
		return r, fmt.Errorf("%s: %w; it printed %q", program, context.Cause(ctx), r.stderr)
	}
	if _, ok := errors.AsType[*exec.ExitError](err); ok {
		return r, nil // r.code tells
	}
	return r, err
}

// cliEnv is what the command line is told by its environment. Git shall read a repository even if it belongs to another user.
func (d *demo) cliEnv() []string {
	return []string{
		"SLIPWAY_URL=" + d.url, "SLIPWAY_KEY_FILE=" + d.submitKey,
		"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=" + d.root,
	}
}

// slipway runs the command line and returns what it printed on standard output.
func (d *demo) slipway(ctx context.Context, args ...string) (string, error) {
	r, err := d.run(ctx, time.Minute, d.cliEnv(), d.path("bin", "slipway"), args...)
	if err == nil && r.code != 0 {
		err = fmt.Errorf("slipway %s ended with %d and said %q", args[0], r.code, r.stderr)
	}
	return r.stdout, err
}

// slipwayJSON runs the command line with --json and reads its answer into v.
func (d *demo) slipwayJSON(ctx context.Context, v any, args ...string) error {
	out, err := d.slipway(ctx, append([]string{"--json"}, args...)...)
	if err != nil {
		return err
	}
	return json.Unmarshal([]byte(out), v)
}

// A follower is a command line that follows a log in the background.
type follower struct {
	*process
	text string // the file with its standard output
}

// follow starts slipway logs -f, and copies what it prints to live.
func (d *demo) follow(ctx context.Context, id string, live io.Writer) (*follower, error) {
	f := &follower{text: d.path("log-of-" + id)}
	out, err := os.OpenFile(f.text, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	cmd := d.command(ctx, d.cliEnv(), d.path("bin", "slipway"), "logs", "-f", id)
	cmd.Stdout = io.MultiWriter(out, live)
	if f.process, err = d.launch("slipway-logs-"+id, cmd); err != nil {
		return nil, errors.Join(err, out.Close())
	}
	d.waiting.Go(func() {
		<-f.ended
		_ = out.Close() // the system has every byte already
	})
	return f, nil
}

// wait waits for the end of the follower and returns what it printed.
func (f *follower) wait(ctx context.Context, limit time.Duration) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	select {
	case <-f.ended:
	case <-ctx.Done():
		return nil, fmt.Errorf("slipway logs -f did not end within %v", limit)
	}
	text, err := os.ReadFile(f.text)
	if f.err != nil {
		err = fmt.Errorf("slipway logs -f: %w: %s", f.err, tail(f.log, 1<<10))
	}
	return text, err
}

// prints reports whether the follower has printed text yet.
func (f *follower) prints(text string) bool {
	b, err := os.ReadFile(f.text)
	return err == nil && bytes.Contains(b, []byte(text))
}

// An indenter shows what others print, line by line.
type indenter struct {
	w    io.Writer
	part []byte // of a line
}

// Write implements [io.Writer].
func (i *indenter) Write(b []byte) (int, error) {
	i.part = append(i.part, b...)
	for {
		line, rest, ok := bytes.Cut(i.part, []byte("\n"))
		if !ok {
			return len(b), nil
		}
		if _, err := fmt.Fprintf(i.w, "   | %s\n", line); err != nil {
			return 0, err
		}
		i.part = rest
	}
}
