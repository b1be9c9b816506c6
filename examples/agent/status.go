package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"text/tabwriter"
	"time"

	"github.com/slipway-build/slipway/worker"
)

// A report is a status as it is printed.
type report struct {
	Worker     string        `json:"worker"`
	Slots      int           `json:"slots"`
	Draining   bool          `json:"draining"`
	Controller string        `json:"controller,omitempty"`
	Session    string        `json:"session,omitempty"`
	Connected  *time.Time    `json:"connected_at,omitempty"`
	Answered   *time.Time    `json:"answered_at,omitempty"` // the newest heartbeat that was
	Builds     []buildReport `json:"builds"`
}

type buildReport struct {
	ID       string    `json:"id"`
	Epoch    int64     `json:"epoch"`
	Stage    string    `json:"stage"`
	Since    time.Time `json:"since"`
	LeaseMS  int64     `json:"lease_ms"`
	LogBytes int64     `json:"log_bytes"`
}

func reportOf(s worker.AgentStatus) report {
	r := report{
		Worker: s.Worker, Slots: s.Slots, Draining: s.Draining, Controller: s.Controller, Session: s.Session, Builds: []buildReport{},
	}
	if !s.Connected.IsZero() {
		r.Connected = new(s.Connected.UTC())
	}
	if !s.Answered.IsZero() {
		r.Answered = new(s.Answered.UTC())
	}
	for _, t := range s.Attempts {
		r.Builds = append(r.Builds, buildReport{
			ID: t.Build.String(), Epoch: t.Epoch, Stage: string(t.Stage), Since: t.Since.UTC(),
			LeaseMS: max(0, t.Lease.Milliseconds()), LogBytes: t.LogBytes,
		})
	}
	return r
}

func statusFlags(in *invocation, f *flag.FlagSet) {
	f.BoolVar(&in.json, "json", false, "print a JSON object")
}

// status prints what the agent does that works in -dir.
func (in *invocation) status(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, controlTimeout)
	defer cancel()
	answer, err := ask(ctx, in.settings.agent.Dir, http.MethodGet, "/status")
	if err != nil {
		return err
	}
	if in.json {
		_, err := in.stdout.Write(answer)
		return err
	}
	var r report
	if err := json.Unmarshal(answer, &r); err != nil {
		return fmt.Errorf("the agent's answer is not understood: %w", err)
	}
	return r.print(in.stdout)
}

func (r *report) print(out io.Writer) error {
	connected := "no"
	if r.Connected != nil {
		connected = r.Controller + ", session " + r.Session + ", since " + r.Connected.Format(time.RFC3339)
	}
	answered := "never"
	if r.Answered != nil {
		answered = r.Answered.Format(time.RFC3339)
	}
	fmt.Fprintf(out, "worker:    %s\nconnected: %s\nanswered:  %s\ndraining:  %t\nslots:     %d, %d taken\n",
		r.Worker, connected, answered, r.Draining, r.Slots, len(r.Builds))
	if len(r.Builds) == 0 {
		return nil
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "\nBUILD\tEPOCH\tSTAGE\tSINCE\tLEASE\tLOG")
	for _, b := range r.Builds {
		fmt.Fprintf(table, "%s\t%d\t%s\t%s\t%v\t%d\n", b.ID, b.Epoch, b.Stage, b.Since.Format(time.RFC3339),
			time.Duration(b.LeaseMS)*time.Millisecond, b.LogBytes)
	}
	return table.Flush()
}

func drainFlags(in *invocation, f *flag.FlagSet) {
	f.BoolVar(&in.wait, "wait", false, "wait until the agent has ended")
	f.DurationVar(&in.timeout, "timeout", 0, "longest `TIME` to wait (default: for ever)")
}

// errNotDrained says that an agent goes on draining while nobody waits for it any more.
var errNotDrained = errors.New("builds still run, and the agent ends when they have ended; " +
	"a signal to the agent stops them at once")

// drain has the agent that works in -dir take no more builds, and end.
func (in *invocation) drain(ctx context.Context) error {
	path, patience := "/drain", controlTimeout
	switch {
	case in.timeout < 0:
		return usage("-timeout must not be negative")
	case in.timeout > 0 && !in.wait:
		return usage("-timeout is for -wait")
	case in.wait:
		path, patience = "/drain?wait", in.timeout
	}
	if patience > 0 {
		limited, cancel := context.WithTimeoutCause(ctx, patience, errNotDrained)
		defer cancel()
		ctx = limited
	}
	_, err := ask(ctx, in.settings.agent.Dir, http.MethodPost, path)
	if in.wait && err != nil && errors.Is(context.Cause(ctx), errNotDrained) {
		return errNotDrained
	}
	if err != nil {
		return err
	}
	said := "the agent takes no more builds, and ends when those it has are finished"
	if in.wait {
		said = "the agent has finished its builds and ended"
	}
	_, err = fmt.Fprintln(in.stdout, said)
	return err
}
