package worker

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/worker/wire"
)

// maxLogBatch bounds the bytes of one statement.
const maxLogBatch = 8 << 20

// A logPipe writes the logs of all connections to the queue. While one batch is being written the next one gathers, so that a statement
// carries as much as there is and a quiet queue answers at once.
type logPipe struct {
	queue  *queue.Queue
	window int64
	log    *slog.Logger
	ready  chan struct{}
	failed bool // of run: the last try to store something

	mu      sync.Mutex
	waiting map[queue.AttemptID]*stretch
}

// A stretch is a run of log bytes of one attempt that waits to be written, and the session that sent it.
type stretch struct {
	session *session
	offset  int64
	data    []byte
	gap     bool // bytes that came later were left out
}

func (s *stretch) end() int64 { return s.offset + int64(len(s.data)) }

func newLogPipe(q *queue.Queue, window int64, log *slog.Logger) *logPipe {
	return &logPipe{
		queue: q, window: window, log: log,
		ready:   make(chan struct{}, 1),
		waiting: make(map[queue.AttemptID]*stretch),
	}
}

// receiveLog takes a log frame of the worker.
func (s *session) receiveLog(ctx context.Context, data []byte) error {
	frame, err := wire.DecodeLog(data)
	if err != nil {
		return s.malformed(ctx, err)
	}
	id := queue.AttemptID(frame.Ref)
	if !s.holds(id) {
		s.send(ctx, &wire.Error{Code: wire.CodeStaleLease, Build: id.Build, Epoch: id.Epoch})
		return nil
	}
	s.hub.logs.put(s, id, frame.Offset, frame.Data)
	return nil
}

// put adds a copy of data to what waits: a window's worth for each attempt at most. What goes beyond that, as it may when a sender repeats
// itself while the database is slow, is left out like what comes after a gap.
func (p *logPipe) put(s *session, id queue.AttemptID, offset int64, data []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.add(s, id, offset, data)
	wake(p.ready)
}

// add is put for callers that hold the lock.
func (p *logPipe) add(s *session, id queue.AttemptID, offset int64, data []byte) {
	w := p.waiting[id]
	switch {
	case w == nil || w.session != s || offset < w.offset:
		// The first bytes, or those of a sender that went back and will send again all that follows.
		p.waiting[id] = &stretch{session: s, offset: offset, data: slices.Clone(data)}
	case offset > w.end():
		w.gap = true // the answer to what waits makes the sender go back
	default:
		fresh := data[min(w.end()-offset, int64(len(data))):]
		room := max(p.window-int64(len(w.data)), 0)
		if int64(len(fresh)) > room {
			fresh, w.gap = fresh[:room], true
		}
		w.data = append(w.data, fresh...)
	}
}

// drop forgets what a session sent for an attempt that it does not hold any more.
func (p *logPipe) drop(s *session, id queue.AttemptID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if w := p.waiting[id]; w != nil && w.session == s {
		delete(p.waiting, id)
	}
}

// run writes batches until ctx ends. What cannot be stored is tried again: its senders wait at the end of their windows.
func (p *logPipe) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.ready:
		}
		for batch := p.take(); len(batch) > 0 && ctx.Err() == nil; batch = p.take() {
			p.write(ctx, batch, false)
		}
	}
}

// take removes a batch from what waits.
func (p *logPipe) take() map[queue.AttemptID]*stretch {
	p.mu.Lock()
	defer p.mu.Unlock()
	batch := make(map[queue.AttemptID]*stretch)
	size := 0
	for id, w := range p.waiting {
		if len(batch) > 0 && size+len(w.data) > maxLogBatch || len(batch) == queue.MaxBatch {
			break
		}
		batch[id] = w
		size += len(w.data)
		delete(p.waiting, id)
	}
	return batch
}

// write stores a batch, or what of it can be stored, and tells the senders how much is stored. The batch may be a part of another one.
func (p *logPipe) write(ctx context.Context, batch map[queue.AttemptID]*stretch, part bool) {
	chunks := make([]queue.LogChunk, 0, len(batch))
	for id, w := range batch {
		chunks = append(chunks, queue.LogChunk{AttemptID: id, Offset: w.offset, Data: w.data})
	}
	lengths, err := p.append(ctx, chunks, part)
	switch {
	case ctx.Err() != nil:
		return
	case err != nil && len(batch) > 1:
		// Perhaps it is one chunk that cannot be stored. The others shall not wait for it.
		for half := range slices.Chunk(chunks, (len(chunks)+1)/2) {
			stretches := make(map[queue.AttemptID]*stretch, len(half))
			for _, c := range half {
				stretches[c.AttemptID] = batch[c.AttemptID]
			}
			p.write(ctx, stretches, true)
		}
		return
	case err != nil:
		p.putBack(batch)
		return
	}
	p.answer(batch, lengths)
}

// answer tells the senders of a batch how much is stored.
func (p *logPipe) answer(batch map[queue.AttemptID]*stretch, lengths []queue.LogLength) {
	stored := make(map[queue.AttemptID]queue.LogLength, len(lengths))
	for _, l := range lengths {
		stored[l.AttemptID] = l
	}
	for id, w := range batch {
		l, ok := stored[id]
		length := l.Length
		switch {
		case !ok:
			w.session.forget(id)
			w.session.sendNow(&wire.Error{Code: wire.CodeStaleLease, Build: id.Build, Epoch: id.Epoch})
		case l.Cut: // the worker need send nothing more
			w.session.sendNow(&wire.LogAck{Ref: wire.Ref(id), Offset: length})
			w.session.sendNow(&wire.LogLimit{Ref: wire.Ref(id), Cap: length})
		case w.gap || length < w.offset:
			w.session.sendNow(&wire.LogNack{Ref: wire.Ref(id), Expected: length})
		default:
			w.session.sendNow(&wire.LogAck{Ref: wire.Ref(id), Offset: length, Window: p.window})
		}
	}
}

// putBack has a batch that could not be stored wait again, in front of what has come since.
func (p *logPipe) putBack(batch map[queue.AttemptID]*stretch) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, w := range batch {
		next := p.waiting[id]
		p.waiting[id] = w
		if next != nil {
			p.add(next.session, id, next.offset, next.data)
			p.waiting[id].gap = p.waiting[id].gap || next.gap
		}
	}
}

// append stores chunks. After a few failures it gives up if there may be others that can be stored: some of the chunks, those that these
// are a part of, or what waits meanwhile.
func (p *logPipe) append(ctx context.Context, chunks []queue.LogChunk, part bool) ([]queue.LogLength, error) {
	const few = 3
	for wait, tries := 100*time.Millisecond, 1; ; wait, tries = min(2*wait, 5*time.Second), tries+1 {
		lengths, err := p.queue.AppendLogs(ctx, chunks)
		if err == nil {
			p.failed = false
			return lengths, nil
		}
		if !p.failed {
			p.log.Error("logs not stored; trying again", "builds", len(chunks), "error", err)
		}
		p.failed = true
		if !sleep(ctx, pause(wait, nil)) {
			return nil, err
		}
		if tries >= few && (part || len(chunks) > 1 || p.othersWait(chunks[0].AttemptID)) {
			return nil, err
		}
	}
}

// othersWait reports whether anything waits that is not of that attempt.
func (p *logPipe) othersWait(id queue.AttemptID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, own := p.waiting[id]
	return len(p.waiting) > 1 || len(p.waiting) == 1 && !own
}
