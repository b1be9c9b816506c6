package worker_test

import (
	"strings"
	"testing"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/worker/wire"
)

// TestEndedIsLoggedOnce has a worker report an end twice, as it may: both reports are answered, and the end is logged once.
func TestEndedIsLoggedOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.controller(nil)
	p := c.dial(t, "one")
	p.enter("one", queue.NewID())
	id := w.submit(nil)
	offer, _ := p.take()
	for range 2 {
		p.send(finished(offer.Ref, ""))
		expect[*wire.FinishedOK](p)
	}
	w.end(id)
	p.sync(1) // the line comes after the answer
	eventually(t, "the end is logged", func() bool { return strings.Contains(w.log.String(), "build ended") })
	if n := strings.Count(w.log.String(), `level=INFO msg="build ended"`); n != 1 {
		t.Errorf("the end is logged %d times", n)
	}
}
