package queue_test

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/queue/memqueue"
)

// A desk is a backend whose submits can be held up, before and after they are stored, and that counts claims that found something.
type desk struct {
	queue.Backend
	claims  time.Duration // how long a claim takes, before and after it is made
	claimed atomic.Int64
	drop    atomic.Bool // submits store nothing, and say nothing about it

	mu     sync.Mutex
	before func([]queue.NewBuild)
	after  func([]queue.Submitted) error
}

func (d *desk) on(before func([]queue.NewBuild), after func([]queue.Submitted) error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.before, d.after = before, after
}

func (d *desk) Submit(ctx context.Context, builds []queue.NewBuild, now time.Time) ([]queue.Submitted, error) {
	d.mu.Lock()
	before, after := d.before, d.after
	d.mu.Unlock()
	if before != nil {
		before(builds)
	}
	var done []queue.Submitted
	var err error
	if !d.drop.Load() {
		done, err = d.Backend.Submit(ctx, builds, now)
	}
	if err == nil && after != nil {
		if err := cmp.Or(after(done), ctx.Err()); err != nil {
			return nil, err
		}
	}
	return done, err
}

func (d *desk) Claim(ctx context.Context, demand []queue.Demand, offer time.Duration, now time.Time) ([]queue.Claimed, error) {
	pass(d.claims)
	claimed, err := d.Backend.Claim(ctx, demand, offer, now)
	pass(d.claims)
	d.claimed.Add(int64(len(claimed)))
	return claimed, err
}

// newDesk returns a desk, and a queue on it that knows the class of the builds of submit.
func newDesk(t *testing.T, o *queue.Options) (*desk, *queue.Queue) {
	t.Helper()
	d := &desk{Backend: memqueue.New()}
	q := queue.New(d, o)
	id := submit(t, q, nil)
	if _, err := q.Maintain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := q.Cancel(t.Context(), "p", id, ""); err != nil {
		t.Fatal(err)
	}
	return d, q
}

// idle waits until the worker of the bubble has looked for builds and found none.
func idle() {
	pass(2 * time.Second)
	synctest.Wait()
}

// A worker that has nothing to do starts what its process submits, without a claim.
func TestHandOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, q := newDesk(t, quiet(nil))
		var jobs []queue.Claimed
		var mu sync.Mutex
		_ = work(t, q, &queue.WorkerOptions{Slots: 3}, func(_ context.Context, job *queue.Job) error {
			mu.Lock()
			defer mu.Unlock()
			jobs = append(jobs, job.Claimed)
			return nil
		}, func() {
			idle()
			begun := time.Now()
			source := &queue.Source{Digest: queue.Digest{1}, Size: 5}
			id := submit(t, q, func(p *queue.Params) {
				p.Source, p.Metadata, p.RunTimeout = source, map[string]string{"k": "v"}, time.Minute
			})
			b := settle(t, q, id, queue.Succeeded)
			if !b.StartedAt.Equal(begun) || b.Epoch != 1 || b.AttemptsUsed != 1 {
				t.Errorf("the build is %+v, want it started at %v", b, begun)
			}
			mu.Lock()
			defer mu.Unlock()
			j := jobs[0]
			if j.Build != id || j.Epoch != 1 || j.Attempt != 1 || string(j.Spec) != `{"n": 7}` || j.SpecSize != len(j.Spec) || *j.Source != *source ||
				j.Metadata["k"] != "v" || j.RunTimeout != time.Minute || j.Project != "p" || j.Pool != queue.DefaultPool || j.Class == 0 || j.Rank == 0 {
				t.Errorf("the job is %+v", j)
			}
		})
		if n := d.claimed.Load(); n != 0 {
			t.Errorf("%d builds were claimed", n)
		}
	})
}

