package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"syscall"
	"text/tabwriter"
	"time"

	"golang.org/x/sync/errgroup"
)

// patience bounds the whole.
const patience = 25 * time.Minute

func main() {
	if len(os.Args) == 3 && os.Args[1] == jobArgument {
		os.Exit(job(os.Args[2]))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "faults:", err)
		os.Exit(1)
	}
}

// Settings are what is asked for.
type settings struct {
	only      *regexp.Regexp
	parallel  int
	schedules int
	seed      uint64
	cancels   int
	keep      bool
}

func run(ctx context.Context, args []string, out io.Writer) error {
	var s settings
	f := flag.NewFlagSet("faults", flag.ContinueOnError)
	only := f.String("run", "", "`REGEXP` of the cells to run, as fault/moment; schedules are schedule/N")
	f.IntVar(&s.parallel, "parallel", 6, "how many cells at once")
	f.IntVar(&s.schedules, "schedules", 200, "how many random schedules")
	f.Uint64Var(&s.seed, "seed", uint64(time.Now().UnixNano()), "seed of the schedules")
	f.IntVar(&s.cancels, "cancels", 0, "measure `N` cancels instead")
	f.BoolVar(&s.keep, "keep", false, "leave the files of cells that fail")
	if err := f.Parse(args); err != nil {
		return err
	}
	var err error
	if s.only, err = regexp.Compile(*only); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if s.cancels > 0 {
		return cancels(ctx, out, s.cancels)
	}
	return s.run(ctx, out)
}

func (s *settings) run(ctx context.Context, out io.Writer) error {
	var cells []*cell
	clocks := false
	for _, c := range s.cells() {
		if s.only.MatchString(c.name) {
			cells = append(cells, c)
			clocks = clocks || slices.ContainsFunc(c.faults, func(f fault) bool { return f.clock })
		}
	}
	site, err := newSite(ctx, clocks)
	if err != nil {
		return err
	}
	defer site.close()
	fmt.Fprintf(out, "faults: %d cells, seed %d\n", len(cells), s.seed)
	var group errgroup.Group
	group.SetLimit(s.parallel)
	for _, c := range cells {
		c.site = site
		group.Go(func() error {
			c.run(ctx, s.keep)
			_, err := fmt.Fprintln(out, c)
			return err
		})
	}
	return errors.Join(group.Wait(), report(out, cells))
}

// cells returns all that could be run: each fault at each moment, and the schedules of the seed.
func (s *settings) cells() (cells []*cell) {
	for _, f := range faults {
		for _, m := range moments {
			cells = append(cells, &cell{name: f.name + "/" + m.name, moment: m, faults: []fault{f}})
		}
	}
	random := rand.New(rand.NewPCG(s.seed, 0))
	for i := range s.schedules {
		c := &cell{name: fmt.Sprintf("schedule/%d", i+1), moment: moments[random.IntN(len(moments))]}
		for range 1 + random.IntN(3) {
			c.faults = append(c.faults, quick[random.IntN(len(quick))])
			c.pauses = append(c.pauses, time.Duration(random.IntN(1500))*time.Millisecond)
		}
		cells = append(cells, c)
	}
	return cells
}

// report prints the table and the sum.
func report(out io.Writer, cells []*cell) error {
	fmt.Fprintln(out)
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "cell\tfired\tattempts\tend\ttook\tverdict") // a report that cannot be printed is told by Flush
	var count, lost, doubled, bytes, failed int
	for _, c := range cells {
		fmt.Fprintf(w, "%s\t%d\t%d\t%s\t%.1fs\t%s\n", c.story(), c.fired, c.attempts, c.end, c.took.Seconds(), c.verdict())
		if c.impossible != "" {
			continue
		}
		count++
		lost, doubled, bytes = lost+c.lost, doubled+c.doubled, bytes+c.bytes
		if len(c.wrong) > 0 {
			failed++
		}
	}
	err := w.Flush()
	fmt.Fprintf(out, "\nfaults: %d cells, %d lost, %d doubled, %d log bytes lost\n", count, lost, doubled, bytes)
	if failed > 0 {
		err = errors.Join(err, fmt.Errorf("%d cells failed", failed))
	}
	return err
}
