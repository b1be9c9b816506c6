package worker

import (
	"net/http"
	"testing"
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
