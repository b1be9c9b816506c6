package sqlitequeue

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/slipway-build/slipway/internal/testenv"
	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/queue/queuetest"
)

// How programs of version 1 wrote logs and ended attempts, each in one transaction after a look at the build.
const (
	fenceV1 = `
SELECT coalesce((SELECT h.length FROM {schema}log_head AS h WHERE h.build_id = b.id AND h.epoch = b.epoch), 0)
FROM {schema}build AS b WHERE b.id = ?1 AND b.epoch = ?2 AND b.state IN ({running}, {cancelling})`

	growV1 = `
INSERT INTO {schema}log_head (build_id, epoch, length) VALUES (?1, ?2, ?3)
ON CONFLICT (build_id, epoch) DO UPDATE SET length = excluded.length`

	chunkV1 = `INSERT INTO {schema}log_chunk (build_id, epoch, start, data) VALUES (?1, ?2, ?3, ?4)`

	finishAttemptV1 = `
INSERT INTO {schema}attempt (
	build_id, epoch, worker, started_at, ended_at, outcome, result, reason, exit_code, signal, log_sha256, log_complete)
SELECT b.id, b.epoch, b.worker, b.started_at, ?2, ?3, ?4, '', NULL, '', zeroblob(32), 1 FROM {schema}build AS b WHERE b.id = ?1`

	closeLogV1 = `
UPDATE {schema}log_head AS h SET closed = 1 FROM {schema}build AS b WHERE b.id = ?1 AND h.build_id = b.id AND h.epoch = b.epoch`

	finishBuildV1 = `
UPDATE {schema}build SET state = ?3, session_id = NULL, deadline = NULL, token_hash = NULL,
	finished_at = CASE WHEN ?3 >= {succeeded} THEN ?2 END, not_before = CASE WHEN ?3 = {held} THEN ?2 + 5000 END,
	expires_at = CASE WHEN ?3 <= {queued} THEN ?2 + queue_timeout ELSE expires_at END
WHERE id = ?1`
)

// A program does what processes with this package do, with the statements of its version.
type program interface {
	submit(ctx context.Context, id queue.ID) error
	maintain(ctx context.Context) error
	// claim gives a build to a session that starts it at once.
	claim(ctx context.Context) (queue.AttemptID, error)
	append(ctx context.Context, id queue.AttemptID, offset int64, data string) error
	// finish ends an attempt, with success or lost.
	finish(ctx context.Context, id queue.AttemptID, lost bool) error
}

// errNone says that there is nothing to claim.
var errNone = errors.New("nothing is queued")

// previous is a program of version 1, on connections of its own.
type previous struct {
	db      *sql.DB
	session int64
}

// transact runs do in a transaction that has the write lock.
func (p *previous) transact(ctx context.Context, do func(exec func(text string, args ...any) error, conn *sql.Conn) error) error {
	conn, err := p.db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	exec := func(text string, args ...any) error {
		_, err := conn.ExecContext(ctx, names.Expand(text), args...)
		return err
	}
	if err = exec("BEGIN IMMEDIATE"); err == nil {
		err = do(exec, conn)
	}
	if err == nil {
		err = exec("COMMIT")
	}
	if err != nil {
		// It may be the end of ctx that keeps the transaction from ending; nobody else would have the lock then.
		_, _ = conn.ExecContext(context.WithoutCancel(ctx), "ROLLBACK")
	}
	return err
}

func (p *previous) submit(ctx context.Context, id queue.ID) error {
	arg, err := json.Marshal([]map[string]any{{
		"id": id, "project": "project", "pool": "default", "labels": "", "attempts": 9, "run": time.Hour.Microseconds(),
	}})
	if err != nil {
		return err
	}
	return p.transact(ctx, func(exec func(string, ...any) error, _ *sql.Conn) error {
		return exec(submitV1, string(arg), time.Now().UnixMicro())
	})
}

func (p *previous) maintain(ctx context.Context) error {
	return p.transact(ctx, func(exec func(string, ...any) error, _ *sql.Conn) error {
		return errors.Join(exec(internV1, 100), exec(admitNewV1, 100), exec(admitDueV1, time.Now().UnixMicro(), 100))
	})
}

