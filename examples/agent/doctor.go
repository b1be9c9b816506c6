package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"strings"
)

// What a check comes to.
const (
	statusOK   = "ok"
	statusWarn = "warn"
	statusFail = "fail"
)

// A finding is what one check of doctor has shown.
type finding struct {
	Name   string `json:"name"`
	Status string `json:"status"`
	Detail string `json:"detail"`
	// Fix is what to do about it, if there is something to do.
	Fix string `json:"fix,omitempty"`
}

// A doctor gathers findings.
type doctor struct {
	settings *settings
	findings []finding
}

func (d *doctor) ok(name, format string, args ...any) { d.add(name, statusOK, "", format, args...) }

func (d *doctor) warn(name, fix, format string, args ...any) {
	d.add(name, statusWarn, fix, format, args...)
}

func (d *doctor) fail(name, fix, format string, args ...any) {
	d.add(name, statusFail, fix, format, args...)
}

func (d *doctor) add(name, status, fix, format string, args ...any) {
	d.findings = append(d.findings, finding{name, status, strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", " "), fix})
}

func doctorFlags(in *invocation, f *flag.FlagSet) {
	f.BoolVar(&in.json, "json", false, "print a JSON array of {name, status, detail, fix}; status is ok, warn or fail")
}

// doctor looks at all that an agent with these settings needs. It changes nothing: not the session of an agent that runs, and in the
// directory nothing that stays.
func (in *invocation) doctor(ctx context.Context) error {
	d := &doctor{settings: in.settings}
	usable := d.checkSettings(in.getenv)
	d.checkDir(ctx)
	d.checkMachine()
	d.checkTools()
	d.checkGuardian(ctx)
	if usable {
		for _, base := range in.settings.agent.URLs {
			d.checkController(ctx, base)
		}
	}
	failed := 0
	for _, f := range d.findings {
		if f.Status == statusFail {
			failed++
		}
	}
	if err := d.print(in.stdout, in.json); err != nil {
		return err
	}
	if failed > 0 {
		return &preflightError{failed: failed, of: len(d.findings)}
	}
	return nil
}

// A preflightError says that checks have failed, which doctor has printed.
type preflightError struct{ failed, of int }

func (e *preflightError) Error() string { return fmt.Sprintf("%d of %d checks failed", e.failed, e.of) }

func (d *doctor) print(out io.Writer, asJSON bool) error {
	if asJSON {
		encoder := json.NewEncoder(out)
		encoder.SetEscapeHTML(false)
		encoder.SetIndent("", "  ")
		return encoder.Encode(d.findings)
	}
	width := 0
	for _, f := range d.findings {
		width = max(width, len(f.Name))
	}
	for _, f := range d.findings {
		fmt.Fprintf(out, "%-4s  %-*s  %s\n", f.Status, width, f.Name, f.Detail)
		if f.Fix != "" {
			fmt.Fprintf(out, "%*s  fix: %s\n", 6+width, "", f.Fix)
		}
	}
	return nil
}

// checkSettings reports whether controllers can be asked with the settings.
func (d *doctor) checkSettings(getenv func(string) string) bool {
	s := d.settings
	usable := true
	err := s.checkTyped()
	if err == nil {
		_, err = s.executor()
	}
	if err != nil {
		d.fail("settings", "correct it; agent -help says what can be set", "%v", err)
	} else {
		d.ok("settings", "worker %s, %d slots", s.agent.Worker, s.agent.Slots)
	}
	if err := s.checkURLs(); err != nil {
		usable = false
		d.fail("url", "agent doctor -url https://HOST", "%v", err)
	}
	switch err := s.readCredential(getenv); {
	case err == nil && s.keyFile == "":
		d.ok("credential", "in SLIPWAY_WORKER_KEY")
	case err == nil:
		d.ok("credential", "in %s, which others cannot read", s.keyFile)
	default:
		usable = false
		d.fail("credential", s.credentialFix(), "%v", err)
	}
	return usable
}
