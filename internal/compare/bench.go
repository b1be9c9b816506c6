package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// A bench is one run of the program: what it was told, and what all measurements share.
type bench struct {
	suite    string
	runs     int
	only     *regexp.Regexp
	quick    bool
	pool     int // connections of each side
	commit   string
	profiles string // a directory; empty for none

	sizes  sizes
	stderr io.Writer
	report report
	server *server
}

// A suite is measurements that belong together.
type suite struct {
	run  func(ctx context.Context, b *bench) error
	runs int // by default
	// counted says that the server must count what statements cost, even if no profiles are wanted.
	counted bool
}

var suites = map[string]suite{
	"river":    {run: runRiver, runs: 3},
	"backlog":  {run: runBacklog, runs: 5, counted: true},
	"snapshot": {run: runSnapshot, runs: 1},
}

func suiteNames() string { return strings.Join(slices.Sorted(maps.Keys(suites)), ", ") }

func (b *bench) progress(format string, args ...any) {
	fmt.Fprintf(b.stderr, format+"\n", args...)
}

// run starts the server, runs the suite and stops the server.
func (b *bench) run(ctx context.Context) (err error) {
	var settings map[string]string
	counted := b.profiles != "" || suites[b.suite].counted
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
	if b.report.whole.Configuration, err = b.configuration(ctx); err != nil {
		return err
	}
	for _, f := range b.report.whole.Configuration {
		b.progress("# %s: %s", f.Name, f.Value)
	}
	if err := suites[b.suite].run(ctx, b); err != nil {
		return err
	}
	return b.report.end()
}

func riverFamilies(b *bench) []family {
	return slices.Concat(enqueueFamilies(b), []family{burndownFamily()}, latencyFamilies(b), []family{footprintFamily()})
}

// runRiver compares Slipway with River.
func runRiver(ctx context.Context, b *bench) error {
	var missed []comparison
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
			c := compare(figure, found)
			if err := b.report.comparison(c); err != nil {
				return err
			}
			if c.Ratio < c.Target {
				missed = append(missed, c)
			}
		}
	}
	if len(b.report.whole.Comparisons) == 0 {
		return fmt.Errorf("no figure matches %q", b.only)
	}
	for _, c := range missed {
		b.progress("below its target of %s: %s is %s (%s, in %s)", number(c.Target), c.Figure, number(c.Ratio), number(c.Slipway), c.Unit)
	}
	return nil
}
