package queuetest

import (
	"fmt"
	"slices"
	"time"

	"github.com/slipway-build/slipway/queue"
)

// long is a time that does not come in a case about the table of states.
const long = 1000 * time.Hour

// A stand is a way to bring a build into a state.
type stand struct {
	name  string
	state queue.State
	// held stands are Pending, but may not be claimed yet, and may be queued whenever Maintain is called.
	held bool
	// last stands have used up their attempts.
	last bool
	// retries stands are attempted again when they fail.
	retries bool
	// drive brings b, which is submitted in it, into the state.
	drive func(s *subject, b queue.NewBuild, l limits) target
}

// A target is a build in a state, with its newest attempt.
type target struct {
	stand
	build   queue.NewBuild
	id      queue.AttemptID
	session queue.SessionID
}

// limits are the times after which the states of a case end.
type limits struct{ wait, offer, run, force time.Duration }

// A push is something that happens to builds in all states.
type push struct {
	name  string
	event queue.Event
	// limits that are zero are long.
	limits limits
	apply  func(s *subject, targets []target)
	// want chooses among the states that the table allows, if there are several.
	want func(t target) queue.State
}

// tableCases walks through the table of states: whatever happens to a build in any state, it moves as the table says or not at all.
func tableCases() []testCase {
	var cases []testCase
	for _, p := range pushes {
		cases = append(cases, testCase{
			p.name,
			"The table of states is the only definition of the ways between states: an event that is not listed does not move the build.",
			p.run,
		})
	}
	return cases
}

func (p push) run(s *subject) {
	l := limits{wait: long, offer: long, run: long, force: long}
	for _, d := range []struct {
		to   *time.Duration
		from time.Duration
	}{{&l.wait, p.limits.wait}, {&l.offer, p.limits.offer}, {&l.run, p.limits.run}, {&l.force, p.limits.force}} {
		if d.from > 0 {
			*d.to = d.from
		}
	}
	var targets []target
	for _, st := range stands {
		b := s.draft()
		b.QueueTimeout, b.RunTimeout = l.wait, l.run
		if st.last {
			b.MaxAttempts = 1
		}
		t := st.drive(s, b, l)
		t.stand, t.build = st, b
		if got := s.get(b).State; got != st.state {
			s.Fatalf("%s: build is %v, want %v", st.name, got, st.state)
		}
		targets = append(targets, t)
	}
	before := make([]string, len(targets))
	for i, t := range targets {
		before[i] = s.snapshot(t.build)
	}
	p.apply(s, targets)
	for i, t := range targets {
		p.check(s, t, before[i])
	}
}

// check reports a build that did not move as the table says.
func (p push) check(s *subject, t target, before string) {
	s.Helper()
	got, next := s.get(t.build).State, t.state.Next(p.event)
	if t.held && (p.event == queue.EventClaim || p.event == queue.EventStart) {
		next = nil
	}
	switch {
	case len(next) == 0 && t.held:
		if got != t.state {
			s.Errorf("%s: build is %v, want it left %v", t.name, got, t.state)
		}
	case len(next) == 0:
		if after := s.snapshot(t.build); after != before {
			s.Errorf("%s: something changed.\nbefore:\n%safter:\n%s", t.name, before, after)
		}
	case len(next) == 1:
		if got != next[0] {
			s.Errorf("%s: build is %v, want %v", t.name, got, next[0])
		}
	default:
		if want := p.want(t); got != want || !slices.Contains(next, got) {
			s.Errorf("%s: build is %v, want %v, one of %v", t.name, got, want, next)
		}
	}
}

