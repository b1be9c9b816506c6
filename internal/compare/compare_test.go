package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sync/errgroup"
)

func TestOrdersHaveOneSize(t *testing.T) {
	for _, n := range []int64{unnumbered, 0, 9, 10, 12345, math.MaxInt32} {
		text, err := json.Marshal(newOrder(n))
		if err != nil {
			t.Fatal(err)
		}
		if len(text) != orderSize {
			t.Errorf("order %d has %d bytes, want %d: %s", n, len(text), orderSize, text)
		}
	}
}

func TestMedianAndPercentile(t *testing.T) {
	for _, c := range []struct {
		name      string
		got, want float64
	}{
		{"median of three", median([]float64{3, 1, 2}), 2},
		{"median of four", median([]float64{4, 1, 2, 3}), 2.5},
		{"median of one", median([]float64{7}), 7},
		{"p50 of four", percentile([]float64{4, 3, 2, 1}, 50), 2},
		{"p99 of two", percentile([]float64{1, 2}, 99), 2},
		{"p99 of 200", percentile(upTo(200), 99), 198},
		{"p0", percentile([]float64{2, 1}, 0), 1},
	} {
		if c.got != c.want {
			t.Errorf("%s: got %v, want %v", c.name, c.got, c.want)
		}
	}
	if !math.IsNaN(median(nil)) || !math.IsNaN(percentile(nil, 50)) {
		t.Error("nothing has a median or a percentile")
	}
}

func upTo(n int) []float64 {
	var all []float64
	for i := range n {
		all = append(all, float64(i+1))
	}
	return all
}

func TestRatioAboveOneIsBetter(t *testing.T) {
	fast, slow := figure{}, figure{slow: true}
	if got := fast.ratio(30, 20); got != 1.5 {
		t.Errorf("30 a second against 20: got %v, want 1.5", got)
	}
	if got := slow.ratio(2, 16); got != 8 {
		t.Errorf("2 ms against 16: got %v, want 8", got)
	}
	if got := slow.ratio(0, 0); got != 1 {
		t.Errorf("nothing against nothing: got %v, want 1", got)
	}
}

func TestNumbers(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0", 1: "1.000", 0.012345: "0.01235", 999.96: "1000.0", 1234.5: "1234", 199123.4: "199123", -2.5: "-2.500", math.Inf(1): "+Inf",
	} {
		if got := number(v); got != want {
			t.Errorf("number(%v) = %q, want %q", v, got, want)
		}
	}
}

func TestReportIsTabSeparated(t *testing.T) {
	found := samples{
		"slipway":     {"p50": {1, 2, 3}},
		"river-tuned": {"p50": {8, 6, 7}},
		"bare":        {"p50": {1, 1, 1}},
	}
	var out bytes.Buffer
	r := report{out: &out}
	c := compare(figure{name: "some", value: "p50", slow: true, river: "river-tuned", bare: "bare"}, found)
	for _, err := range []error{r.comparison(c), r.finding(finding{Figure: "other", Value: 3, Limit: new(2.0)}), r.end()} {
		if err != nil {
			t.Fatal(err)
		}
	}
	want := "figure\tslipway\triver\tratio\tbare\nsome\t2.000\t7.000\t3.500\t1.000\n" +
		"figure\tvalue\tlimit\tmet\nother\t3.000\t2.000\tfalse\n"
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
}

func TestMissedPromises(t *testing.T) {
	r := report{out: io.Discard}
	for _, c := range []comparison{
		{Figure: "better", Ratio: 2, Target: 2},
		{Figure: "worse", Ratio: 1.9, Target: 2},
		{Figure: "free", Ratio: 0.1},
		{Figure: "unmeasured", Ratio: math.NaN(), Target: 1},
	} {
		if err := r.comparison(c); err != nil {
			t.Fatal(err)
		}
	}
	err := r.findings(
		finding{Figure: "kept", Value: 0, Limit: new(0.0)}, finding{Figure: "broken", Value: 1, Limit: new(0.0)},
		finding{Figure: "unlimited", Value: 1}, finding{Figure: "unknown", Value: math.NaN(), Limit: new(1.0)},
	)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range r.missed() {
		name, _, _ := strings.Cut(m, " ")
		names = append(names, name)
	}
	if want := []string{"worse", "unmeasured", "broken", "unknown"}; !slices.Equal(names, want) {
		t.Errorf("missed are %v, want %v", names, want)
	}
	if got := r.promises(); got != 6 {
		t.Errorf("%d promises, want 6", got)
	}
}

func TestAllSuites(t *testing.T) {
	if got := suitesNamed(allSuites); len(got) != len(suites) {
		t.Errorf("all are %d suites, want %d", len(got), len(suites))
	}
	names := make(map[string]bool)
	for _, s := range suites {
		if names[s.name] || s.name == allSuites || s.run == nil || s.runs < 1 {
			t.Errorf("suite %q has no name, no way to run it, or no runs of its own", s.name)
		}
		names[s.name] = true
		if got := suitesNamed(s.name); len(got) != 1 || got[0].name != s.name {
			t.Errorf("suite %q is not found", s.name)
		}
	}
}

