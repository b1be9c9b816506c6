package queue_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/slipway-build/slipway/queue"
)

// The diagram in the package documentation and the table agree, line by line.
func TestDiagramAgreesWithTable(t *testing.T) {
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	_, diagram, found := strings.Cut(string(doc), "//\tstate       event            becomes\n")
	if !found {
		t.Fatal("doc.go has no diagram of states")
	}
	columns := regexp.MustCompile(`  +`)
	var got []string
	for line := range strings.Lines(diagram) {
		cells, found := strings.CutPrefix(line, "//\t")
		if !found {
			break
		}
		got = append(got, columns.ReplaceAllString(strings.TrimSpace(cells), "|"))
	}
	var want []string
	for _, s := range queue.States() {
		for _, e := range queue.Events() {
			if next := s.Next(e); next != nil {
				want = append(want, s.String()+"|"+e.String()+"|"+join(next))
			}
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("the diagram in doc.go says\n%s\nthe table\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func join(states []queue.State) string {
	var names []string
	for _, s := range states {
		names = append(names, s.String())
	}
	return strings.Join(names, ", ")
}

func TestStates(t *testing.T) {
	terminal := []queue.State{queue.Succeeded, queue.Failed, queue.Canceled, queue.TimedOut, queue.Expired, queue.Lost}
	seen := make(map[string]bool)
	for _, s := range queue.States() {
		if !s.Valid() || seen[s.String()] {
			t.Errorf("state %d: valid %t, name %q", s, s.Valid(), s)
		}
		seen[s.String()] = true
		if parsed, err := queue.ParseState(s.String()); parsed != s || err != nil {
			t.Errorf("ParseState(%q) = %v, %v", s, parsed, err)
		}
		if s.Terminal() != slices.Contains(terminal, s) {
			t.Errorf("%v is terminal: %t", s, s.Terminal())
		}
		if s.Leased() != (s == queue.Running || s == queue.Cancelling) {
			t.Errorf("%v is leased: %t", s, s.Leased())
		}
	}
	for _, s := range []queue.State{0, queue.Lost + 1, 255} {
		if s.Valid() || s.Terminal() || s.Leased() || s.String() != "invalid" {
			t.Errorf("state %d: valid %t, terminal %t, leased %t, name %q", s, s.Valid(), s.Terminal(), s.Leased(), s)
		}
	}
	for _, name := range []string{"", "invalid", "Running", "pending ", "timedout"} {
		wantInvalid(t, name, func() error { _, err := queue.ParseState(name); return err }())
	}
}

// Whatever a state may become, it becomes by some event, and what is terminal becomes nothing.
func TestTableIsClosed(t *testing.T) {
	reached := map[queue.State]bool{queue.Pending: true}
	for _, s := range queue.States() {
		for _, to := range queue.States() {
			var byEvent bool
			for _, e := range queue.Events() {
				byEvent = byEvent || slices.Contains(s.Next(e), to)
			}
			if s.CanBecome(to) != byEvent {
				t.Errorf("%v can become %v: %t, by an event: %t", s, to, s.CanBecome(to), byEvent)
			}
			if byEvent && s.Terminal() {
				t.Errorf("%v is terminal and can become %v", s, to)
			}
			reached[to] = reached[to] || byEvent
		}
		if !s.Terminal() && !slices.ContainsFunc(queue.States(), s.CanBecome) {
			t.Errorf("nothing leaves %v", s)
		}
	}
	if len(reached) != len(queue.States()) {
		t.Errorf("states reached: %v", reached)
	}
	if next := queue.Pending.Next(queue.EventClaim); len(next) > 0 {
		next[0] = queue.Lost
		if queue.Pending.Next(queue.EventClaim)[0] != queue.Offered {
			t.Error("a caller of Next can change the table")
		}
	}
}

func TestEvents(t *testing.T) {
	seen := make(map[string]bool)
	for _, e := range queue.Events() {
		if seen[e.String()] || e.String() == "invalid" {
			t.Errorf("event %d has the name %q", e, e)
		}
		seen[e.String()] = true
	}
	for _, e := range []queue.Event{0, queue.EventCancelDeadline + 1} {
		if e.String() != "invalid" || e.Reason() != "" {
			t.Errorf("event %d: name %q, reason %q", e, e, e.Reason())
		}
	}
	for e, want := range map[queue.Event]bool{
		queue.EventQueueTimeout: true, queue.EventDeadline: true, queue.EventSessionLost: true, queue.EventCancelDeadline: true,
		queue.EventFinish: false, queue.EventCancel: false,
	} {
		if got := e.Reason() != ""; got != want {
			t.Errorf("%v has a reason of its own: %t", e, got)
		}
	}
}
