package queue_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/queue/memqueue"
)

// halfway is a backend whose Maintain fails when it has done something.
type halfway struct {
	queue.Backend
	done queue.Maintained
	err  error
}

func (h halfway) Maintain(context.Context, queue.Rules, time.Time) (queue.Maintained, error) {
	return h.done, h.err
}

// What was queued before an error is there to be claimed, so it is told as if there were none.
func TestMaintainErrorWithCounts(t *testing.T) {
	b := halfway{memqueue.New(), queue.Maintained{Requeued: 1}, errors.New("the connection died")}
	q := queue.New(b, nil)
	wakes := q.Wakes(queue.ForClaims, time.Hour)
	defer wakes.Stop()
	wakes.Next(t.Context()) // as the first always does
	done, err := q.Maintain(t.Context())
	if !errors.Is(err, b.err) || done.Requeued != b.done.Requeued {
		t.Errorf("Maintain returned %+v, %v; want %+v, %v", done, err, b.done, b.err)
	}
	if !wakes.Next(t.Context()) {
		t.Error("nobody was woken for the build that is queued")
	}
}

// A laborious backend takes a time for each Maintain, and reports the same of each: that it has done something, and that there is more.
type laborious struct {
	queue.Backend
	takes  time.Duration
	done   queue.Maintained
	rounds atomic.Int64
}

func (l *laborious) Maintain(ctx context.Context, _ queue.Rules, _ time.Time) (queue.Maintained, error) {
	l.rounds.Add(1)
	select {
	case <-time.After(l.takes):
		return l.done, nil
	case <-ctx.Done():
		return queue.Maintained{}, ctx.Err()
	}
}

// What is deleted has time, and leaves the database to others half of it; what somebody may wait for goes on at once.
func TestMaintainRestsFromDeleting(t *testing.T) {
	for what, c := range map[string]struct {
		done queue.Maintained
		want int64
	}{
		"deleted":            {queue.Maintained{Deleted: 512, More: true}, 50},
		"deleted and queued": {queue.Maintained{Deleted: 512, Queued: 1, More: true}, 100},
		"expired":            {queue.Maintained{Expired: 512, More: true}, 100},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := &laborious{Backend: memqueue.New(), takes: 10 * time.Millisecond, done: c.done}
			stop := keepGoing(t, queue.New(b, nil))
			<-time.After(time.Second - time.Millisecond)
			stop()
			if got := b.rounds.Load(); got != c.want {
				t.Errorf("%s: %d rounds in a second, want %d", what, got, c.want)
			}
		})
	}
}