// What differs between suites is said with the suite, what does not is said once.
func TestConfigurationOfSuites(t *testing.T) {
	r := report{}
	r.configured("first", []fact{{"go", "1"}, {"libraries", ""}})
	if got, want := r.configured("second", []fact{{"go", "1"}, {"libraries", "some"}}), []fact{{"libraries, suite second", "some"}}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := r.configured("third", []fact{{"go", "1"}, {"libraries", ""}}); len(got) != 0 || len(r.whole.Configuration) != 3 {
		t.Errorf("got %v, want nothing: it is as the first", got)
	}
}

// A figure that names a contender that does not take part would have no values.
func TestFiguresHaveTheirContenders(t *testing.T) {
	b := &bench{sizes: quickSizes}
	names := make(map[string]bool)
	for _, f := range riverFamilies(b) {
		takesPart := func(name string) bool {
			return slices.ContainsFunc(f.contenders, func(c contender) bool { return c.name == name })
		}
		for _, figure := range f.figures {
			if names[figure.name] {
				t.Errorf("two figures are named %s", figure.name)
			}
			names[figure.name] = true
			if !takesPart("slipway") || !takesPart(figure.river) || !takesPart(figure.bare) {
				t.Errorf("%s: slipway, %s and %s must take part", figure.name, figure.river, figure.bare)
			}
		}
		for _, c := range f.contenders {
			if contenderNamed(c.name).open == nil {
				t.Errorf("%s: another process would not know %s", f.name, c.name)
			}
		}
	}
}

func TestPaceIsTheSameForEverybody(t *testing.T) {
	times := func(seed uint64) (all []time.Duration) {
		synctest.Test(t, func(t *testing.T) {
			p := pace{rate: 50, length: 20 * time.Second, seed: seed}
			begin := time.Now()
			if err := p.each(t.Context(), func(int) { all = append(all, time.Since(begin)) }); err != nil {
				t.Fatal(err)
			}
		})
		return all
	}
	first := times(1)
	if len(first) != 1000 {
		t.Fatalf("got %d times, want 1000", len(first))
	}
	if end := first[len(first)-1]; end < 17*time.Second || end > 23*time.Second {
		t.Errorf("a thousand times at 50 a second end after %v", end)
	}
	if !slices.Equal(first, times(1)) {
		t.Error("the same seed gave other times")
	}
	if slices.Equal(first, times(2)) {
		t.Error("another seed gave the same times")
	}
}

func TestCommandLine(t *testing.T) {
	for _, args := range [][]string{{"-suite", "none"}, {"-runs", "-1"}, {"-duration", "-1s"}, {"-only", "("}, {"-pool", "3"}, {"more"}} {
		var stderr bytes.Buffer
		if code := run(t.Context(), args, strings.NewReader(""), io.Discard, &stderr); code != exitUsage {
			t.Errorf("%v: exit status %d, want %d", args, code, exitUsage)
		}
		if stderr.Len() == 0 {
			t.Errorf("%v: it must say what is wrong", args)
		}
	}
}

// What is submitted in any of the ways is started and ended, by every contender.
func TestContendersKeepAQueue(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	s, err := startServer(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.stop(); err != nil {
			t.Error(err)
		}
	}()
	for _, c := range contenders() {
		t.Run(c.name, func(t *testing.T) { keepAQueue(t, ctx, s, c) })
	}
}

func keepAQueue(t *testing.T, ctx context.Context, s *server, c contender) { //nolint:revive // t first, as in every test helper
	db, err := s.database(ctx, "compare_"+c.name, 4)
	if err != nil {
		t.Fatal(err)
	}
	defer db.pool.Close()
	if err := c.migrate(ctx, db.pool); err != nil {
		t.Fatal(err)
	}
	if _, err := db.pool.Exec(ctx, ownTable); err != nil {
		t.Fatal(err)
	}
	side, err := c.open(db.pool)
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		side.submit(ctx, newOrder(0)), side.submitMany(ctx, []order{newOrder(1), newOrder(2)}),
		side.submitCopy(ctx, []order{newOrder(3), newOrder(4)}), side.submitTx(ctx, newOrder(5)),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	const total = 7 // one of them is submitted when the consumer is there
	var started [total]atomic.Int32
	var ended atomic.Int32
	leave := inBackground(ctx, side.keep)
	var group errgroup.Group
	group.Go(func() error {
		return side.consume(ctx, watcher{
			total:   total,
			started: func(n int64) { started[n].Add(1) },
			ended:   func(builds int) { ended.Add(int32(builds)) },
		})
	})
	group.Go(func() error { return side.submit(ctx, newOrder(total-1)) })
	if err := errors.Join(group.Wait(), leave()); err != nil {
		t.Fatal(err)
	}
	for n := range started {
		if got := started[n].Load(); got != 1 {
			t.Errorf("order %d was started %d times, want once", n, got)
		}
	}
	if got := ended.Load(); got != total {
		t.Errorf("%d builds ended, want %d", got, total)
	}
	var left int
	if err := db.pool.QueryRow(ctx, c.unended).Scan(&left); err != nil || left != 0 {
		t.Errorf("%d builds have not ended (%v), want none", left, err)
	}
	var own int
	if err := db.pool.QueryRow(ctx, "SELECT count(*) FROM own").Scan(&own); err != nil || own != 1 {
		t.Errorf("%d rows of the caller's own (%v), want 1", own, err)
	}
}