// Where slots run out the rest is queued, and nothing runs twice or too much of it at once, however many submit.
func TestHandOverKeepsToSlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, q := newDesk(t, quiet(nil))
		d.claims = 4 * time.Millisecond
		d.on(func([]queue.NewBuild) { pass(3 * time.Millisecond) }, func([]queue.Submitted) error { pass(2 * time.Millisecond); return nil })
		const slots, builds = 3, 60
		var running, most atomic.Int64
		var mu sync.Mutex
		ran := make(map[queue.ID]int)
		// With a poll like this, whoever is not rung for waits for good.
		_ = work(t, q, &queue.WorkerOptions{Slots: slots, Poll: 10 * time.Hour}, func(_ context.Context, job *queue.Job) error {
			defer running.Add(-1)
			mu.Lock()
			most.Store(max(most.Load(), running.Add(1)))
			ran[job.Build]++
			mu.Unlock()
			pass(time.Duration(job.Build[15]) * 100 * time.Microsecond)
			return nil
		}, func() {
			idle()
			begun := time.Now()
			ids := make([]queue.ID, builds)
			var group sync.WaitGroup
			for i := range ids {
				pass(time.Duration(i%7) * time.Millisecond)
				group.Go(func() { ids[i] = submit(t, q, nil) })
			}
			group.Wait()
			for _, id := range ids {
				settle(t, q, id, queue.Succeeded)
			}
			if took := time.Since(begun); took > 10*time.Second {
				t.Errorf("it took %v", took)
			}
		})
		if most.Load() != slots || len(ran) != builds {
			t.Errorf("%d ran at once, want %d; %d ran, want %d", most.Load(), slots, len(ran), builds)
		}
		for id, n := range ran {
			if n != 1 {
				t.Errorf("build %v ran %d times", id, n)
			}
		}
		if n := d.claimed.Load(); n == 0 || n == builds {
			t.Errorf("%d of %d builds were claimed; the test shows nothing", n, builds)
		}
	})
}

// A slot that a claim may fill is not handed over, and one that was kept for nothing is claimed for.
func TestHandOverAndClaims(t *testing.T) {
	for name, check := range map[string]func(t *testing.T, d *desk, q, other *queue.Queue){
		"claim first": func(t *testing.T, d *desk, q, other *queue.Queue) {
			d.claims = 5 * time.Millisecond
			first := submit(t, other, nil)
			q.Wake()
			pass(2 * time.Millisecond) // the claim is on its way
			d.on(func([]queue.NewBuild) { pass(5 * time.Millisecond) }, nil)
			second := submit(t, q, nil)
			settle(t, q, first, queue.Succeeded)
			settle(t, q, second, queue.Succeeded)
		},
		"kept for nothing": func(t *testing.T, d *desk, q, other *queue.Queue) {
			var first queue.ID
			d.on(func([]queue.NewBuild) {
				first = submit(t, other, nil)
				q.Wake()
				pass(time.Second)
			}, func([]queue.Submitted) error { return queue.ErrConflict })
			if _, err := q.Submit(t.Context(), queue.Params{Project: "p"}); !errors.Is(err, queue.ErrConflict) {
				t.Errorf("Submit returned %v", err)
			}
			begun := time.Now()
			settle(t, q, first, queue.Succeeded)
			if took := time.Since(begun); took > 2*time.Second {
				t.Errorf("what waited for the slot was claimed after %v", took)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, q := newDesk(t, quiet(nil))
				var running, most atomic.Int64
				_ = work(t, q, &queue.WorkerOptions{Slots: 1, Poll: 10 * time.Hour}, func(context.Context, *queue.Job) error {
					most.Store(max(most.Load(), running.Add(1)))
					pass(time.Second)
					running.Add(-1)
					return nil
				}, func() {
					idle()
					check(t, d, q, queue.New(d.Backend, quiet(nil)))
				})
				if most.Load() != 1 {
					t.Errorf("%d ran at once in one slot", most.Load())
				}
			})
		})
	}
}

// Of builds that are submitted together those start that a claim would have taken.
func TestHandOverByPriority(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, q := newDesk(t, quiet(nil))
		var mu sync.Mutex
		var order []int
		_ = work(t, q, &queue.WorkerOptions{Slots: 2}, func(_ context.Context, job *queue.Job) error {
			mu.Lock()
			order = append(order, int(job.Spec[0]))
			mu.Unlock()
			pass(time.Second)
			return nil
		}, func() {
			idle()
			var params []queue.Params
			for i, priority := range []int{0, 3, -1, 7, 1} {
				params = append(params, queue.Params{Project: "p", Spec: []byte{byte(i)}, Priority: priority})
			}
			ids, err := q.SubmitMany(t.Context(), params)
			if err != nil {
				t.Fatal(err)
			}
			for _, id := range ids {
				settle(t, q, id, queue.Succeeded)
			}
		})
		slices.Sort(order[:2])
		slices.Sort(order[2:4])
		if !slices.Equal(order, []int{1, 3, 0, 4, 2}) {
			t.Errorf("they ran in the order %v", order)
		}
	})
}

