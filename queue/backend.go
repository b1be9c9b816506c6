package queue

import (
	"context"
	"time"
)

// A Backend keeps a queue's rows. It is made of roles so that each stays small; one type usually implements them all.
//
// What holds for every method of every role:
//
//   - A method may be called by any number of goroutines and of processes at once.
//   - Arguments were checked by the [Queue]; a backend guards its own invariants and nothing else.
//   - A change is atomic and durable when the method returns nil. After an error the change was made wholly or not at all,
//     and the caller may call again: repeating a call changes nothing that the first one did.
//   - A change that is fenced by an [AttemptID] is made only if that attempt is the newest of its build and its state admits it.
//     Items that are stale are left out of the result and do not disturb the other items; they are not an error.
//   - A method that gets a time named now takes it for the present. The zero time, which is what a Queue passes, stands for the
//     backend's own clock: the database's, where there is one, so that processes with wrong clocks do no harm. Suites pass times.
//   - Time alone moves nothing. What runs out counts until Maintain, or whoever the change names, has moved it.
//   - Every method ends within a bounded time and when ctx ends, with an error, whatever the database does.
//   - Errors wrap [ErrNotFound], [ErrConflict], [ErrStaleLease] and [ErrQuota] where a method says so, and
//     [ErrUnavailable] when the database cannot be reached; they are not wrapped in [*Error], which is the Queue's.
//   - Slices and maps of arguments are not kept; those of results belong to the caller.
//
// The suite in package queuetest checks all this.
type Backend interface {
	Transitions
	Admission
	Sessions
	Logs
	Artifacts
	Records
}

// Transitions moves builds along the table of states.
type Transitions interface {
	// Submit inserts builds as [Pending], each with the rank of [NewBuild.Rank], and returns what became of each, in their order. A
	// build is queued if its class is known and nothing keeps it back. It is held until its NotBefore, until Maintain has made its
	// class, and until Admit lets it go, if it has a concurrency key, its pool is fair or its project is paused: so Submit never waits
	// for a lock that another submitter holds. If an id is taken, nothing is inserted and the error wraps ErrConflict. A build whose
	// idempotency key is known in its project is not inserted; if the hash is another than that of the first, nothing is, and the
	// error wraps ErrConflict. Of two builds with one key in a call the first counts as known to the second.
	//
	// A build that comes with a [Slot], in a call without idempotency keys, is given to that session in the same change instead of
	// being queued, as Claim would do it, unless the session has ended or is not direct, the pool is paused, or a build was queued in
	// its class before, within reach of the floor and with a lower rank.
	Submit(ctx context.Context, builds []NewBuild, now time.Time) ([]Submitted, error)

	// Probe tells which of the classes have queued builds within reach, and the ranks of the first of them, max of each class at most. It
	// orders classes by their lowest rank, and then by id. It takes no lock. It leaves out paused pools; builds of paused projects
	// may be among what it tells of.
	Probe(ctx context.Context, reaches []Reach, max int) ([]Front, error)

	// Claim gives queued builds to the sessions in demand: lowest rank first within the reach of a class, one build a slot. It raises
	// the epoch of each and makes it Offered until now+offer, or, if the session is direct, Running at once, until offer after the end
	// of its run timeout. It skips what others are
	// claiming at the moment, and never gives a build to the worker it avoids, nor one of a paused pool or project. A session that has
	// ended gets nothing.
	Claim(ctx context.Context, demand []Demand, offer time.Duration, now time.Time) ([]Claimed, error)

	// Accept makes Offered attempts Running if they are offered to that session, counts the attempt, stores the token hash and
	// starts the run timeout. Accepting again with the same hash returns the attempt again. What it returns may start.
	Accept(ctx context.Context, accepts []Acceptance, now time.Time) ([]AttemptID, error)

	// Release makes Offered attempts Pending again, without using up an attempt, and lets the build avoid the worker for the
	// given time.
	Release(ctx context.Context, ids []AttemptID, avoid time.Duration, now time.Time) ([]AttemptID, error)

	// Finish ends leased attempts with the outcomes that their workers report and fences their logs. An outcome of Lost makes a
	// Running build pending again after its back-off, avoiding the worker for the given time, or Lost if its attempts are used up; a
	// Cancelling one becomes Canceled. An outcome of Failed does the same with a Running build that is to be attempted again when it
	// fails and has attempts left. A build that was canceled and ends Canceled keeps the reason of its cancel. An attempt that is
	// leased to another session than the completion names is stale. Finishing an attempt again, when Finish ended it before, returns
	// the same result, whatever the second report says and whoever sends it, and changes nothing.
	Finish(ctx context.Context, ends []Completion, avoid time.Duration, now time.Time) ([]Finished, error)

	// Cancel ends Pending and Offered builds as Canceled and makes Running ones Cancelling until now+force. It returns the state of
	// each after that, in any order; builds that the project does not have are left out. Canceling again changes nothing.
	Cancel(ctx context.Context, project string, ids []ID, reason string, force time.Duration, now time.Time) ([]CanceledBuild, error)

	// Maintain moves along whatever is due, at most rules.Limit builds of each kind, and may run in many processes at once. If it
	// returns without More, nothing is left that was due when it began, but for what others were moving. With an error it may have made
	// a part of its changes: it returns the counts of that part. What cannot be done keeps nothing else from being done, unless ctx ends.
	//
	// Held builds are queued in the call that makes their class, or in which their time has come, unless they have to be admitted:
	// those are left to Admit. A build with a concurrency key gave up its place when it began to wait for its back-off. A build whose offer ran out avoids the worker for rules.Avoid;
	// one whose offer ended with its session does not. A Running build past its deadline is TimedOut, even if its session is lost
	// as well. Where nobody gave a reason, it stores that of the Event. Builds whose retention is over are deleted with all rows that
	// belong to them, except those whose log is being archived.
	Maintain(ctx context.Context, rules Rules, now time.Time) (Maintained, error)
}

