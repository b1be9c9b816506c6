package queue_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/queue/memqueue"
)

// quiet are options of a queue whose log goes nowhere.
func quiet(change func(*queue.Options)) *queue.Options {
	o := &queue.Options{Logger: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(o)
	}
	return o
}

// work runs a worker while do runs, and returns what Run returned.
func work(t *testing.T, q *queue.Queue, o *queue.WorkerOptions, handler queue.Handler, do func()) error {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- queue.NewWorker(q, "w", o).Run(ctx, handler) }()
	do()
	stop()
	return <-ended
}

// pass lets time pass: that of a bubble.
func pass(d time.Duration) { <-time.After(d) }

// submit submits a build of project p.
func submit(t *testing.T, q *queue.Queue, change func(*queue.Params)) queue.ID {
	t.Helper()
	p := queue.Params{Project: "p", Spec: []byte(`{"n": 7}`)}
	if change != nil {
		change(&p)
	}
	id, err := q.Submit(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// settle waits, in a bubble, until a build is in a state, and returns it.
func settle(t *testing.T, q *queue.Queue, id queue.ID, state queue.State) queue.Build {
	t.Helper()
	for range 10_000 {
		synctest.Wait()
		b, err := q.Get(t.Context(), "p", id)
		if err != nil {
			t.Fatal(err)
		}
		if b.State == state {
			return b
		}
		if b.State.Terminal() {
			t.Fatalf("build is %v (%s), want %v", b.State, b.Reason, state)
		}
		pass(50 * time.Millisecond)
	}
	t.Fatalf("build did not become %v", state)
	return queue.Build{}
}

func TestWorkerOutcomes(t *testing.T) {
	for name, test := range map[string]struct {
		handler queue.Handler
		params  func(*queue.Params)
		state   queue.State
		reason  string
	}{
		"success": {func(context.Context, *queue.Job) error { return nil }, nil, queue.Succeeded, ""},
		"error":   {func(context.Context, *queue.Job) error { return errors.New("no\nroom") }, nil, queue.Failed, "no room"},
		"panic":   {func(context.Context, *queue.Job) error { panic("oh") }, nil, queue.Failed, "panic: oh"},
		"try again": {func(_ context.Context, job *queue.Job) error {
			if job.Attempt < 2 {
				return fmt.Errorf("disk: %w", queue.ErrTryAgain)
			}
			return nil
		}, nil, queue.Succeeded, ""},
		"too often": {func(context.Context, *queue.Job) error {
			return queue.ErrTryAgain
		}, func(p *queue.Params) { p.MaxAttempts = 2 }, queue.Lost, "try again"},
		"retry of a failure": {func(_ context.Context, job *queue.Job) error {
			if job.Attempt < 3 {
				return errors.New("flaky")
			}
			return nil
		}, func(p *queue.Params) { p.RetryFailed = true }, queue.Succeeded, ""},
		"run timeout": {func(ctx context.Context, _ *queue.Job) error {
			<-ctx.Done()
			return ctx.Err()
		}, func(p *queue.Params) { p.RunTimeout = time.Minute }, queue.TimedOut, "ran longer than its run timeout"},
		"end of the goroutine": {func(context.Context, *queue.Job) error {
			runtime.Goexit()
			return nil
		}, nil, queue.Failed, "the handler did not return"},
		"typed": {queue.JSON(func(_ context.Context, _ *queue.Job, spec struct{ N int }) error {
			return fmt.Errorf("n is %d", spec.N)
		}), nil, queue.Failed, "n is 7"},
		"typed, another type": {
			queue.JSON(func(context.Context, *queue.Job, []string) error { return nil }), nil, queue.Failed,
			"spec is not the JSON of a []string: json: cannot unmarshal object into Go value of type []string",
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := queue.New(memqueue.New(), quiet(nil))
				err := work(t, q, nil, test.handler, func() {
					b := settle(t, q, submit(t, q, test.params), test.state)
					if b.Reason != test.reason {
						t.Errorf("reason: got %q, want %q", b.Reason, test.reason)
					}
				})
				if err != nil {
					t.Errorf("Run: %v", err)
				}
			})
		})
	}
}

func TestWorkerCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := queue.New(memqueue.New(), quiet(nil))
		var cause error
		err := work(t, q, nil, func(ctx context.Context, _ *queue.Job) error {
			<-ctx.Done()
			cause = context.Cause(ctx)
			return cause
		}, func() {
			id := submit(t, q, nil)
			settle(t, q, id, queue.Running)
			if _, err := q.Cancel(t.Context(), "p", id, "not needed"); err != nil {
				t.Fatal(err)
			}
			if b := settle(t, q, id, queue.Canceled); b.Reason != "not needed" {
				t.Errorf("reason: got %q", b.Reason)
			}
		})
		if err != nil || !errors.Is(cause, queue.ErrCanceled) {
			t.Errorf("Run: %v; cause: %v", err, cause)
		}
	})
}

// TestWorkerStops asks a worker to stop while one handler ends by itself, one when its context ends, and one has not begun.
func TestWorkerStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := queue.New(memqueue.New(), quiet(nil))
		var quick, slow, waiting queue.ID
		err := work(t, q, &queue.WorkerOptions{Slots: 2, StopTimeout: 10 * time.Second}, func(ctx context.Context, job *queue.Job) error {
			if job.Build == quick {
				pass(5 * time.Second)
				return nil
			}
			<-ctx.Done()
			if cause := context.Cause(ctx); !errors.Is(cause, queue.ErrStopping) {
				t.Errorf("cause: got %v, want ErrStopping", cause)
			}
			return ctx.Err()
		}, func() {
			quick = queue.NewID()
			submit(t, q, func(p *queue.Params) { p.ID = quick })
			slow = submit(t, q, nil)
			settle(t, q, quick, queue.Running)
			settle(t, q, slow, queue.Running)
			waiting = submit(t, q, nil)
		})
		if err != nil {
			t.Errorf("Run: %v", err)
		}
		for id, want := range map[queue.ID]queue.State{quick: queue.Succeeded, slow: queue.Pending, waiting: queue.Pending} {
			if b, err := q.Get(t.Context(), "p", id); err != nil || b.State != want {
				t.Errorf("build is %v, %v; want %v", b.State, err, want)
			}
		}
		if attempts, err := q.Attempts(t.Context(), "p", slow); err != nil || len(attempts) != 1 || attempts[0].Outcome != queue.Lost {
			t.Errorf("attempts of what was stopped: %+v, %v", attempts, err)
		}
	})
}

func TestWorkerLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := queue.New(memqueue.New(), quiet(nil))
		big := bytes.Repeat([]byte("0123456789abcdef\n"), 600_000) // more than may wait
		_ = work(t, q, nil, func(_ context.Context, job *queue.Job) error {
			fmt.Fprintln(job.Log(), "begin")
			pass(3 * time.Second)
			_, err := job.Log().Write(big)
			return err
		}, func() {
			id := submit(t, q, nil)
			settle(t, q, id, queue.Running)
			pass(2 * time.Second)
			if page, err := q.ReadLog(t.Context(), "p", queue.AttemptID{Build: id}, 0, 100); err != nil || string(page.Data) != "begin\n" {
				t.Errorf("log while it runs: %q, %v", page.Data, err)
			}
			settle(t, q, id, queue.Succeeded)
			attempts, err := q.Attempts(t.Context(), "p", id)
			if err != nil || !attempts[0].LogComplete || attempts[0].LogLength != int64(len(big)+6) {
				t.Errorf("log at the end: %+v, %v", attempts[0], err)
			}
		})
	})
}

func TestWorkerLogIsCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := queue.New(memqueue.New(), quiet(func(o *queue.Options) { o.LogLines = 10 }))
		_ = work(t, q, nil, func(_ context.Context, job *queue.Job) error {
			for range 100 {
				fmt.Fprintln(job.Log(), "line")
			}
			return nil
		}, func() {
			id := submit(t, q, nil)
			settle(t, q, id, queue.Succeeded)
			page, err := q.ReadLog(t.Context(), "p", queue.AttemptID{Build: id}, 0, 1000)
			if err != nil || !page.Cut || strings.Count(string(page.Data), "\n") != 10 {
				t.Errorf("log: %+v, %v", page, err)
			}
		})
	})
}

