package pgqueue_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/slipway-build/slipway/internal/testenv"
	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/queue/pgqueue"
)

var loadTime = flag.Duration("load", 2*time.Second, "how long the tests under load last, once they have begun")

const (
	loadKeys       = 12 // with limits of 1, 2, …
	loadClaimers   = 8
	loadSubmitters = 4
	loadWaiting    = 400 // builds at a time, over all keys
	loadTTL        = time.Second
	loadGrace      = 1500 * time.Millisecond
)

// TestLimitsUnderLoad has processes submit, claim and die. No key is ever over its limit, each reaches it, and when all is done
// none of it is used up.
func TestLimitsUnderLoad(t *testing.T) {
	b, db := open(t)
	l := &limitLoad{T: t, db: db}
	for n := range loadKeys {
		if err := b.SetLimit(t.Context(), queue.Limit{Project: "project", Key: loadKey(n), Max: n + 1}); err != nil {
			t.Fatal(err)
		}
	}
	l.run(t.Context(), b, *loadTime)
	for n := range loadKeys {
		if !l.reached[n].Load() {
			t.Errorf("key %d never reached its limit of %d", n, n+1)
		}
	}
	t.Logf("%d builds ended, %d claimers were killed; as many as %v ran at once, with limits from 1 to %d",
		l.ended.Load(), l.killed, &l.most, loadKeys)
	l.wantNoneLeaked(b)
}

// loadPools share the keys: who looks at the lanes of one must know what those of the other were given.
var loadPools = [2]string{"pool-a", "pool-b"}

func loadKey(n int) string { return fmt.Sprintf("key-%02d", n) }

// A limitLoad is builds with keys, and those who submit and run them.
type limitLoad struct {
	*testing.T
	db     *testenv.Database
	open   atomic.Int64 // builds that have not ended
	ended  atomic.Int64
	killed int

	reached [loadKeys]atomic.Bool // by what is admitted and not ended
	now     [loadKeys]atomic.Int32
	most    tally // of what ran at once
}

// A tally is the greatest numbers that were seen.
type tally [loadKeys]atomic.Int32

func (t *tally) note(n int, value int32) {
	for {
		old := t[n].Load()
		if value <= old || t[n].CompareAndSwap(old, value) {
			return
		}
	}
}

func (t *tally) String() string {
	var all []int32
	for n := range t {
		all = append(all, t[n].Load())
	}
	return fmt.Sprint(all)
}

// satisfied reports whether each limit was reached.
func (l *limitLoad) satisfied() bool {
	for n := range l.reached {
		if !l.reached[n].Load() {
			return false
		}
	}
	return true
}

// run lets all of it go on for a while, longer if need be to see each limit reached, and then lets it come to rest.
func (l *limitLoad) run(ctx context.Context, b *pgqueue.Backend, d time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, d+2*patience)
	defer cancel()
	submitting, stop := context.WithTimeout(ctx, d+patience)
	defer stop()
	begun := time.Now()
	var submitters, claimers, watch sync.WaitGroup
	for n := range loadSubmitters {
		q, hangUp := l.queue()
		submitters.Go(func() {
			defer hangUp()
			l.submit(submitting, q, uint64(n))
		})
	}
	watching, blind := context.WithCancel(ctx)
	watch.Go(func() { l.watch(watching, b) })
	for n := range loadClaimers {
		q, hangUp := l.queue()
		claimers.Go(func() {
			defer hangUp()
			l.claimer(ctx, q, fmt.Sprintf("worker-%d", n), nil)
		})
	}
	for n := 0; ; n++ { // more claimers, who live but for a moment
		mortal, kill := context.WithTimeout(ctx, time.Duration(50+rand.IntN(200))*time.Millisecond)
		q, hangUp := l.queue()
		l.claimer(mortal, q, fmt.Sprintf("mortal-%d", n%3), &n)
		kill()
		hangUp()
		l.killed++
		if submitting.Err() != nil || time.Since(begun) >= d && l.satisfied() {
			break
		}
	}
	stop()
	submitters.Wait()
	eventually(l.T, "all builds have ended", func() bool { return l.count() == 0 })
	blind()
	watch.Wait()
	cancel()
	claimers.Wait()
}

// queue returns the queue of a process of its own, and what gives its connections back.
func (l *limitLoad) queue() (*queue.Queue, func()) {
	config := l.db.Pool.Config()
	config.MaxConns = 4
	pool, err := pgxpool.NewWithConfig(l.Context(), config)
	if err != nil {
		l.Fatal(err)
	}
	return queue.New(backend(l.T, pool, &pgqueue.Options{Schema: l.db.Schema}), &queue.Options{
		Grace: loadGrace, ControllerTTL: loadTTL, Avoid: 10 * time.Millisecond, MaintainEvery: 50 * time.Millisecond,
		Backoff: queue.Backoff{Base: time.Millisecond, Max: time.Millisecond}, MaxAttempts: 100, Logger: slog.New(slog.DiscardHandler),
	}), pool.Close
}

// anyKey returns a key, the more often the more of its builds may run, so that there are always some waiting.
func anyKey(random *rand.Rand) int {
	for {
		if n := random.IntN(loadKeys); random.IntN(loadKeys) <= n {
			return n
		}
	}
}