// The order matters: driving a build calls Maintain, which queues builds that were held before.
var stands = []stand{
	{name: "expired", state: queue.Expired, drive: func(s *subject, b queue.NewBuild, _ limits) target {
		b.QueueTimeout = time.Minute
		s.queued(b)
		s.pass(2 * time.Minute)
		s.maintain(s.rules())
		return target{}
	}},
	{name: "timed out by its deadline", state: queue.TimedOut, drive: func(s *subject, b queue.NewBuild, l limits) target {
		b.RunTimeout = time.Minute
		t := driveRunning(s, b, l)
		s.pass(2*time.Minute + slack)
		s.maintain(s.rules())
		return t
	}},
	{name: "queued", state: queue.Pending, drive: func(s *subject, b queue.NewBuild, _ limits) target {
		s.queued(b)
		return target{}
	}},
	{name: "released", state: queue.Pending, drive: func(s *subject, b queue.NewBuild, l limits) target {
		t := driveOffered(s, b, l)
		s.releases(t.id)
		return t
	}},
	{name: "offered", state: queue.Offered, drive: driveOffered},
	{name: "running", state: queue.Running, drive: driveRunning},
	{name: "running, with nothing left", state: queue.Running, last: true, drive: driveRunning},
	{name: "running, to be attempted again when it fails", state: queue.Running, retries: true, drive: driveRetrying},
	{name: "cancelling", state: queue.Cancelling, drive: driveCancelling},
	{name: "cancelling, with nothing left", state: queue.Cancelling, last: true, drive: driveCancelling},
	{name: "succeeded", state: queue.Succeeded, drive: driveEnd(queue.Succeeded)},
	{name: "failed", state: queue.Failed, drive: driveEnd(queue.Failed)},
	{name: "canceled by its worker", state: queue.Canceled, drive: driveEnd(queue.Canceled)},
	{name: "timed out", state: queue.TimedOut, drive: driveEnd(queue.TimedOut)},
	{name: "lost", state: queue.Lost, last: true, drive: driveEnd(queue.Lost)},
	{name: "canceled while pending", state: queue.Canceled, drive: func(s *subject, b queue.NewBuild, _ limits) target {
		s.queued(b)
		s.cancel(b, queue.Canceled)
		return target{}
	}},
	{name: "canceled while offered", state: queue.Canceled, drive: func(s *subject, b queue.NewBuild, l limits) target {
		t := driveOffered(s, b, l)
		s.cancel(b, queue.Canceled)
		return t
	}},
	{name: "canceled while running", state: queue.Canceled, drive: func(s *subject, b queue.NewBuild, l limits) target {
		t := driveCancelling(s, b, l)
		s.ends(report(t.id, queue.Canceled), queue.Canceled)
		return t
	}},
	{name: "backing off", state: queue.Pending, held: true, drive: func(s *subject, b queue.NewBuild, l limits) target {
		b.Backoff = queue.Backoff{Base: long, Max: long}
		t := driveRunning(s, b, l)
		s.ends(report(t.id, queue.Lost), queue.Pending)
		return t
	}},
	{name: "scheduled", state: queue.Pending, held: true, drive: func(s *subject, b queue.NewBuild, _ limits) target {
		known := s.draft()
		known.Pool = b.Pool
		s.queued(known)
		b.NotBefore = s.now.Add(30 * time.Minute)
		s.queued(b)
		return target{}
	}},
	{name: "to be admitted", state: queue.Pending, held: true, drive: func(s *subject, b queue.NewBuild, _ limits) target {
		b.ConcurrencyKey = "key"
		s.queued(b)
		return target{}
	}},
	{name: "held", state: queue.Pending, held: true, drive: func(s *subject, b queue.NewBuild, _ limits) target {
		s.submit(b)
		return target{}
	}},
}

func driveOffered(s *subject, b queue.NewBuild, l limits) target {
	s.queued(b)
	session := s.worker()
	claimed, err := s.Claim(s.ctx, []queue.Demand{demand(s.class(b.Pool, b.Labels), session)}, l.offer, s.now)
	s.must(err)
	if len(claimed) != 1 || claimed[0].Build != b.ID {
		s.Fatalf("Claim returned %v, want build %v", claimed, b.ID)
	}
	return target{id: claimed[0].AttemptID, session: session}
}

func driveRunning(s *subject, b queue.NewBuild, l limits) target {
	t := driveOffered(s, b, l)
	s.accept(t.id, t.session)
	return t
}

