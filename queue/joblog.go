package queue

import (
	"context"
	"crypto/sha256"
	"errors"
	"hash"
	"sync"
	"time"
)

// How much of a job's log waits to be stored.
const (
	logFlush   = 256 << 10 // from here on it is stored at once
	logBacklog = 4 << 20   // from here on writes wait
)

// ErrLogClosed says that a job's log takes no more, because [Job.Completion] has told its length or the handler has returned.
var ErrLogClosed = errors.New("the log of the job is closed")

// A jobLog takes what a handler writes and keeps it until it is stored.
type jobLog struct {
	ctx   context.Context // of the job
	flush bell            // of the shift

	mu      sync.Mutex
	changed sync.Cond
	pending []byte // what is not known to be stored, from the offset stored on
	stored  int64
	written int64
	hash    hash.Hash // of what was written; nil if nothing was
	busy    bool      // a piece of pending is under way
	sealed  bool      // nothing more is written, and Completion alone stores the rest
	dropped bool      // nothing is stored any more: the log is cut, or the lease lost
	err     error     // of a lost lease
	closed  *Job      // the job that waits for its end, once the handler has returned
}

func (l *jobLog) init(ctx context.Context, flush bell) {
	l.ctx, l.flush = ctx, flush
	l.changed.L = &l.mu
}

// Write implements [io.Writer].
func (l *jobLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.await(l.ctx, func() bool { return len(l.pending) < logBacklog || l.dropped || l.sealed || l.closed != nil })
	switch {
	case l.err != nil:
		return 0, l.err
	case l.sealed || l.closed != nil:
		return 0, ErrLogClosed
	case err != nil:
		return 0, err
	}
	if l.hash == nil {
		l.hash = sha256.New()
	}
	l.hash.Write(p)
	l.written += int64(len(p))
	if !l.dropped {
		l.pending = append(l.pending, p...)
	}
	if len(l.pending) >= logFlush {
		l.flush.ring()
	}
	return len(p), nil
}

// await waits until something holds, or ctx ends. The caller holds l.mu.
func (l *jobLog) await(ctx context.Context, holds func() bool) error {
	if holds() {
		return nil
	}
	stop := context.AfterFunc(ctx, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.changed.Broadcast()
	})
	defer stop()
	for !holds() {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		l.changed.Wait()
	}
	return nil
}

// sum returns the length of all that was written, and its SHA-256.
func (l *jobLog) sum() (int64, Digest) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.hash == nil {
		return 0, sha256.Sum256(nil)
	}
	return l.written, Digest(l.hash.Sum(nil))
}

// close hands the job on to the finish loop, by way of the log loop if anything is left to be stored.
func (l *jobLog) close(j *Job) {
	l.mu.Lock()
	l.closed = j
	waits := len(l.pending) > 0
	l.mu.Unlock()
	if waits {
		l.flush.ring()
		return
	}
	j.shift.ends(j)
}

// chunk takes the next piece to be stored, if there is one and none is under way. Who has taken it calls keep or leave.
func (l *jobLog) chunk(id AttemptID) (LogChunk, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.busy || l.sealed {
		return LogChunk{}, false
	}
	return l.take(id)
}

// take is chunk for who holds l.mu and knows that none is under way.
func (l *jobLog) take(id AttemptID) (LogChunk, bool) {
	n := min(len(l.pending), MaxLogRead)
	l.busy = n > 0
	return LogChunk{AttemptID: id, Offset: l.stored, Data: l.pending[:n:n]}, l.busy
}

// leave notes that a piece was taken and nobody knows whether it is stored.
func (l *jobLog) leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.busy = false
	l.changed.Broadcast()
}

// keep notes how much is stored; a nil length says that the lease is lost. It returns the job if it has waited for that.
func (l *jobLog) keep(length *LogLength) *Job {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case length == nil:
		l.dropped, l.err, l.pending = true, ErrStaleLease, nil
	case length.Cut:
		l.dropped, l.pending = true, nil
	default: // of two answers that come out of order the older one says less than is known
		n := min(max(0, length.Length-l.stored), int64(len(l.pending)))
		l.pending, l.stored = l.pending[n:], l.stored+n
	}
	l.busy = false
	l.changed.Broadcast()
	if len(l.pending) > 0 {
		return nil
	}
	return l.closed
}

// seal closes the log to writers and brings all that was written to the backend. If that fails the log goes on.
//
// It waits for the piece that is under way: whoever ends the attempt next locks it, and nothing of it may be in a batch with others then.
func (l *jobLog) seal(ctx context.Context, q *Queue, id AttemptID) (err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	before := l.sealed
	l.sealed = true
	l.changed.Broadcast()
	defer func() { l.sealed = before || err == nil }()
	for {
		if err := l.await(ctx, func() bool { return !l.busy }); err != nil {
			return err
		}
		chunk, any := l.take(id)
		if !any {
			return l.err
		}
		l.mu.Unlock()
		err := l.store(ctx, q, chunk)
		l.mu.Lock()
		if err != nil {
			return err
		}
	}
}

// store stores a piece.
func (l *jobLog) store(ctx context.Context, q *Queue, chunk LogChunk) error {
	length, err := q.AppendLog(ctx, chunk)
	stored := &length
	switch {
	case errors.Is(err, ErrStaleLease):
		stored = nil
	case err != nil:
		l.leave()
		return err
	}
	if job := l.keep(stored); job != nil { // its handler has returned meanwhile
		job.shift.ends(job)
	}
	return nil
}

// ends puts a job among those whose outcome is to be stored.
func (s *shift) ends(j *Job) {
	s.mu.Lock()
	s.ended = append(s.ended, j)
	s.mu.Unlock()
	s.ending.ring()
}

// logLoop stores what handlers write, for all jobs at once.
func (s *shift) logLoop(ctx context.Context) {
	trouble := trouble{log: s.log(), what: "store logs"}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-s.logging:
		}
		for more := true; more; {
			var err error
			more, err = s.storeLogs(ctx)
			trouble.note(ctx, err)
			if err != nil && !sleep(ctx, jitter(time.Second)) {
				return
			}
		}
	}
}

// storeLogs stores a piece of each log that has something to store. It reports whether there may be more.
func (s *shift) storeLogs(ctx context.Context) (bool, error) {
	s.mu.Lock()
	logs := make(map[AttemptID]*Job)
	var chunks []LogChunk
	var size int
	for id, job := range s.jobs {
		chunk, any := job.log.chunk(id)
		if !any {
			continue
		}
		if size += len(chunk.Data); size > MaxBatchBytes {
			job.log.leave()
			break
		}
		logs[id] = job
		chunks = append(chunks, chunk)
	}
	s.mu.Unlock()
	if len(chunks) == 0 {
		return false, nil
	}
	lengths, err := s.queue.AppendLogs(ctx, chunks)
	if err != nil {
		for _, job := range logs {
			job.log.leave()
		}
		return true, err
	}
	for _, length := range lengths {
		if job := logs[length.AttemptID].log.keep(&length); job != nil {
			s.ends(job)
		}
		delete(logs, length.AttemptID)
	}
	for _, job := range logs {
		if job := job.log.keep(nil); job != nil {
			s.ends(job)
		}
	}
	return true, nil
}