// TestWorkerReplaced opens a second session of the name: the first worker's handlers must stop, and it must say why.
func TestWorkerReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := queue.New(memqueue.New(), quiet(nil))
		ended := make(chan error, 1)
		var cause atomic.Value
		go func() {
			ended <- queue.NewWorker(q, "w", nil).Run(t.Context(), func(ctx context.Context, _ *queue.Job) error {
				<-ctx.Done()
				cause.Store(context.Cause(ctx))
				return ctx.Err()
			})
		}()
		settle(t, q, submit(t, q, nil), queue.Running)
		_, err := q.OpenSession(t.Context(), queue.NewSession{
			Worker: "w", Instance: "other", Pools: []string{queue.DefaultPool}, Slots: 1, Direct: true,
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := <-ended; !errors.Is(err, queue.ErrReplaced) {
			t.Errorf("Run: got %v, want ErrReplaced", err)
		}
		if got, _ := cause.Load().(error); !errors.Is(got, queue.ErrStaleLease) {
			t.Errorf("cause: got %v, want ErrStaleLease", got)
		}
	})
}

// An unreachable backend answers nothing while it is down.
type unreachable struct {
	queue.Backend
	down atomic.Bool
	lose atomic.Bool // answers to claims are lost
}

func (b *unreachable) Beat(ctx context.Context, id queue.ID, ttl time.Duration, now time.Time) (queue.Beat, error) {
	if b.down.Load() {
		return queue.Beat{}, queue.ErrUnavailable
	}
	return b.Backend.Beat(ctx, id, ttl, now)
}

func (b *unreachable) Finish(ctx context.Context, ends []queue.Completion, avoid time.Duration, now time.Time) ([]queue.Finished, error) {
	if b.down.Load() {
		return nil, queue.ErrUnavailable
	}
	return b.Backend.Finish(ctx, ends, avoid, now)
}

func (b *unreachable) AppendLogs(
	ctx context.Context, chunks []queue.LogChunk, limit queue.LogLimit, now time.Time,
) ([]queue.LogLength, error) {
	if b.down.Load() {
		return nil, queue.ErrUnavailable
	}
	return b.Backend.AppendLogs(ctx, chunks, limit, now)
}

func (b *unreachable) Claim(ctx context.Context, d []queue.Demand, offer time.Duration, now time.Time) ([]queue.Claimed, error) {
	claimed, err := b.Backend.Claim(ctx, d, offer, now)
	if b.lose.Load() && len(claimed) > 0 {
		return nil, queue.ErrUnavailable
	}
	return claimed, err
}

// TestWorkerFencesItself has a worker lose its backend: its handlers must stop within the time in which others hold it for alive.
func TestWorkerFencesItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &unreachable{Backend: memqueue.New()}
		q := queue.New(b, quiet(nil))
		stopped := make(chan time.Time, 1)
		_ = work(t, q, nil, func(ctx context.Context, _ *queue.Job) error {
			<-ctx.Done()
			if cause := context.Cause(ctx); !errors.Is(cause, queue.ErrStaleLease) {
				t.Errorf("cause: got %v, want ErrStaleLease", cause)
			}
			select {
			case stopped <- time.Now():
			default:
			}
			return ctx.Err()
		}, func() {
			id := submit(t, q, nil)
			settle(t, q, id, queue.Running)
			b.down.Store(true)
			begun := time.Now()
			if took := (<-stopped).Sub(begun); took > q.Options().ControllerTTL+2*time.Second {
				t.Errorf("handlers stopped after %v", took)
			}
			b.down.Store(false)
			settle(t, q, id, queue.Pending)
		})
	})
}

// TestWorkerReportsNoSuccessAfterItsFence has a handler succeed although it was told that the lease is lost: the build is attempted again.
func TestWorkerReportsNoSuccessAfterItsFence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &unreachable{Backend: memqueue.New()}
		q := queue.New(b, quiet(nil))
		_ = work(t, q, nil, func(ctx context.Context, job *queue.Job) error {
			if job.Attempt == 1 {
				<-ctx.Done()
				b.down.Store(false)
			}
			return nil
		}, func() {
			id := submit(t, q, nil)
			settle(t, q, id, queue.Running)
			b.down.Store(true)
			if got := settle(t, q, id, queue.Succeeded); got.Epoch != 2 {
				t.Errorf("the build succeeded under epoch %d", got.Epoch)
			}
		})
	})
}

