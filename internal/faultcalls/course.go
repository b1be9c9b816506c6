package faultcalls

import (
	"fmt"

	"github.com/slipway-build/slipway/queue"
)

// A Course is how a call goes on a scene when nothing fails.
type Course struct {
	*Scene
	call                    *Call
	before, after, repeated Rows
	first, second           Answer
	checked                 map[string]bool // what faults came to
}

// Course sets the scene, makes a call twice, and sets the scene again.
func (s *Scene) Course(c *Call) *Course {
	s.Helper()
	s.set(c)
	o := &Course{Scene: s, call: c, before: s.rows(), checked: make(map[string]bool)}
	o.first = o.Make(s.Backend)
	o.after = s.rows()
	o.second = o.Make(s.Backend)
	o.repeated = s.rows()
	if o.first.Err != nil {
		s.Fatalf("nothing fails, and it returned %v", o.first.Err)
	}
	if !c.anew && !o.repeated.equal(o.after) {
		s.Errorf("repeating the call changes something:\n%s", diff(o.after, o.repeated))
	}
	s.reset()
	return o
}

// Changes reports whether the call changes anything.
func (o *Course) Changes() bool { return !o.before.equal(o.after) }

// Make makes the call on a backend of the scene's database.
func (o *Course) Make(b queue.Backend) Answer {
	result, err := o.call.make(o.Context(), o.Scene, b)
	if m, ok := result.(queue.Maintained); ok {
		m.Heads = nil // they name classes by numbers, which differ when a transaction was rolled back
		result = m
	}
	return Answer{err, result}
}

// Check looks at what is stored after a fault, makes the call again without one, looks again, and resets the scene. It reports whether
// the change had been made. What an earlier fault has come to already is not tried again: from the same rows the same follows.
func (o *Course) Check(a Answer, fault Fault) (made bool) {
	o.Helper()
	if a.Err == nil && !a.same(o.first) || a.Err != nil && !fault.Unknown(a.Err) {
		o.Errorf("%v: it returned %v", fault, a)
	}
	if a.mixed() {
		o.Errorf("%v: it returned %v; want the error alone", fault, a)
	}
	between := o.sane(o.before, fault)
	made = between.equal(o.after)
	switch {
	case a.Err == nil && !made:
		o.Errorf("%v: it returned no error, and not all was done:\n%s", fault, diff(o.after, between))
	case !made && !between.equal(o.before) && !o.call.InSteps:
		o.Errorf("%v: it made a part of its changes:\n%s", fault, diff(o.after, between))
	}
	changed := !between.equal(o.before)
	if came := fmt.Sprint(between.lines, a.moved(), fault.Lossy); !o.checked[came] {
		o.checked[came] = true
		o.checkAgain(a, between, fault)
		changed = o.Changes()
	}
	if o.Failed() {
		o.FailNow()
	}
	if changed {
		o.reset()
	}
	return made && o.Changes()
}

// checkAgain makes the call again without a fault.
func (o *Course) checkAgain(failed Answer, between Rows, fault Fault) {
	o.Helper()
	again, want, rows := o.Make(o.Backend), o.first, o.after
	if between.equal(o.after) {
		want, rows = o.second, o.repeated
	}
	if o.call.InSteps {
		o.checkCounts(failed, again, fault)
	} else if !again.same(want) {
		o.Errorf("%v: made again, it returned %v; want %v", fault, again, want)
	}
	if now := o.sane(between, fault); !now.equal(rows) {
		o.Errorf("%v: made again, it did not do what it should:\n%s", fault, diff(rows, now))
	}
}

// sane returns what is stored now, after what was stored before.
func (o *Course) sane(before Rows, fault Fault) Rows {
	o.Helper()
	now := o.rows()
	for _, wrong := range []string{now.insane(), before.regress(now)} {
		if wrong != "" {
			o.Errorf("%v: %s", fault, wrong)
		}
	}
	return now
}

// checkCounts compares what a failed call and its repetition tell of with what one that does not fail does. Nothing is counted twice; if
// no answer was lost, nothing is left out.
func (o *Course) checkCounts(failed, again Answer, fault Fault) {
	o.Helper()
	if again.Err != nil {
		o.Errorf("%v: made again, it returned %v", fault, again)
	}
	first, second := failed.moved(), again.moved()
	for kind, want := range o.first.moved() {
		if got := first[kind] + second[kind]; got > want || got < want && !fault.Lossy {
			o.Errorf("%v: both calls tell of %d %s, want %d", fault, got, kind, want)
		}
	}
}

// A Fault is what a test did to a call.
type Fault struct {
	// What says it to people.
	What string
	// Lossy says that the answer to a change that was made may be lost.
	Lossy bool
	// Unknown reports whether an error is the one that a fault leads to, and tells the caller that he does not know the outcome.
	Unknown func(error) bool
}

// String returns f.What.
func (f Fault) String() string { return f.What }
