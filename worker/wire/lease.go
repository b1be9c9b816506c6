package wire

import "math"

// Heartbeat is what a worker sends every [Welcome.Heartbeat], and what renews its leases.
type Heartbeat struct {
	// Seq counts the heartbeats of a connection from 1. The answer repeats it, so that the worker knows from which sending
	// its renewed leases count.
	Seq int64 `json:"seq"`
	// Leases is every attempt that the worker holds a lease for.
	Leases []Ref `json:"leases,omitempty"`
	// Load is the machine's load: how many threads want to run, on average over a minute.
	Load float64 `json:"load"`
	// FreeSlots is how many more builds the worker would take now.
	FreeSlots int `json:"free_slots"`
	// Draining says that the worker wants no offers.
	Draining bool `json:"draining,omitempty"`
}

// Type implements [Message].
func (*Heartbeat) Type() Type { return TypeHeartbeat }

func (m *Heartbeat) check(c *checker) {
	c.between("seq", m.Seq, 1, math.MaxInt64)
	each(c, "leases", m.Leases, (*Ref).check)
	if !(m.Load >= 0 && m.Load <= 1e6) {
		c.fail("load", "must be from 0 to 1e6")
	}
	c.between("free_slots", int64(m.FreeSlots), 0, MaxSlots)
}

// HeartbeatOK answers a [Heartbeat] with the state the controller wants, in full: what an earlier message said of these attempts need
// not have arrived.
//
// An attempt of the heartbeat that is in neither Kept nor Lost is not renewed: its lease goes on running out.
type HeartbeatOK struct {
	// Seq is that of the heartbeat.
	Seq int64 `json:"seq"`
	// Lease is how long the kept leases last, counted from when the worker sent the heartbeat.
	Lease Millis `json:"lease"`
	// Kept are the attempts whose leases are renewed, those to be canceled among them.
	Kept []Ref `json:"kept,omitempty"`
	// Lost are the attempts that are not, or no longer, the worker's: it kills their processes at once and sends nothing more of them.
	Lost []Ref `json:"lost,omitempty"`
	// Cancel are the attempts to end.
	Cancel []Cancel `json:"cancel,omitempty"`
}

// Type implements [Message].
func (*HeartbeatOK) Type() Type { return TypeHeartbeatOK }

func (m *HeartbeatOK) check(c *checker) {
	c.between("seq", m.Seq, 1, math.MaxInt64)
	c.interval("lease", m.Lease)
	each(c, "kept", m.Kept, (*Ref).check)
	each(c, "lost", m.Lost, (*Ref).check)
	each(c, "cancel", m.Cancel, (*Cancel).check)
}
