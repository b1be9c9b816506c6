package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
)

// A bench is one run of the program: what it was told, and what all measurements share.
type bench struct {
	suites   []suite
	runs     int // of the suite that runs; zero until then, unless the caller said
	only     *regexp.Regexp
	quick    bool
	pool     int // connections of each side
	commit   string
	profiles string // a directory; empty for none

	sizes  sizes
	stderr io.Writer
	report *report
	server *server
}

// A suite is measurements that belong together.
type suite struct {
	name string
	run  func(ctx context.Context, b *bench) error
	runs int // by default
	// counted says that the server must count what statements cost, even if no profiles are wanted.
	counted bool
}

// allSuites stands for all suites, one after the other.
const allSuites = "all"

// suites are in the order in which all are run.
var suites = []suite{
	{name: "river", run: runRiver, runs: 3},
	{name: "backlog", run: runBacklog, runs: 5, counted: true},
	{name: "snapshot", run: runSnapshot, runs: 1},
	{name: "limits", run: runLimits, runs: 1},
	{name: "fair", run: runFair, runs: 3},
	{name: "million", run: runMillion, runs: 1},
	{name: "crash", run: runCrash, runs: 1},
	{name: "idle", run: runIdle, runs: 3, counted: true},
	{name: "logs", run: runLogs, runs: 3},
}

// suitesNamed returns the suites that a name stands for, none if it stands for nothing.
func suitesNamed(name string) []suite {
	if name == allSuites {
		return suites
	}
	i := slices.IndexFunc(suites, func(s suite) bool { return s.name == name })
	if i < 0 {
		return nil
	}
	return suites[i : i+1]
}

func suiteNames() string {
	var names []string
	for _, s := range suites {
		names = append(names, s.name)
	}
	return strings.Join(append(names, allSuites), ", ")
}

// suiteRuns tells how often each suite is run by default.
func suiteRuns() string {
	var texts []string
	for _, s := range suites {
		texts = append(texts, fmt.Sprintf("%d for %s", s.runs, s.name))
	}
	return strings.Join(texts, ", ")
}

func (b *bench) progress(format string, args ...any) {
	fmt.Fprintf(b.stderr, format+"\n", args...)
}

// run runs the suites. One that fails does not keep those after it from being run.
func (b *bench) run(ctx context.Context) error {
	var failed []error
	for _, s := range b.suites {
		if err := b.with(s).runSuite(ctx, s); err != nil {
			err = fmt.Errorf("suite %s: %w", s.name, err)
			b.progress("%v", err)
			failed = append(failed, err)
		}
		if ctx.Err() != nil {
			break
		}
	}
	missed := b.report.missed()
	for _, m := range missed {
		b.progress("missed: %s", m)
	}
	b.progress("%d of %d promises missed, %d of %d suites failed", len(missed), b.report.promises(), len(failed), len(b.suites))
	return errors.Join(append(failed, b.report.end())...)
}

// with returns b as it is for one suite.
func (b *bench) with(s suite) *bench {
	one := *b
	if one.runs == 0 {
		one.runs = s.runs
	}
	return &one
}

// runSuite starts a server, runs the suite on it and stops it.
func (b *bench) runSuite(ctx context.Context, s suite) (err error) {
	var settings map[string]string
	counted := b.profiles != "" || s.counted
	if counted {
		settings = countingSettings
	}
	if b.server, err = startServer(ctx, settings); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.server.stop()) }()
	if counted {
		if _, err := b.server.admin.Exec(ctx, "CREATE EXTENSION pg_stat_statements"); err != nil {
			return err
		}
	}
	facts, err := b.configuration(ctx)
	if err != nil {
		return err
	}
	for _, f := range b.report.configured(s.name, facts) {
		b.progress("# %s: %s", f.Name, f.Value)
	}
	return s.run(ctx, b)
}

func riverFamilies(b *bench) []family {
	return slices.Concat(enqueueFamilies(b), []family{burndownFamily()}, latencyFamilies(b), []family{footprintFamily()})
}

// runRiver compares Slipway with River.
func runRiver(ctx context.Context, b *bench) error {
	for _, f := range riverFamilies(b) {
		f.figures = slices.DeleteFunc(f.figures, func(f figure) bool { return !b.only.MatchString(f.name) })
		if len(f.figures) == 0 {
			continue
		}
		found, err := f.run(ctx, b)
		if err != nil {
			return err
		}
		for _, figure := range f.figures {
			if err := b.report.comparison(compare(figure, found)); err != nil {
				return err
			}
		}
	}
	if len(b.report.whole.Comparisons) == 0 {
		return fmt.Errorf("no figure matches %q", b.only)
	}
	return nil
}
