package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"time"
)

// submitterCommand is the first argument of a process that only submits.
const submitterCommand = "submit-for"

// submitThere has another process submit to the trial's database, through the same code.
func submitThere(ctx context.Context, t *trial, p pace) ([]submission, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, submitterCommand, t.contender.name, t.db.url, strconv.Itoa(t.pool),
		strconv.Itoa(p.rate), p.length.String(), strconv.FormatUint(p.seed, 10))
	cmd.Stderr = os.Stderr
	// It ends with this process, if not before: see runSubmitter.
	lifeline, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	defer lifeline.Close()
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("the submitting process: %w", err)
	}
	var times []submission
	if err := json.Unmarshal(out, &times); err != nil {
		return nil, fmt.Errorf("the submitting process: %w", err)
	}
	if len(times) != p.total() {
		return nil, fmt.Errorf("the submitting process submitted %d of %d builds", len(times), p.total())
	}
	return times, nil
}

// runSubmitter is the other process. It ends when its input does.
func runSubmitter(ctx context.Context, args []string, stdin io.Reader, stdout io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		defer cancel()
		_, _ = io.Copy(io.Discard, stdin)
	}()
	if len(args) != 6 {
		return fmt.Errorf("%s is for the program itself", submitterCommand)
	}
	c := contenderNamed(args[0])
	if c.open == nil {
		return fmt.Errorf("no contender %q", args[0])
	}
	conns, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	var p pace
	if p.rate, err = strconv.Atoi(args[3]); err != nil {
		return err
	}
	if p.length, err = time.ParseDuration(args[4]); err != nil {
		return err
	}
	if p.seed, err = strconv.ParseUint(args[5], 10, 64); err != nil {
		return err
	}
	pool, err := openPool(ctx, args[1], conns)
	if err != nil {
		return err
	}
	defer pool.Close()
	side, err := c.open(pool)
	if err != nil {
		return err
	}
	leave := inBackground(ctx, side.keep)
	times, err := p.submit(ctx, side)
	if err := errors.Join(err, leave()); err != nil {
		return err
	}
	return json.NewEncoder(stdout).Encode(times)
}
