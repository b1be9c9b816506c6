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
//   - Errors wrap [ErrNotFound], [ErrConflict], [ErrFinished], [ErrStaleLease] and [ErrGap] where a method says so, and
//     [ErrUnavailable] when the database cannot be reached; they are not wrapped in [*Error], which is the Queue's.
//   - Slices and maps of arguments are not kept; those of results belong to the caller.
//
// The suite in package queuetest checks all this.
type Backend interface {
	Transitions
	Sessions
	Logs
	Artifacts
	Records
}

// Transitions moves builds along the table of states.
type Transitions interface {
	// Submit inserts builds as [Pending]. A build whose class is known is queued; any other is held until Maintain has made
	// its class, so that Submit never waits for a lock that another submitter holds. If any id is taken, nothing is inserted and
	// the error wraps ErrConflict.
	Submit(ctx context.Context, builds []NewBuild, now time.Time) error

	// Probe tells which of the classes have queued builds, how many of them (counting to max at most) and the lowest rank,
	// ordered by that rank. It takes no lock.
	Probe(ctx context.Context, classes []ClassID, max int) ([]Head, error)

	// Claim gives queued builds to the sessions in demand: lowest rank first within a class, one build a slot. It raises the
	// epoch of each and makes it Offered until now+offer, or Running at once if the session is direct. It skips what others are
	// claiming at the moment, and never gives a build to the worker it avoids. A session that has ended gets nothing.
	Claim(ctx context.Context, demand []Demand, offer time.Duration, now time.Time) ([]Claimed, error)

	// Accept makes Offered attempts Running if they are offered to that session, counts the attempt, stores the token hash and
	// starts the run timeout. Accepting again with the same hash returns the attempt again. What it returns may start.
	Accept(ctx context.Context, accepts []Acceptance, now time.Time) ([]AttemptID, error)

	// Release makes Offered attempts Pending again, without using up an attempt, and lets the build avoid the worker for the
	// given time.
	Release(ctx context.Context, ids []AttemptID, avoid time.Duration, now time.Time) ([]AttemptID, error)

	// Finish ends leased attempts with the outcomes their workers report and fences their logs. An outcome of Lost makes a
	// Running build pending again after its back-off, avoiding the worker, or Lost if its attempts are used up; a Cancelling
	// one becomes Canceled. A build that was canceled and ends Canceled keeps the reason of its cancel. Finishing an attempt again,
	// when Finish ended it before, returns the same result, whatever the second report says, and changes nothing.
	Finish(ctx context.Context, ends []Completion, retry Retry, now time.Time) ([]Finished, error)

	// Cancel ends a Pending or Offered build as Canceled and makes a Running one Cancelling until now+force. It returns the
	// build's state after that; canceling again changes nothing. ErrNotFound; ErrFinished for a build that has ended otherwise.
	Cancel(ctx context.Context, project string, id ID, reason string, force time.Duration, now time.Time) (State, error)

	// Maintain moves along whatever is due, at most rules.Limit builds of each kind, and may run in many processes at once. If it
	// returns without More, nothing is left that was due when it began, but for what others were moving. With an error it may have made
	// a part of its changes: it returns the counts of that part.
	//
	// Held builds are queued in the call that makes their class. A build whose offer ran out avoids the worker for rules.Avoid;
	// one whose offer ended with its session does not. A Running build past its deadline is TimedOut, even if its session is lost
	// as well. Where nobody gave a reason, it stores that of the Event.
	Maintain(ctx context.Context, rules Rules, now time.Time) (Maintained, error)
}

