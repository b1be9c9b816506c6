package queue_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/queue/memqueue"
)

// begin runs a queue for an example. What it returns ends that.
func begin(q *queue.Queue) (context.Context, func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = q.Run(ctx) })
	return ctx, func() {
		cancel()
		running.Wait()
	}
}

// claimed returns the specs of what a session is given, in order.
func claimed(ctx context.Context, q *queue.Queue, session queue.SessionID, slots int) []string {
	offers, err := q.Claim(ctx, []queue.Idle{{Session: session, Slots: slots}})
	check(err)
	var specs []string
	for _, o := range offers {
		specs = append(specs, string(o.Spec))
	}
	return specs
}

// A session for examples that look at who is given what.
func openSession(ctx context.Context, q *queue.Queue) queue.SessionID {
	_, err := q.Beat(ctx)
	check(err)
	session, err := q.OpenSession(ctx, queue.NewSession{
		Worker: "worker", Instance: "1", Pools: []string{queue.DefaultPool}, Slots: 10, Direct: true,
	})
	check(err)
	return session
}

// A worker runs builds in this process. The handler is a function of a typed spec.
func ExampleWorker() {
	type mail struct{ To string }
	q := queue.New(memqueue.New(), nil)
	worker := queue.NewWorker(q, "mailer-1", &queue.WorkerOptions{Slots: 8})

	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		check(worker.Run(ctx, queue.JSON(func(ctx context.Context, job *queue.Job, m mail) error {
			if m.To == "" {
				return errors.New("nobody to write to")
			}
			_, err := fmt.Fprintf(job.Log(), "sent to %s\n", m.To)
			return err
		})))
	})
	for _, to := range []string{"ada@example.com", ""} {
		spec, err := queue.JSONSpec(mail{To: to})
		check(err)
		id, err := q.Submit(ctx, queue.Params{Project: "shop", Spec: spec})
		check(err)
		b, err := q.Wait(ctx, "shop", id)
		check(err)
		page, err := q.ReadLog(ctx, "shop", queue.AttemptID{Build: id}, 0, 100)
		check(err)
		fmt.Printf("%v %q, log: %q\n", b.State, b.Reason, page.Data)
	}
	stop()
	running.Wait()
	// Output:
	// succeeded "", log: "sent to ada@example.com\n"
	// failed "nobody to write to", log: ""
}

// A handler that could do nothing about it has its build attempted again; so has one that failed, if the submitter asked for that.
func ExampleHandler() {
	q := queue.New(memqueue.New(), &queue.Options{Avoid: time.Millisecond, MaintainEvery: 10 * time.Millisecond})
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		check(queue.NewWorker(q, "worker", nil).Run(ctx, func(_ context.Context, job *queue.Job) error {
			switch job.Attempt {
			case 1:
				return fmt.Errorf("mount the cache: %w", queue.ErrTryAgain)
			case 2:
				return errors.New("a test is flaky")
			default:
				return nil
			}
		}))
	})
	id, err := q.Submit(ctx, queue.Params{Project: "site", RetryFailed: true, Backoff: queue.Backoff{Base: time.Millisecond, Max: time.Millisecond}})
	check(err)
	b, err := q.Wait(ctx, "site", id)
	check(err)
	attempts, err := q.Attempts(ctx, "site", id)
	check(err)
	for _, a := range attempts {
		fmt.Printf("%v: %q\n", a.Outcome, a.Reason)
	}
	fmt.Println("the build:", b.State)
	stop()
	running.Wait()
	// Output:
	// lost: "mount the cache: try again"
	// failed: "a test is flaky"
	// succeeded: ""
	// the build: succeeded
}

// A step of priority counts as much as a minute of waiting.
func ExampleParams_priority() {
	q := queue.New(memqueue.New(), nil)
	ctx, end := begin(q)
	defer end()
	session := openSession(ctx, q)
	for name, priority := range map[string]int{"release": 10, "nightly": -10, "commit": 0} {
		_, err := q.Submit(ctx, queue.Params{Project: "site", Spec: []byte(name), Priority: priority})
		check(err)
	}
	_, err := q.Maintain(ctx) // as Run does in a moment
	check(err)
	fmt.Println(claimed(ctx, q, session, 10))
	// Output: [release commit nightly]
}

