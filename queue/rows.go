package queue

import (
	"math"
	"time"
)

// A ClassID is the number of a class. Zero names none.
type ClassID int32

// A Class is a pool and a set of required labels. A backend gives each distinct pair a number, so that finding
// work for a worker is a look-up by number however many builds wait.
type Class struct {
	ID     ClassID
	Pool   string
	Labels Labels
}

// A Submitted tells what became of one build of a Submit.
type Submitted struct {
	// ID is the build's: that of the earlier one, if its idempotency key is known.
	ID ID
	// Class is what it is queued in, or would be if it had not started. Zero if it is held, or if it was submitted before.
	Class ClassID
	// Rank is its place in that queue.
	Rank int64
	// Waiting says that it is held for something that [Queue.Maintain] or Admit can clear away now: its class is not known yet, or it
	// has to be admitted.
	Waiting bool
	// Started says that it is Running in the [Slot] that it came with: its first attempt, with epoch 1.
	Started bool
}

// A Slot is a free one of a direct session, which a build takes at its submit if it may: see [Transitions] Submit. The zero Slot is none.
type Slot struct {
	Session SessionID
	// Floor is where to look for builds that are to be claimed before.
	Floor int64
	// Slack is how long after the end of its run timeout the build's outcome is awaited.
	Slack time.Duration
}

// NoFloor is a floor that is below every rank.
const NoFloor int64 = math.MinInt64

// A Reach says where to look for queued builds: in a class, from a rank on. The floor saves a backend from walking over what was claimed
// long ago and cannot be cleared away yet; builds below it are not found.
type Reach struct {
	Class ClassID
	Floor int64
}

// A Head tells of a class in which builds were queued.
type Head struct {
	Class ClassID
	Rank  int64 // of the one that comes first: lower ranks are claimed first
	Count int   // how many they are, if that is known
}

// A Front is what [Transitions] Probe tells of a class that has queued builds.
type Front struct {
	Class ClassID
	Ranks []int64 // of the builds that come first, lowest first, up to the number that was asked for; one at least
}

// A SessionID is the number of a session. Zero names none.
type SessionID int64

// A Demand asks for queued builds of one class: as many as it has slots.
type Demand struct {
	Reach
	// Slots holds a session for each build that is wanted; a session with several idle slots stands in it several times.
	Slots []SessionID
}

// MaxClaim is the largest number of slots in all the demands of one Claim.
const MaxClaim = 512

// InlineSpec is the largest spec, in bytes, that Claim returns with the claim. Larger ones are read with Specs, so that the answer
// to a claim is bounded.
const InlineSpec = 8 << 10

// A Claimed is a build that was given to a session.
type Claimed struct {
	AttemptID
	Session    SessionID
	Class      ClassID // the demand it fills
	Rank       int64   // the place it had in the queue of that class
	Project    string
	Pool       string
	Spec       []byte // nil if SpecSize is above InlineSpec
	SpecSize   int
	Source     *Source
	RunTimeout time.Duration
	// Attempt counts the attempts that were used before, and this one if it is Running.
	Attempt  int
	Metadata map[string]string
	// Admitted says that the build came by way of Admit: its claim may have made room for another.
	Admitted bool
}

// An Acceptance is a worker's yes to an offer.
type Acceptance struct {
	AttemptID
	Session SessionID
	// TokenHash is the SHA-256 of the secret that the worker made for this attempt.
	TokenHash Digest
	// Slack is how long after the run timeout the worker's report is awaited.
	Slack time.Duration
}

// A Completion is a worker's report of the end of an attempt.
type Completion struct {
	AttemptID
	// Session is who reports. Zero: whoever holds the lease.
	Session SessionID
	// Outcome is Succeeded, Failed, Canceled, TimedOut, or Lost for an attempt that the worker could not carry through, by
	// no fault of the build.
	Outcome  State
	Reason   string
	ExitCode *int // from -1<<31 to 1<<32-1: what operating systems have
	Signal   string
	// LogLength and LogSHA256 are of all the log bytes that the worker sent or, if LogPartial, would have sent.
	LogLength  int64
	LogSHA256  Digest
	LogPartial bool
}