// TestWorkerLogDoesNotHoldUp has a handler write more than may wait while the backend is away: it is told to stop nevertheless.
func TestWorkerLogDoesNotHoldUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &unreachable{Backend: memqueue.New()}
		q := queue.New(b, quiet(nil))
		wrote := make(chan error, 1)
		_ = work(t, q, nil, func(_ context.Context, job *queue.Job) error {
			if job.Attempt > 1 {
				return nil
			}
			b.down.Store(true)
			var err error
			for line := bytes.Repeat([]byte("x"), 1<<20); err == nil; {
				_, err = job.Log().Write(line)
			}
			wrote <- err
			return err
		}, func() {
			id := submit(t, q, nil)
			if err := <-wrote; !errors.Is(err, queue.ErrStaleLease) {
				t.Errorf("the write ended with %v, want ErrStaleLease", err)
			}
			b.down.Store(false)
			settle(t, q, id, queue.Succeeded)
		})
	})
}

// TestWorkersOfOneQueue runs two workers on a queue, one of which ends: the other has the rest.
func TestWorkersOfOneQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := queue.New(memqueue.New(), quiet(nil))
		var by [2]atomic.Int64
		run := func(i int) (stop func()) {
			ctx, cancel := context.WithCancel(t.Context())
			var running sync.WaitGroup
			running.Go(func() {
				err := queue.NewWorker(q, fmt.Sprintf("w%d", i), nil).Run(ctx, func(context.Context, *queue.Job) error {
					by[i].Add(1)
					return nil
				})
				if err != nil {
					t.Errorf("Run: %v", err)
				}
			})
			return func() {
				cancel()
				running.Wait()
			}
		}
		stop, stopOther := run(0), run(1)
		defer stopOther()
		for range 100 {
			settle(t, q, submit(t, q, nil), queue.Succeeded)
		}
		stop()
		for range 100 {
			settle(t, q, submit(t, q, nil), queue.Succeeded)
		}
		if a, b := by[0].Load(), by[1].Load(); a+b != 200 || b < 100 {
			t.Errorf("the workers ran %d and %d builds", a, b)
		}
	})
}

// TestWorkerOutlivesOutage has the backend away when a build ends: its outcome must be stored afterwards.
func TestWorkerOutlivesOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &unreachable{Backend: memqueue.New()}
		q := queue.New(b, quiet(nil))
		_ = work(t, q, nil, func(context.Context, *queue.Job) error {
			b.down.Store(true)
			return nil
		}, func() {
			id := submit(t, q, nil)
			settle(t, q, id, queue.Running)
			pass(15 * time.Second)
			b.down.Store(false)
			settle(t, q, id, queue.Succeeded)
		})
	})
}

// TestWorkerClaimAnswerLost loses the answer to a claim: the build must not wait for its run timeout.
func TestWorkerClaimAnswerLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &unreachable{Backend: memqueue.New()}
		q := queue.New(b, quiet(nil))
		b.lose.Store(true)
		_ = work(t, q, nil, func(context.Context, *queue.Job) error { return nil }, func() {
			id := submit(t, q, func(p *queue.Params) { p.RunTimeout = 10 * time.Hour })
			settle(t, q, id, queue.Running)
			b.lose.Store(false)
			begun := time.Now()
			settle(t, q, id, queue.Succeeded)
			if took := time.Since(begun); took > q.Options().Avoid+5*time.Second { // there is no other worker
				t.Errorf("succeeded only after %v", took)
			}
		})
	})
}

