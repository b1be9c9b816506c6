package queue

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// A Requirement is something that a pending build needs before a worker gets it. The values are stable.
type Requirement string

// The requirements, in the order in which [Queue.Explain] looks at them.
const (
	RequireTime    Requirement = "time"    // that it be due: its NotBefore, or its back-off
	RequireClass   Requirement = "class"   // that its pair of pool and labels be known
	RequirePool    Requirement = "pool"    // that its pool be not paused
	RequireProject Requirement = "project" // that its project be not paused
	RequireLimit   Requirement = "limit"   // that its concurrency key have room
	RequireWorker  Requirement = "worker"  // that some worker serve its pool
	RequireLabel   Requirement = "label"   // that some worker have a label, or all of them
	RequireSlot    Requirement = "slot"    // that a worker that fits have an idle slot
	RequireTurn    Requirement = "turn"    // that the builds ahead of it be claimed
)

// A Verdict tells whether one requirement is met.
type Verdict struct {
	Requirement Requirement
	Met         bool
	// Text says it to people, in one line.
	Text string
}

// An Explanation says why a build is where it is.
type Explanation struct {
	Build Build
	// Verdicts are about a pending build: one for each requirement that the build has. A build that has ended, or that a worker
	// has, has none.
	Verdicts []Verdict
	// Facts are what the verdicts were made of, for programs.
	Facts Circumstances
	// Position is the build's place in the queue of its class, 1 if it is next; 0 if it is not queued. Beyond [MaxCount] it is not counted.
	Position int
}

// Waiting returns the verdicts on what is not met.
func (e *Explanation) Waiting() []Verdict {
	var unmet []Verdict
	for _, v := range e.Verdicts {
		if !v.Met {
			unmet = append(unmet, v)
		}
	}
	return unmet
}

// Explain tells why a build is pending: what it needs, and which of that it lacks. It is for people and counts for nothing: what
// it says may have changed when it is read.
//
// Errors: [ErrNotFound].
func (q *Queue) Explain(ctx context.Context, project string, id ID) (Explanation, error) {
	if err := CheckName("project", project); err != nil {
		return Explanation{}, wrap("explain", id, err)
	}
	facts, err := q.backend.Explain(ctx, project, id, time.Time{})
	if err != nil {
		return Explanation{}, wrap("explain", id, err)
	}
	return facts.explain(), nil
}

func (c *Circumstances) explain() Explanation {
	e := Explanation{Build: c.Build, Facts: *c}
	if c.Build.State != Pending {
		return e
	}
	e.Verdicts = slices.Concat(c.time(), c.class(), c.pauses(), c.limit(), c.workers())
	if c.Queued {
		e.Position = c.Ahead + 1
	}
	e.Verdicts = append(e.Verdicts, c.turn())
	return e
}

func verdict(of Requirement, met bool, text string, args ...any) Verdict {
	return Verdict{Requirement: of, Met: met, Text: fmt.Sprintf(text, args...)}
}

func (c *Circumstances) time() []Verdict {
	due := c.Build.NotBefore
	switch {
	case due.IsZero():
		return nil
	case !due.After(c.Now):
		return []Verdict{verdict(RequireTime, true, "due since %s", due.Format(time.RFC3339))}
	case c.Build.AttemptsUsed > 0:
		return []Verdict{verdict(RequireTime, false, "waits until %s to be attempted again, attempt %d of %d was not the end",
			due.Format(time.RFC3339), c.Build.AttemptsUsed, c.Build.MaxAttempts)}
	default:
		return []Verdict{verdict(RequireTime, false, "scheduled for %s", due.Format(time.RFC3339))}
	}
}

func (c *Circumstances) class() []Verdict {
	if c.Class != 0 {
		return nil
	}
	return []Verdict{verdict(RequireClass, false, "nobody asked for these labels in pool %q before; they are noted in a moment, if some process runs the queue",
		c.Build.Pool)}
}

func (c *Circumstances) pauses() []Verdict {
	var all []Verdict
	if c.Pool.Paused {
		all = append(all, verdict(RequirePool, false, "pool %q is paused", c.Build.Pool))
	}
	if c.Project.Paused {
		all = append(all, verdict(RequireProject, false, "project %q is paused", c.Build.Project))
	}
	return all
}