// submit keeps builds waiting.
func (l *limitLoad) submit(ctx context.Context, q *queue.Queue, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 0))
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for ctx.Err() == nil {
		if l.open.Load() >= loadWaiting {
			<-tick.C
			continue
		}
		params := make([]queue.Params, 1+random.IntN(4))
		for i := range params {
			n := anyKey(random)
			params[i] = queue.Params{
				Project: "project", Pool: loadPools[random.IntN(2)], ConcurrencyKey: loadKey(n), Priority: random.IntN(3),
				Metadata: map[string]string{"n": strconv.Itoa(n)},
			}
		}
		if _, err := q.SubmitMany(l.Context(), params); err != nil {
			l.Error(err)
			return
		}
		l.open.Add(int64(len(params)))
	}
}

// watch looks at what is admitted, all the time.
func (l *limitLoad) watch(ctx context.Context, b *pgqueue.Backend) {
	for ctx.Err() == nil {
		limits, err := b.Limits(l.Context(), "project", "", loadKeys)
		if err != nil {
			l.Error(err)
			return
		}
		for n, limit := range limits {
			if limit.Used > limit.Max {
				l.Errorf("limit is %+v", limit)
			}
			if limit.Used == limit.Max {
				l.reached[n].Store(true)
			}
		}
		l.open.Store(l.count())
	}
}

// count counts the builds that have not ended.
func (l *limitLoad) count() (n int64) {
	if err := l.db.Pool.QueryRow(l.Context(), "SELECT count(*) FROM "+l.db.Schema+".build WHERE finished_at IS NULL").Scan(&n); err != nil {
		l.Error(err)
	}
	return n
}

// claimer is a process that runs builds until ctx ends, and then does not say a word more. A mortal one has its session lost now and then;
// otherwise its controller is found dead.
func (l *limitLoad) claimer(ctx context.Context, q *queue.Queue, worker string, mortal *int) {
	if _, err := q.Beat(ctx); err != nil {
		return
	}
	session, err := q.OpenSession(ctx, queue.NewSession{
		Worker: worker, Instance: "i", Pools: loadPools[:], Slots: 16, Direct: true,
	})
	if err != nil {
		return
	}
	var tasks sync.WaitGroup
	defer tasks.Wait()
	tasks.Go(func() { _ = q.Run(ctx) })
	tasks.Go(func() {
		tick := time.NewTicker(loadTTL / 5)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				_, _ = q.Beat(ctx)
			case <-ctx.Done():
				return
			}
		}
	})
	var busy atomic.Int32
	wakes := q.Wakes(queue.ForClaims, 20*time.Millisecond)
	defer wakes.Stop()
	for wakes.Next(ctx) {
		offers, _ := q.Claim(ctx, []queue.Idle{{Session: session, Slots: 16 - int(busy.Load())}})
		for _, o := range offers {
			busy.Add(1)
			tasks.Go(func() {
				l.work(ctx, q, o)
				busy.Add(-1)
				wakes.Ring()
			})
		}
	}
	if mortal != nil && *mortal%2 == 0 {
		if err := q.LoseSessions(l.Context(), session); err != nil {
			l.Error(err)
		}
	}
}

// work runs a build for a moment.
func (l *limitLoad) work(ctx context.Context, q *queue.Queue, o queue.Offer) {
	n, err := strconv.Atoi(o.Metadata["n"])
	if err != nil {
		l.Error(err)
		return
	}
	now := l.now[n].Add(1)
	if int(now) > n+1 {
		l.Errorf("%d builds of key %d run at once", now, n)
	}
	l.most.note(n, now)
	timer := time.NewTimer(time.Duration(rand.IntN(10)) * time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	l.now[n].Add(-1)
	if ctx.Err() != nil {
		return // killed
	}
	state, err := q.Finish(ctx, queue.Completion{AttemptID: o.AttemptID, Outcome: queue.Succeeded})
	for errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil { // the machine is busy
		state, err = q.Finish(ctx, queue.Completion{AttemptID: o.AttemptID, Outcome: queue.Succeeded})
	}
	switch {
	case err == nil && state == queue.Succeeded:
		l.ended.Add(1)
	case ctx.Err() == nil:
		l.Errorf("Finish returned %v, %v", state, err)
	}
}

// wantNoneLeaked checks that nothing is used up of any limit, and that what is submitted anew reaches each of them, and goes no further.
func (l *limitLoad) wantNoneLeaked(b *pgqueue.Backend) {
	l.Helper()
	for _, limit := range l.limits(b) {
		if limit.Used != 0 {
			l.Errorf("when nothing is left to do the limit is %+v", limit)
		}
	}
	q := queue.New(b, nil)
	for n := range loadKeys {
		for range n + 2 {
			if _, err := q.Submit(l.Context(), queue.Params{Project: "project", Pool: loadPools[n%2], ConcurrencyKey: loadKey(n)}); err != nil {
				l.Fatal(err)
			}
		}
	}
	if err := b.Serve(l.Context(), []queue.ClassID{1, 2}, time.Minute, time.Time{}); err != nil {
		l.Fatal(err)
	}
	for range 2 {
		if _, err := b.Admit(l.Context(), queue.Lane{}, 512, time.Time{}); err != nil {
			l.Fatal(err)
		}
	}
	for _, limit := range l.limits(b) {
		if limit.Used != limit.Max {
			l.Errorf("after a new begin the limit is %+v", limit)
		}
	}
}

func (l *limitLoad) limits(b *pgqueue.Backend) []queue.Limit {
	l.Helper()
	limits, err := b.Limits(l.Context(), "project", "", loadKeys)
	if err != nil || len(limits) != loadKeys {
		l.Fatalf("%d limits, %v", len(limits), err)
	}
	return limits
}