// Sessions keeps controllers alive and ties leases to the connections of workers.
type Sessions interface {
	// Beat says that a controller is alive until now+ttl, making its row if need be, and returns what it should know. A controller
	// whose row had run out starts being fresh anew.
	Beat(ctx context.Context, controller ID, ttl time.Duration, now time.Time) (Beat, error)

	// OpenSession begins a session and ends any other of the same worker, as replaced: it is lost from now on, if it was not
	// already. Leases stay where they are until Adopt. A controller that has never beaten counts as alive until now.
	OpenSession(ctx context.Context, s NewSession, now time.Time) (SessionID, error)

	// Adopt gives the session those leases of its worker's earlier sessions that the worker says it holds, and tells how each
	// stands: the attempt is left out if it is stale. What the worker does not hold is released if Offered, and left to its grace
	// otherwise, on a session that has ended: the list may be older than the attempt, if the message that brings it was late and
	// the worker was given the attempt by another connection meanwhile.
	// An attempt that is held and still Offered moves to the session and waits for its Accept. Attempts of the worker that Finish
	// ended come back with their outcome. ErrNotFound if the session has ended: then nothing changes.
	Adopt(ctx context.Context, session SessionID, held []AttemptID, now time.Time) ([]Lease, error)

	// LoseSessions notes that the connections of sessions are gone: their Offered builds are pending at once, the grace of
	// their Running ones begins. Sessions that have ended or are lost already are left as they are.
	LoseSessions(ctx context.Context, sessions []SessionID, now time.Time) error

	// Leases returns every build that is Offered to, Running or Cancelling on a session of the controller that has not ended; only
	// the Cancelling ones if cancelling is set. Both are found by an index, whatever the number of builds.
	Leases(ctx context.Context, controller ID, cancelling bool) ([]Lease, error)

	// Lease returns how an attempt stands and what its holder may use. ErrStaleLease unless it is Running or Cancelling.
	Lease(ctx context.Context, id AttemptID) (Lease, error)
}

// Logs keeps each attempt's log: a stream of bytes addressed by offset.
type Logs interface {
	// AppendLogs adds bytes at the ends of logs, for leased attempts. Bytes that are stored already are dropped; a write that
	// begins after the end stores nothing. The result holds, for each attempt that is not stale, the length that is stored now.
	// No attempt comes twice in one call.
	AppendLogs(ctx context.Context, chunks []LogChunk, now time.Time) ([]LogLength, error)

	// ReadLog returns at most max bytes from offset on; none at or after the end. ErrNotFound if there is no such build in the
	// project or no such attempt. A zero epoch stands for the newest attempt that was accepted.
	ReadLog(ctx context.Context, project string, id AttemptID, offset int64, max int) (LogPage, error)
}

// Artifacts keeps the rows of attempts' outputs. The bytes are elsewhere.
type Artifacts interface {
	// ReserveArtifact notes that a leased attempt is about to upload an artifact. Reserving the same name, digest and size again
	// returns the row that is there. ErrStaleLease; ErrConflict if the attempt has that name with other content.
	ReserveArtifact(ctx context.Context, a NewArtifact, now time.Time) (Artifact, error)

	// CommitArtifact shows a reserved artifact to readers, once its bytes are in the storage. ErrStaleLease; ErrNotFound.
	CommitArtifact(ctx context.Context, id AttemptID, name string, now time.Time) (Artifact, error)

	// ListArtifacts returns the committed artifacts of an attempt, ordered by name. ErrNotFound as for ReadLog; a zero epoch likewise.
	ListArtifacts(ctx context.Context, project string, id AttemptID) ([]Artifact, error)
}

// Records reads what is stored.
type Records interface {
	// Get returns a build. ErrNotFound.
	Get(ctx context.Context, project string, id ID) (Build, error)

	// List returns builds of a project, newest id first, without their specs.
	List(ctx context.Context, filter Filter) ([]Build, error)

	// Attempts returns the attempts of a build, oldest first. ErrNotFound.
	Attempts(ctx context.Context, project string, id ID) ([]Attempt, error)

	// Classes returns the classes whose id is above after, in order of id, at most max. A class never becomes visible after one with a
	// higher id, so that a reader who remembers the highest misses none.
	Classes(ctx context.Context, after ClassID, max int) ([]Class, error)

	// Specs returns the specs of claimed builds, for those that Claim left out.
	Specs(ctx context.Context, ids []ID) (map[ID][]byte, error)

	// Ping returns nil if the backend answers and its schema is one that this code can work with.
	Ping(ctx context.Context) error
}