// A Finished is a completion that counted, and the state it led to.
type Finished struct {
	AttemptID
	State State
	// Admitted says that the build had come by way of Admit: its end may have made room for another. Where the attempt had been finished
	// before, this counts for nothing: it made room then.
	Admitted bool
}

// A CanceledBuild tells what became of a build that was to be canceled.
type CanceledBuild struct {
	ID ID
	// State is the build's state now: Canceled, Cancelling, or the end that it had come to before.
	State State
	// Admitted says that the build had come by way of Admit and that this call has ended it: it has made room for another. One that is
	// Cancelling makes room when it ends.
	Admitted bool
}

// Rules are what Maintain goes by.
type Rules struct {
	// Controller is who asks. Leases of lost sessions and dead controllers are swept only if it has been fresh for Grace;
	// the zero ID never sweeps them.
	Controller ID
	// Grace is how long after its session was lost, or its controller last alive, a lease is swept.
	Grace time.Duration
	// Avoid is how long a build is not given to a worker that let an offer run out, or lost it.
	Avoid time.Duration
	// KeepKeys is how long after a build's end its idempotency key is kept.
	KeepKeys time.Duration
	// Retention is how long after its end a build is kept, with all that belongs to it. Zero: forever.
	Retention time.Duration
	// Limit bounds how many builds of each kind one call moves.
	Limit int
}

// Maintained counts what one call of Maintain did.
type Maintained struct {
	Interned  int // classes made
	Queued    int // held builds that may now be claimed
	Expired   int // pending builds that waited too long
	Released  int // offers that ran out or whose session is lost
	TimedOut  int // running builds past their deadline
	Canceled  int // cancelling builds past theirs
	Requeued  int // attempts lost with their session, to be attempted again
	Lost      int // builds lost for good
	Forgotten int // rows of ended sessions and dead controllers removed, idempotency keys and reservations that had their time
	Folded    int // statistics' deltas added up
	Deleted   int // builds whose retention is over
	// Heads are the classes in which builds were queued, each with the lowest rank of those.
	Heads []Head
	// More says that a limit was reached: call again soon.
	More bool
}

// A Lane is where held builds wait to be admitted, in order of their ranks: those of a pool and a project that have the same
// concurrency key.
type Lane struct {
	Pool, Project, Key string
}

// An Admitted tells what a call of Admit did.
type Admitted struct {
	Queued int // held builds that may now be claimed
	Held   int // queued builds that are held again
	// Heads are the classes in which builds were queued, each with the lowest rank of those.
	Heads []Head
	// Next is the lane to go on from: the last that was looked at. The zero Lane says that all were.
	Next Lane
}

// A Hint says what changed. Hints may be lost, and may be about nothing: whoever gets one looks, and looks now and then without one.
type Hint struct {
	// From is the controller whose process sends the hint: it need not be told. The zero ID stands for anybody.
	From ID
	// Heads are classes in which builds were queued, each with the lowest rank of those. Counts need not travel.
	Heads []Head
	// Waiting says that there are builds to be admitted, or whose class is to be made.
	Waiting bool
	// Cancel says that running builds are to be canceled.
	Cancel bool
	// Changed are builds whose state changed.
	Changed []ID
	// Any says that more changed than a hint holds.
	Any bool
}

// A NewSession describes a worker's connection.
type NewSession struct {
	Controller ID     // who holds the connection
	Worker     string // who is connected
	Instance   string // which process of the worker: a new one at each start
	Labels     Labels
	Pools      []string
	Slots      int
	// Direct sessions claim straight into Running: there is no offer to answer, and none that runs out. Whoever opens one looks
	// at [Queue.Leases] now and then, and ends as Lost what it does not know: a claim whose answer did not arrive.
	Direct bool
}

