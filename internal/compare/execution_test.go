package main

import (
	"context"
	"encoding/json"
	"maps"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/slipway-build/slipway/queue"
)

func TestPeaks(t *testing.T) {
	got := peaks([]execution{
		{"a", 0, 10},
		{"a", 10, 20}, // one after the other
		{"b", 0, 10},
		{"b", 9, 20},
		{"b", 5, 6},
		{"c", 3, 3}, // no time at all
	})
	if want := map[string]int{"a": 1, "b": 2}; !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestExcess(t *testing.T) {
	within := map[string]int{limitKey(1): 1, limitKey(limitKeys): 3}
	if got := excess(within); got != 0 {
		t.Errorf("within the limits: got %v, want 0", got)
	}
	if got := excess(map[string]int{limitKey(1): 2, limitKey(5): 8}); got != 3 {
		t.Errorf("8 of 5: got %v, want 3", got)
	}
}

// What a process that was killed had not ended, ended with it.
func TestFollowAKilledProcess(t *testing.T) {
	first, second := queue.AttemptID{Build: queue.NewID(), Epoch: 1}, queue.AttemptID{Build: queue.NewID(), Epoch: 2}
	var lines strings.Builder
	for _, e := range []event{{first, "1", 10, false}, {second, "2", 20, false}, {first, "1", 30, true}} {
		if err := json.NewEncoder(&lines).Encode(e); err != nil {
			t.Fatal(err)
		}
	}
	lines.WriteString(`{"Build":`) // cut
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	p := &claimerProcess{cmd: exec.CommandContext(ctx, "sleep", "60"), out: strings.NewReader(lines.String())}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := p.kill(); err != nil {
		t.Fatal(err)
	}
	p.killed.Store(25)
	all, err := p.follow()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 2 || all[0] != (execution{"1", 10, 30}) || all[1] != (execution{"2", 20, 25}) {
		t.Errorf("got %v", all)
	}
}
