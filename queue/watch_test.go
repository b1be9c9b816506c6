package queue_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/queue/memqueue"
)

// A watch yields the build at once and after each change, up to its end.
func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, memqueue.New(), nil)
		id := f.submit(1, queue.Params{Spec: []byte("make")})[0]
		s := f.session("worker", nil)
		var states []queue.State
		var times []time.Duration
		begun := time.Now()
		var watching sync.WaitGroup
		watching.Go(func() {
			for b, err := range f.Watch(t.Context(), "project", id) {
				if err != nil || string(b.Spec) != "make" {
					t.Errorf("the watch yields %+v, %v", b, err)
				}
				states, times = append(states, b.State), append(times, time.Since(begun).Round(time.Second))
			}
		})
		after := func() {
			timer := time.NewTimer(10 * time.Second)
			<-timer.C
		}
		after()
		offers, err := f.Claim(t.Context(), []queue.Idle{{Session: s, Slots: 1}})
		if err != nil || len(offers) != 1 {
			t.Fatalf("Claim = %v, %v", offers, err)
		}
		after()
		if err := f.Accept(t.Context(), s, offers[0].AttemptID, queue.Digest{}); err != nil {
			t.Fatal(err)
		}
		after()
		if _, err := f.Cancel(t.Context(), "project", id, "enough"); err != nil {
			t.Fatal(err)
		}
		after()
		if _, err := f.Finish(t.Context(), queue.Completion{AttemptID: offers[0].AttemptID, Outcome: queue.Canceled}); err != nil {
			t.Fatal(err)
		}
		watching.Wait()
		if want := []queue.State{queue.Pending, queue.Offered, queue.Running, queue.Cancelling, queue.Canceled}; !slices.Equal(states, want) {
			t.Errorf("the watch saw %v, want %v", states, want)
		}
		if got := fmt.Sprint(times); got != "[0s 10s 20s 30s 40s]" {
			t.Errorf("the watch saw them after %v", got)
		}
	})
}

// What another process does is seen soon if it sends hints, and after two seconds or so if it does not.
func TestWaitAcrossProcesses(t *testing.T) {
	for name, c := range map[string]struct {
		hints bool
		limit time.Duration
	}{"hints": {true, 20 * time.Millisecond}, "poll": {false, 2400 * time.Millisecond}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				backend := &radio{memqueue.New(), newWaves()}
				options := &queue.Options{PollOnly: !c.hints}
				here, there := newFleet(t, backend, options), newFleet(t, backend, options)
				keepGoing(t, here.Queue)
				keepGoing(t, there.Queue)
				id := here.submit(1, queue.Params{})[0]
				var canceled atomic.Int64
				timer := time.AfterFunc(time.Minute, func() {
					canceled.Store(time.Now().UnixNano())
					if _, err := there.Cancel(t.Context(), "project", id, ""); err != nil {
						t.Error(err)
					}
				})
				defer timer.Stop()
				b, err := here.Wait(t.Context(), "project", id)
				if err != nil || b.State != queue.Canceled {
					t.Errorf("Wait returned %+v, %v", b, err)
				}
				if took := time.Duration(time.Now().UnixNano() - canceled.Load()); took > c.limit {
					t.Errorf("Wait returned %v after the end", took)
				}
			})
		})
	}
}

// A getter is a backend of which the reading of builds can fail.
type getter struct {
	queue.Backend
	err atomic.Pointer[error]
}

func (g *getter) Get(ctx context.Context, project string, id queue.ID) (queue.Build, error) {
	if err := g.err.Load(); err != nil {
		return queue.Build{}, *err
	}
	return g.Backend.Get(ctx, project, id)
}

func TestWaitErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &getter{Backend: memqueue.New()}
		f := newFleet(t, b, nil)
		id := f.submit(1, queue.Params{})[0]
		if _, err := f.Wait(t.Context(), "project", queue.NewID()); !errors.Is(err, queue.ErrNotFound) {
			t.Errorf("Wait for a build that is not there returned %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if _, err := f.Wait(ctx, "project", id); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Wait with a context that ended returned %v", err)
		}
		b.err.Store(new(queue.ErrUnavailable))
		if _, err := f.Wait(t.Context(), "project", id); !errors.Is(err, queue.ErrUnavailable) {
			t.Errorf("Wait on a database that is away returned %v", err)
		}
		b.err.Store(nil)
		time.AfterFunc(time.Minute, func() { b.err.Store(new(queue.ErrUnavailable)) })
		time.AfterFunc(2*time.Minute, func() { b.err.Store(nil) })
		time.AfterFunc(3*time.Minute, func() {
			if _, err := f.Cancel(t.Context(), "project", id, ""); err != nil {
				t.Error(err)
			}
		})
		if got, err := f.Wait(t.Context(), "project", id); err != nil || got.State != queue.Canceled {
			t.Errorf("Wait across an outage returned %+v, %v", got, err)
		}
	})
}

// A thousand watches, of which some are broken off, some end with their context and some with their build, leave nothing behind.
func TestWatchesFreeWhatTheyHave(t *testing.T) {
	f := newFleet(t, memqueue.New(), nil)
	ids := f.submit(1000, queue.Params{})
	before := runtime.NumGoroutine()
	ctx, cancel := context.WithCancel(t.Context())
	var first, ending, watching sync.WaitGroup
	for i, id := range ids {
		first.Add(1)
		group := &watching
		if i%3 == 2 {
			group = &ending
		}
		group.Go(func() {
			var seen bool
			for b, err := range f.Watch(ctx, "project", id) {
				if !seen {
					seen = true
					first.Done()
				}
				switch {
				case i%3 == 0:
					return
				case err != nil && (i%3 != 1 || !errors.Is(err, context.Canceled)):
					t.Errorf("watch %d: %v", i, err)
				case err == nil && i%3 == 1 && b.State != queue.Pending:
					t.Errorf("watch %d saw %v", i, b.State)
				}
			}
		})
	}
	first.Wait()
	var canceled []queue.ID
	for i, id := range ids {
		if i%3 == 2 {
			canceled = append(canceled, id)
		}
	}
	if _, err := f.CancelMany(t.Context(), "project", canceled, ""); err != nil {
		t.Fatal(err)
	}
	ending.Wait()
	cancel()
	watching.Wait()
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for runtime.NumGoroutine() > before {
		select {
		case <-deadline:
			t.Fatalf("%d goroutines are left, there were %d", runtime.NumGoroutine(), before)
		case <-tick.C:
		}
	}
}
