package memqueue

import (
	"context"
	"sync"
	"time"

	"github.com/slipway-build/slipway/queue"
)

// forget is how long ended sessions and dead controllers are remembered.
const forget = 10 * time.Minute

// A Backend keeps a queue in memory. It is safe for concurrent use.
type Backend struct {
	mu          sync.Mutex
	builds      map[queue.ID]*build
	classes     []*class // the class with id n is at n-1
	pools       map[string]*pool
	projects    map[string]*project
	sessions    map[queue.SessionID]*session
	lastSession queue.SessionID
	controllers map[queue.ID]*controller
	dropped     map[queue.AttemptID]*dropped
}

var _ queue.Backend = (*Backend)(nil)

// New returns an empty backend.
func New() *Backend {
	return &Backend{
		builds:      make(map[queue.ID]*build),
		pools:       make(map[string]*pool),
		projects:    make(map[string]*project),
		sessions:    make(map[queue.SessionID]*session),
		controllers: make(map[queue.ID]*controller),
		dropped:     make(map[queue.AttemptID]*dropped),
	}
}

// Ping implements [queue.Records].
func (b *Backend) Ping(ctx context.Context) error { return ctx.Err() }

// lock begins a call, unless ctx has ended. Calls are short, so that waiting for the lock is bounded.
func (b *Backend) lock(ctx context.Context) (unlock func(), err error) {
	b.mu.Lock()
	if err := ctx.Err(); err != nil {
		b.mu.Unlock()
		return nil, err
	}
	return b.mu.Unlock, nil
}

// present returns now, or the time if now is zero, without a monotonic reading and as precise as databases are.
func present(now time.Time) time.Time {
	if now.IsZero() {
		now = time.Now()
	}
	return now.UTC().Truncate(time.Microsecond)
}

// due reports whether a deadline has come. The zero time never comes.
func due(deadline, now time.Time) bool { return !deadline.IsZero() && !deadline.After(now) }

// later returns the later of two times.
func later(t, u time.Time) time.Time {
	if u.After(t) {
		return u
	}
	return t
}
