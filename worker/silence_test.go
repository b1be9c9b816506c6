package worker_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/queue/memqueue"
	"github.com/slipway-build/slipway/worker"
)

// A hush is a server's address behind which all bytes vanish once it is told so: no end of the connection, no error, nothing.
type hush struct {
	url    string
	silent atomic.Bool
}

func newHush(t *testing.T, target string) *hush {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &hush{url: "http://" + listener.Addr().String()}
	ctx := context.WithoutCancel(t.Context())
	var mu sync.Mutex
	var open []net.Conn
	var relays sync.WaitGroup
	relays.Go(func() {
		for {
			in, err := listener.Accept()
			if err != nil {
				return
			}
			out, err := new(net.Dialer).DialContext(ctx, "tcp", strings.TrimPrefix(target, "http://"))
			if err != nil {
				in.Close()
				continue
			}
			mu.Lock()
			open = append(open, in, out)
			mu.Unlock()
			relays.Go(func() { h.relay(in, out) })
			relays.Go(func() { h.relay(out, in) })
		}
	})
	t.Cleanup(func() {
		listener.Close()
		mu.Lock()
		for _, conn := range open {
			conn.Close()
		}
		mu.Unlock()
		relays.Wait()
	})
	return h
}

func (h *hush) relay(from, to net.Conn) {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if h.silent.Load() {
			n = 0
		}
		if n > 0 {
			_, _ = to.Write(buf[:n])
		}
		if err != nil {
			if !h.silent.Load() {
				to.Close()
			}
			return
		}
	}
}

// chatty is a build that writes, so that its log is acknowledged all the time, until it is told to stop.
func chatty(started chan<- struct{}, stopped chan<- error) executor {
	return func(ctx context.Context, job worker.Job) (worker.Result, error) {
		started <- struct{}{}
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				_, _ = job.Log.Write([]byte("x\n"))
			case <-ctx.Done():
				stopped <- context.Cause(ctx)
				return worker.Result{}, nil
			}
		}
	}
}

// goesOn fails if a build is stopped in the time that a lease and its renewals would take.
func goesOn(t *testing.T, stopped <-chan error, d time.Duration) {
	t.Helper()
	select {
	case cause := <-stopped:
		t.Errorf("the build was stopped though another controller was there: %v", cause)
	case <-time.After(d):
	}
}

// TestControllerFallsSilent has the machine of one controller die without a word, a moment after it has acknowledged log bytes. The
// agent is with another controller before its lease is over, though it would wait for as long as the lease to hear something.
func TestControllerFallsSilent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	seldom := func(o *worker.HubOptions) { o.Heartbeat = time.Second }
	first, second := w.controller(seldom), w.controller(seldom)
	h := newHush(t, first.server.URL)
	started, stopped := make(chan struct{}, 1), make(chan error, 1)
	w.agent("one", chatty(started, stopped), func(o *worker.AgentOptions) { o.ReadTimeout = quickHub.Lease }, h.url, second.server.URL)
	w.submit(nil)
	receive(t, "the start", started)
	<-time.After(700 * time.Millisecond)
	h.silent.Store(true)
	goesOn(t, stopped, 2*quickHub.Lease)
}

// A beatless is a backend that one controller cannot reach to say that it is alive.
type beatless struct {
	queue.Backend
	of atomic.Pointer[queue.ID]
}

func (b *beatless) Beat(ctx context.Context, controller queue.ID, ttl time.Duration, now time.Time) (queue.Beat, error) {
	if of := b.of.Load(); of != nil && *of == controller {
		return queue.Beat{}, errors.New("no route to host")
	}
	return b.Backend.Beat(ctx, controller, ttl, now)
}

// TestHeartbeatsWithheld has one of two controllers unable to say that it is alive: rightly, it answers no heartbeats. The agent is
// with the other one before its lease is over.
func TestHeartbeatsWithheld(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := &beatless{Backend: memqueue.New()}
	w.backend, w.queue = b, queue.New(b, &quickQueue)
	first, second := w.controller(nil), w.controller(nil)
	started, stopped := make(chan struct{}, 1), make(chan error, 1)
	w.agent("one", chatty(started, stopped), func(o *worker.AgentOptions) { o.ReadTimeout = quickHub.Lease },
		first.server.URL, second.server.URL)
	w.submit(nil)
	receive(t, "the start", started)
	b.of.Store(new(first.queue.Controller()))
	goesOn(t, stopped, quickQueue.ControllerTTL+2*quickHub.Lease)
}

// An executor knows how long its attempt may live: as long as the lease and half of the kill time, and less from then on.
func TestJobLease(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.controller(nil)
	p := newProxy(t, c.server.URL)
	most := quickHub.Lease + quickHub.KillTime/2
	running, lost := make(chan worker.Job), make(chan time.Duration)
	w.agent("one", func(ctx context.Context, job worker.Job) (worker.Result, error) {
		running <- job
		<-ctx.Done()
		lost <- job.Lease()
		return worker.Result{}, nil
	}, nil, p.url())
	w.submit(nil)
	job := receive(t, "the build runs", running)
	begun, renewed := job.Lease(), false
	if begun > most {
		t.Errorf("the lease is %v, want %v at most", begun, most)
	}
	eventually(t, "the lease is renewed", func() bool {
		now := job.Lease()
		renewed = now > begun
		begun = now
		return renewed
	})
	p.shut()
	if left := receive(t, "the end of the lease", lost); left > quickHub.KillTime/2 {
		t.Errorf("when the lease is over, %v are left, want %v", left, quickHub.KillTime/2)
	}
}