// What is not known to have started is ended as lost and attempted again: the answer to its submit did not arrive.
func TestHandOverAnswerLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, q := newDesk(t, quiet(nil))
		var epochs []int64
		_ = work(t, q, &queue.WorkerOptions{Slots: 1}, func(_ context.Context, job *queue.Job) error {
			epochs = append(epochs, job.Epoch)
			return nil
		}, func() {
			idle()
			var stored queue.ID
			d.on(nil, func(done []queue.Submitted) error {
				stored = done[0].ID
				if !done[0].Started {
					t.Error("the build did not start at its submit; the test shows nothing")
				}
				return queue.ErrUnavailable
			})
			if _, err := q.Submit(t.Context(), queue.Params{Project: "p"}); !errors.Is(err, queue.ErrUnavailable) {
				t.Errorf("Submit returned %v", err)
			}
			d.on(nil, nil)
			settle(t, q, submit(t, q, nil), queue.Succeeded) // its slot is free
			settle(t, q, stored, queue.Succeeded)
		})
		if !slices.Equal(epochs, []int64{1, 2}) {
			t.Errorf("attempts with epochs %v ran, want 1 and, of the lost one, 2", epochs)
		}
	})
}

// A build whose submit is still under way is nobody else's to end, also while the worker looks for what it does not know.
func TestHandOverOnTheWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, q := newDesk(t, quiet(nil))
		var ran atomic.Int64
		_ = work(t, q, &queue.WorkerOptions{Slots: 4}, func(_ context.Context, job *queue.Job) error {
			ran.Add(1)
			if job.Epoch != 1 {
				t.Errorf("attempt with epoch %d", job.Epoch)
			}
			return nil
		}, func() {
			idle()
			// One submit is answered late.
			stored := make(chan queue.ID, 1)
			answer := make(chan struct{})
			d.on(nil, func(done []queue.Submitted) error {
				stored <- done[0].ID
				<-answer
				return nil
			})
			var group sync.WaitGroup
			group.Go(func() { submit(t, q, nil) })
			late := <-stored
			// Another fails, so that the worker looks for what it does not know.
			d.on(nil, func([]queue.Submitted) error { return queue.ErrUnavailable })
			if _, err := q.Submit(t.Context(), queue.Params{Project: "p", MaxAttempts: 1}); err == nil {
				t.Error("the submit whose answer was lost succeeded")
			}
			d.on(nil, nil)
			pass(10 * time.Second)
			if b, err := q.Get(t.Context(), "p", late); err != nil || b.State != queue.Running {
				t.Errorf("the build is %v, %v", b.State, err)
			}
			close(answer)
			group.Wait()
			settle(t, q, late, queue.Succeeded)
		})
		if ran.Load() != 1 {
			t.Errorf("%d attempts ran, want 1", ran.Load())
		}
	})
}

// A worker that stops waits for what starts at a submit that is under way, as long as for any other handler.
func TestHandOverWhileStopping(t *testing.T) {
	for _, c := range []struct {
		name  string
		takes time.Duration
		cause error
	}{
		{"in time", time.Second, nil},
		{"too late", 15 * time.Second, queue.ErrStopping},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, q := newDesk(t, quiet(nil))
				answer := make(chan struct{})
				stored := make(chan queue.ID, 1)
				var cause error
				var submits sync.WaitGroup
				var id queue.ID
				var begun time.Time
				_ = work(t, q, &queue.WorkerOptions{Slots: 1, StopTimeout: 10 * time.Second}, func(ctx context.Context, _ *queue.Job) error {
					cause = context.Cause(ctx)
					return cause
				}, func() {
					idle()
					d.on(nil, func(done []queue.Submitted) error {
						stored <- done[0].ID
						<-answer
						return nil
					})
					submits.Go(func() { submit(t, q, nil) })
					id = <-stored
					begun = time.Now()
					time.AfterFunc(c.takes, func() { close(answer) })
				})
				submits.Wait()
				if took := time.Since(begun); took < c.takes || !errors.Is(cause, c.cause) {
					t.Errorf("Run returned after %v, the handler's context ended with %v, want %v and %v", took, cause, c.takes, c.cause)
				}
				want := queue.Succeeded
				if c.cause != nil {
					want = queue.Pending
				}
				settle(t, q, id, want)
			})
		})
	}
}

// What starts in a worker that may count as dead meanwhile is stopped at once.
func TestHandOverBehindTheFence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := &unreachable{Backend: memqueue.New()}
		d, q := newDesk(t, quiet(nil))
		u.Backend, d.Backend = d.Backend, u
		var cause error
		_ = work(t, q, &queue.WorkerOptions{Slots: 1}, func(ctx context.Context, _ *queue.Job) error {
			if cause == nil {
				cause = context.Cause(ctx)
				return cause
			}
			return nil
		}, func() {
			idle()
			d.on(nil, func([]queue.Submitted) error {
				u.down.Store(true)
				pass(q.Options().ControllerTTL + time.Second)
				return nil
			})
			id := submit(t, q, nil)
			synctest.Wait()
			if !errors.Is(cause, queue.ErrStaleLease) {
				t.Errorf("the handler's context ended with %v, want ErrStaleLease", cause)
			}
			d.on(nil, nil)
			u.down.Store(false)
			settle(t, q, id, queue.Pending)
		})
	})
}

