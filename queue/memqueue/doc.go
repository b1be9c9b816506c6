// Package memqueue is a queue backend in memory. It is the reference of what a backend does: one mutex, plain structs, no cleverness.
//
// It is for examples, for the tests of services that use a queue, and for property tests, which compare other backends with
// it. Without a time given it goes by [time.Now], so that it runs under testing/synctest: deadlines pass when the bubble's clock does.
//
//	q := queue.New(memqueue.New(), nil)
//
// It passes the suite of package queuetest like the backends on databases do, and guarantees what [queue.Backend] says with one
// exception: nothing survives the process, and no other process sees it. A service that must not lose builds uses another backend.
// Memory grows with every build until its retention is over.
package memqueue