func driveRetrying(s *subject, b queue.NewBuild, l limits) target {
	b.RetryFailed = true
	return driveRunning(s, b, l)
}

func driveCancelling(s *subject, b queue.NewBuild, l limits) target {
	t := driveRunning(s, b, l)
	if got := s.cancels(b, "not wanted", l.force); got != queue.Cancelling {
		s.Fatalf("Cancel led to %v, want %v", got, queue.Cancelling)
	}
	return t
}

func driveEnd(outcome queue.State) func(*subject, queue.NewBuild, limits) target {
	return func(s *subject, b queue.NewBuild, l limits) target {
		t := driveRunning(s, b, l)
		s.ends(report(t.id, outcome), outcome)
		return t
	}
}

// each makes what happens to one build happen to all.
func each(one func(s *subject, t target)) func(*subject, []target) {
	return func(s *subject, targets []target) {
		for _, t := range targets {
			one(s, t)
		}
	}
}

// after lets time pass and has Maintain called.
func after(d time.Duration) func(*subject, []target) {
	return func(s *subject, _ []target) {
		s.pass(d)
		s.maintain(s.rules())
	}
}

// claimBy gives each build to a session of its own.
func claimBy(direct bool) func(*subject, []target) {
	return each(func(s *subject, t target) {
		facts := s.facts()
		facts.Direct = direct
		s.claim(t.build, s.open(facts))
	})
}

// lostOr chooses what a build becomes whose worker was lost.
func lostOr(t target) queue.State {
	switch {
	case t.state == queue.Cancelling:
		return queue.Canceled
	case t.last:
		return queue.Lost
	default:
		return queue.Pending
	}
}

// reported makes a push of a worker's report.
func reported(outcome queue.State) push {
	return push{
		name: fmt.Sprintf("Finish/%v", outcome), event: queue.EventFinish,
		apply: each(func(s *subject, t target) { s.finish(report(t.id, outcome)) }),
		want: func(t target) queue.State {
			if outcome == queue.Lost || outcome == queue.Failed && t.retries {
				return lostOr(t)
			}
			return outcome
		},
	}
}

var pushes = []push{
	{name: "Claim", event: queue.EventClaim, apply: claimBy(false)},
	{name: "Start", event: queue.EventStart, apply: claimBy(true)},
	{name: "Accept", event: queue.EventAccept, apply: each(func(s *subject, t target) { s.accepts(acceptance(t.id, t.session)) })},
	{name: "Release", event: queue.EventRelease, apply: each(func(s *subject, t target) { s.releases(t.id) })},
	{name: "Release/OfferRunsOut", event: queue.EventRelease, limits: limits{offer: time.Hour}, apply: after(2 * time.Hour)},
	{name: "Release/SessionLost", event: queue.EventRelease, apply: each(func(s *subject, t target) {
		s.must(s.LoseSessions(s.ctx, []queue.SessionID{t.session}, s.now))
	})},
	reported(queue.Succeeded),
	reported(queue.Failed),
	reported(queue.Canceled),
	reported(queue.TimedOut),
	reported(queue.Lost),
	{name: "Cancel", event: queue.EventCancel, apply: each(func(s *subject, t target) {
		if got := s.cancels(t.build, "not wanted", long); t.state.Terminal() && got != t.state {
			s.Errorf("%s: Cancel returned %v", t.name, got)
		}
	})},
	{name: "QueueTimeout", event: queue.EventQueueTimeout, limits: limits{wait: time.Hour}, apply: after(2 * time.Hour)},
	{name: "Deadline", event: queue.EventDeadline, limits: limits{run: time.Hour}, apply: after(2 * time.Hour)},
	{name: "CancelDeadline", event: queue.EventCancelDeadline, limits: limits{force: time.Hour}, apply: after(2 * time.Hour)},
	{name: "SessionLost", event: queue.EventSessionLost, want: lostOr, apply: func(s *subject, _ []target) {
		s.sweep(s.fresh(), 2*grace) // the sessions' controllers have never beaten
	}},
}