// A submitter that gives up when its build has started does not keep it from running.
func TestHandOverCallerGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, q := newDesk(t, quiet(nil))
		_ = work(t, q, &queue.WorkerOptions{Slots: 1}, func(context.Context, *queue.Job) error { return nil }, func() {
			idle()
			ctx, cancel := context.WithCancel(t.Context())
			stored := make(chan queue.ID, 1)
			d.on(nil, func(done []queue.Submitted) error {
				stored <- done[0].ID
				cancel()
				pass(time.Second)
				return nil
			})
			if _, err := q.Submit(ctx, queue.Params{Project: "p", MaxAttempts: 1}); !errors.Is(err, context.Canceled) {
				t.Errorf("Submit returned %v", err)
			}
			d.on(nil, nil)
			settle(t, q, <-stored, queue.Succeeded)
		})
	})
}

// Two submits of one id are under way: the one that fails does not make the other's build unknown, nor its slot free.
func TestHandOverOfOneID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, q := newDesk(t, quiet(nil))
		var running, most atomic.Int64
		_ = work(t, q, &queue.WorkerOptions{Slots: 2}, func(_ context.Context, job *queue.Job) error {
			most.Store(max(most.Load(), running.Add(1)))
			defer running.Add(-1)
			if job.Epoch != 1 {
				t.Errorf("epoch %d runs", job.Epoch)
			}
			pass(10 * time.Second)
			return nil
		}, func() {
			idle()
			id, stored, answer := queue.NewID(), make(chan struct{}), make(chan struct{})
			d.on(nil, func([]queue.Submitted) error {
				close(stored)
				<-answer
				return nil
			})
			var group sync.WaitGroup
			group.Go(func() { submit(t, q, func(p *queue.Params) { p.ID = id }) })
			<-stored
			d.on(nil, nil)
			if _, err := q.Submit(t.Context(), queue.Params{ID: id, Project: "p"}); !errors.Is(err, queue.ErrConflict) {
				t.Errorf("the second submit returned %v", err)
			}
			d.on(nil, func([]queue.Submitted) error { return queue.ErrUnavailable }) // so that the worker looks for what it does not know
			if _, err := q.Submit(t.Context(), queue.Params{Project: "p", NotBefore: time.Now().Add(-time.Hour), MaxAttempts: 1}); err == nil {
				t.Error("the submit whose answer was lost succeeded")
			}
			d.on(nil, nil)
			pass(3 * time.Second)
			others := []queue.ID{submit(t, q, nil), submit(t, q, nil)}
			close(answer)
			group.Wait()
			for _, id := range append(others, id) {
				settle(t, q, id, queue.Succeeded)
			}
		})
		if most.Load() != 2 {
			t.Errorf("%d ran at once in two slots", most.Load())
		}
	})
}

// What others serve does not stand before what this worker does.
func TestHandOverBehindAnotherClass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, q := newDesk(t, quiet(nil))
		submit(t, q, func(p *queue.Params) { p.Pool = "elsewhere" })
		if _, err := q.Maintain(t.Context()); err != nil {
			t.Fatal(err)
		}
		_ = work(t, q, &queue.WorkerOptions{Slots: 4}, func(context.Context, *queue.Job) error { return nil }, func() {
			idle()
			ids, err := q.SubmitMany(t.Context(), []queue.Params{{Project: "p", Pool: "elsewhere"}, {Project: "p"}, {Project: "p"}})
			if err != nil {
				t.Fatal(err)
			}
			settle(t, q, ids[1], queue.Succeeded)
			settle(t, q, ids[2], queue.Succeeded)
		})
		if n := d.claimed.Load(); n != 0 {
			t.Errorf("%d builds were claimed", n)
		}
	})
}

// A worker that is told to stop takes nothing over, even if a claim of it is still under way.
func TestHandOverEndsWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, q := newDesk(t, quiet(nil))
		d.claims = 2 * time.Second
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() {
			ended <- queue.NewWorker(q, "w", &queue.WorkerOptions{Slots: 1024, Poll: 10 * time.Hour}).Run(ctx, func(context.Context, *queue.Job) error {
				return nil
			})
		}()
		pass(time.Minute)
		q.Wake()
		pass(time.Second) // the claim is under way
		stop()
		synctest.Wait()
		id := submit(t, q, nil)
		if err := <-ended; err != nil {
			t.Error(err)
		}
		b, err := q.Get(t.Context(), "p", id)
		if err != nil || d.claimed.Load() == 0 && b.State != queue.Pending {
			t.Errorf("the build is %v, %v: it was begun after the worker's context had ended", b.State, err)
		}
	})
}

