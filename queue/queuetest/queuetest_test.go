package queuetest

import (
	"slices"
	"testing"

	"github.com/slipway-build/slipway/queue"
)

// The walk through the table takes every arrow, and tries every event in every state.
func TestWalkTakesEveryArrow(t *testing.T) {
	type arrow struct {
		from queue.State
		by   queue.Event
		to   queue.State
	}
	taken := make(map[arrow]bool)
	events := make(map[queue.Event]bool)
	for _, p := range pushes {
		events[p.event] = true
		for _, st := range stands {
			next := st.state.Next(p.event)
			switch {
			case len(next) == 1:
				taken[arrow{st.state, p.event, next[0]}] = true
			case len(next) > 1:
				to := p.want(target{stand: st})
				if !slices.Contains(next, to) {
					t.Errorf("%s of a build that is %s leads to %v, the table allows %v", p.name, st.name, to, next)
				}
				taken[arrow{st.state, p.event, to}] = true
			}
		}
	}
	for _, from := range queue.States() {
		if !slices.ContainsFunc(stands, func(st stand) bool { return st.state == from }) {
			t.Errorf("no build is driven into %v", from)
		}
		for _, by := range queue.Events() {
			if !events[by] {
				t.Errorf("%v never happens", by)
			}
			for _, to := range from.Next(by) {
				if !taken[arrow{from, by, to}] {
					t.Errorf("no build goes from %v by %v to %v", from, by, to)
				}
			}
		}
	}
}
