// Package queue is a build queue that a Go service embeds: it keeps builds in the service's own database, gives them to
// workers on any number of machines, and follows each attempt, its log and its artifacts to the end.
//
// A [Queue] is the front end: it checks arguments, fills in defaults and decides who is asked for what. What is stored, and every
// change of a build's state, is the business of a [Backend]: package pgqueue keeps a queue in PostgreSQL, sqlitequeue in an SQLite file,
// memqueue in memory. Builds are carried out by a [Worker], a function in this process, or on other machines by way of package worker;
// a service that has workers of yet another kind uses the methods of Queue as those two do.
//
// # Use
//
//	q := queue.New(backend, nil)
//	go q.Run(ctx) // in the service's group of goroutines
//	id, err := q.Submit(ctx, queue.Params{
//		Project: "site",
//		Labels:  queue.Labels{"os": "linux"},
//		Spec:    []byte(`{"command": ["make", "test"]}`),
//	})
//	if err != nil {
//		return err
//	}
//	b, err := q.Wait(ctx, "site", id) // b.State: succeeded, failed, …
//
// Some process must call [Queue.Run], and any number may: it does what is due, and passes hints from process to process. A process
// with workers, of either kind, runs it with them; one that only submits runs it too, so that its builds are claimed at once.
//
// # What it guarantees
//
//   - When Submit returns nil, the build is stored as durably as the database can. It is kept, and given to workers that fit,
//     until one reports its outcome, or its attempts or its time are used up, or somebody cancels it. It ends once.
//   - A build has one lease at a time. Each claim raises its epoch, and whatever a worker writes carries (build, epoch), the
//     [AttemptID]: it counts while that is the newest, and changes nothing afterwards. A build that has ended never changes again.
//   - A call whose outcome was not learned may be made again, and does not count twice; a Submit, if it names the id or has an
//     idempotency key. A claim whose answer was lost runs out, or is given back by the [Worker] that made it.
//   - A limit of a concurrency key is exact, whichever processes submit, claim and end at the time. A pause holds when the call that
//     makes it returns.
//   - A log is a stream of bytes with offsets. What an append has acknowledged is stored, in its place, and nothing is stored twice.
//   - Statistics are exact: a change counts with the change itself.
//   - A project sees its own builds only. For everybody else they do not exist: [ErrNotFound].
//   - Finding work costs the same however many builds wait, if they wait for other workers, and however many were there before.
//
// # What it does not
//
//   - A build may be started more than once, [Params].MaxAttempts times at most, because a worker that is silent may be dead or only
//     cut off. Its outcome counts once; what its command does to the world outside is not the queue's.
//   - Builds are claimed in the order of their ranks, by time and priority, as far as one process sees them. There is no exact order
//     among processes, and none across transactions that commit in another order than they began.
//   - Hints are hints: they may be lost, and everything that they make fast happens without them by a poll.
//   - Specs are opaque, and kept as they are: secrets do not belong in them.
//   - The bytes of sources and artifacts are elsewhere: package storage has them.
//
// # States
//
// A build is in one state. These are all the ways from one to another; [State.Next] has the same table. Whatever else happens
// to a build does not move it.
//
//	state       event            becomes
//	pending     claim            offered
//	pending     start            running
//	pending     cancel           canceled
//	pending     queue timeout    expired
//	offered     accept           running
//	offered     release          pending
//	offered     cancel           canceled
//	running     finish           succeeded, failed, canceled, timed_out, pending, lost
//	running     cancel           cancelling
//	running     deadline         timed_out
//	running     session lost     pending, lost
//	cancelling  finish           succeeded, failed, canceled, timed_out
//	cancelling  cancel deadline  canceled
//
// The states that are not on the left are terminal: no event leaves them, and a retry is a new build. A build is pending too while
// it is held back, because its pair of pool and labels is new, or because it waits after a lost attempt. Offering uses up no attempt,
// accepting does. A start is the claim of an in-process worker, which has no offer to answer, or the submit of a build in a process whose
// worker has a free slot.
//
// # Who waits for what
//
// A build that is submitted is queued in its class, its pair of pool and labels, unless something holds it: its NotBefore; that its class
// is new, which [Queue.Run] notes at once; or that it has to be admitted, because it has a concurrency key, its pool is fair or its
// project is paused. Admission happens outside of all submits and claims, a few builds at a time, and counts exactly. [Queue.Explain]
// says in words, and in facts, what a pending build lacks.
//
// In a class the rank decides: the time of the submit in microseconds, less a minute for each step of priority. So a build that has
// waited long enough comes before any that is newer. Fair pools rank by shares instead: see [Pool].
//
// # Hints
//
// What one process does concerns others: a build to claim, a cancel to pass on, a change to show. Within a process hints are immediate. To
// others they go by the backend, if it is a [Waker], from Run to Run, gathered for 10 ms at the most, or 100 ms if they only show changes. [Queue.Wakes] tells whoever looks
// for something when to look, [Queue.Watch] whoever waits for a build. Both poll behind the hints, more seldom the longer nothing happens.
//
// # Sessions, leases and the fence
//
// A worker's connection is a session, held by a process that is called a controller. A build that is running is leased to a session.
// A controller beats: it is alive for [Options].ControllerTTL after each [Queue.Beat], and grants or renews leases only then.
//
// When a connection breaks, the session is lost, and [Options].Grace begins for its running builds. A worker that comes back, to any
// controller, opens a new session, which ends the old one, and adopts what it still holds: nothing is lost, the command never
// noticed. If it does not come back with the build in time, or if its controller has not beaten for that long, the attempt is lost:
// the build is pending again after a back-off, and avoids that worker for a while, or ends as lost when its attempts are used up.
//
// The grace must be longer than the lease that the worker counts by itself plus the time it needs to kill a command. Then the old
// command is dead before a new one starts. If clocks, networks or people break that rule, the fence still holds: the old attempt's
// words do not count. A controller takes builds away from lost sessions only after it has itself been alive, without a gap, for
// the whole grace, so that nobody loses builds because the database was away.
//
// Times are the database's: no process's clock moves a deadline.
//
// # Implementing a Backend
//
// [Backend] is six roles of a few methods each; their comments are the contract. A backend makes changes of state, atomically, and
// nothing else: arguments come checked, errors are wrapped by the Queue, policy comes as arguments. Most methods are one conditional
// change of some rows, of which those that no longer fit are left out. Package memqueue is short and shows what each must do; package
// queuetest has a suite that every backend, and every decorator of one, must pass; docs/backends.md is a guide to both.
//
// # Testing
//
// A service's tests use memqueue, with [testing/synctest] if they are about time:
//
//	q := queue.New(memqueue.New(), nil)
//
// Packages pgqueuetest and sqlitequeuetest make a temporary queue on a real database in one line.
package queue