// An Opened is a session that has begun.
type Opened struct {
	Session SessionID
	// Offers says that builds are Offered to earlier sessions of the worker, for Adopt to settle. Without them, and for a worker that
	// holds nothing, there is nothing to adopt. An offer that is just being made may be missed: Maintain takes it back.
	Offers bool
}

// An Adopted is what has come of an adoption.
type Adopted struct {
	Leases []Lease // how what the worker holds stands
	// Released is how many Offered builds were made Pending again.
	Released int
}

// A Beat is what a controller learns when it says that it is alive.
type Beat struct {
	// Fresh is how long the controller has been alive without a gap.
	Fresh time.Duration
	// Ended are the controller's sessions that newer sessions of the same workers have replaced.
	Ended []SessionID
}

// A Lease is the right of a session to one attempt, and what goes with it.
type Lease struct {
	AttemptID
	Session   SessionID
	Worker    string
	Project   string
	State     State
	TokenHash Digest
	Source    *Source
	Reason    string // of a cancel
	LogLength int64  // bytes stored
	// RunLeft is how much of the run timeout is left, without slack; zero unless Running.
	RunLeft time.Duration
}

// MaxLogChunk is the largest piece of a log that is appended at once, in bytes. Readers read whole pieces.
const MaxLogChunk = 8 << 20

// A LogChunk is a piece of an attempt's log that begins at Offset.
type LogChunk struct {
	AttemptID
	Offset int64
	Data   []byte
}

// A LogLimit bounds each log. What comes after it is dropped, and the log is cut.
type LogLimit struct {
	Bytes int64
	// Lines is how many newline characters there may be. Nothing is stored after the last of them.
	Lines int64
}

// A LogLength tells how many bytes of an attempt's log are stored.
type LogLength struct {
	AttemptID
	Length int64
	// Cut says that the log has reached its limit: nothing more will be stored.
	Cut bool
}

// A ClosedLog is the log of an attempt that has ended.
type ClosedLog struct {
	AttemptID
	Project string
	Length  int64 // bytes
}

// A DroppedLog is the log of an attempt whose build was deleted, as far as the archive has it.
type DroppedLog struct {
	AttemptID
	Project string
}

// MaxLogRead is the largest number of bytes that one call of [Queue.ReadLog] returns.
const MaxLogRead = 1 << 20

// A LogPage is a piece of a log as it is read.
type LogPage struct {
	AttemptID
	Offset int64
	Data   []byte
	Length int64 // bytes stored
	// Closed says that nothing will be added any more: the attempt has ended.
	Closed bool
	// Cut says that the log was longer than it may be: its rest was dropped after Length bytes.
	Cut bool
	// Archived says that the bytes are in the archive. A backend returns such a page without data, the [Queue] adds them.
	Archived bool
}

// CutMark is what readers show after the end of a log that was cut.
const CutMark = "\n[slipway: the log was longer than allowed and is cut here]\n"

// A NewArtifact is an output that an attempt is about to upload.
type NewArtifact struct {
	AttemptID
	Name   string
	Digest Digest
	Size   int64
}

// A Filter says which builds to list. What is left zero does not restrict.
type Filter struct {
	// Project is whose builds are listed. Required, unless AllProjects is set, which is for those who run the queue.
	Project     string
	AllProjects bool
	States      []State
	Pool        string
	Worker      string // who holds the build, or held it last
	// Before is a cursor: only builds with smaller ids. Zero: from the newest on. [IDAt] makes a time of it.
	Before ID
	// Since is the other end: only builds with this id or greater ones.
	Since ID
	// Limit is the largest number of builds, at most [MaxPage]. Default: 50.
	Limit int
}

// MaxPage is the largest page of a list.
const MaxPage = 200
