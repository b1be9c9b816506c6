package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
)

// A comparison is a figure with what was measured for it.
type comparison struct {
	Figure  string  `json:"figure"`
	Unit    string  `json:"unit"`
	Slower  bool    `json:"lower_is_better"`
	Slipway float64 `json:"slipway"`
	River   float64 `json:"river"`
	Ratio   float64 `json:"ratio"`
	Bare    float64 `json:"bare"`
	// Target is the ratio that Slipway promises; zero if it promises none.
	Target float64 `json:"target,omitempty"`
	// Runs are the single measurements that Slipway, River and Bare are the medians of.
	Runs map[string][]float64 `json:"runs"`
}

func compare(f figure, found samples) comparison {
	runs := map[string][]float64{
		"slipway": found["slipway"][f.value], "river": found[f.river][f.value], "bare": found[f.bare][f.value],
	}
	c := comparison{
		Figure: f.name, Unit: f.unit, Slower: f.slow, Target: f.target, Runs: runs,
		Slipway: median(runs["slipway"]), River: median(runs["river"]), Bare: median(runs["bare"]),
	}
	c.Ratio = f.ratio(c.Slipway, c.River)
	return c
}

// A finding is a figure that is held to a limit instead of to River.
type finding struct {
	Figure string  `json:"figure"`
	Unit   string  `json:"unit"`
	Value  float64 `json:"value"`
	// Limit is the largest value that Slipway promises; nil if it promises none.
	Limit *float64  `json:"limit,omitempty"`
	Runs  []float64 `json:"runs,omitempty"`
}

// worst is a finding that shall hold in every run.
func worst(figure, unit string, runs []float64, limit *float64) finding {
	return finding{Figure: figure, Unit: unit, Value: slices.Max(runs), Limit: limit, Runs: runs}
}

func (c *comparison) met() bool { return c.Target == 0 || c.Ratio >= c.Target }

func (f *finding) met() bool { return f.Limit == nil || f.Value <= *f.Limit }

// A report writes what was found, line by line or as one JSON object at the end.
type report struct {
	out    io.Writer
	asJSON bool
	whole  struct {
		Configuration []fact       `json:"configuration"`
		Comparisons   []comparison `json:"comparisons,omitempty"`
		Findings      []finding    `json:"findings,omitempty"`
	}
}

func (r *report) line(columns ...string) error {
	if r.asJSON {
		return nil
	}
	_, err := fmt.Fprintln(r.out, strings.Join(columns, "\t"))
	return err
}

func (r *report) comparison(c comparison) error {
	if len(r.whole.Comparisons) == 0 {
		if err := r.line("figure", "slipway", "river", "ratio", "bare"); err != nil {
			return err
		}
	}
	r.whole.Comparisons = append(r.whole.Comparisons, c)
	return r.line(c.Figure, number(c.Slipway), number(c.River), number(c.Ratio), number(c.Bare))
}

func (r *report) findings(all ...finding) error {
	for _, f := range all {
		if err := r.finding(f); err != nil {
			return err
		}
	}
	return nil
}

func (r *report) finding(f finding) error {
	if len(r.whole.Findings) == 0 {
		if err := r.line("figure", "value", "limit", "met"); err != nil {
			return err
		}
	}
	r.whole.Findings = append(r.whole.Findings, f)
	limit, met := "", ""
	if f.Limit != nil {
		limit, met = number(*f.Limit), strconv.FormatBool(f.met())
	}
	return r.line(f.Figure, number(f.Value), limit, met)
}

// configured keeps what a suite was run with, and returns what of that was not said of the first.
func (r *report) configured(suite string, facts []fact) []fact {
	all := &r.whole.Configuration
	if len(*all) == 0 {
		*all = facts
		return facts
	}
	first := slices.Clone(*all)
	var other []fact
	for _, f := range facts {
		if !slices.Contains(first, f) {
			other = append(other, fact{f.Name + ", suite " + suite, f.Value})
		}
	}
	*all = append(*all, other...)
	return other
}

// promises counts what was measured and is held to something.
func (r *report) promises() (n int) {
	for _, c := range r.whole.Comparisons {
		if c.Target != 0 {
			n++
		}
	}
	for _, f := range r.whole.Findings {
		if f.Limit != nil {
			n++
		}
	}
	return n
}

// missed describes what is not as good as promised.
func (r *report) missed() (all []string) {
	for _, c := range r.whole.Comparisons {
		if !c.met() {
			all = append(all, fmt.Sprintf("%s is %s times River's, not %s (%s %s)", c.Figure, number(c.Ratio), number(c.Target),
				number(c.Slipway), c.Unit))
		}
	}
	for _, f := range r.whole.Findings {
		if !f.met() {
			all = append(all, fmt.Sprintf("%s is %s, not at most %s (%s)", f.Figure, number(f.Value), number(*f.Limit), f.Unit))
		}
	}
	return all
}

// end writes what was kept for the end.
func (r *report) end() error {
	if !r.asJSON {
		return nil
	}
	e := json.NewEncoder(r.out)
	e.SetIndent("", "  ")
	return e.Encode(r.whole)
}

// number writes a value with four digits that count, and never with an exponent.
func number(v float64) string {
	if v == 0 || math.IsNaN(v) || math.IsInf(v, 0) {
		return strconv.FormatFloat(v, 'g', -1, 64)
	}
	decimals := max(0, 3-int(math.Floor(math.Log10(math.Abs(v)))))
	return strconv.FormatFloat(v, 'f', decimals, 64)
}
