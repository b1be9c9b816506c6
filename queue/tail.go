package queue

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"
)

// How logs that somebody follows are looked at.
const (
	tailShortest = 100 * time.Millisecond
	tailLongest  = time.Second
	// tailRest is how long it must be quiet between two looks, however often bytes are added in this process.
	tailRest = 20 * time.Millisecond
	// tailKept is how many bytes of the end of a log are kept for its followers.
	tailKept = 1 << 20
	// tailRead is how many bytes a follower reads at once of what is not kept.
	tailRead = 256 << 10
)

// Tails are the ends of the logs that are followed in this process.
type tails struct {
	mu   sync.Mutex
	byID map[AttemptID]*tail
}

// join returns the tail of a log, for somebody who was let read it. The first begins it, where he is.
func (ts *tails) join(ctx context.Context, q *Queue, project string, id AttemptID, offset int64) *tail {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	t := ts.byID[id]
	if t == nil {
		if ts.byID == nil {
			ts.byID = make(map[AttemptID]*tail)
		}
		ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
		t = &tail{id: id, project: project, stop: stop, bell: newBell(), changed: make(chan struct{}), start: offset, end: offset}
		ts.byID[id] = t
		go t.keep(ctx, q)
	}
	t.followers++
	return t
}

// leave ends the tail when its last follower goes.
func (ts *tails) leave(id AttemptID, t *tail) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if t.followers--; t.followers == 0 {
		t.stop()
		delete(ts.byID, id)
	}
}

// ring has the tails of logs looked at, to which bytes were added.
func (ts *tails) ring(added []LogLength) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if len(ts.byID) == 0 {
		return
	}
	for i := range added {
		if t := ts.byID[added[i].AttemptID]; t != nil {
			t.bell.ring()
		}
	}
}

// A tail is the end of a log as those see it who follow it.
type tail struct {
	id        AttemptID
	project   string
	stop      context.CancelFunc
	followers int // under the lock of the tails
	bell      bell

	mu      sync.Mutex
	pages   []LogPage // those from start to end, none empty
	start   int64
	end     int64
	last    LogPage       // what was read last, without its data
	err     error         // nothing is read any more
	changed chan struct{} // closed when anything of this changes
}

// keep looks at a log until it has ended or nobody follows it.
func (t *tail) keep(ctx context.Context, q *Queue) {
	moved := q.watchers.join(t.id.Build)
	defer q.watchers.leave(t.id.Build, moved)
	defer func() {
		if p := recover(); p != nil { // it would be nobody's request that fails, but the process
			t.take(LogPage{}, fmt.Errorf("the backend panicked: %v\n%s", p, debug.Stack()))
		}
	}()
	pace := pace{shortest: tailShortest, longest: tailLongest}
	pace.quicken()
	timer := time.NewTimer(tailLongest)
	defer timer.Stop()
	for {
		page, err := q.ReadLog(ctx, t.project, t.id, t.end, MaxLogRead)
		switch {
		case ctx.Err() != nil || !errors.Is(err, ErrUnavailable) && t.take(page, err):
			return
		case len(page.Data) > 0 && t.end < page.Length:
			continue
		case len(page.Data) > 0:
			pace.quicken()
		}
		if !sleep(ctx, tailRest) {
			return
		}
		timer.Reset(pace.next())
		select {
		case <-ctx.Done():
			return
		case <-t.bell:
		case <-moved:
		case <-timer.C:
		}
	}
}

// take adds what was read, and reports whether that is the end.
func (t *tail) take(page LogPage, err error) (over bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil {
		t.err = err
	}
	if len(page.Data) > 0 {
		t.pages = append(t.pages, page)
		t.end += int64(len(page.Data))
	}
	for t.end-t.start > tailKept && len(t.pages) > 1 {
		t.start += int64(len(t.pages[0].Data))
		t.pages = append([]LogPage(nil), t.pages[1:]...)
	}
	page.Data = nil
	t.last = page
	close(t.changed)
	t.changed = make(chan struct{})
	return err != nil || page.ends(t.end)
}

// at returns what is there at an offset, or, if there is nothing yet, what tells of the next change.
func (t *tail) at(offset int64) (LogPage, <-chan struct{}, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if offset < t.start {
		return LogPage{}, nil, errBehind
	}
	for _, page := range t.pages {
		if skip := offset - page.Offset; skip >= 0 && skip < int64(len(page.Data)) {
			page.Data, page.Offset = page.Data[skip:len(page.Data):len(page.Data)], offset
			page.Closed, page.Length, page.Cut = t.last.Closed, t.last.Length, t.last.Cut
			return page, nil, nil
		}
	}
	if t.err != nil {
		return LogPage{}, nil, t.err
	}
	if t.last.ends(offset) {
		page := t.last
		page.Offset = offset
		return page, nil, nil
	}
	return LogPage{}, t.changed, nil
}