// An answer may come when the worker has been dead for others and lives again: the build is not its own any more.
func TestHandOverBackFromTheDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := &unreachable{Backend: memqueue.New()}
		d, q := newDesk(t, quiet(nil))
		u.Backend, d.Backend = d.Backend, u
		var cause error
		_ = work(t, q, &queue.WorkerOptions{Slots: 1}, func(ctx context.Context, _ *queue.Job) error {
			if cause == nil {
				cause = context.Cause(ctx)
			}
			return cause
		}, func() {
			idle()
			answer := make(chan struct{})
			d.on(nil, func([]queue.Submitted) error {
				<-answer
				return nil
			})
			var group sync.WaitGroup
			group.Go(func() { submit(t, q, nil) })
			synctest.Wait()
			d.on(nil, nil)
			u.down.Store(true)
			pass(time.Minute)
			u.down.Store(false)
			pass(10 * time.Second) // it lives again
			close(answer)
			group.Wait()
			synctest.Wait()
			if !errors.Is(cause, queue.ErrStaleLease) {
				t.Errorf("the handler's context ended with %v, want ErrStaleLease", cause)
			}
		})
	})
}

// What is stored later than its submit has failed is found also by a worker that seldom polls.
func TestHandOverLateCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, q := newDesk(t, quiet(nil))
		_ = work(t, q, &queue.WorkerOptions{Slots: 1, Poll: 10 * time.Hour}, func(context.Context, *queue.Job) error { return nil }, func() {
			idle()
			var late []queue.NewBuild
			d.on(func(builds []queue.NewBuild) { late = slices.Clone(builds) }, func([]queue.Submitted) error { return queue.ErrUnavailable })
			d.drop.Store(true)
			if _, err := q.Submit(t.Context(), queue.Params{Project: "p"}); !errors.Is(err, queue.ErrUnavailable) {
				t.Errorf("Submit returned %v", err)
			}
			pass(20 * time.Second)
			done, err := d.Backend.Submit(t.Context(), late, time.Time{})
			if err != nil || !done[0].Started {
				t.Fatalf("the late submit returned %+v, %v", done, err)
			}
			pass(10 * time.Second)
			if b, err := q.Get(t.Context(), "p", late[0].ID); err != nil || b.State != queue.Pending {
				t.Errorf("the build is %v, %v, want it to be attempted again", b.State, err)
			}
		})
	})
}

// Where slots are kept for nothing, as of a paused project, none is kept until the next claim.
func TestHandOverIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, q := newDesk(t, quiet(nil))
		pause := func(paused bool) {
			if err := q.ChangeProject(t.Context(), "p", queue.ProjectChange{Paused: &paused}); err != nil {
				t.Fatal(err)
			}
		}
		var slots int
		_ = work(t, q, &queue.WorkerOptions{Slots: 100, Poll: 10 * time.Hour}, func(context.Context, *queue.Job) error { return nil }, func() {
			idle()
			pause(true)
			idle()
			d.on(func(builds []queue.NewBuild) {
				if builds[0].Slot.Session != 0 {
					slots++
				}
			}, nil)
			var ids []queue.ID
			for range 10 {
				ids = append(ids, submit(t, q, nil))
			}
			if slots != 1 {
				t.Errorf("%d of 10 submits kept a slot, want 1", slots)
			}
			pause(false)
			for _, id := range ids {
				settle(t, q, id, queue.Succeeded)
			}
			submit(t, q, nil)
			if slots != 2 {
				t.Errorf("%d submits kept a slot, want one more after a claim", slots)
			}
		})
	})
}

// A backend that tells too little fails the submit, and keeps no slot.
func TestHandOverFewerRows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, q := newDesk(t, quiet(nil))
		_ = work(t, q, &queue.WorkerOptions{Slots: 1}, func(context.Context, *queue.Job) error { return nil }, func() {
			idle()
			d.drop.Store(true)
			if _, err := q.Submit(t.Context(), queue.Params{Project: "p"}); err == nil {
				t.Error("the submit succeeded")
			}
			d.drop.Store(false)
			settle(t, q, submit(t, q, nil), queue.Succeeded)
		})
	})
}
