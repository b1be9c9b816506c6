package pgqueue_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/slipway-build/slipway/internal/faultcalls"
	"github.com/slipway-build/slipway/internal/faultconn"
	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/queue/pgqueue"
)

// A wire is a backend on one connection that breaks on demand, beside a scene on sound ones.
type wire struct {
	*faultcalls.Course
	faultconn.Dialer
	store   *store
	backend *pgqueue.Backend
	pool    *pgxpool.Pool
	warm    func() // what happens on a connection before the call; nil: nothing
}

// wires returns what makes a wire for a call, all on one database.
func wires(t *testing.T) func(t *testing.T, call *faultcalls.Call, timeout time.Duration) *wire {
	t.Helper()
	b, db := open(t)
	store := newStore(t, db)
	scene := faultcalls.New(t, b, store)
	return func(t *testing.T, call *faultcalls.Call, timeout time.Duration) *wire {
		t.Helper()
		w := &wire{Course: scene.In(t).Course(call), store: store}
		w.pool = db.Open(t, func(c *pgxpool.Config) {
			c.MaxConns = 1
			c.ConnConfig.DialFunc = w.Dial
			c.ConnConfig.RuntimeParams["application_name"] = db.Schema
		})
		w.backend = backend(t, w.pool, &pgqueue.Options{Schema: db.Schema, Timeout: timeout})
		return w
	}
}

// try makes the call with a fault and checks what came of it. It reports whether the fault has struck, and whether it left the caller in
// the dark: the change was made, and the call returned an error.
func (w *wire) try(f faultconn.Fault) (struck, dark bool) {
	w.Helper()
	if w.warm != nil {
		w.warm()
	}
	w.Break(f)
	a := w.Make(w.backend)
	struck = w.Mend()
	w.pool.Reset()
	w.store.forgotten(w.T, w.store.Schema)
	if !struck && a.Err != nil {
		w.Errorf("%+v does not strike, and it returned %v", f, a)
	}
	made := w.Check(a, faultcalls.Fault{
		What:  fmt.Sprintf("%+v", f),
		Lossy: f.At == faultconn.Answered || f.At == faultconn.Received,
		Unknown: func(err error) bool {
			return errors.Is(err, queue.ErrUnavailable) && !f.Stall || errors.Is(err, context.DeadlineExceeded) && f.Stall
		},
	})
	return struck, made && a.Err != nil
}

// tryAll tries a fault at every step-th place of a kind. It returns at how many it has struck, and how often it left the caller in the dark.
func (w *wire) tryAll(at faultconn.Point, step int) (places, dark int) {
	w.Helper()
	for n := 0; ; n += step {
		struck, isDark := w.try(faultconn.Fault{At: at, N: n})
		if isDark {
			dark++
		}
		if !struck {
			return places, dark
		}
		places++
	}
}

// TestEveryRequestMayFail cuts the connection at each request of each call: before the server has it all, so that it does nothing, and
// when the server has done it and the answer is lost.
func TestEveryRequestMayFail(t *testing.T) {
	t.Parallel()
	wire := wires(t)
	for _, c := range faultcalls.Calls() {
		t.Run(c.Name, func(t *testing.T) {
			w := wire(t, c, 0)
			if places, _ := w.tryAll(faultconn.Asked, 1); places == 0 {
				t.Error("the call asks nothing of the server")
			}
			if _, dark := w.tryAll(faultconn.Answered, 1); w.Changes() && dark == 0 {
				t.Error("no answer to a change that was made was lost: the test shows nothing")
			}
		})
	}
}

// TestEveryByteMayBeTheLast cuts the connection here and there, from the first byte of its startup to the last of each changing call.
func TestEveryByteMayBeTheLast(t *testing.T) {
	t.Parallel()
	wire := wires(t)
	for _, c := range faultcalls.Changes() {
		t.Run(c.Name, func(t *testing.T) {
			w := wire(t, c, 0)
			sent, received := 307, 61 // bytes; nothing in the protocol is a multiple of them
			if c.InSteps {
				sent, received = 11*sent, 11*received
			}
			w.tryAll(faultconn.Sent, sent)
			w.tryAll(faultconn.Received, received)
		})
	}
}

// TestEveryByteOfACommit cuts a connection that is in use already at every byte of the answer to a transaction, and here and there before.
func TestEveryByteOfACommit(t *testing.T) {
	t.Parallel()
	w := wires(t)(t, faultcalls.Named("FinishLost"), 0)
	w.warm = func() {
		stale := []queue.Completion{{AttemptID: queue.AttemptID{Build: queue.NewID(), Epoch: 1}, Outcome: queue.Succeeded}}
		if done, err := w.backend.Finish(t.Context(), stale, 0, time.Time{}); err != nil || len(done) > 0 {
			t.Fatalf("a stale Finish returned %v, %v", done, err)
		}
	}
	if places, dark := w.tryAll(faultconn.Sent, 7); places < 20 || dark > 0 {
		t.Errorf("cut at %d places before all was said, the change was made %d times; want at least 20, and never", places, dark)
	}
	if places, dark := w.tryAll(faultconn.Received, 1); places < 50 || dark != places {
		t.Errorf("cut at %d places of the answer, the change was made %d times; want at least 50, and as often", places, dark)
	}
}

// A server that falls silent costs a caller no more than the timeout.
func TestServerFallsSilent(t *testing.T) {
	t.Parallel()
	wire := wires(t)
	for name, request := range map[string]int{"FinishLost": 1, "Adopt": 1, "Get": 0} {
		t.Run(name, func(t *testing.T) {
			w := wire(t, faultcalls.Named(name), 2*time.Second)
			for _, at := range []faultconn.Point{faultconn.Asked, faultconn.Answered} {
				begun := time.Now()
				if struck, _ := w.try(faultconn.Fault{At: at, N: request, Stall: true}); !struck {
					t.Error("the fault has not struck")
				}
				if took := time.Since(begun); took > 20*time.Second {
					t.Errorf("it took %v", took)
				}
			}
		})
	}
}