func (p *previous) claim(ctx context.Context) (id queue.AttemptID, err error) {
	err = p.transact(ctx, func(_ func(string, ...any) error, conn *sql.Conn) error {
		return conn.QueryRowContext(ctx, names.Expand(claimV1), p.session, "worker", time.Now().UnixMicro(), 1).Scan(scanID(&id.Build), &id.Epoch)
	})
	if errors.Is(err, sql.ErrNoRows) {
		err = errNone
	}
	return id, err
}

// fenced is transact for what is written for an attempt that lasts.
func (p *previous) fenced(ctx context.Context, id queue.AttemptID, do func(exec func(string, ...any) error, length int64) error) error {
	return p.transact(ctx, func(exec func(string, ...any) error, conn *sql.Conn) error {
		var length int64
		if err := conn.QueryRowContext(ctx, names.Expand(fenceV1), id.Build[:], id.Epoch).Scan(&length); err != nil {
			return err
		}
		return do(exec, length)
	})
}

func (p *previous) append(ctx context.Context, id queue.AttemptID, offset int64, data string) error {
	return p.fenced(ctx, id, func(exec func(string, ...any) error, length int64) error {
		if length != offset {
			return fmt.Errorf("log has %d bytes, want %d", length, offset)
		}
		err := exec(growV1, id.Build[:], id.Epoch, offset+int64(len(data)))
		return errors.Join(err, exec(chunkV1, id.Build[:], id.Epoch, offset, []byte(data)))
	})
}

func (p *previous) finish(ctx context.Context, id queue.AttemptID, lost bool) error {
	outcome, state := 5, 5
	if lost {
		outcome, state = 10, 0
	}
	return p.fenced(ctx, id, func(exec func(string, ...any) error, _ int64) error {
		now := time.Now().UnixMicro()
		err := exec(finishAttemptV1, id.Build[:], now, outcome, state)
		return errors.Join(err, exec(closeLogV1, id.Build[:]), exec(finishBuildV1, id.Build[:], now, state))
	})
}

// current is a program of this version.
type current struct {
	*Backend
	session queue.SessionID
	key     string // of what it submits
}

func (p *current) submit(ctx context.Context, id queue.ID) error {
	b := queue.NewBuild{ID: id, Project: "project", Pool: "default", RunTimeout: time.Hour, MaxAttempts: 9, ConcurrencyKey: p.key}
	b.Backoff = queue.Backoff{Base: 5 * time.Millisecond, Max: 5 * time.Millisecond} // as long as that of version 1
	_, err := p.Submit(ctx, []queue.NewBuild{b}, time.Time{})
	return err
}

func (p *current) maintain(ctx context.Context) error {
	_, err := p.Maintain(ctx, queue.Rules{Limit: 100}, time.Time{})
	err = errors.Join(err, p.Serve(ctx, []queue.ClassID{1}, time.Minute, time.Time{}))
	_, admitErr := p.Admit(ctx, queue.Lane{}, 100, time.Time{})
	return errors.Join(err, admitErr)
}

func (p *current) claim(ctx context.Context) (queue.AttemptID, error) {
	reach := queue.Reach{Class: 1, Floor: queue.NoFloor}
	claimed, err := p.Claim(ctx, []queue.Demand{{Reach: reach, Slots: []queue.SessionID{p.session}}}, time.Hour, time.Time{})
	if err != nil || len(claimed) == 0 {
		return queue.AttemptID{}, errors.Join(err, errNone)
	}
	return claimed[0].AttemptID, nil
}

func (p *current) append(ctx context.Context, id queue.AttemptID, offset int64, data string) error {
	chunks := []queue.LogChunk{{AttemptID: id, Offset: offset, Data: []byte(data)}}
	lengths, err := p.AppendLogs(ctx, chunks, queue.LogLimit{Bytes: 1 << 20, Lines: 1 << 20}, time.Time{})
	if err == nil && (len(lengths) != 1 || lengths[0].Length != offset+int64(len(data))) {
		err = fmt.Errorf("log is %+v", lengths)
	}
	return err
}