// A submit with an idempotency key can be made again, whoever makes it.
func ExampleParams_idempotencyKey() {
	ctx := context.Background()
	q := queue.New(memqueue.New(), nil)
	params := queue.Params{Project: "site", Spec: []byte("deploy 1.2"), IdempotencyKey: "delivery-4711"}
	first, err := q.Submit(ctx, params)
	check(err)
	second, err := q.Submit(ctx, params)
	check(err)
	fmt.Println("the same build:", first == second)

	params.Spec = []byte("deploy 1.3")
	_, err = q.Submit(ctx, params)
	fmt.Println("another one under the key:", errors.Is(err, queue.ErrConflict))
	// Output:
	// the same build: true
	// another one under the key: true
}

// A build may be scheduled. Explain tells what it waits for.
func ExampleQueue_Explain() {
	ctx := context.Background()
	q := queue.New(memqueue.New(), nil)
	openSession(ctx, q)
	id, err := q.Submit(ctx, queue.Params{
		Project: "site", Labels: queue.Labels{"os": "linus"}, NotBefore: time.Date(2199, 12, 31, 23, 0, 0, 0, time.UTC),
	})
	check(err)
	_, err = q.Maintain(ctx)
	check(err)
	explanation, err := q.Explain(ctx, "site", id)
	check(err)
	for _, v := range explanation.Waiting() {
		fmt.Printf("%s: %s\n", v.Requirement, v.Text)
	}
	// Output:
	// time: scheduled for 2199-12-31T23:00:00Z
	// label: no worker has os=linus
	// turn: next among those that are held as it is
}

// Of the builds with a concurrency key no more run at a time than its limit says.
func ExampleQueue_SetLimit() {
	q := queue.New(memqueue.New(), nil)
	ctx, end := begin(q)
	defer end()
	check(q.SetLimit(ctx, "site", "deploy", 1))

	var mu sync.Mutex
	var running, most int
	workerCtx, stop := context.WithCancel(ctx)
	var worker sync.WaitGroup
	worker.Go(func() {
		check(queue.NewWorker(q, "worker", &queue.WorkerOptions{Slots: 10}).Run(workerCtx, func(context.Context, *queue.Job) error {
			mu.Lock()
			running++
			most = max(most, running)
			mu.Unlock()
			defer func() {
				mu.Lock()
				running--
				mu.Unlock()
			}()
			return nil
		}))
	})
	var ids []queue.ID
	for range 5 {
		id, err := q.Submit(ctx, queue.Params{Project: "site", ConcurrencyKey: "deploy"})
		check(err)
		ids = append(ids, id)
	}
	for _, id := range ids {
		b, err := q.Wait(ctx, "site", id)
		check(err)
		if b.State != queue.Succeeded {
			fmt.Println(b.State, b.Reason)
		}
	}
	stop()
	worker.Wait()
	fmt.Println("at most:", most)
	// Output: at most: 1
}

// Nothing of a paused pool is claimed.
func ExampleQueue_ChangePool() {
	ctx := context.Background()
	q := queue.New(memqueue.New(), nil)
	session := openSession(ctx, q)
	_, err := q.Submit(ctx, queue.Params{Project: "site", Spec: []byte("make")})
	check(err)
	_, err = q.Maintain(ctx)
	check(err)

	check(q.ChangePool(ctx, queue.DefaultPool, queue.PoolChange{Paused: new(true)}))
	fmt.Println("paused:", claimed(ctx, q, session, 1))
	check(q.ChangePool(ctx, queue.DefaultPool, queue.PoolChange{Paused: new(false)}))
	fmt.Println("resumed:", claimed(ctx, q, session, 1))
	// Output:
	// paused: []
	// resumed: [make]
}

