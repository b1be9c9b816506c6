package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/slipway-build/slipway/queue"
)

// ending is how long a build may take to end after a fault.
const ending = 90 * time.Second

// check looks at what came of it all.
func (c *cell) check(ctx context.Context) {
	err := c.await(ctx, ending, queue.Succeeded, queue.Failed, queue.Canceled, queue.TimedOut, queue.Expired, queue.Lost)
	if err != nil {
		c.lost++
		c.fail("%v", err)
		return
	}
	b, err := c.queue.Get(ctx, project, c.build)
	if err != nil {
		c.fail("%v", err)
		return
	}
	attempts, err := c.queue.Attempts(ctx, project, c.build)
	if err != nil {
		c.fail("%v", err)
		return
	}
	c.attempts, c.end = len(attempts), b.State.String()
	if want := c.wanted(); b.State != want && !(want == queue.Canceled && b.State == queue.Succeeded) {
		c.lost++
		c.fail("the build ended as %v (%s), want %v", b.State, b.Reason, want)
	}
	if c.moment.name == "finishing" && len(c.faults) == 1 && c.faults[0].brief && len(attempts) > 1 {
		c.doubled++
		c.fail("a build that had ended was attempted %d times", len(attempts))
	}
	c.checkAttempts(b, attempts)
	for _, a := range attempts {
		c.checkLog(ctx, a)
	}
	if err := until(ctx, 15*time.Second, func() string { return "processes of the build live: " + strings.Join(living(c.build.String()), " ") },
		func() bool { return len(living(c.build.String())) == 0 }); err != nil {
		c.doubled++
		c.fail("%v", err)
	}
	c.checkSlot(ctx)
}

// wanted is how the build has to end. One that is being canceled may be done before.
func (c *cell) wanted() queue.State {
	if c.moment.name == "cancelling" {
		return queue.Canceled
	}
	return queue.Succeeded
}

// checkAttempts sees that one attempt won, the newest, and that none was alive beside another.
func (c *cell) checkAttempts(b queue.Build, attempts []queue.Attempt) {
	var last int64
	var alive time.Time
	for i, a := range attempts {
		if a.Epoch <= last {
			c.doubled++
			c.fail("epoch %d follows %d", a.Epoch, last)
		}
		last = a.Epoch
		if won := a.Outcome == b.State; won != (i == len(attempts)-1) && b.State != queue.Lost {
			c.doubled++
			c.fail("attempt %d of %d has the outcome %v, the build is %v", i+1, len(attempts), a.Outcome, b.State)
		}
		first, final := c.lived(a.Epoch)
		if !first.IsZero() && first.Before(alive) {
			c.doubled++
			c.fail("epoch %d was alive %v before an earlier one was dead", a.Epoch, alive.Sub(first))
		}
		if final.After(alive) {
			alive = final
		}
	}
}

// lived returns when an attempt was seen alive by itself, first and last.
func (c *cell) lived(epoch int64) (first, last time.Time) {
	b, _ := os.ReadFile(c.path("truth", strconv.FormatInt(epoch, 10)+aliveName)) // it may never have begun
	for line := range bytes.Lines(b) {
		n, err := strconv.ParseInt(strings.TrimSpace(string(line)), 10, 64)
		if err != nil {
			continue // it was killed in between
		}
		last = time.Unix(0, n)
		if first.IsZero() {
			first = last
		}
	}
	return first, last
}

// checkLog holds the log of an attempt against what it wrote.
func (c *cell) checkLog(ctx context.Context, a queue.Attempt) {
	stored, err := c.readLog(ctx, a.AttemptID)
	if err != nil {
		c.fail("%v", err)
		return
	}
	name := c.path("truth", strconv.FormatInt(a.Epoch, 10))
	wrote, _ := os.ReadFile(name + wroteName) // it may have written nothing
	_, notEnded := os.Stat(name + endedName)
	// What the agent adds stands behind what the build wrote.
	added := ""
	if i := bytes.Index(stored, []byte("[slipway] ")); i >= 0 {
		stored, added = stored[:i], string(stored[i:])
	}
	if i := bytes.Index(stored, []byte("slipway: ")); i >= 0 {
		stored, added = stored[:i], string(stored[i:])+added
	}
	stored = bytes.TrimSuffix(stored, []byte("\n")) // a notice after half a line
	missing := len(bytes.TrimSuffix(wrote, []byte("\n"))) - len(stored)
	switch {
	case !bytes.HasPrefix(wrote, stored):
		c.bytes += max(1, len(stored))
		c.fail("epoch %d: %d bytes are stored that the build did not write so", a.Epoch, len(stored))
	case a.LogComplete && notEnded == nil && missing > 0:
		c.bytes += missing
		c.fail("epoch %d: %d bytes are missing of a log that is called complete", a.Epoch, missing)
	case a.LogComplete && missing > maxLine:
		c.bytes += missing
		c.fail("epoch %d: %d bytes are missing of a log that is called complete, of a build that was killed", a.Epoch, missing)
	case !a.LogComplete && a.Outcome != queue.Lost && !strings.Contains(added, "[slipway]"):
		// It ended without its worker's report, which the reason tells.
		if a.Reason == "" {
			c.fail("epoch %d ended as %v with a log that is not complete, and nothing says so", a.Epoch, a.Outcome)
		}
	}
}

// maxLine is the longest line of a job, which one that is killed has written down and not yet printed.
const maxLine = 100

func (c *cell) readLog(ctx context.Context, id queue.AttemptID) (log []byte, err error) {
	for page, err := range c.queue.FollowLog(ctx, project, id, 0) {
		if err != nil {
			return nil, err
		}
		log = append(log, page.Data...)
	}
	return log, nil
}

// checkSlot has another build have the slot and the limit's only place.
func (c *cell) checkSlot(ctx context.Context) {
	dir := c.path("again")
	err := os.Mkdir(dir, 0o700)
	if err == nil {
		err = os.WriteFile(c.path("again", gateFile), nil, 0o600)
	}
	if err != nil {
		c.fail("%v", err)
		return
	}
	id, err := c.submit(ctx, dir)
	if err != nil {
		c.fail("%v", err)
		return
	}
	var last queue.Build
	err = until(ctx, ending, func() string { return fmt.Sprintf("a slot or a limit has leaked: a further build is %v", last.State) }, func() bool {
		b, err := c.queue.Get(ctx, project, id)
		if err == nil {
			last = b
		}
		return last.State.Terminal()
	})
	if err == nil && last.State != queue.Succeeded {
		err = fmt.Errorf("a further build ended as %v (%s)", last.State, last.Reason)
	}
	if err != nil {
		c.lost++
		c.fail("%v", err)
	}
}
