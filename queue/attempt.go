package queue

import (
	"context"
	"math"
	"slices"
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
	if len(done) > 0 {
		q.watchers.ring([]ID{id.Build})
	}
	return wrap("accept", id.Build, stale(len(done), err))
}

// Release gives back an attempt that was offered and will not be accepted. The build is pending again, has used up no attempt,
// and is not offered to the same worker for [Options.Avoid].
//
// Errors: [ErrStaleLease]: the attempt is not offered any more.
func (q *Queue) Release(ctx context.Context, id AttemptID) error {
	done, err := q.backend.Release(ctx, []AttemptID{id}, q.opts.Avoid, time.Time{})
	if len(done) > 0 {
		q.requeued(done)
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
		q.requeued(done)
	}
	return wrap("withdraw", ID{}, err)
}

// Finish ends an attempt with the outcome its worker reports, and returns the state it led to. Reporting again returns the
// same state and changes nothing. An outcome of [Lost] says that the worker failed, not the build: the build is attempted
// again while it has attempts left.
//
// Errors: [ErrInvalid]; [ErrStaleLease].
func (q *Queue) Finish(ctx context.Context, end Completion) (State, error) {
	done, err := q.FinishMany(ctx, []Completion{end})
	switch {
	case err != nil:
		return 0, err
	case len(done) == 0:
		return 0, wrap("finish", end.Build, ErrStaleLease)
	default:
		return done[0].State, nil
	}
}

// FinishMany is [Queue.Finish] for several attempts, at most [MaxBatch]. What is not returned was stale. The order is any.
//
// Errors: [ErrInvalid], by which nothing was finished.
func (q *Queue) FinishMany(ctx context.Context, ends []Completion) ([]Finished, error) {
	done, err := q.finishBy(ends, func(ends []Completion, avoid time.Duration) ([]Finished, error) {
		return q.backend.Finish(ctx, ends, avoid, time.Time{})
	})
	if err == nil && len(done) > 0 {
		q.ended(done)
	}
	return done, err
}

// FinishBy checks completions as [Queue.FinishMany] does and has finish store them. It is for backends that finish in a caller's own
// transaction, after which the caller says so by [Queue.Wake]. Without ends, finish is not called. Errors are [*Error].
func (q *Queue) FinishBy(ends []Completion, finish func([]Completion, time.Duration) ([]Finished, error)) ([]Finished, error) {
	done, err := q.finishBy(ends, finish)
	if err == nil && len(done) > 0 {
		h := finished(done)
		h.Waiting = makesRoom(done)
		q.unsaid.add(h)
	}
	return done, err
}

func (q *Queue) finishBy(ends []Completion, finish func([]Completion, time.Duration) ([]Finished, error)) ([]Finished, error) {
	if len(ends) == 0 {
		return nil, nil
	}
	if len(ends) > MaxBatch {
		return nil, wrap("finish", ID{}, invalid("batch", "must be at most %d attempts", MaxBatch))
	}
	ends = slices.Clone(ends)
	for i := range ends {
		if err := ends[i].check(); err != nil {
			return nil, wrap("finish", ends[i].Build, err)
		}
		ends[i].Reason, ends[i].Signal = legible(ends[i].Reason), legible(ends[i].Signal)
	}
	done, err := finish(ends, q.opts.Avoid)
	return done, wrap("finish", ends[0].Build, err)
}

// requeued tells that offers came back: their builds are queued with the ranks that they had.
func (q *Queue) requeued(ids []AttemptID) {
	h := Hint{Any: true}
	for _, id := range ids {
		h.Changed = append(h.Changed, id.Build)
	}
	q.floors.drop()
	q.tell(h)
}

// ended tells that attempts ended, after which some of their builds may be queued again and others admitted.
func (q *Queue) ended(done []Finished) {
	h := finished(done)
	if h.Any {
		q.floors.drop()
	}
	if makesRoom(done) {
		q.bells.admit.ring()
	}
	q.tell(h)
}

// makesRoom reports whether others may be admitted now.
func makesRoom(done []Finished) bool {
	return slices.ContainsFunc(done, func(f Finished) bool { return f.Admitted })
}

func (c *Completion) check() error {
	switch c.Outcome {
	case Succeeded, Failed, Canceled, TimedOut, Lost:
	default:
		return invalid("outcome", "must not be %v", c.Outcome)
	}
	if c.LogLength < 0 {
		return invalid("log length", "must not be negative")
	}
	if code := c.ExitCode; code != nil && (int64(*code) < math.MinInt32 || int64(*code) > math.MaxUint32) {
		return invalid("exit code", "must be a number of 32 bits")
	}
	return nil
}

// Lease returns how a running attempt stands and what its holder may use.
//
// Errors: [ErrStaleLease] unless the attempt is [Running] or [Cancelling].
func (q *Queue) Lease(ctx context.Context, id AttemptID) (Lease, error) {
	lease, err := q.backend.Lease(ctx, id)
	return lease, wrap("lease", id.Build, err)
}

// AppendLog adds bytes to the log of a running attempt at an offset, and returns how many bytes are stored now. Bytes that are
// stored already are dropped, so a write may be repeated. What is beyond [Options.LogBytes] or [Options.LogLines] is dropped, too, and
// the log is cut: nothing that is sent after that counts.
//
// Errors: [ErrStaleLease]; [ErrGap] if offset is beyond the end: nothing was stored, go on from the length that is returned.
func (q *Queue) AppendLog(ctx context.Context, chunk LogChunk) (LogLength, error) {
	if err := chunk.check(); err != nil {
		return LogLength{}, wrap("append log", chunk.Build, err)
	}
	lengths, err := q.backend.AppendLogs(ctx, []LogChunk{chunk}, q.logLimit(), time.Time{})
	if err := stale(len(lengths), err); err != nil {
		return LogLength{}, wrap("append log", chunk.Build, err)
	}
	q.tails.ring(lengths)
	stored := lengths[0]
	if stored.Length < chunk.Offset && !stored.Cut {
		return stored, wrap("append log", chunk.Build, ErrGap)
	}
	return stored, nil
}

func (q *Queue) logLimit() LogLimit { return LogLimit{Bytes: q.opts.LogBytes, Lines: q.opts.LogLines} }

// AppendLogs is [Queue.AppendLog] for several attempts at once, at most [MaxBatch], none of them twice. It returns the stored length of
// each that is not stale. A length below a chunk's offset means a gap, unless the log is cut: nothing of that chunk was stored.
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
	lengths, err := q.backend.AppendLogs(ctx, chunks, q.logLimit(), time.Time{})
	q.tails.ring(lengths)
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

// ReadLog returns at most max bytes of an attempt's log from offset on, wherever they are. An epoch of zero stands for the newest
// attempt. The mark that a log was cut, [CutMark], is the reader's to show: offsets count what the worker sent.
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
	if err == nil && page.Archived {
		page, err = q.readArchived(ctx, project, page, max)
	}
	return page, wrap("read log", id.Build, err)
}

// stale turns a fenced change that did not count into its error.
func stale(done int, err error) error {
	if err == nil && done == 0 {
		return ErrStaleLease
	}
	return err
}
