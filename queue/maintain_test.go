package queue_test

import (
	"context"
	"errors"
	"testing"
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