func (p *current) finish(ctx context.Context, id queue.AttemptID, lost bool) error {
	outcome := queue.Succeeded
	if lost {
		outcome = queue.Lost
	}
	done, err := p.Finish(ctx, []queue.Completion{{AttemptID: id, Outcome: outcome}}, 0, time.Time{})
	if err == nil && len(done) != 1 {
		err = queue.ErrStaleLease
	}
	return err
}

// An upgrade watches what programs of both versions do with one database.
type upgrade struct {
	*testing.T

	mu         sync.Mutex
	keyed      map[queue.ID]bool
	submitted  int
	running    map[queue.ID]bool
	inKey      int
	most       int
	done       map[queue.ID]queue.AttemptID
	byPrevious int
	first      map[bool]int // how many first attempts have ended, of those with a key and those without
	lost       int
	limited    *Backend // once there is a limit
}

func (u *upgrade) locked(do func()) {
	u.mu.Lock()
	defer u.mu.Unlock()
	do()
}

// work has a program submit builds, and run whatever it is given until ctx ends.
func (u *upgrade) work(ctx context.Context, p program, keyed bool, builds int) {
	rest := time.NewTicker(2 * time.Millisecond) // in which others get the lock
	defer rest.Stop()
	for ctx.Err() == nil {
		<-rest.C
		var err error
		if builds > 0 {
			builds--
			id := queue.NewID()
			u.locked(func() { u.submitted, u.keyed[id] = u.submitted+1, keyed })
			err = p.submit(ctx, id)
		}
		if err == nil {
			err = p.maintain(ctx)
		}
		if err == nil {
			err = u.keeps(ctx)
		}
		if err == nil {
			err = u.run(ctx, p)
		}
		if err != nil && !errors.Is(err, errNone) && ctx.Err() == nil {
			u.Errorf("%T: %v", p, err)
			return
		}
	}
}

// keeps fails if there are more builds of the key than may be.
func (u *upgrade) keeps(ctx context.Context) error {
	var b *Backend
	u.locked(func() { b = u.limited })
	if b == nil {
		return nil
	}
	limits, err := b.Limits(ctx, "project", "", 1)
	if err == nil && limits[0].Used > limits[0].Max {
		err = fmt.Errorf("%d builds of the key are queued or run, and %d may", limits[0].Used, limits[0].Max)
	}
	return err
}

func (u *upgrade) run(ctx context.Context, p program) error {
	id, err := p.claim(ctx)
	if err != nil {
		return err
	}
	u.locked(func() {
		if u.running[id.Build] {
			u.Errorf("build %v runs twice", id.Build)
		}
		u.running[id.Build] = true
		if u.keyed[id.Build] {
			u.inKey++
			u.most = max(u.most, u.inKey)
		}
	})
	err = errors.Join(p.append(ctx, id, 0, "first line\nsecond"), p.append(ctx, id, 17, " line\n"))
	var lost bool
	u.locked(func() {
		u.running[id.Build] = false
		if u.keyed[id.Build] {
			u.inKey--
		}
		if id.Epoch == 1 {
			u.first[u.keyed[id.Build]]++
			if lost = u.first[u.keyed[id.Build]]%2 == 1; lost {
				u.lost++
			}
		}
	})
	if err = errors.Join(err, p.finish(ctx, id, lost)); err != nil || lost {
		return err
	}
	u.locked(func() {
		if before, ok := u.done[id.Build]; ok {
			u.Errorf("attempts %d and %d of build %v both won", before.Epoch, id.Epoch, id.Build)
		}
		u.done[id.Build] = id
		if _, ok := p.(*previous); ok {
			u.byPrevious++
		}
	})
	return nil
}

// until waits for a condition.
func (u *upgrade) until(ctx context.Context, reached func() bool) {
	u.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		var ok bool
		u.locked(func() { ok = reached() })
		if ok {
			return
		}
		if u.Failed() {
			u.FailNow()
		}
		select {
		case <-ctx.Done():
			u.Fatalf("%d of %d builds have come to their end: %v", len(u.done), u.submitted, ctx.Err())
		case <-tick.C:
		}
	}
}

