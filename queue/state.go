package queue

import "slices"

// A State is where a build stands. The table in this file is the only definition of the states and of the ways between them:
// backends implement it, the suite in queuetest checks it, and the package documentation shows it.
type State uint8

const (
	// Pending builds wait: held back (scheduled, backing off, their class not yet known) or queued.
	Pending State = iota + 1
	// Offered builds are claimed by a session that has not yet answered. Nothing runs.
	Offered
	// Running builds were accepted by a worker that holds the lease.
	Running
	// Cancelling builds were running when somebody canceled them; their worker has been or will be told.
	Cancelling
	// Succeeded is the end of a build whose command did what it should.
	Succeeded
	// Failed is the end of a build that failed by its own doing.
	Failed
	// Canceled is the end of a build that somebody canceled.
	Canceled
	// TimedOut is the end of a build that ran longer than its run timeout.
	TimedOut
	// Expired is the end of a build that waited longer than its queue timeout.
	Expired
	// Lost is the end of a build whose workers were lost as often as it may be attempted.
	Lost
)

// An Event is what moves a build from one state to another.
type Event uint8

const (
	// EventClaim gives a pending build to a session, to be accepted.
	EventClaim Event = iota + 1
	// EventStart gives a pending build to an in-process session, which has no offer to answer.
	EventStart
	// EventAccept is a worker's yes to an offer.
	EventAccept
	// EventRelease takes an offer back: declined, unanswered, or its session lost. It uses up no attempt.
	EventRelease
	// EventFinish is the report of the worker that holds the lease.
	EventFinish
	// EventCancel is somebody's wish that the build end.
	EventCancel
	// EventQueueTimeout is the end of a pending build's patience.
	EventQueueTimeout
	// EventDeadline is the end of a running build's time, without a report from its worker.
	EventDeadline
	// EventSessionLost is the end of the grace of a lost session.
	EventSessionLost
	// EventCancelDeadline is the end of the time a worker has to report a canceled build.
	EventCancelDeadline
)

var eventNames = [...]string{
	EventClaim: "claim", EventStart: "start", EventAccept: "accept", EventRelease: "release", EventFinish: "finish",
	EventCancel: "cancel", EventQueueTimeout: "queue timeout", EventDeadline: "deadline", EventSessionLost: "session lost",
	EventCancelDeadline: "cancel deadline",
}

// Events returns every event, in the order in which they are declared.
func Events() []Event {
	return []Event{
		EventClaim, EventStart, EventAccept, EventRelease, EventFinish,
		EventCancel, EventQueueTimeout, EventDeadline, EventSessionLost, EventCancelDeadline,
	}
}

// String returns the event's name in lower case, as in the package documentation.
func (e Event) String() string {
	if e < EventClaim || e > EventCancelDeadline {
		return "invalid"
	}
	return eventNames[e]
}

// Reason returns what a backend stores as the reason of an end that nobody gave a reason for: that of an event which time alone brings
// about, or the empty text.
func (e Event) Reason() string {
	switch e {
	case EventQueueTimeout:
		return "no worker took the build in time"
	case EventDeadline:
		return "the worker did not report in time"
	case EventSessionLost:
		return "the worker was lost"
	case EventCancelDeadline:
		return "the worker did not stop in time"
	default:
		return ""
	}
}

// transitions says, for each state and event, which states may follow. An event that is not listed does not move the build.
var transitions = map[State]map[Event][]State{
	Pending: {
		EventClaim:        {Offered},
		EventStart:        {Running},
		EventCancel:       {Canceled},
		EventQueueTimeout: {Expired},
	},
	Offered: {
		EventAccept:  {Running},
		EventRelease: {Pending},
		EventCancel:  {Canceled},
	},
	Running: {
		EventFinish:      {Succeeded, Failed, Canceled, TimedOut, Pending, Lost},
		EventCancel:      {Cancelling},
		EventDeadline:    {TimedOut},
		EventSessionLost: {Pending, Lost},
	},
	Cancelling: {
		EventFinish:         {Succeeded, Failed, Canceled, TimedOut},
		EventCancelDeadline: {Canceled},
	},
	Succeeded: {},
	Failed:    {},
	Canceled:  {},
	TimedOut:  {},
	Expired:   {},
	Lost:      {},
}

var stateNames = [...]string{
	Pending: "pending", Offered: "offered", Running: "running", Cancelling: "cancelling", Succeeded: "succeeded",
	Failed: "failed", Canceled: "canceled", TimedOut: "timed_out", Expired: "expired", Lost: "lost",
}

// States returns every state, in the order in which they are declared.
func States() []State {
	return []State{Pending, Offered, Running, Cancelling, Succeeded, Failed, Canceled, TimedOut, Expired, Lost}
}

// String returns the state's name in lower case, as in the HTTP API: "timed_out".
func (s State) String() string {
	if s.Valid() {
		return stateNames[s]
	}
	return "invalid"
}

// ParseState reads what [State.String] writes. Anything else is an error that wraps [ErrInvalid].
func ParseState(name string) (State, error) {
	if i := slices.Index(stateNames[:], name); i > 0 {
		return State(i), nil
	}
	return 0, invalid("state", "must be one of %v", States())
}

// Valid reports whether s is one of the declared states.
func (s State) Valid() bool { return s >= Pending && s <= Lost }

// Terminal reports whether s is the end of a build. No event leaves a terminal state.
func (s State) Terminal() bool { return s >= Succeeded && s.Valid() }

// Leased reports whether a worker holds the lease of a build in this state and may write for it.
func (s State) Leased() bool { return s == Running || s == Cancelling }

// Next returns the states that e may lead to from s, nil if e does not move a build in s.
func (s State) Next(e Event) []State { return slices.Clone(transitions[s][e]) }

// CanBecome reports whether some event leads from s to t.
func (s State) CanBecome(t State) bool {
	for _, to := range transitions[s] {
		if slices.Contains(to, t) {
			return true
		}
	}
	return false
}
