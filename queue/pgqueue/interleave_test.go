package pgqueue_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/slipway-build/slipway/internal/testenv"
	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/queue/pgqueue"
	"github.com/slipway-build/slipway/queue/queuetest"
)

var now time.Time // the server's

var logLimit = queue.LogLimit{Bytes: 1 << 20, Lines: 1000}

const avoid = time.Minute

// A stage is a backend with one worker's session, and whoever holds its locks.
type stage struct {
	*testing.T
	*pgqueue.Backend
	db      *testenv.Database
	session queue.SessionID
}

func newStage(t *testing.T) *stage {
	t.Helper()
	b, db := open(t)
	s := &stage{T: t, Backend: b, db: db}
	s.session = s.open("worker")
	return s
}

func (s *stage) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *stage) open(worker string) queue.SessionID {
	s.Helper()
	id, err := queuetest.Open(s.Context(), s, queue.NewSession{
		Controller: queue.NewID(), Worker: worker, Instance: "i", Pools: []string{"pool"}, Slots: 9,
	}, now)
	s.must(err)
	return id
}

func (s *stage) submit(builds ...queue.NewBuild) {
	s.Helper()
	_, err := s.Submit(s.Context(), builds, now)
	s.must(err)
}

// demand asks for builds of a class.
func demand(class queue.ClassID, slots ...queue.SessionID) []queue.Demand {
	return []queue.Demand{{Reach: queue.Reach{Class: class, Floor: queue.NoFloor}, Slots: slots}}
}

// offered submits a build and claims it.
func (s *stage) offered() queue.AttemptID {
	s.Helper()
	b := queue.NewBuild{ID: queue.NewID(), Project: "project", Pool: "pool", RunTimeout: time.Hour, MaxAttempts: 3}
	s.submit(b)
	_, err := s.Maintain(s.Context(), queue.Rules{Limit: 10}, now)
	s.must(err)
	claimed, err := s.Claim(s.Context(), demand(1, s.session), time.Hour, now)
	s.must(err)
	if len(claimed) != 1 || claimed[0].Build != b.ID {
		s.Fatalf("Claim returned %v", claimed)
	}
	return claimed[0].AttemptID
}

func (s *stage) running() queue.AttemptID {
	s.Helper()
	id := s.offered()
	if n, err := s.accept(s.Context(), id); err != nil || n != 1 {
		s.Fatalf("Accept returned %d attempts, %v", n, err)
	}
	return id
}

func (s *stage) accept(ctx context.Context, id queue.AttemptID) (int, error) {
	done, err := s.Accept(ctx, []queue.Acceptance{{AttemptID: id, Session: s.session, TokenHash: queue.Digest{1}}}, now)
	return len(done), err
}

func (s *stage) finish(ctx context.Context, id queue.AttemptID, length int64) (queue.State, error) {
	done, err := s.Finish(ctx, []queue.Completion{{AttemptID: id, Outcome: queue.Succeeded, LogLength: length}}, avoid, now)
	if err != nil || len(done) == 0 {
		return 0, err
	}
	return done[0].State, nil
}

func (s *stage) cancel(ctx context.Context, id queue.ID) (queue.State, error) {
	done, err := s.Cancel(ctx, "project", []queue.ID{id}, "", time.Hour, now)
	if err != nil || len(done) == 0 {
		return 0, err
	}
	return done[0].State, nil
}

// appendLog returns the stored length, -1 if the attempt is stale.
func (s *stage) appendLog(ctx context.Context, id queue.AttemptID, offset int64, data string) (int64, error) {
	done, err := s.AppendLogs(ctx, []queue.LogChunk{{AttemptID: id, Offset: offset, Data: []byte(data)}}, logLimit, now)
	if err != nil || len(done) == 0 {
		return -1, err
	}
	return done[0].Length, nil
}