// Watch follows a build through its states.
func ExampleQueue_Watch() {
	ctx := context.Background()
	q := queue.New(memqueue.New(), nil)
	id, err := q.Submit(ctx, queue.Params{Project: "site"})
	check(err)
	for b, err := range q.Watch(ctx, "site", id) {
		check(err)
		fmt.Println(b.State)
		if b.State == queue.Pending { // somebody cancels it
			_, err := q.Cancel(ctx, "site", id, "")
			check(err)
		}
	}
	// Output:
	// pending
	// canceled
}

// FollowLog shows what a build writes while it runs.
func ExampleQueue_FollowLog() {
	ctx, stop := context.WithCancel(context.Background())
	q := queue.New(memqueue.New(), nil)
	var running sync.WaitGroup
	running.Go(func() {
		check(queue.NewWorker(q, "worker", nil).Run(ctx, func(_ context.Context, job *queue.Job) error {
			_, err := fmt.Fprintln(job.Log(), "compiling\nlinking")
			return err
		}))
	})
	id, err := q.Submit(ctx, queue.Params{Project: "site"})
	check(err)

	for page, err := range q.FollowLog(ctx, "site", queue.AttemptID{Build: id}, 0) {
		check(err)
		fmt.Printf("%s", page.Data)
		if page.Closed {
			fmt.Println("the attempt has ended after", page.Length, "bytes")
		}
	}
	stop()
	running.Wait()
	// Output:
	// compiling
	// linking
	// the attempt has ended after 18 bytes
}

// A retry is a new build, which names the one that it repeats.
func ExampleQueue_Retry() {
	ctx := context.Background()
	q := queue.New(memqueue.New(), nil)
	old, err := q.Submit(ctx, queue.Params{Project: "site", Spec: []byte("make"), Metadata: map[string]string{"commit": "1f2e3d"}})
	check(err)
	_, err = q.Retry(ctx, "site", old)
	fmt.Println("while it is pending:", errors.Is(err, queue.ErrConflict))

	_, err = q.Cancel(ctx, "site", old, "the network is down")
	check(err)
	id, err := q.Retry(ctx, "site", old)
	check(err)
	b, err := q.Get(ctx, "site", id)
	check(err)
	fmt.Printf("%v: %s of %s, repeats the first: %t\n", b.State, b.Spec, b.Metadata["commit"], b.RetryOf == old)
	// Output:
	// while it is pending: true
	// pending: make of 1f2e3d, repeats the first: true
}

// Numbers are kept by project and day.
func ExampleQueue_Stats() {
	ctx := context.Background()
	q := queue.New(memqueue.New(), nil)
	for range 3 {
		id, err := q.Submit(ctx, queue.Params{Project: "site"})
		check(err)
		_, err = q.Cancel(ctx, "site", id, "")
		check(err)
	}
	_, err := q.Submit(ctx, queue.Params{Project: "site"})
	check(err)

	today := time.Now()
	stats, err := q.Stats(ctx, "site", today.AddDate(0, 0, -1), today.AddDate(0, 0, 1))
	check(err)
	var submitted, ended int64
	for _, day := range stats.Days {
		submitted += day.Submitted
		ended += day.Canceled
	}
	fmt.Println(submitted, "submitted,", ended, "canceled,", stats.Pending, "pending")
	// Output: 4 submitted, 3 canceled, 1 pending
}

// A process that hands builds to workers of its own kind looks whenever it is time.
func ExampleQueue_Wakes() {
	q := queue.New(memqueue.New(), nil)
	ctx, end := begin(q)
	defer end()
	session := openSession(ctx, q)
	_, err := q.Submit(ctx, queue.Params{Project: "site", Spec: []byte("make")})
	check(err)

	wakes := q.Wakes(queue.ForClaims, time.Second)
	defer wakes.Stop()
	for wakes.Next(ctx) {
		if specs := claimed(ctx, q, session, 10); len(specs) > 0 {
			wakes.Found()
			fmt.Println(specs)
			break
		}
	}
	// Output: [make]
}