// Admission decides which of the held builds may be claimed, outside of every submit, and keeps what it goes by.
//
// All changes of this role take turns: what one has decided by counting holds until it has committed.
type Admission interface {
	// Admit queues held builds whose class is known, whose time has come and which wait for nothing but to be admitted. It looks at
	// lanes in order, from the one after the given on, at most at max of them, and moves at most max builds. What a lane has left then
	// waits until its turn comes again.
	//
	// Builds of a paused project stay held, and those of it that are queued are held again. Builds with a concurrency key stay held
	// while those of the key that are queued, Offered, Running or Cancelling reach its limit, while no live session serves their
	// class (see Serve), and while their pool is paused. Where builds of a key wait, in whatever pool, those of it that are queued and
	// that no live session serves, or that are in a paused pool, are held again: they would take up its room.
	//
	// In a fair pool builds stay held while no live session serves their class, and where builds of a project wait, those of it that are
	// queued there and that no live session serves are held again: they would take up its window. A project has at most [FairWindow]
	// builds queued in a fair pool, and their ranks are virtual times instead of those of [NewBuild.Rank], by which it takes them: the
	// k-th build that a project is admitted begins at the greater of the pool's virtual time and the end of its build before, and ends
	// [FairStep]/weight later; its rank is its begin. The pool's virtual time is the lowest rank that is queued in it and served, or,
	// if nothing is, the greatest end it gave.
	//
	// The lanes of a project in a fair pool have one window: of those that a call looks at the lowest ranks come first, as far as it
	// looks into each, whatever their keys are. A call that has looked at other lanes leaves them to the next if they are too many to
	// be looked at together; one that begins with them leaves some of the window to those behind. So none waits for good for its
	// turn, however full the others are.
	Admit(ctx context.Context, after Lane, max int, now time.Time) (Admitted, error)

	// ChangePool sets what is not nil, and holds what is queued in a pool that becomes fair or ceases to be, so that Admit ranks it
	// anew. What was claimed when its pool became fair, and comes back, is held by Maintain at the latest: its rank would be behind
	// all others for good.
	ChangePool(ctx context.Context, name string, change PoolChange) error

	// Pools returns the pools that were ever changed, ordered by name.
	Pools(ctx context.Context) ([]Pool, error)

	// ChangeProject sets what is not nil.
	ChangeProject(ctx context.Context, name string, change ProjectChange) error

	// Projects returns the projects with names above after, in the order of their bytes, at most max.
	Projects(ctx context.Context, after string, max int) ([]Project, error)

	// SetLimit sets the limit of a concurrency key, or takes it away if Max is zero.
	SetLimit(ctx context.Context, limit Limit) error

	// Limits returns the limits of a project with keys above after, in the order of their bytes, at most max.
	Limits(ctx context.Context, project, after string, max int) ([]Limit, error)
}