// A file is migrated while programs of version 1 work on it, and they go on beside others of this version.
func TestUpgradeUnderLoad(t *testing.T) {
	const each = 20
	path := testenv.SQLite(t)
	connect := func() *sql.DB {
		db, err := OpenVolatile(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = db.Close() })
		return db
	}
	b, err := New(connect(), &Options{Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	oldSchema(t, b)
	v1 := old{t, b.db.DB}
	v1.run(`INSERT INTO {schema}controller (id, alive_until, fresh_since) VALUES (zeroblob(16), 1, 1)`)
	v1.run(`INSERT INTO {schema}session (id, controller_id, worker, instance, labels, pools, slots, direct, opened_at)
		VALUES (1, zeroblob(16), 'worker', 'boot', '', 'default', 9, 1, 1)`)
	u := &upgrade{
		T: t, keyed: make(map[queue.ID]bool), running: make(map[queue.ID]bool), done: make(map[queue.ID]queue.AttemptID), first: make(map[bool]int),
	}
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	var working sync.WaitGroup
	defer working.Wait()
	defer stop()
	for range 2 {
		p := &previous{db: connect(), session: 1}
		working.Go(func() { u.work(ctx, p, false, 2*each) })
	}
	u.until(ctx, func() bool { return u.byPrevious >= each/2 })
	if err := b.Migrate(ctx); err != nil {
		t.Fatal(err)
	}
	if err := b.SetLimit(ctx, queue.Limit{Project: "project", Key: "key", Max: 1}); err != nil {
		t.Fatal(err)
	}
	var before int
	u.locked(func() { before, u.limited = u.byPrevious, b })
	for i, key := range []string{"", "key", "key"} {
		session, err := queuetest.Open(ctx, b, queue.NewSession{
			Controller: queue.NewID(), Worker: fmt.Sprint("new", i), Instance: "boot", Pools: []string{"default"}, Slots: 1, Direct: true,
		}, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		working.Go(func() { u.work(ctx, &current{b, session, key}, key != "", each) })
	}
	u.until(ctx, func() bool { return u.submitted == 7*each && len(u.done) == u.submitted })
	stop()
	working.Wait()
	t.Logf("programs of version 1 finished %d builds before and %d after; %d attempts were lost", before, u.byPrevious-before, u.lost)
	if u.byPrevious == before || u.byPrevious == len(u.done) || u.most != 1 {
		t.Errorf("of %d builds %d were finished by version 1; %d of the key ran at once, want 1", len(u.done), u.byPrevious, u.most)
	}
	u.verify(b)
}

// verify looks at what is stored of the builds that ran.
func (u *upgrade) verify(b *Backend) {
	for build, id := range u.done {
		got, err := b.Get(u.Context(), "project", build)
		if err != nil || got.State != queue.Succeeded || got.Epoch != id.Epoch {
			u.Errorf("build %v is %v of epoch %d, %v; want the attempt of epoch %d to have won", build, got.State, got.Epoch, err, id.Epoch)
		}
		attempts, err := b.Attempts(u.Context(), "project", build)
		if err != nil || len(attempts) != int(id.Epoch) {
			u.Errorf("build %v has %d attempts, %v; want %d", build, len(attempts), err, id.Epoch)
		}
		for _, a := range attempts {
			page, err := b.ReadLog(u.Context(), "project", a.AttemptID, 0, 1000)
			if err != nil || string(page.Data) != "first line\nsecond line\n" || !page.Closed {
				u.Errorf("log of %v is %+v, %v", a.AttemptID, page, err)
			}
		}
		if err := (&current{Backend: b}).append(u.Context(), queue.AttemptID{Build: build, Epoch: 1}, 0, "late"); err == nil {
			u.Errorf("build %v takes a late log", build)
		}
	}
	today := time.Now().UTC().Truncate(24 * time.Hour)
	stats, err := b.Stats(u.Context(), "project", today.AddDate(0, 0, -1), today)
	if err != nil || stats.Pending+stats.Offered+stats.Running+stats.Cancelling != 0 {
		u.Errorf("stats are %+v, %v, want nothing left", stats, err)
	}
}