// hold locks rows of a table until release is called.
func (s *stage) hold(table string, build queue.ID) (release func()) {
	s.Helper()
	tx, err := s.db.Pool.Begin(s.Context())
	s.must(err)
	column := "build_id"
	if table == "build" {
		column = "id"
	}
	tag, err := tx.Exec(s.Context(), fmt.Sprintf("SELECT FROM %s.%s WHERE %s = $1 FOR UPDATE", s.db.Schema, table, column), build.String())
	s.must(err)
	if tag.RowsAffected() == 0 {
		s.Fatalf("nothing to hold in %s", table)
	}
	var once sync.Once
	release = func() { once.Do(func() { tx.Rollback(context.Background()) }) }
	s.Cleanup(release)
	return release
}

// waiting waits until n statements on the schema wait for a lock.
func (s *stage) waiting(n int) {
	s.Helper()
	const sql = `SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND position($1 IN query) > 0`
	ctx, cancel := context.WithTimeout(s.Context(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		var got int
		s.must(s.db.Pool.QueryRow(ctx, sql, s.db.Schema).Scan(&got))
		if got == n {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			s.Fatalf("%d statements wait for a lock, want %d", got, n)
		}
	}
}

// inOrder runs calls against a lock that is held, each once the one before waits, then gives the lock to them in that order.
func (s *stage) inOrder(table string, build queue.ID, calls ...func(context.Context) error) {
	s.Helper()
	release := s.hold(table, build)
	var running sync.WaitGroup
	for i, call := range calls {
		running.Go(func() {
			if err := call(s.Context()); err != nil {
				s.Error(err)
			}
		})
		s.waiting(i + 1)
	}
	release()
	running.Wait()
}

// wantLog checks the log of an attempt that has ended.
func (s *stage) wantLog(id queue.AttemptID, data string, complete bool) {
	s.Helper()
	page, err := s.ReadLog(s.Context(), "project", id, 0, 1000)
	s.must(err)
	if string(page.Data) != data || !page.Closed || page.Length != int64(len(data)) {
		s.Errorf("log is %q of %d bytes, closed %v; want %q, closed", page.Data, page.Length, page.Closed, data)
	}
	rows, err := s.Attempts(s.Context(), "project", id.Build)
	s.must(err)
	if len(rows) != 1 || rows[0].LogLength != int64(len(data)) || rows[0].LogComplete != complete {
		s.Errorf("attempts are %+v, want one with %d bytes of log, complete %v", rows, len(data), complete)
	}
	if length, err := s.appendLog(s.Context(), id, page.Length, "late"); err != nil || length != -1 {
		s.Errorf("append after the end returned %d, %v; want stale", length, err)
	}
}

// The head of a log that the first append makes is younger than the snapshot of a Finish that waited for it.
func TestFirstAppendThenFinish(t *testing.T) {
	s := newStage(t)
	id := s.running()
	s.inOrder("build", id.Build,
		func(ctx context.Context) error {
			if length, err := s.appendLog(ctx, id, 0, "hello"); err != nil || length != 5 {
				return fmt.Errorf("append: length %d, %w", length, err)
			}
			return nil
		},
		func(ctx context.Context) error {
			if state, err := s.finish(ctx, id, 5); err != nil || state != queue.Succeeded {
				return fmt.Errorf("finish: %v, %w", state, err)
			}
			return nil
		})
	s.wantLog(id, "hello", true)
}

func TestFinishThenFirstAppend(t *testing.T) {
	s := newStage(t)
	id := s.running()
	s.inOrder("build", id.Build,
		func(ctx context.Context) error {
			_, err := s.finish(ctx, id, 5)
			return err
		},
		func(ctx context.Context) error {
			if length, err := s.appendLog(ctx, id, 0, "hello"); err != nil || length != -1 {
				return fmt.Errorf("append: length %d, %w; want stale", length, err)
			}
			return nil
		})
	s.wantLog(id, "", false)
}

// TestAppendThenFinish appends where the log ends. An append that overlaps what is stored is made in two steps, and a finish may come
// between them: then it is stale, and was never acknowledged.
func TestAppendThenFinish(t *testing.T) {
	s := newStage(t)
	id := s.running()
	_, err := s.appendLog(t.Context(), id, 0, "hello")
	s.must(err)
	s.inOrder("log_head", id.Build,
		func(ctx context.Context) error {
			if length, err := s.appendLog(ctx, id, 5, ", world"); err != nil || length != 12 {
				return fmt.Errorf("append: length %d, %w", length, err)
			}
			return nil
		},
		func(ctx context.Context) error {
			_, err := s.finish(ctx, id, 12)
			return err
		})
	s.wantLog(id, "hello, world", true)
}

func TestFinishThenAppend(t *testing.T) {
	s := newStage(t)
	id := s.running()
	_, err := s.appendLog(t.Context(), id, 0, "hello")
	s.must(err)
	s.inOrder("log_head", id.Build,
		func(ctx context.Context) error {
			_, err := s.finish(ctx, id, 12)
			return err
		},
		func(ctx context.Context) error {
			if length, err := s.appendLog(ctx, id, 5, ", world"); err != nil || length != -1 {
				return fmt.Errorf("append: length %d, %w; want stale", length, err)
			}
			return nil
		})
	s.wantLog(id, "hello", false)
}

// Two sessions of a worker may send the same bytes at once, when one of them does not know yet that it was replaced.
func TestFirstAppendTwice(t *testing.T) {
	s := newStage(t)
	id := s.running()
	write := func(data string) func(context.Context) error {
		return func(ctx context.Context) error {
			length, err := s.appendLog(ctx, id, 0, data)
			if err == nil && length < int64(len(data)) {
				err = fmt.Errorf("append of %q: length %d", data, length)
			}
			return err
		}
	}
	s.inOrder("build", id.Build, write("hello"), write("hello, world"))
	page, err := s.ReadLog(t.Context(), "project", id, 0, 100)
	s.must(err)
	if string(page.Data) != "hello, world" {
		t.Errorf("log is %q", page.Data)
	}
}

// An offer whose row another transaction writes anew while Accept waits for it, and leaves an offer to the same session, as an adoption
// does, is accepted all the same, and the others of the batch with it.
func TestAcceptOfARowWrittenAnew(t *testing.T) {
	s := newStage(t)
	accepts := make([]queue.Acceptance, 3)
	for i := range accepts {
		accepts[i] = queue.Acceptance{AttemptID: s.offered(), Session: s.session, TokenHash: queue.Digest{1}}
	}
	stale := accepts[0]
	stale.Build, stale.TokenHash = queue.NewID(), queue.Digest{2}
	tx, err := s.db.Pool.Begin(t.Context())
	s.must(err)
	defer tx.Rollback(context.Background())
	_, err = tx.Exec(t.Context(), "UPDATE "+s.db.Schema+".build SET session_id = session_id WHERE id = $1", accepts[1].Build.String())
	s.must(err)
	var accepting sync.WaitGroup
	accepting.Go(func() {
		done, err := s.Accept(t.Context(), append(accepts, stale), now)
		if err != nil || len(done) != len(accepts) {
			t.Errorf("Accept returned %v, %v, want all but the stale one", done, err)
		}
	})
	s.waiting(1)
	s.must(tx.Commit(t.Context()))
	accepting.Wait()
	for _, a := range accepts {
		if got, err := s.Get(t.Context(), "project", a.Build); err != nil || got.State != queue.Running {
			t.Errorf("build is %v, %v, want it running", got.State, err)
		}
	}
}

func TestCancelThenAccept(t *testing.T) {
	s := newStage(t)
	id := s.offered()
	s.inOrder("build", id.Build,
		func(ctx context.Context) error {
			if state, err := s.cancel(ctx, id.Build); err != nil || state != queue.Canceled {
				return fmt.Errorf("cancel: %v, %w", state, err)
			}
			return nil
		},
		func(ctx context.Context) error {
			if n, err := s.accept(ctx, id); err != nil || n != 0 {
				return fmt.Errorf("accept of a canceled build: %d, %w", n, err)
			}
			return nil
		})
}

func TestAcceptThenCancel(t *testing.T) {
	s := newStage(t)
	id := s.offered()
	s.inOrder("build", id.Build,
		func(ctx context.Context) error {
			if n, err := s.accept(ctx, id); err != nil || n != 1 {
				return fmt.Errorf("accept: %d, %w", n, err)
			}
			return nil
		},
		func(ctx context.Context) error {
			if state, err := s.cancel(ctx, id.Build); err != nil || state != queue.Cancelling {
				return fmt.Errorf("cancel: %v, %w; want cancelling", state, err)
			}
			return nil
		})
	if leases, err := s.Leases(t.Context(), queue.NewID(), true); err != nil || len(leases) != 0 {
		t.Errorf("another controller's cancels are %v, %v", leases, err)
	}
	lease, err := s.Lease(t.Context(), id)
	s.must(err)
	if lease.State != queue.Cancelling || lease.TokenHash != (queue.Digest{1}) {
		t.Errorf("lease is %+v", lease)
	}
}

// A repeated call that overtakes the answer of the first gets the same answer.
func TestSameCallTwiceAtOnce(t *testing.T) {
	t.Run("Accept", func(t *testing.T) {
		s := newStage(t)
		id := s.offered()
		accept := func(ctx context.Context) error {
			if n, err := s.accept(ctx, id); err != nil || n != 1 {
				return fmt.Errorf("accept: %d, %w", n, err)
			}
			return nil
		}
		s.inOrder("build", id.Build, accept, accept)
		build, err := s.Get(t.Context(), "project", id.Build)
		s.must(err)
		if build.AttemptsUsed != 1 {
			t.Errorf("%d attempts are used, want 1", build.AttemptsUsed)
		}
	})
	t.Run("Finish", func(t *testing.T) {
		s := newStage(t)
		id := s.running()
		finish := func(ctx context.Context) error {
			if state, err := s.finish(ctx, id, 0); err != nil || state != queue.Succeeded {
				return fmt.Errorf("finish: %v, %w", state, err)
			}
			return nil
		}
		s.inOrder("build", id.Build, finish, finish)
	})
}

// A session that is replaced while its worker's leases move to it loses them to the newer one, never the other way round.
func TestAdoptThenReplace(t *testing.T) {
	s := newStage(t)
	id := s.running()
	second := s.open("worker")
	release := s.hold("build", id.Build)
	var calls sync.WaitGroup
	calls.Go(func() {
		if adopted, err := s.Adopt(t.Context(), second, []queue.AttemptID{id}, now); err != nil || len(adopted.Leases) != 1 {
			t.Errorf("adopt: %v, %v", adopted, err)
		}
	})
	s.waiting(1)
	var third queue.SessionID
	calls.Go(func() { third = s.open("worker") })
	s.waiting(2) // the session cannot be replaced yet
	release()
	calls.Wait()
	if _, err := s.Adopt(t.Context(), second, []queue.AttemptID{id}, now); !errors.Is(err, queue.ErrNotFound) {
		t.Errorf("adopt by a replaced session: %v", err)
	}
	adopted, err := s.Adopt(t.Context(), third, []queue.AttemptID{id}, now)
	s.must(err)
	if len(adopted.Leases) != 1 || adopted.Leases[0].Session != third {
		t.Errorf("adopt by the newest session: %v", adopted)
	}
}

func TestOneLiveSessionPerWorker(t *testing.T) {
	s := newStage(t)
	ids := make([]queue.SessionID, 20)
	var calls sync.WaitGroup
	for i := range ids {
		calls.Go(func() { ids[i] = s.open("busy") })
	}
	calls.Wait()
	var live []int64
	rows, err := s.db.Pool.Query(t.Context(), "SELECT id FROM "+s.db.Schema+".session WHERE worker = 'busy' AND ended_at IS NULL")
	s.must(err)
	live, err = pgx.CollectRows(rows, pgx.RowTo[int64])
	s.must(err)
	if len(live) != 1 || !slices.Contains(ids, queue.SessionID(live[0])) {
		t.Errorf("live sessions are %v of %v, want one", live, ids)
	}
}

// Statements that change several builds take them in one order, whatever the order in which they were named.
func TestNoDeadlock(t *testing.T) {
	s := newStage(t)
	var ids []queue.AttemptID
	for range 20 {
		ids = append(ids, s.running())
	}
	reversed := slices.Clone(ids)
	slices.Reverse(reversed)
	var calls sync.WaitGroup
	for range 4 {
		for _, order := range [][]queue.AttemptID{ids, reversed} {
			calls.Go(func() { s.together(order) })
		}
	}
	calls.Wait()
	for _, id := range ids {
		s.wantLog(id, strings.Repeat("x", 10), true)
	}
}

// A controller that is forgotten while it opens a session is made again.
func TestOpenSessionOfAForgottenController(t *testing.T) {
	s := newStage(t)
	n := queue.NewSession{Controller: queue.NewID(), Worker: "other", Instance: "i", Pools: []string{"pool"}, Slots: 1}
	_, err := s.Beat(t.Context(), n.Controller, time.Second, now)
	s.must(err)
	tx, err := s.db.Pool.Begin(t.Context())
	s.must(err)
	defer tx.Rollback(context.Background())
	_, err = tx.Exec(t.Context(), "DELETE FROM "+s.db.Schema+".controller WHERE id = $1", n.Controller.String())
	s.must(err)
	var call sync.WaitGroup
	var openErr error
	call.Go(func() { _, openErr = queuetest.Open(t.Context(), s, n, now) })
	s.waiting(1)
	s.must(tx.Commit(t.Context()))
	call.Wait()
	s.must(openErr)
}

// Accept and Release take offers in one order, too.
func TestNoDeadlockAmongAnswers(t *testing.T) {
	s := newStage(t)
	for range 10 {
		var accepts []queue.Acceptance
		var releases []queue.AttemptID
		for range 8 {
			id := s.offered()
			accepts = append(accepts, queue.Acceptance{AttemptID: id, Session: s.session, TokenHash: queue.Digest{1}})
			releases = append(releases, id)
		}
		slices.Reverse(releases)
		back := slices.Clone(accepts)
		slices.Reverse(back)
		var calls sync.WaitGroup
		for _, call := range []func() error{
			func() error { _, err := s.Accept(t.Context(), accepts, now); return err },
			func() error { _, err := s.Accept(t.Context(), back, now); return err },
			func() error { _, err := s.Release(t.Context(), releases, time.Hour, now); return err },
		} {
			calls.Go(func() {
				if err := call(); err != nil {
					t.Error(err)
				}
			})
		}
		calls.Wait()
	}
}

// together writes the logs of attempts, byte by byte, adopts them again and again, and finishes them, always all at once.
func (s *stage) together(ids []queue.AttemptID) {
	chunks := make([]queue.LogChunk, len(ids))
	ends := make([]queue.Completion, len(ids))
	for i, id := range ids {
		ends[i] = queue.Completion{AttemptID: id, Outcome: queue.Succeeded, LogLength: 10}
	}
	for size := range 10 {
		for i, id := range ids {
			chunks[i] = queue.LogChunk{AttemptID: id, Data: bytes.Repeat([]byte("x"), size+1)}
		}
		_, appendErr := s.AppendLogs(s.Context(), chunks, logLimit, now)
		_, adoptErr := s.Adopt(s.Context(), s.session, ids, now)
		if err := errors.Join(appendErr, adoptErr); err != nil {
			s.Error(err)
			return
		}
	}
	done, err := s.Finish(s.Context(), ends, avoid, now)
	if err != nil || len(done) != len(ids) {
		s.Errorf("Finish returned %d of %d attempts, %v", len(done), len(ids), err)
	}
}

// Classes are made for those builds that are queued in the same call, and no others.
func TestInternAsMuchAsIsQueued(t *testing.T) {
	s := newStage(t)
	for i := range 5 {
		s.submit(queue.NewBuild{
			ID: queue.NewID(), Project: "project", Pool: fmt.Sprintf("pool%d", i), RunTimeout: time.Hour, MaxAttempts: 1,
		})
	}
	for _, want := range []queue.Maintained{
		{Interned: 2, Queued: 2, More: true}, {Interned: 2, Queued: 2, More: true}, {Interned: 1, Queued: 1}, {},
	} {
		if done, err := s.Maintain(t.Context(), queue.Rules{Limit: 2}, now); err != nil || !same(done, want) {
			t.Errorf("Maintain returned %+v, %v; want %+v", done, err, want)
		}
	}
	if done, err := s.Maintain(t.Context(), queue.Rules{}, now); err != nil || !same(done, queue.Maintained{}) {
		t.Errorf("Maintain of nothing returned %+v, %v", done, err)
	}
}

// same compares counts, but for those of statistics.
func same(x, y queue.Maintained) bool {
	x.Heads, y.Heads, x.Folded, y.Folded = nil, nil, 0, 0
	return reflect.DeepEqual(x, y)
}

// Processes that make classes at once make each of them once, and none becomes visible after one with a higher number.
func TestClassesBecomeVisibleInOrder(t *testing.T) {
	s := newStage(t)
	const classes = 40
	var makers, submitters sync.WaitGroup
	for i := range 4 {
		submitters.Go(func() {
			for n := range classes {
				b := queue.NewBuild{ID: queue.NewID(), Project: "p", Pool: fmt.Sprintf("pool%d", (n*7+i)%classes), RunTimeout: time.Hour, MaxAttempts: 1}
				if _, err := s.Submit(t.Context(), []queue.NewBuild{b}, now); err != nil {
					t.Error(err)
				}
			}
		})
	}
	done := make(chan struct{})
	for range 4 {
		makers.Go(func() {
			for more := true; more; {
				select {
				case <-done:
					more = false // after one round more
				default:
				}
				if _, err := s.Maintain(t.Context(), queue.Rules{Limit: 100}, now); err != nil {
					t.Error(err)
				}
			}
		})
	}
	var seen []queue.Class
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	makers.Go(func() {
		for len(seen) < classes && ctx.Err() == nil {
			var after queue.ClassID
			if len(seen) > 0 {
				after = seen[len(seen)-1].ID
			}
			found, err := s.Classes(t.Context(), after, 10)
			if err != nil {
				t.Error(err)
				return
			}
			seen = append(seen, found...)
		}
	})
	submitters.Wait()
	close(done)
	makers.Wait()
	names := make(map[string]bool)
	for _, c := range seen {
		names[c.Pool] = true
	}
	if len(seen) != classes || len(names) != classes {
		t.Errorf("a reader who goes on from the highest number has seen %d classes of %d pools, want %d", len(seen), len(names), classes)
	}
}

// Classes are made by one process at a time. Who submits builds of new ones does not wait for it.
func TestInterningTakesTurns(t *testing.T) {
	s := newStage(t)
	b := backend(t, s.db.Pool, &pgqueue.Options{Schema: s.db.Schema, Timeout: impatience})
	tx, err := s.db.Pool.Begin(t.Context())
	s.must(err)
	defer tx.Rollback(context.Background())
	_, err = tx.Exec(t.Context(), "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", "slipway intern "+s.db.Schema)
	s.must(err)
	build := queue.NewBuild{ID: queue.NewID(), Project: "p", Pool: "new", RunTimeout: time.Hour, MaxAttempts: 1}
	_, err = b.Submit(t.Context(), []queue.NewBuild{build}, now)
	s.must(err)
	if done, err := b.Maintain(t.Context(), queue.Rules{Limit: 10}, now); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Maintain while another makes classes: %+v, %v; want the deadline", done, err)
	}
	s.must(tx.Rollback(t.Context()))
	if done, err := b.Maintain(t.Context(), queue.Rules{Limit: 10}, now); err != nil || done.Interned != 1 || done.Queued != 1 {
		t.Errorf("Maintain afterwards: %+v, %v", done, err)
	}
}
