package queue

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestExplainVerdicts(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	linux := WorkerFacts{Worker: "a", Labels: Labels{"os": "linux", "arch": "amd64"}, Slots: 2}
	arm := WorkerFacts{Worker: "b", Labels: Labels{"os": "darwin", "arch": "arm64"}, Slots: 1}
	pending := func(change func(*Circumstances)) Circumstances {
		c := Circumstances{
			Build: Build{State: Pending, Project: "p", Pool: "default", Labels: Labels{"os": "linux"}},
			Now:   now, Class: 1, Queued: true, Workers: []WorkerFacts{linux, arm},
		}
		change(&c)
		return c
	}
	busy := linux
	busy.Busy = 2
	for name, test := range map[string]struct {
		facts    Circumstances
		unmet    []Requirement
		says     string
		position int
	}{
		"next": {pending(func(*Circumstances) {}), nil, "2 of 2 slots are idle at the 1 worker that fit", 1},
		"scheduled": {pending(func(c *Circumstances) {
			c.Build.NotBefore, c.Queued = now.Add(time.Hour), false
		}), []Requirement{RequireTime, RequireTurn}, "scheduled for 2026-01-02T04:04:05Z", 0},
		"back-off": {pending(func(c *Circumstances) {
			c.Build.NotBefore, c.Queued, c.Build.AttemptsUsed, c.Build.MaxAttempts = now.Add(time.Second), false, 1, 3
		}), []Requirement{RequireTime, RequireTurn}, "attempt 1 of 3", 0},
		"new class":      {pending(func(c *Circumstances) { c.Class, c.Queued = 0, false }), []Requirement{RequireClass, RequireTurn}, "before", 0},
		"paused pool":    {pending(func(c *Circumstances) { c.Pool.Paused = true }), []Requirement{RequirePool}, `pool "default" is paused`, 1},
		"paused project": {pending(func(c *Circumstances) { c.Project.Paused = true }), []Requirement{RequireProject}, `project "p" is paused`, 1},
		"limit": {pending(func(c *Circumstances) {
			c.Queued, c.Limit = false, Limit{Key: "main", Max: 2, Used: 2}
		}), []Requirement{RequireLimit, RequireTurn}, `2 of 2 places of concurrency key "main" are taken`, 0},
		"nobody": {pending(func(c *Circumstances) { c.Workers = nil }), []Requirement{RequireWorker}, "no worker of pool", 1},
		"typo in a value": {pending(func(c *Circumstances) {
			c.Build.Labels = Labels{"os": "linus"}
		}), []Requirement{RequireLabel}, "no worker has os=linus; did you mean os=linux?", 1},
		"typo in a key": {pending(func(c *Circumstances) {
			c.Build.Labels = Labels{"arhc": "arm64"}
		}), []Requirement{RequireLabel}, "did you mean arch=arm64?", 1},
		"nothing like it": {pending(func(c *Circumstances) {
			c.Build.Labels = Labels{"gpu": "h100"}
		}), []Requirement{RequireLabel}, "no worker has gpu=h100", 1},
		"not all of them": {pending(func(c *Circumstances) {
			c.Build.Labels = Labels{"os": "linux", "arch": "arm64"}
		}), []Requirement{RequireLabel}, "no worker has all of arch=arm64,os=linux", 1},
		"busy": {pending(func(c *Circumstances) { c.Workers = []WorkerFacts{busy, arm} }), []Requirement{RequireSlot}, "all 2 slots", 1},
		"avoided": {pending(func(c *Circumstances) {
			c.Avoids, c.AvoidsUntil = "a", now.Add(time.Second)
		}), []Requirement{RequireSlot}, `only worker "a"`, 1},
		"others first": {pending(func(c *Circumstances) { c.Ahead = 4 }), []Requirement{RequireTurn}, "4 ahead", 5},
		"running":      {pending(func(c *Circumstances) { c.Build.State = Running }), nil, "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			e := test.facts.explain()
			var unmet []Requirement
			var texts []string
			for _, v := range e.Waiting() {
				unmet = append(unmet, v.Requirement)
			}
			for _, v := range e.Verdicts {
				texts = append(texts, v.Text)
			}
			if all := strings.Join(texts, "\n"); !slices.Equal(unmet, test.unmet) || !strings.Contains(all, test.says) {
				t.Errorf("unmet: got %v, want %v; verdicts, which should say %q:\n%s", unmet, test.unmet, test.says, all)
			}
			if e.Position != test.position {
				t.Errorf("position: got %d, want %d", e.Position, test.position)
			}
		})
	}
}

func TestDistance(t *testing.T) {
	for _, test := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"", "abc", 3}, {"linux", "linux", 0}, {"linus", "linux", 1}, {"amd64", "arm64", 2}, {"kitten", "sitting", 3}} {
		if got := distance(test.a, test.b); got != test.want {
			t.Errorf("distance(%q, %q): got %d, want %d", test.a, test.b, got, test.want)
		}
	}
}