// TestWorkerSlots runs many builds: never more at once than there are slots, and each once.
func TestWorkerSlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := queue.New(memqueue.New(), quiet(nil))
		var mu sync.Mutex
		ran := make(map[queue.ID]int)
		var running, most int
		var ids []queue.ID
		_ = work(t, q, &queue.WorkerOptions{Slots: 7}, func(_ context.Context, job *queue.Job) error {
			mu.Lock()
			ran[job.Build]++
			running++
			most = max(most, running)
			mu.Unlock()
			pass(time.Duration(job.Build[15]) * time.Millisecond)
			mu.Lock()
			running--
			mu.Unlock()
			return nil
		}, func() {
			for range 200 {
				ids = append(ids, submit(t, q, nil))
			}
			for _, id := range ids {
				settle(t, q, id, queue.Succeeded)
			}
		})
		if most != 7 || len(ran) != len(ids) {
			t.Errorf("%d at once, want 7; %d builds ran, want %d", most, len(ran), len(ids))
		}
		for id, n := range ran {
			if n != 1 {
				t.Errorf("build %v ran %d times", id, n)
			}
		}
	})
}

// A remote is a backend that is a millisecond away.
type remote struct{ queue.Backend }

func (r remote) Claim(ctx context.Context, demand []queue.Demand, offer time.Duration, now time.Time) ([]queue.Claimed, error) {
	defer pass(time.Millisecond)
	return r.Backend.Claim(ctx, demand, offer, now)
}

func (r remote) Finish(ctx context.Context, ends []queue.Completion, avoid time.Duration, now time.Time) ([]queue.Finished, error) {
	pass(time.Millisecond)
	return r.Backend.Finish(ctx, ends, avoid, now)
}

// No slot stays free beside builds that wait, also one that becomes free while a claim is under way.
func TestWorkerUsesItsSlots(t *testing.T) {
	for _, slots := range []int{1, 2, 3, 16} {
		t.Run(fmt.Sprint(slots), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const builds, longest = 400, 4 * time.Millisecond
				q := queue.New(remote{memqueue.New()}, quiet(nil))
				for range builds {
					submit(t, q, nil)
				}
				begun := time.Now()
				var n atomic.Int64
				all := make(chan struct{})
				handler := func(context.Context, *queue.Job) error {
					i := n.Add(1)
					pass(time.Duration(i%8+1) * longest / 8)
					if i == builds {
						close(all)
					}
					return nil
				}
				err := work(t, q, &queue.WorkerOptions{Slots: slots}, handler, func() { <-all })
				// A slot is free again a finish and two claims after its build, if it just missed the first of them.
				most := builds / time.Duration(slots) * (longest*9/16 + 4*time.Millisecond)
				if took := time.Since(begun); err != nil || took > most {
					t.Errorf("took %v, %v; want at most %v", took, err, most)
				}
			})
		})
	}
}

func TestWorkerUsesASlotThatBecomesFreeDuringAClaim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := queue.New(remote{memqueue.New()}, quiet(nil))
		submit(t, q, nil)
		started := make(chan time.Time, 3)
		finish := make(chan struct{})
		handler := func(ctx context.Context, _ *queue.Job) error {
			started <- time.Now()
			select {
			case <-finish:
			case <-ctx.Done():
			}
			return nil
		}
		err := work(t, q, &queue.WorkerOptions{Slots: 2, Poll: time.Hour}, handler, func() {
			<-started
			pass(time.Minute) // the claim after it has found nothing
			finish <- struct{}{}
			pass(900 * time.Microsecond) // its end is all but stored when the claim for the other slot begins
			if _, err := q.SubmitMany(t.Context(), []queue.Params{{Project: "p"}, {Project: "p"}}); err != nil {
				t.Error(err)
			}
			begun := time.Now()
			<-started
			<-started
			if took := time.Since(begun); took > 5*time.Millisecond {
				t.Errorf("two builds for two slots started after %v", took)
			}
		})
		if err != nil {
			t.Error(err)
		}
	})
}

func TestWorkerRefusesBadNames(t *testing.T) {
	q := queue.New(memqueue.New(), quiet(nil))
	err := queue.NewWorker(q, "Not a name", nil).Run(t.Context(), func(context.Context, *queue.Job) error { return nil })
	if !errors.Is(err, queue.ErrInvalid) {
		t.Errorf("got %v, want ErrInvalid", err)
	}
}
