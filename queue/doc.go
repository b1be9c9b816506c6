// Package queue is a build queue that a Go service embeds: it keeps builds in the service's own database, gives them to
// workers on any number of machines, and follows each attempt, its log and its artifacts to the end.
//
// A [Queue] is the front end: it checks arguments, fills in defaults and decides who is asked for what. What is stored, and every
// change of a build's state, is the business of a [Backend]: package pgqueue keeps a queue in PostgreSQL, sqlitequeue in an SQLite file,
// memqueue in memory. Package worker brings builds to machines over the network and back; a service that has workers of another
// kind uses the methods of Queue as that package does.
//
// # Use
//
//	q := queue.New(backend, nil)
//	id, err := q.Submit(ctx, queue.Params{
//		Project: "site",
//		Labels:  queue.Labels{"os": "linux"},
//		Spec:    []byte(`{"command": ["make", "test"]}`),
//	})
//	if err != nil {
//		return err
//	}
//	b, err := q.Get(ctx, "site", id) // b.State: pending, offered, running, …
//
// Some process must call [Queue.Maintain] every second or so. The process that holds workers' sessions does that, and also calls
// [Queue.Beat]. The examples show the life of an attempt.
//
// # What it guarantees
//
//   - When Submit returns nil, the build is stored as durably as the database can. It is kept, and given to workers that fit,
//     until one reports its outcome, or its attempts or its time are used up, or somebody cancels it. It ends once.
//   - A build has one lease at a time. Each claim raises its epoch, and whatever a worker writes carries (build, epoch), the
//     [AttemptID]: it counts while that is the newest, and changes nothing afterwards. A build that has ended never changes again.
//   - A call whose outcome was not learned may be made again, and does not count twice; a Submit, if it names the id. A claim whose
//     answer was lost runs out.
//   - A log is a stream of bytes with offsets. What an append has acknowledged is stored, in its place, and nothing is stored twice.
//   - A project sees its own builds only. For everybody else they do not exist: [ErrNotFound].
//   - Finding work costs the same however many builds wait, if they wait for other workers.
//
// # What it does not
//
//   - A build may be started more than once, [Params].MaxAttempts times at most, because a worker that is silent may be dead or only
//     cut off. Its outcome counts once; what its command does to the world outside is not the queue's.
//   - Builds are claimed roughly in the order in which they were submitted. There is no exact order among processes.
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
// accepting does. A start is the claim of an in-process worker, which has no offer to answer.
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
// [Backend] is five roles of a few methods each; their comments are the contract. A backend makes changes of state, atomically, and
// nothing else: arguments come checked, errors are wrapped by the Queue, policy comes as arguments. Most methods are one conditional
// change of some rows, of which those that no longer fit are left out. Package memqueue is short and shows what each must do; package
// queuetest has a suite that every backend, and every decorator of one, must pass.
//
// # Testing
//
// A service's tests use memqueue, with [testing/synctest] if they are about time:
//
//	q := queue.New(memqueue.New(), nil)
package queue
