package worker

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/queue/memqueue"
)

// newIdleHub returns a hub that does not run.
func newIdleHub(t *testing.T, o *HubOptions) *Hub {
	t.Helper()
	nobody := func(*http.Request) (Identity, error) { return Identity{}, ErrUnauthorized }
	h, err := NewHub(queue.New(memqueue.New(), nil), struct{ Blobs }{}, nobody, o)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// TestAliveByBothClocks has a machine that slept, and one whose clock was set: what either clock says to be over is over.
func TestAliveByBothClocks(t *testing.T) {
	h := newIdleHub(t, nil)
	ttl := h.queue.Options().ControllerTTL
	now := thisMoment()
	for name, test := range map[string]struct {
		beaten moment
		alive  bool
	}{
		"never":           {moment{}, false},
		"just now":        {now, true},
		"long ago":        {moment{now.monotonic.Add(-ttl), now.wall.Add(-ttl)}, false},
		"before a sleep":  {moment{now.monotonic, now.wall.Add(-ttl)}, false},
		"clock set back":  {moment{now.monotonic.Add(-ttl), now.wall.Add(time.Hour)}, false},
		"a bit set ahead": {moment{now.monotonic.Add(-ttl / 4), now.wall.Add(-ttl / 2)}, true},
	} {
		h.beaten = test.beaten
		if got := h.alive(); got != test.alive {
			t.Errorf("beaten %s: alive is %t, want %t", name, got, test.alive)
		}
	}
}

// TestBeatBetweenPolls has a hub that asks for builds seldom, because hints come, and one that hangs.
func TestBeatBetweenPolls(t *testing.T) {
	h := newIdleHub(t, &HubOptions{Poll: time.Minute})
	h.begun = time.Now().Add(-70 * time.Second) // the dispatch loop came round then
	if err := h.beat(t.Context()); err != nil {
		t.Errorf("a hub between two polls does not beat: %v", err)
	}
	h.begun = time.Now().Add(-151 * time.Second)
	if err := h.beat(t.Context()); err == nil {
		t.Error("a hub that hangs beats")
	}
}

// TestBeatReconciles has the loss of a session fail to be written down: what the rows say reaches the sessions all the same.
func TestBeatReconciles(t *testing.T) {
	h := newIdleHub(t, nil)
	h.begun = time.Now()
	h.queue = queue.New(unlosable{memqueue.New()}, nil)
	h.lost = []queue.SessionID{1}
	if err := h.beat(t.Context()); !errors.Is(err, errUnlosable) || h.round != 1 {
		t.Errorf("beat: %v, after reading the rows %d times, want once", err, h.round)
	}
}

// TestLossesAreWrittenTogether has sessions end while the loss of another is written down.
func TestLossesAreWrittenTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newIdleHub(t, nil)
		b := &slowLoss{Backend: memqueue.New()}
		h.queue = queue.New(b, nil)
		var calls sync.WaitGroup
		for i := range 100 {
			h.leave(&session{id: queue.SessionID(i + 1)})
			calls.Go(func() {
				if err := h.writeLost(t.Context()); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		calls.Wait()
		if len(b.lost) != 2 || len(b.lost[0]) != 1 || len(b.lost[1]) != 99 {
			t.Errorf("losses were written as %v, want the first and then all others", b.lost)
		}
	})
}

// A slowLoss takes a second to write losses down.
type slowLoss struct {
	queue.Backend
	lost [][]queue.SessionID
}

func (b *slowLoss) LoseSessions(_ context.Context, sessions []queue.SessionID, _ time.Time) error {
	b.lost = append(b.lost, sessions)
	<-time.After(time.Second)
	return nil
}

var errUnlosable = errors.New("no session can be lost")

type unlosable struct{ queue.Backend }

func (unlosable) LoseSessions(context.Context, []queue.SessionID, time.Time) error {
	return errUnlosable
}