// How a fair pool admits builds.
const (
	// FairWindow is how many builds of a project are queued in a fair pool at a time.
	FairWindow = 256
	// FairStep is how far the virtual time of a project of weight 1 moves with each of its builds.
	FairStep = 1 << 20
)

// Sessions keeps controllers alive and ties leases to the connections of workers.
type Sessions interface {
	// Beat says that a controller is alive until now+ttl, making its row if need be, and returns what it should know. A controller
	// whose row had run out starts being fresh anew.
	Beat(ctx context.Context, controller ID, ttl time.Duration, now time.Time) (Beat, error)

	// OpenSessions begins sessions, as if one after the other, and ends any other of the same workers, as replaced: those are lost
	// from now on, if they were not already. So of several for one worker the last stays. Leases stay where they are until Adopt. A
	// controller that has never beaten counts as alive until now. The result has the order of the argument.
	OpenSessions(ctx context.Context, sessions []NewSession, now time.Time) ([]Opened, error)

	// Adopt gives the session those leases of its worker's earlier sessions that the worker says it holds, and tells how each
	// stands: the attempt is left out if it is stale. What the worker does not hold is released if Offered, and left to its grace
	// otherwise, on a session that has ended: the list may be older than the attempt, if the message that brings it was late and
	// the worker was given the attempt by another connection meanwhile.
	// An attempt that is held and still Offered moves to the session and waits for its Accept. Attempts of the worker that Finish
	// ended come back with their outcome. ErrNotFound if the session has ended: then nothing changes.
	Adopt(ctx context.Context, session SessionID, held []AttemptID, now time.Time) (Adopted, error)

	// LoseSessions notes that the connections of sessions are gone: their Offered builds are pending at once, the grace of
	// their Running ones begins. Sessions that have ended or are lost already are left as they are.
	LoseSessions(ctx context.Context, sessions []SessionID, now time.Time) error

	// Leases returns every build that is Offered to, Running or Cancelling on a session of the controller that has not ended; only
	// the Cancelling ones if cancelling is set. Both are found by an index, whatever the number of builds.
	Leases(ctx context.Context, controller ID, cancelling bool) ([]Lease, error)

	// Lease returns how an attempt stands and what its holder may use. ErrStaleLease unless it is Running or Cancelling.
	Lease(ctx context.Context, id AttemptID) (Lease, error)

	// Serve says that live sessions serve these classes until now+ttl. What was said before for longer stays.
	Serve(ctx context.Context, classes []ClassID, ttl time.Duration, now time.Time) error
}

