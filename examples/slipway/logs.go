package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/slipway-build/slipway/examples/internal/client"
	"github.com/slipway-build/slipway/queue"
)

type logsCommand struct {
	Follow bool  `short:"f" help:"Go on until the build has ended."`
	Epoch  int64 `placeholder:"N" help:"The attempt, by its epoch. Default: the newest, and with -f those after it."`

	ID queue.ID `arg:"" name:"id" help:"The build."`
}

// Run prints a log.
func (l *logsCommand) Run(in *invocation) error {
	if l.Epoch < 0 {
		return usage("--epoch must be a positive number; slipway show %s lists the attempts", l.ID)
	}
	c, err := in.client()
	if err != nil {
		return err
	}
	if l.Follow {
		c = c.Patient()
	}
	out := in.stdout
	if in.json {
		out = nil
	}
	err = printLog(in, c, l.ID, client.LogOptions{Epoch: l.Epoch, Follow: l.Follow}, out)
	if l.Follow && in.ctx.Err() != nil {
		return fmt.Errorf("%w; the build goes on", errInterrupted)
	}
	missing := l.Epoch != 0 && errors.Is(err, queue.ErrNotFound) // the attempt, or the build
	if err != nil && !missing {
		return err
	}
	build, buildErr := c.Build(in.ctx, l.ID)
	switch {
	case buildErr != nil:
		return buildErr
	case missing:
		return fmt.Errorf("build %s has no attempt with epoch %d; slipway show %s lists the attempts", l.ID, l.Epoch, l.ID)
	}
	for _, a := range build.Attempts {
		newest := a.Epoch == build.Attempts[len(build.Attempts)-1].Epoch
		if a.EndedAt != nil && !a.LogComplete && !a.LogCut && (a.Epoch == l.Epoch || l.Epoch == 0 && newest) {
			in.notice("this log is not complete: the attempt ended as %s before all of it was stored", a.Outcome)
		}
	}
	if l.Follow {
		in.notice("build %s %s", l.ID, describe(build))
	}
	return nil
}

// A logLine is a line of the JSON form of a log.
type logLine struct {
	Epoch  int64  `json:"epoch"`
	Offset int64  `json:"offset"`
	Data   []byte `json:"data"`
	Cut    bool   `json:"cut,omitempty"`
}

// printLog writes a log to out, or as JSON lines to standard output if out is nil.
func printLog(in *invocation, c *client.Client, id queue.ID, o client.LogOptions, out io.Writer) error {
	lines := json.NewEncoder(in.stdout)
	var epoch int64
	for piece, err := range c.Log(in.ctx, id, o) {
		if err != nil {
			return err
		}
		if epoch != 0 && piece.Epoch != epoch {
			in.notice("the worker was lost and the build is attempted again: epoch %d follows", piece.Epoch)
		}
		epoch = piece.Epoch
		switch {
		case out == nil:
			err = lines.Encode(logLine{Epoch: piece.Epoch, Offset: piece.Offset, Data: piece.Data, Cut: piece.Cut})
		case piece.Cut:
			_, err = io.WriteString(out, queue.CutMark)
		default:
			_, err = out.Write(piece.Data)
		}
		if err != nil {
			return fmt.Errorf("cannot print the log: %w", err)
		}
	}
	return nil
}
