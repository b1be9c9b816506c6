package queue

import (
	"context"
	"math"
	"time"
)

// An Offer is a build that was given to a session of this process, whole: what a worker needs to decide and to run.
type Offer struct {
	Claimed
	// Expires is how long the worker has to answer.
	Expires time.Duration
}

// Accept makes an offered attempt running for the session it was offered to, and stores the hash of its build token. Accepting again
// with the same hash changes nothing.
//
// Errors: [ErrStaleLease]: the offer ran out, was canceled, or is not this session's. The worker must not start.
func (q *Queue) Accept(ctx context.Context, session SessionID, id AttemptID, tokenHash Digest) error {
	accept := Acceptance{AttemptID: id, Session: session, TokenHash: tokenHash, Slack: q.opts.Slack}
	done, err := q.backend.Accept(ctx, []Acceptance{accept}, time.Time{})
	return wrap("accept", id.Build, stale(len(done), err))
}

// Release gives back an attempt that was offered and will not be accepted. The build is pending again, has used up no attempt,
// and is not offered to the same worker for [Options.Avoid].
//
// Errors: [ErrStaleLease]: the attempt is not offered any more.
func (q *Queue) Release(ctx context.Context, id AttemptID) error {
	done, err := q.backend.Release(ctx, []AttemptID{id}, q.opts.Avoid, time.Time{})
	if err == nil && len(done) > 0 {
		q.Wake()
	}
	return wrap("release", id.Build, stale(len(done), err))
}

// Withdraw takes back offers that never reached their workers: the builds are pending again, have used up no attempt, and may be offered to
// anybody at once. Those that are not offered any more are left as they are. At most [MaxBatch] at once.
func (q *Queue) Withdraw(ctx context.Context, ids ...AttemptID) error {
	if len(ids) == 0 {
		return nil
	}
	if len(ids) > MaxBatch {
		return wrap("withdraw", ID{}, invalid("batch", "must be at most %d attempts", MaxBatch))
	}
	done, err := q.backend.Release(ctx, ids, 0, time.Time{})
	if len(done) > 0 {
		q.Wake()
	}
	return wrap("withdraw", ID{}, err)
}

// Finish ends an attempt with the outcome its worker reports, and returns the state it led to. Reporting again returns the
// same state and changes nothing. An outcome of [Lost] says that the worker failed, not the build: the build is attempted
// again while it has attempts left.
//
// Errors: [ErrInvalid]; [ErrStaleLease].
func (q *Queue) Finish(ctx context.Context, end Completion) (State, error) {
	switch end.Outcome {
	case Succeeded, Failed, Canceled, TimedOut, Lost:
	default:
		return 0, wrap("finish", end.Build, invalid("outcome", "must not be %v", end.Outcome))
	}
	if end.LogLength < 0 {
		return 0, wrap("finish", end.Build, invalid("log length", "must not be negative"))
	}
	if code := end.ExitCode; code != nil && (int64(*code) < math.MinInt32 || int64(*code) > math.MaxUint32) {
		return 0, wrap("finish", end.Build, invalid("exit code", "must be a number of 32 bits"))
	}
	end.Reason, end.Signal = legible(end.Reason), legible(end.Signal)
	done, err := q.backend.Finish(ctx, []Completion{end}, q.opts.retry(), time.Time{})
	if err := stale(len(done), err); err != nil {
		return 0, wrap("finish", end.Build, err)
	}
	if done[0].State == Pending {
		q.Wake()
	}
	return done[0].State, nil
}

// Lease returns how a running attempt stands and what its holder may use.
//
// Errors: [ErrStaleLease] unless the attempt is [Running] or [Cancelling].
func (q *Queue) Lease(ctx context.Context, id AttemptID) (Lease, error) {
	lease, err := q.backend.Lease(ctx, id)
	return lease, wrap("lease", id.Build, err)
}

// AppendLog adds bytes to the log of a running attempt at an offset, and returns how many bytes are stored now. Bytes that are
// stored already are dropped, so a write may be repeated.
//
// Errors: [ErrStaleLease]; [ErrGap] if offset is beyond the end: nothing was stored, go on from the length that is returned.
func (q *Queue) AppendLog(ctx context.Context, chunk LogChunk) (int64, error) {
	if err := chunk.check(); err != nil {
		return 0, wrap("append log", chunk.Build, err)
	}
	lengths, err := q.backend.AppendLogs(ctx, []LogChunk{chunk}, time.Time{})
	if err := stale(len(lengths), err); err != nil {
		return 0, wrap("append log", chunk.Build, err)
	}
	length := lengths[0].Length
	if length < chunk.Offset {
		return length, wrap("append log", chunk.Build, ErrGap)
	}
	return length, nil
}

// AppendLogs is [Queue.AppendLog] for several attempts at once, at most [MaxBatch], none of them twice. It returns the stored length of
// each that is not stale. A length below a chunk's offset means a gap: nothing of that chunk was stored.
//
// Errors: [ErrInvalid].
func (q *Queue) AppendLogs(ctx context.Context, chunks []LogChunk) ([]LogLength, error) {
	if len(chunks) > MaxBatch {
		return nil, wrap("append log", ID{}, invalid("batch", "must be at most %d chunks", MaxBatch))
	}
	seen := make(map[AttemptID]bool, len(chunks))
	var size int
	for _, c := range chunks {
		if err := c.check(); err != nil {
			return nil, wrap("append log", c.Build, err)
		}
		if size += len(c.Data); size > MaxBatchBytes {
			return nil, wrap("append log", ID{}, invalid("batch", "must be at most %d bytes in all", MaxBatchBytes))
		}
		if seen[c.AttemptID] {
			return nil, wrap("append log", c.Build, invalid("attempt", "must not come twice"))
		}
		seen[c.AttemptID] = true
	}
	lengths, err := q.backend.AppendLogs(ctx, chunks, time.Time{})
	return lengths, wrap("append log", ID{}, err)
}

func (c *LogChunk) check() error {
	if c.Offset < 0 || c.Offset > math.MaxInt64-int64(len(c.Data)) {
		return invalid("offset", "must be a number of bytes")
	}
	if len(c.Data) > MaxLogChunk {
		return invalid("log chunk", "must be at most %d bytes", MaxLogChunk)
	}
	return nil
}

// ReadLog returns at most max bytes of an attempt's log from offset on. An epoch of zero stands for the newest attempt.
//
// Errors: [ErrInvalid]; [ErrNotFound].
func (q *Queue) ReadLog(ctx context.Context, project string, id AttemptID, offset int64, max int) (LogPage, error) {
	if err := CheckName("project", project); err != nil {
		return LogPage{}, wrap("read log", id.Build, err)
	}
	if offset < 0 || id.Epoch < 0 {
		return LogPage{}, wrap("read log", id.Build, invalid("offset and epoch", "must not be negative"))
	}
	if max < 1 || max > MaxLogRead {
		return LogPage{}, wrap("read log", id.Build, invalid("limit", "must be between 1 and %d", MaxLogRead))
	}
	page, err := q.backend.ReadLog(ctx, project, id, offset, max)
	return page, wrap("read log", id.Build, err)
}

// stale turns a fenced change that did not count into its error.
func stale(done int, err error) error {
	if err == nil && done == 0 {
		return ErrStaleLease
	}
	return err
}
