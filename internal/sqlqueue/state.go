package sqlqueue

import (
	"fmt"

	"github.com/slipway-build/slipway/queue"
)

// A State is a state as it is stored. There is one more than [queue.State] has, because Held and Queued are both
// [queue.Pending]. The numbers are part of the schema and never change.
type State int16

// The stored states. States 2 to 4 have a lease; those from 5 on are terminal.
const (
	Held State = iota
	Queued
	Offered
	Running
	Cancelling
	Succeeded
	Failed
	Canceled
	TimedOut
	Expired
	Lost
)

// public maps stored states to public ones by index.
var public = [...]queue.State{
	Held: queue.Pending, Queued: queue.Pending, Offered: queue.Offered, Running: queue.Running, Cancelling: queue.Cancelling,
	Succeeded: queue.Succeeded, Failed: queue.Failed, Canceled: queue.Canceled, TimedOut: queue.TimedOut,
	Expired: queue.Expired, Lost: queue.Lost,
}

// stateNames are what [Names.Expand] knows stored states by.
var stateNames = [...]string{
	Held: "held", Queued: "queued", Offered: "offered", Running: "running", Cancelling: "cancelling", Succeeded: "succeeded",
	Failed: "failed", Canceled: "canceled", TimedOut: "timed_out", Expired: "expired", Lost: "lost",
}

// Public returns the state that callers see, zero for a number that is no state.
func (s State) Public() queue.State {
	if s < 0 || int(s) >= len(public) {
		return 0
	}
	return public[s]
}

// Scan implements [database/sql.Scanner]. It refuses null and numbers that are no state.
func (s *State) Scan(src any) error {
	n, ok := src.(int64)
	if !ok || n < 0 || n >= int64(len(public)) {
		return fmt.Errorf("sqlqueue: %v is not a state", src)
	}
	*s = State(n)
	return nil
}

// Stored returns how s is stored. Pending is stored as Queued; see [StoredAs] for a filter. An invalid s becomes -1, which
// no row has and which every schema refuses.
func Stored(s queue.State) State {
	for stored := Lost; stored > Held; stored-- {
		if public[stored] == s {
			return stored
		}
	}
	return -1
}

// StoredAs returns every stored state that callers see as one of states.
func StoredAs(states ...queue.State) []State {
	var all []State
	for _, s := range states {
		if s == queue.Pending {
			all = append(all, Held)
		}
		all = append(all, Stored(s))
	}
	return all
}
