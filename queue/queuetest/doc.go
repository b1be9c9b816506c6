// Package queuetest checks that a [queue.Backend] does what its contract says.
//
// The author of a backend calls [Run] from a test of his own:
//
//	func TestBackend(t *testing.T) {
//		queuetest.Run(t, func(t *testing.T) queue.Backend { return memqueue.New() })
//	}
//
// Every case gets a backend of its own, empty, and says which sentence of the contract it checks when it fails. Time is passed to the
// backend, never waited for, so that a run is as fast as the backend. Decorators of backends, and clients of remote ones, are
// backends too: run it on them as well.
//
// Cases in which many goroutines do the same at once find what a backend decides by looking first and changing later; run the suite with
// the race detector, too. Those of the group Waker look only at a backend that is a [queue.Waker].
//
// One case, Walk, makes calls at random and checks what always holds: that every build that lives is in exactly one place, that epochs
// grow, that no concurrency key is over its limit, that a stale write changes nothing, and that what has ended stays as it is. When it
// fails it prints the shortest series of calls that it found; the flags of package rapid repeat it and make it longer (-rapid.checks,
// -rapid.seed).
package queuetest