// Logs keeps each attempt's log: a stream of bytes addressed by offset.
type Logs interface {
	// AppendLogs adds bytes at the ends of logs, for leased attempts. Bytes that are stored already are dropped; a write that
	// begins after the end stores nothing. The result holds, for each attempt that is not stale, the length that is stored now.
	// No attempt comes twice in one call. Of a chunk that would take a log beyond the limit the part that fits is stored, to the byte,
	// and the log is cut: later chunks store nothing and are not stale.
	AppendLogs(ctx context.Context, chunks []LogChunk, limit LogLimit, now time.Time) ([]LogLength, error)

	// ReadLog returns at most max bytes from offset on; none at or after the end. ErrNotFound if there is no such build in the
	// project or no such attempt. A zero epoch stands for the newest attempt that was accepted.
	// Of a log that is in the archive it returns all but the data.
	ReadLog(ctx context.Context, project string, id AttemptID, offset int64, max int) (LogPage, error)

	// ClosedLogs returns logs of ended attempts that have bytes and are not in the archive, at most max, and keeps them from other
	// callers until now+hold. It leaves out those whose place in the archive is still that of a dropped log, of a build that had the
	// same id.
	ClosedLogs(ctx context.Context, max int, hold time.Duration, now time.Time) ([]ClosedLog, error)

	// ArchiveLog notes that a log is in the archive and drops its bytes. Repeating it changes nothing. ErrNotFound if the log is not
	// there or not closed. A closed log without bytes is left as it is: nothing of it is in the archive.
	ArchiveLog(ctx context.Context, id AttemptID) error

	// DroppedLogs returns logs of deleted builds that are in the archive or may be, at most max, and keeps them from other callers until
	// now+hold. Those that it never returned before come first, then those whose time is over for longest. Maintain notes them as it
	// deletes the builds: those that are archived, and those that ClosedLogs has ever returned. They are known until ForgetLogs.
	DroppedLogs(ctx context.Context, max int, hold time.Duration, now time.Time) ([]DroppedLog, error)

	// ForgetLogs forgets dropped logs that are not in the archive any more. Those that are not known are passed over.
	ForgetLogs(ctx context.Context, ids []AttemptID) error
}

// Artifacts keeps the rows of attempts' outputs. The bytes are elsewhere.
type Artifacts interface {
	// ReserveArtifact notes that a leased attempt is about to upload an artifact. Reserving the same name, digest and size again
	// returns the row that is there. ErrStaleLease; ErrConflict if the attempt has that name with other content; ErrQuota if the
	// project's artifacts, this one included, would be more than its quota, however many reserve at once.
	ReserveArtifact(ctx context.Context, a NewArtifact, now time.Time) (Artifact, error)

	// CommitArtifact shows a reserved artifact to readers, once its bytes are in the storage. ErrStaleLease; ErrNotFound.
	CommitArtifact(ctx context.Context, id AttemptID, name string, now time.Time) (Artifact, error)

	// ReleaseArtifact takes back a reservation of a leased attempt, or does nothing if it is not there or committed. Maintain takes back
	// those of attempts that have ended. ErrStaleLease.
	ReleaseArtifact(ctx context.Context, id AttemptID, name string, now time.Time) error

	// ListArtifacts returns the committed artifacts of an attempt, ordered by name. ErrNotFound as for ReadLog; a zero epoch likewise.
	ListArtifacts(ctx context.Context, project string, id AttemptID) ([]Artifact, error)
}

// Records reads what is stored.
type Records interface {
	// Get returns a build. ErrNotFound.
	Get(ctx context.Context, project string, id ID) (Build, error)

	// List returns builds, newest id first, without their specs.
	List(ctx context.Context, filter Filter) ([]Build, error)

	// Attempts returns the attempts of a build, oldest first. ErrNotFound.
	Attempts(ctx context.Context, project string, id ID) ([]Attempt, error)

	// Classes returns the classes whose id is above after, in order of id, at most max. A class never becomes visible after one with a
	// higher id, so that a reader who remembers the highest misses none.
	Classes(ctx context.Context, after ClassID, max int) ([]Class, error)

	// Specs returns the specs of claimed builds, for those that Claim left out.
	Specs(ctx context.Context, ids []ID) (map[ID][]byte, error)

	// Stats returns what was counted for a project, or for all if it is empty, from the first day to the last.
	Stats(ctx context.Context, project string, first, last time.Time) (Stats, error)

	// Explain returns what a build waits in. ErrNotFound. Of a build that is not Pending it returns the build alone.
	Explain(ctx context.Context, project string, id ID, now time.Time) (Circumstances, error)

	// Ping returns nil if the backend answers and its schema is one that this code can work with.
	Ping(ctx context.Context) error
}

// A Waker is a [Backend] that can tell other processes what changed. A Queue on a backend that is none polls.
type Waker interface {
	// Notify passes a hint on to all that listen, soon, or not at all.
	Notify(ctx context.Context, hint Hint) error

	// Listen calls wake with the hints of all processes, its own too, until ctx ends or the connection is lost, and returns why. It
	// begins with a hint of Any, once it listens. Calls of wake do not overlap.
	Listen(ctx context.Context, wake func(Hint)) error
}
