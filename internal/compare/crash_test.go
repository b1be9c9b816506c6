package main

import (
	"testing"

	"github.com/slipway-build/slipway/queue"
)

func TestJudgeAfterCrashes(t *testing.T) {
	accepted, other := queue.NewID(), queue.NewID()
	first, second := queue.AttemptID{Build: accepted, Epoch: 1}, queue.AttemptID{Build: accepted, Epoch: 2}
	for _, c := range []struct {
		name  string
		rows  []crashRow
		wrong map[string]float64
	}{
		{"all is well", []crashRow{{id: first, succeeded: true}, {id: second, succeeded: true, won: true}}, nil},
		{"a build is not there", nil, map[string]float64{"crash.lost": 1}},
		{"a build is there that nobody submitted", []crashRow{
			{id: second, succeeded: true, won: true}, {id: queue.AttemptID{Build: other}},
		}, map[string]float64{"crash.strays": 1}},
		{"two attempts won", []crashRow{
			{id: first, succeeded: true, won: true}, {id: second, succeeded: true, won: true},
		}, map[string]float64{"crash.winners": 1}},
		{"an attempt won that nobody carried through", []crashRow{
			{id: queue.AttemptID{Build: accepted, Epoch: 3}, succeeded: true, won: true},
		}, map[string]float64{"crash.winners": 1}},
		{"a build did not succeed", []crashRow{{id: first}}, map[string]float64{"crash.unended": 1}},
		{"an attempt was reaped", []crashRow{
			{id: first, succeeded: true, reaped: true}, {id: second, succeeded: true, won: true},
		}, map[string]float64{"crash.reaped": 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newCrashLoad(nil, nil)
			l.accepted[accepted] = true
			l.done[first], l.done[second] = true, true
			for _, f := range l.judge(c.rows) {
				if f.Limit != nil && f.Value != c.wrong[f.Figure] {
					t.Errorf("%s is %v, want %v", f.Figure, f.Value, c.wrong[f.Figure])
				}
			}
		})
	}
}
