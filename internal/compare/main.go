package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"syscall"
	"time"
)

const (
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// otherProcesses are what this program is when it starts itself, by its first argument. They end when their input does: with this process, if
// not before.
var otherProcesses = map[string]func(ctx context.Context, args []string, stdin io.Reader, stdout io.Writer) error{
	submitterCommand: runSubmitter,
	claimerCommand:   runClaimer,
	hubCommand:       runHub,
	fleetCommand:     runFleet,
}

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	if len(args) > 0 && otherProcesses[args[0]] != nil {
		if err := otherProcesses[args[0]](ctx, args[1:], stdin, stdout); err != nil {
			fmt.Fprintln(stderr, "compare:", err)
			return exitFailed
		}
		return 0
	}
	b, err := parse(args, stdout, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return exitUsage
	}
	if err := b.run(ctx); err != nil {
		fmt.Fprintln(stderr, "compare:", err)
		return exitFailed
	}
	return 0
}

// parse reads the command line. It has said what is wrong with it if it returns an error.
func parse(args []string, stdout, stderr io.Writer) (*bench, error) {
	b := &bench{stderr: stderr, report: &report{out: stdout}}
	flags := flag.NewFlagSet("compare", flag.ContinueOnError)
	flags.SetOutput(stderr)
	name := flags.String("suite", "river", "what to measure: "+suiteNames())
	flags.IntVar(&b.runs, "runs", 0, "how often to measure everything, taking turns (default "+suiteRuns()+")")
	only := flags.String("only", "", "of the suite river, measure only figures whose names match this `regexp`")
	flags.BoolVar(&b.quick, "quick", false, "measure little, to see that it works")
	duration := flags.Duration("duration", 0, "how long the suites snapshot and limits load the queue (default 1m0s, or 6s if quick)")
	flags.BoolVar(&b.report.asJSON, "json", false, "write JSON instead of lines")
	flags.IntVar(&b.pool, "pool", 20, "`connections` of each side's pool")
	flags.StringVar(&b.commit, "commit", "unknown", "the `commit` that is measured, for the record")
	flags.StringVar(&b.profiles, "profile", "", "write profiles to this `directory`; they cost a little")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	b.suites = suitesNamed(*name)
	err := b.check(*name, *duration, flags.Args())
	if err == nil {
		b.only, err = regexp.Compile(*only)
	}
	if err != nil {
		fmt.Fprintln(stderr, "compare:", err)
		return nil, err
	}
	b.sizes = fullSizes
	if b.quick {
		b.sizes = quickSizes
	}
	if *duration > 0 {
		b.sizes.snapshot, b.sizes.limits = *duration, *duration
	}
	return b, nil
}

func (b *bench) check(suite string, duration time.Duration, rest []string) error {
	switch {
	case len(rest) > 0:
		return fmt.Errorf("what is %q?", rest[0])
	case len(b.suites) == 0:
		return fmt.Errorf("no suite %q; there are %s", suite, suiteNames())
	case b.runs < 0 || duration < 0:
		return errors.New("-runs and -duration must not be negative")
	case b.pool < submitters+2:
		return fmt.Errorf("-pool must be at least %d", submitters+2)
	}
	return nil
}

// sizes are how much is measured.
type sizes struct {
	enqueue    time.Duration // of one-by-one submits
	bulk       int           // builds of batches and COPY
	burndown   int           // builds
	footprint  int           // builds
	slow, fast time.Duration // of the latencies at 50 and at 500 builds a second

	shortBacklog, longBacklog int // builds
	claims                    int // of each run on each of them
	snapshot, limits          time.Duration
	kills                     int // of claimers
	fairClaims                int

	history, readings int           // builds; reads of each kind
	calm              time.Duration // before builds are deleted

	crashes, crashBuilds int // of the server; builds between them

	logBytes int // of all builds together

	idleWorkers, idleBuilds int
	idle                    time.Duration // in which the workers wait
}

var (
	fullSizes = sizes{
		enqueue: 5 * time.Second, bulk: 300_000, burndown: 200_000, footprint: 50_000, slow: 20 * time.Second, fast: 10 * time.Second,
		shortBacklog: 1_000, longBacklog: 1_000_000, claims: 2_000, snapshot: time.Minute, limits: time.Minute, kills: 20, fairClaims: 2_000,
		history: 1_000_000, readings: 1_000, calm: 30 * time.Second,
		crashes: 10, crashBuilds: 500,
		logBytes: 256 << 20, idleWorkers: 10_000, idleBuilds: 500, idle: time.Minute,
	}
	quickSizes = sizes{
		enqueue: 500 * time.Millisecond, bulk: 20_000, burndown: 5_000, footprint: 2_000, slow: time.Second, fast: time.Second,
		shortBacklog: 1_000, longBacklog: 20_000, claims: 200, snapshot: 6 * time.Second, limits: 6 * time.Second, kills: 3, fairClaims: 400,
		history: 20_000, readings: 100, calm: 4 * time.Second,
		crashes: 2, crashBuilds: 50,
		logBytes: 8 << 20, idleWorkers: 200, idleBuilds: 20, idle: 3 * time.Second,
	}
)
