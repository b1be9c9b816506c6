package worker

import (
	"context"
	"log/slog"
	"math"
	"sync"
	"time"

	"github.com/slipway-build/slipway/worker/wire"
)

// A shipment sends the log of one attempt from its spool, over whatever connection there is, until the controller has stored all of
// it. Only what was acknowledged counts as sent.
type shipment struct {
	ref   wire.Ref
	spool *spool
	links func() *link // the present connection, or nil
	log   *slog.Logger
	wake  chan struct{}
	// patience is how long bytes may go unacknowledged.
	patience time.Duration

	mu     sync.Mutex
	link   *link // over which was sent last
	acked  int64 // bytes that are stored
	next   int64 // where to go on sending
	window int64 // how many bytes next may be ahead of acked
	limit  int64 // how many bytes of the log are wanted
	moved  time.Time
	stalls int // how often in a row bytes went unacknowledged
}

func (s *shipment) poke() { wake(s.wake) }

// run sends until ctx ends.
func (s *shipment) run(ctx context.Context) {
	buf := make([]byte, wire.MaxLogData)
	for ctx.Err() == nil {
		link, offset, n := s.take()
		if n == 0 {
			s.wait(ctx)
			continue
		}
		if err := s.spool.read(buf[:n], offset); err != nil {
			s.log.Error("log cannot be read back from the spool; trying again", "error", err)
			s.rewind(offset)
			sleep(ctx, time.Second)
			continue
		}
		frame, err := wire.EncodeLog(make([]byte, 0, wire.LogHeader+n), wire.LogFrame{Ref: s.ref, Offset: offset, Data: buf[:n]})
		if err == nil {
			err = link.conn.SendLog(ctx, frame)
		}
		if err == nil && n < link.frame() {
			s.gather(ctx, link.flush())
		}
	}
}

// take returns the next piece to send, and counts it as on its way. It is empty if there is nothing, or no way, to send.
func (s *shipment) take() (link *link, offset int64, n int) {
	link = s.links()
	if link == nil {
		return nil, 0, 0
	}
	length, _ := s.spool.size()
	s.mu.Lock()
	defer s.mu.Unlock()
	if link != s.link { // what was on its way over the old one is lost
		s.link, s.next, s.window = link, s.acked, link.welcome.Limits.LogWindow
		s.moved, s.stalls = time.Now(), 0
	}
	if s.next == s.acked {
		s.moved = time.Now()
	}
	size := min(int64(link.frame()), min(length, s.limit)-s.next, s.acked+s.window-s.next)
	if size <= 0 {
		return nil, 0, 0
	}
	offset = s.next
	s.next += size
	return link, offset, int(size)
}

// wait returns when there may be something to send. If bytes have been on their way for too long, they are to be sent again: what came
// behind a gap was dropped without a word.
func (s *shipment) wait(ctx context.Context) {
	connected := s.links() != nil
	s.mu.Lock()
	overdue := time.Duration(math.MaxInt64)
	if connected && s.next > s.acked {
		overdue = time.Until(s.moved.Add(s.patience << min(s.stalls, 3)))
	}
	s.mu.Unlock()
	timer := time.NewTimer(overdue)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-s.wake:
	case <-timer.C:
		s.mu.Lock()
		s.next, s.moved = s.acked, time.Now()
		s.stalls++
		s.mu.Unlock()
		s.log.Info("log bytes not acknowledged; sending them again", "offset", s.acknowledged())
	}
}

// gather lets small writes come together after one was sent, unless nothing more will come.
func (s *shipment) gather(ctx context.Context, flush time.Duration) {
	timer := time.NewTimer(flush)
	defer timer.Stop()
	for {
		if _, closed := s.spool.size(); closed {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			return
		case <-s.wake:
		}
	}
}

func (s *shipment) rewind(offset int64) {
	s.mu.Lock()
	s.next = min(s.next, offset)
	s.mu.Unlock()
}

func (s *shipment) acknowledged() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.acked
}

// ack notes how much is stored, and how much more may be sent.
func (s *shipment) ack(offset, window int64) {
	s.mu.Lock()
	if offset > s.acked {
		s.acked, s.moved, s.stalls = offset, time.Now(), 0
	}
	s.next = max(s.next, s.acked)
	s.window = window
	s.mu.Unlock()
	s.poke()
}

// goTo goes back, or forward, to what is stored.
func (s *shipment) goTo(offset int64) {
	length, _ := s.spool.size()
	s.mu.Lock()
	if offset <= length {
		s.acked, s.next, s.moved = offset, offset, time.Now()
	}
	s.mu.Unlock()
	s.poke()
}

// cap notes that the controller takes no more than limit bytes.
func (s *shipment) cap(limit int64) {
	s.mu.Lock()
	s.limit = min(s.limit, limit)
	s.mu.Unlock()
	s.poke()
}

// arrived reports whether all that is wanted of a closed log is stored, and how much is wanted.
func (s *shipment) arrived() (limit int64, ok bool) {
	length, closed := s.spool.size()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.limit, closed && s.acked >= min(length, s.limit)
}
