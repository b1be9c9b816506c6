package worker

import (
	"maps"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/worker/wire"
)

// take begins an attempt if there is a slot, or returns why not. Only one link is served at a time, so only one offer is.
func (a *Agent) take(l *link, o *wire.Offer) wire.DeclineReason {
	a.mu.Lock()
	known := a.attempts[queue.AttemptID(o.Ref)]
	leaving, full := a.leaving, len(a.attempts) >= a.opts.Slots
	a.mu.Unlock()
	switch {
	case known != nil:
		known.poke()
		return ""
	case leaving:
		return wire.DeclineDraining
	case full:
		return wire.DeclineNoSlot
	}
	t, err := a.newAttempt(l, o)
	if err != nil {
		a.log.Error("build declined: no place on the disk", "build", o.Build, "epoch", o.Epoch, "error", err)
		return wire.DeclinePreflight
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.leaving {
		t.cleanUp()
		return wire.DeclineDraining
	}
	if len(a.attempts) == 0 {
		l.rouse()
	}
	a.attempts[queue.AttemptID(o.Ref)] = t
	a.work.Go(t.run)
	wake(a.watched)
	return ""
}

// attempt returns the attempt of that name, or nil.
func (a *Agent) attempt(ref wire.Ref) *attempt {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.attempts[queue.AttemptID(ref)]
}

// all returns the attempts there are.
func (a *Agent) all() []*attempt {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Collect(maps.Values(a.attempts))
}

func (a *Agent) pokeAll() {
	for _, t := range a.all() {
		t.poke()
		t.shipment.poke()
	}
}

// settle ends an attempt whose report the controller has stored. Its slot is free from now on: the next message may be an offer.
func (a *Agent) settle(ref wire.Ref) {
	t := a.attempt(ref)
	if t == nil {
		return
	}
	if r, _ := t.running(); r.State != wire.StageFinished {
		return
	}
	a.remove(t)
	t.close()
}

// forget ends an attempt that will not be reported, or was.
func (a *Agent) forget(t *attempt) {
	if !a.remove(t) {
		return
	}
	if l := a.link.Load(); l != nil {
		l.soon() // the controller does not know that the slot is free
	}
}

// remove reports whether t was still there.
func (a *Agent) remove(t *attempt) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	id := queue.AttemptID(t.ref)
	if a.attempts[id] != t {
		return false
	}
	delete(a.attempts, id)
	a.checkDrained()
	return true
}

// drain has the agent accept nothing more, and end when all is finished.
func (a *Agent) drain() {
	a.mu.Lock()
	a.leaving, a.draining = true, true
	a.checkDrained()
	a.mu.Unlock()
	if l := a.link.Load(); l != nil {
		l.soon()
	}
}

func (a *Agent) checkDrained() {
	if a.draining && len(a.attempts) == 0 {
		wake(a.drained)
	}
}

// hello says who this worker is and what it has.
func (a *Agent) hello() *wire.Hello {
	h := &wire.Hello{
		Worker: a.opts.Worker, Instance: a.instance, Version: a.opts.Version, OS: runtime.GOOS, Arch: runtime.GOARCH,
		Slots: a.opts.Slots, Labels: a.opts.Labels,
	}
	for _, t := range a.all() {
		if r, ok := t.running(); ok {
			h.Running = append(h.Running, r)
		}
	}
	a.mu.Lock()
	h.Draining = a.leaving
	a.mu.Unlock()
	return h
}

// heartbeat says how the worker is.
func (a *Agent) heartbeat() *wire.Heartbeat {
	h := &wire.Heartbeat{Load: load()}
	a.mu.Lock()
	attempts := slices.Collect(maps.Values(a.attempts))
	h.Draining = a.leaving
	a.mu.Unlock()
	h.FreeSlots = max(0, a.opts.Slots-len(attempts))
	for _, t := range attempts {
		if r, ok := t.running(); ok {
			h.Leases = append(h.Leases, r.Ref)
		}
	}
	return h
}

// idle reports whether the agent has no attempt.
func (a *Agent) idle() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.attempts) == 0
}

// load returns the machine's load average of a minute, where it is easily had, and else zero.
func load() float64 {
	content, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(content), " ")
	average, err := strconv.ParseFloat(first, 64)
	if err != nil || !(average >= 0) {
		return 0
	}
	return average
}