func (c *Circumstances) limit() []Verdict {
	switch {
	case c.Limit.Max == 0:
		return nil
	case c.Queued:
		return []Verdict{verdict(RequireLimit, true, "has one of the %d places of concurrency key %q", c.Limit.Max, c.Limit.Key)}
	default:
		return []Verdict{verdict(RequireLimit, c.Limit.Used < c.Limit.Max, "%d of %d places of concurrency key %q are taken",
			c.Limit.Used, c.Limit.Max, c.Limit.Key)}
	}
}

// workers looks for who could run the build.
func (c *Circumstances) workers() []Verdict {
	if len(c.Workers) == 0 {
		return []Verdict{verdict(RequireWorker, false, "no worker of pool %q is connected", c.Build.Pool)}
	}
	all := []Verdict{verdict(RequireWorker, true, "%s of pool %q", count(len(c.Workers), "worker"), c.Build.Pool)}
	fit := slices.DeleteFunc(slices.Clone(c.Workers), func(w WorkerFacts) bool { return !w.Labels.Satisfies(c.Build.Labels) })
	all = append(all, c.labels(len(fit) > 0)...)
	if len(fit) == 0 {
		return all
	}
	return append(all, c.slots(fit))
}

// labels has a verdict for each label that the build requires, and, if every one is to be had and not all of them together, one more.
func (c *Circumstances) labels(fit bool) []Verdict {
	var all []Verdict
	each := true
	for _, key := range slices.Sorted(maps.Keys(c.Build.Labels)) {
		value := c.Build.Labels[key]
		var n int
		for _, w := range c.Workers {
			if have, ok := w.Labels[key]; ok && have == value {
				n++
			}
		}
		if n > 0 {
			all = append(all, verdict(RequireLabel, true, "%s with %s=%s", count(n, "worker"), key, value))
			continue
		}
		each = false
		text := fmt.Sprintf("no worker has %s=%s", key, value)
		if like := c.like(key, value); like != "" {
			text += "; did you mean " + like + "?"
		}
		all = append(all, Verdict{Requirement: RequireLabel, Text: text})
	}
	if each && !fit {
		all = append(all, verdict(RequireLabel, false, "no worker has all of %s", c.Build.Labels))
	}
	return all
}

// like returns the label of a worker that is most like one that no worker has, or nothing.
func (c *Circumstances) like(key, value string) string {
	type candidate struct {
		label    string
		distance int
	}
	var best []candidate
	for _, w := range c.Workers {
		for k, v := range w.Labels {
			if k == key || v == value && distance(k, key) <= 2 {
				best = append(best, candidate{k + "=" + v, distance(k, key) + distance(v, value)})
			}
		}
	}
	if len(best) == 0 {
		return ""
	}
	return slices.MinFunc(best, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.distance, b.distance), strings.Compare(a.label, b.label))
	}).label
}

// slots looks at the workers that fit.
func (c *Circumstances) slots(fit []WorkerFacts) Verdict {
	var slots, busy, avoided int
	for _, w := range fit {
		slots += w.Slots
		busy += min(w.Busy, w.Slots)
		if w.Worker == c.Avoids && c.AvoidsUntil.After(c.Now) {
			avoided += w.Slots - min(w.Busy, w.Slots)
		}
	}
	switch idle := slots - busy; {
	case idle == 0:
		return verdict(RequireSlot, false, "all %s of the %s that fit are busy", count(slots, "slot"), count(len(fit), "worker"))
	case idle == avoided:
		return verdict(RequireSlot, false, "only worker %q has an idle slot, and the build avoids it until %s, after it declined or lost it",
			c.Avoids, c.AvoidsUntil.Format(time.RFC3339))
	default:
		return verdict(RequireSlot, true, "%d of %s are idle at the %s that fit", idle, count(slots, "slot"), count(len(fit), "worker"))
	}
}

func (c *Circumstances) turn() Verdict {
	ahead := fmt.Sprint(c.Ahead)
	if c.Ahead >= MaxCount {
		ahead = fmt.Sprintf("at least %d", MaxCount)
	}
	where := "in its queue"
	if !c.Queued {
		where = "among those that are held as it is"
	}
	if c.Ahead == 0 {
		return verdict(RequireTurn, c.Queued, "next %s", where)
	}
	return verdict(RequireTurn, false, "%s ahead %s", ahead, where)
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// distance is the number of bytes that must be put in, taken out or replaced to make b of a.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
