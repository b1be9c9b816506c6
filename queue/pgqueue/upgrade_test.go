package pgqueue_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/slipway-build/slipway/internal/migrate"
	"github.com/slipway-build/slipway/internal/pgxdb"
	"github.com/slipway-build/slipway/internal/sqlqueue"
	"github.com/slipway-build/slipway/internal/testenv"
	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/queue/pgqueue"
	"github.com/slipway-build/slipway/queue/queuetest"
)

// backoff is how long what is lost waits. Every program queues what has waited, and those of version 1 know nothing of limits.
const backoff = 2 * time.Millisecond

// A program does what processes with this package do, with the statements of its version.
type program interface {
	submit(ctx context.Context, id queue.ID) error
	maintain(ctx context.Context) error
	claim(ctx context.Context) ([]queue.AttemptID, error)
	accept(ctx context.Context, id queue.AttemptID) (bool, error)
	// append returns the length that is stored.
	append(ctx context.Context, id queue.AttemptID, offset int64, data string) (int64, error)
	// finish reports whether the report counts.
	finish(ctx context.Context, id queue.AttemptID, outcome queue.State, length int64) (bool, error)
}

// v1 is a program of version 1. Its statements, in testdata/v1, are those that version of this package sent.
type v1 struct {
	pool    *pgxpool.Pool
	schema  string
	session int64
}

func (p *v1) rows(ctx context.Context, name string, args ...any) ([][]any, error) {
	text, err := os.ReadFile(filepath.Join("testdata", "v1", name+".sql"))
	if err != nil {
		return nil, err
	}
	rows, err := p.pool.Query(ctx, strings.ReplaceAll(string(text), "{schema}", `"`+p.schema+`".`), args...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) ([]any, error) { return row.Values() })
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return all, nil
}

func (p *v1) ids(ctx context.Context, name string, args ...any) ([]queue.AttemptID, error) {
	rows, err := p.rows(ctx, name, args...)
	ids := make([]queue.AttemptID, len(rows))
	for i, row := range rows {
		ids[i] = queue.AttemptID{Build: row[0].([16]byte), Epoch: row[1].(int64)}
	}
	return ids, err
}

func pgID(id queue.ID) pgtype.UUID { return pgtype.UUID{Bytes: id, Valid: true} }

func (p *v1) submit(ctx context.Context, id queue.ID) error {
	_, err := p.rows(ctx, "submit", nil, []pgtype.UUID{pgID(id)}, []string{"project"}, []string{"default"}, []string{""}, [][]byte{{}}, [][]byte{{}},
		[]int64{0}, []int64{time.Hour.Microseconds()}, []int64{0}, []int64{9})
	return err
}

func (p *v1) maintain(ctx context.Context) error {
	for _, step := range []struct {
		name string
		args []any
	}{
		{"expire", []any{nil, 100, "expired"}},
		{"take_back", []any{nil, 100, 0}},
		{"orphans", []any{nil, 100}},
		{"time_out", []any{nil, []int64{0}, 0, 100, "timed out"}},
		{"force", []any{nil, []int64{0}, 0, 100, "forced"}},
		{"intern", []any{100}},
		{"classify", []any{100}},
		{"due", []any{nil, 100}},
	} {
		if _, err := p.rows(ctx, step.name, step.args...); err != nil {
			return err
		}
	}
	return nil
}

func (p *v1) claim(ctx context.Context) ([]queue.AttemptID, error) {
	return p.ids(ctx, "claim", nil, []int32{1, 1}, []int64{p.session, p.session}, time.Hour.Microseconds(), 100)
}

func (p *v1) accept(ctx context.Context, id queue.AttemptID) (bool, error) {
	ids, err := p.ids(ctx, "accept", nil, []pgtype.UUID{pgID(id.Build)}, []int64{id.Epoch}, []int64{p.session},
		[][]byte{make([]byte, 32)}, []int64{time.Minute.Microseconds()})
	return len(ids) == 1, err
}

func (p *v1) append(ctx context.Context, id queue.AttemptID, offset int64, data string) (int64, error) {
	rows, err := p.rows(ctx, "append_logs", []pgtype.UUID{pgID(id.Build)}, []int64{id.Epoch}, []int64{offset}, [][]byte{[]byte(data)})
	if err != nil || len(rows) == 0 {
		return -1, err
	}
	return rows[0][2].(int64), nil
}

func (p *v1) finish(ctx context.Context, id queue.AttemptID, outcome queue.State, length int64) (bool, error) {
	ids, err := p.ids(ctx, "finish", nil, []int64{backoff.Microseconds()}, 0, []pgtype.UUID{pgID(id.Build)}, []int64{id.Epoch},
		[]int16{int16(sqlqueue.Stored(outcome))}, []string{""}, []*int64{nil}, []string{""}, []int64{length}, [][]byte{make([]byte, 32)})
	return len(ids) == 1, err
}

// v2 is a program of this version.
type v2 struct {
	*pgqueue.Backend
	session queue.SessionID
	key     string // of what it submits
}

func (p *v2) submit(ctx context.Context, id queue.ID) error {
	b := queue.NewBuild{
		ID: id, Project: "project", Pool: "default", RunTimeout: time.Hour, MaxAttempts: 9, ConcurrencyKey: p.key,
		Backoff: queue.Backoff{Base: backoff, Max: backoff},
	}
	_, err := p.Submit(ctx, []queue.NewBuild{b}, time.Time{})
	return err
}

func (p *v2) maintain(ctx context.Context) error {
	if err := p.Serve(ctx, []queue.ClassID{1}, time.Minute, time.Time{}); err != nil {
		return err
	}
	if _, err := p.Maintain(ctx, queue.Rules{Limit: 100}, time.Time{}); err != nil {
		return err
	}
	if _, err := p.Admit(ctx, queue.Lane{}, 100, time.Time{}); err != nil {
		return err
	}
	limits, err := p.Limits(ctx, "project", "", 1)
	if err == nil && len(limits) == 1 && limits[0].Used > limits[0].Max {
		err = fmt.Errorf("%d builds of the key are queued or run, and %d may", limits[0].Used, limits[0].Max)
	}
	return err
}

func (p *v2) claim(ctx context.Context) (ids []queue.AttemptID, err error) {
	reach := queue.Reach{Class: 1, Floor: queue.NoFloor}
	claimed, err := p.Claim(ctx, []queue.Demand{{Reach: reach, Slots: []queue.SessionID{p.session, p.session}}}, time.Hour, time.Time{})
	for _, c := range claimed {
		ids = append(ids, c.AttemptID)
	}
	return ids, err
}

func (p *v2) accept(ctx context.Context, id queue.AttemptID) (bool, error) {
	done, err := p.Accept(ctx, []queue.Acceptance{{AttemptID: id, Session: p.session, TokenHash: queue.Digest{1}, Slack: time.Minute}}, time.Time{})
	return len(done) == 1, err
}

func (p *v2) append(ctx context.Context, id queue.AttemptID, offset int64, data string) (int64, error) {
	chunks := []queue.LogChunk{{AttemptID: id, Offset: offset, Data: []byte(data)}}
	lengths, err := p.AppendLogs(ctx, chunks, queue.LogLimit{Bytes: 1 << 20, Lines: 1 << 20}, time.Time{})
	if err != nil || len(lengths) == 0 {
		return -1, err
	}
	return lengths[0].Length, nil
}

func (p *v2) finish(ctx context.Context, id queue.AttemptID, outcome queue.State, length int64) (bool, error) {
	done, err := p.Finish(ctx, []queue.Completion{{AttemptID: id, Outcome: outcome, LogLength: length}}, 0, time.Time{})
	return len(done) == 1, err
}

// An upgrade watches what programs of both versions do on one database.
type upgrade struct {
	*testing.T
	db *testenv.Database

	mu      sync.Mutex
	key     map[queue.ID]string
	running map[queue.ID]bool
	inKey   map[string]int
	most    map[string]int
	done    map[queue.ID]queue.AttemptID
	byOld   int            // how many programs of version 1 have finished
	first   map[string]int // how many first attempts have ended, by key
	lost    int
}

func (u *upgrade) submitted(id queue.ID, key string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.key[id] = key
}

// begins notes that a worker has started a build.
func (u *upgrade) begins(id queue.AttemptID) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.running[id.Build] {
		u.Errorf("build %v runs twice", id.Build)
	}
	u.running[id.Build] = true
	if key := u.key[id.Build]; key != "" {
		u.inKey[key]++
		u.most[key] = max(u.most[key], u.inKey[key])
	}
}

// ends notes that a worker is done with a build, and says what it shall report: of those without a key, and of those with one, every
// second that ends for the first time is lost.
func (u *upgrade) ends(id queue.AttemptID) queue.State {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.running[id.Build] = false
	key := u.key[id.Build]
	if key != "" {
		u.inKey[key]--
	}
	if id.Epoch > 1 {
		return queue.Succeeded
	}
	u.first[key]++
	if u.first[key]%2 == 0 {
		return queue.Succeeded
	}
	u.lost++
	return queue.Lost
}

func (u *upgrade) finished(p program, id queue.AttemptID) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if before, ok := u.done[id.Build]; ok {
		u.Errorf("attempts %d and %d of build %v both won", before.Epoch, id.Epoch, id.Build)
	}
	u.done[id.Build] = id
	if _, old := p.(*v1); old {
		u.byOld++
	}
}

// left returns how many builds have not come to their end, and how many programs of version 1 have brought there.
func (u *upgrade) left() (left, byOld int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.key) - len(u.done), u.byOld
}

// work has a program submit builds and run what it is given, until ctx ends.
func (u *upgrade) work(ctx context.Context, p program, key string, builds int) {
	err := func() error {
		for ctx.Err() == nil {
			if builds > 0 {
				builds--
				id := queue.NewID()
				u.submitted(id, key)
				if err := p.submit(ctx, id); err != nil {
					return err
				}
			}
			if err := p.maintain(ctx); err != nil {
				return err
			}
			ids, err := p.claim(ctx)
			if err != nil {
				return err
			}
			for _, id := range ids {
				if err := u.run(ctx, p, id); err != nil {
					return err
				}
			}
		}
		return nil
	}()
	if err != nil && ctx.Err() == nil {
		u.Errorf("%T: %v", p, err)
	}
}

// output is what every attempt writes to its log.
var output = [2]string{"first line\nsecond", " line, sent by another request\n"}

func (u *upgrade) run(ctx context.Context, p program, id queue.AttemptID) error {
	if accepted, err := p.accept(ctx, id); err != nil || !accepted {
		return errors.Join(err, fmt.Errorf("accept of %v: %v", id, accepted))
	}
	u.begins(id)
	var length int64
	for _, text := range output {
		stored, err := p.append(ctx, id, length, text)
		if length += int64(len(text)); err != nil || stored != length {
			return errors.Join(err, fmt.Errorf("log of %v has %d bytes, want %d", id, stored, length))
		}
	}
	outcome := u.ends(id)
	if counts, err := p.finish(ctx, id, outcome, length); err != nil || !counts {
		return errors.Join(err, fmt.Errorf("finish of %v: %v", id, counts))
	}
	if outcome == queue.Succeeded {
		u.finished(p, id)
	}
	return nil
}

// oldDatabase returns a database of version 1.
func oldDatabase(t *testing.T) *testenv.Database {
	t.Helper()
	db := testenv.Postgres(t)
	t.Cleanup(func() { checkInvariants(t, db) })
	if err := oldMigrator(t, db).Apply(t.Context(), pgxdb.Open(db.Pool)); err != nil {
		t.Fatal(err)
	}
	return db
}

// oldMigrator returns what makes and checks the tables in programs of version 1.
func oldMigrator(t *testing.T, db *testenv.Database) *migrate.Runner {
	t.Helper()
	steps, err := migrate.Load(pgqueue.Migrations())
	if err != nil {
		t.Fatal(err)
	}
	names := sqlqueue.WithPrefix(`"` + db.Schema + `".`)
	return migrate.New(string(names.Table("schema_version")), steps[:1], names.Expand)
}

// old returns a program of version 1 with a session of its own.
func old(t *testing.T, db *testenv.Database, worker string) *v1 {
	t.Helper()
	p := &v1{pool: db.Pool, schema: db.Schema}
	rows, err := p.rows(t.Context(), "open_session", nil, pgID(queue.NewID()), worker, "boot", "", "default", 4, false)
	if err != nil {
		t.Fatal(err)
	}
	p.session = rows[0][0].(int64)
	return p
}

// TestUpgradeUnderLoad migrates a database that programs of version 1 work on, and lets them go on beside others of this version.
func TestUpgradeUnderLoad(t *testing.T) {
	const each, limit = 25, 2
	db := oldDatabase(t)
	u := &upgrade{
		T: t, db: db, key: make(map[queue.ID]string), running: make(map[queue.ID]bool), inKey: make(map[string]int),
		most: make(map[string]int), done: make(map[queue.ID]queue.AttemptID), first: make(map[string]int),
	}
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	var working sync.WaitGroup
	defer working.Wait()
	defer stop()
	for i := range 2 {
		p := old(t, db, fmt.Sprint("old", i))
		working.Go(func() { u.work(ctx, p, "", 2*each) })
	}
	u.until(ctx, func(_, byOld int) bool { return byOld >= each })
	b := backend(t, db.Pool, &pgqueue.Options{Schema: db.Schema, Timeout: 30 * time.Second})
	if err := b.Migrate(ctx); err != nil {
		t.Fatal(err)
	}
	if err := b.SetLimit(ctx, queue.Limit{Project: "project", Key: "key", Max: limit}); err != nil {
		t.Fatal(err)
	}
	_, before := u.left()
	for i, key := range []string{"", "key", "key"} {
		session, err := queuetest.Open(ctx, b, queue.NewSession{
			Controller: queue.NewID(), Worker: fmt.Sprint("new", i), Instance: "boot", Pools: []string{"default"}, Slots: 4,
		}, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		working.Go(func() { u.work(ctx, &v2{Backend: b, session: session, key: key}, key, each) })
	}
	u.until(ctx, func(left, _ int) bool { return left == 0 && u.submittedAll(4*each+3*each) })
	stop()
	working.Wait()
	_, after := u.left()
	t.Logf("programs of version 1 finished %d builds before and %d after; %d attempts were lost; at most %d of the key ran at once",
		before, after-before, u.lost, u.most["key"])
	if after == before || after == len(u.done) || u.most["key"] == 0 {
		t.Error("one of the versions did nothing beside the other")
	}
	if u.most["key"] > limit {
		t.Errorf("%d builds of the key ran at once, want at most %d", u.most["key"], limit)
	}
	u.verify(b)
}

func (u *upgrade) submittedAll(n int) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.key) == n
}

// until waits for a condition.
func (u *upgrade) until(ctx context.Context, reached func(left, byOld int) bool) {
	u.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !reached(u.left()) {
		select {
		case <-ctx.Done():
			left, byOld := u.left()
			u.Fatalf("%d builds are left, %d were finished by programs of version 1: %v", left, byOld, ctx.Err())
		case <-tick.C:
		}
	}
}

// verify looks at what is stored of the builds that ran.
func (u *upgrade) verify(b *pgqueue.Backend) {
	want := strings.Join(output[:], "")
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
			if err != nil || string(page.Data) != want || !page.Closed || page.Cut || !a.LogComplete {
				u.Errorf("log of %v is %+v, %v", a.AttemptID, page, err)
			}
		}
		// An attempt that did not win is stale for every program.
		for epoch := range id.Epoch {
			zombie := queue.AttemptID{Build: build, Epoch: epoch}
			if length, err := (&v2{Backend: b}).append(u.Context(), zombie, 0, "late"); err != nil || length != -1 {
				u.Errorf("late log of %v: %d, %v", zombie, length, err)
			}
			if _, err := b.ReserveArtifact(u.Context(), queue.NewArtifact{AttemptID: zombie, Name: "late"}, time.Time{}); !errors.Is(err, queue.ErrStaleLease) {
				u.Errorf("late artifact of %v: %v", zombie, err)
			}
		}
	}
}

// TestUpgradeOfEveryState checks that what version 1 has stored goes on where it was, in this version or in that one.
func TestUpgradeOfEveryState(t *testing.T) {
	db := oldDatabase(t)
	p := old(t, db, "old")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	submit := func() queue.ID {
		t.Helper()
		id := queue.NewID()
		must(p.submit(t.Context(), id))
		return id
	}
	claim := func() queue.AttemptID {
		t.Helper()
		submit()
		rows, err := p.ids(t.Context(), "claim", nil, []int32{1}, []int64{p.session}, time.Hour.Microseconds(), 100)
		must(err)
		return rows[0]
	}
	run := func() queue.AttemptID {
		t.Helper()
		id := claim()
		if _, err := p.accept(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		_, err := p.append(t.Context(), id, 0, "one\n")
		must(err)
		return id
	}
	submit()
	must(p.maintain(t.Context()))
	first := run()
	running, cancelling, lost, done := run(), run(), run(), run()
	_, err := p.rows(t.Context(), "reserve", nil, pgID(running.Build), running.Epoch, "app", make([]byte, 32), 10)
	must(err)
	_, err = p.rows(t.Context(), "cancel", nil, pgID(cancelling.Build), "project", "why", time.Hour.Microseconds())
	must(err)
	_, err = p.rows(t.Context(), "finish", nil, []int64{time.Hour.Microseconds()}, 0, []pgtype.UUID{pgID(lost.Build)}, []int64{1},
		[]int16{10}, []string{"gone"}, []*int64{nil}, []string{""}, []int64{4}, [][]byte{nil})
	must(err)
	_, err = p.finish(t.Context(), done, queue.Succeeded, 4)
	must(err)
	offered, queued := claim(), submit()
	execute(t, db, "DELETE FROM {schema}.class")
	unclassed := submit()

	b := backend(t, db.Pool, &pgqueue.Options{Schema: db.Schema})
	must(b.Migrate(t.Context()))
	must(b.Ping(t.Context()))
	execute(t, db, "INSERT INTO {schema}.class (id, pool, labels) OVERRIDING SYSTEM VALUE VALUES (1, 'default', '')")
	for id, want := range map[queue.ID]queue.State{
		first.Build: queue.Running, running.Build: queue.Running, cancelling.Build: queue.Cancelling, lost.Build: queue.Pending,
		done.Build: queue.Succeeded, offered.Build: queue.Offered, queued: queue.Pending, unclassed: queue.Pending,
	} {
		got, err := b.Get(t.Context(), "project", id)
		if err != nil || got.State != want || got.Backoff != (queue.Backoff{Base: 5 * time.Second, Max: 5 * time.Minute}) || got.ConcurrencyKey != "" {
			t.Errorf("build %v is %+v, %v; want it %v", id, got, err, want)
		}
	}
	n := &v2{Backend: b, session: queue.SessionID(p.session)}
	if length, err := n.append(t.Context(), running, 4, "two\n"); err != nil || length != 8 {
		t.Errorf("log has %d bytes, %v, want 8", length, err)
	}
	if length, err := p.append(t.Context(), running, 8, "three\n"); err != nil || length != 14 {
		t.Errorf("log has %d bytes, %v, want 14", length, err)
	}
	if length, err := n.append(t.Context(), running, 6, "o\nthree\nfour\n"); err != nil || length != 19 {
		t.Errorf("log has %d bytes, %v, want 19", length, err)
	}
	page, err := b.ReadLog(t.Context(), "project", running, 0, 100)
	if err != nil || string(page.Data) != "one\ntwo\nthree\nfour\n" {
		t.Errorf("log is %q, %v", page.Data, err)
	}
	projects, err := b.Projects(t.Context(), "", 10)
	if err != nil || len(projects) != 1 || projects[0].ArtifactBytes != 10 {
		t.Errorf("projects are %+v, %v, want one with 10 bytes", projects, err)
	}
	if _, err := b.CommitArtifact(t.Context(), running, "app", time.Time{}); err != nil {
		t.Error(err)
	}
	for _, end := range []struct {
		program program
		id      queue.AttemptID
		outcome queue.State
	}{{n, running, queue.Succeeded}, {p, first, queue.Failed}, {n, cancelling, queue.Canceled}} {
		if counts, err := end.program.finish(t.Context(), end.id, end.outcome, 0); err != nil || !counts {
			t.Errorf("finish of %v: %v, %v", end.id, counts, err)
		}
	}
	if accepted, err := n.accept(t.Context(), offered); err != nil || !accepted {
		t.Errorf("accept of what version 1 offered: %v, %v", accepted, err)
	}
	closed, err := b.ClosedLogs(t.Context(), 100, time.Minute, time.Time{})
	if err != nil || len(closed) != 5 {
		t.Errorf("closed logs are %+v, %v, want five", closed, err)
	}
	late, err := b.Finish(t.Context(), []queue.Completion{{AttemptID: lost, Outcome: queue.Succeeded}}, 0, time.Time{})
	if err != nil || len(late) != 1 || late[0].State != queue.Pending {
		t.Errorf("a second report of an attempt that version 1 has ended: %+v, %v, want the first's result", late, err)
	}
}

// TestVersion1QueuesNothingPastAdmission has a program of version 1 come across builds whose time is over, but which have to be admitted.
func TestVersion1QueuesNothingPastAdmission(t *testing.T) {
	now := time.Now().UTC().Truncate(time.Microsecond)
	db := oldDatabase(t)
	p := old(t, db, "old")
	b := backend(t, db.Pool, &pgqueue.Options{Schema: db.Schema})
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(b.Migrate(t.Context()))
	must(b.SetLimit(t.Context(), queue.Limit{Project: "project", Key: "key", Max: 1}))
	must(b.ChangePool(t.Context(), "fair", queue.PoolChange{Fair: new(true)}))
	must(b.ChangeProject(t.Context(), "paused", queue.ProjectChange{Paused: new(true)}))
	submit := func(n queue.NewBuild) queue.ID {
		t.Helper()
		n.ID, n.RunTimeout, n.MaxAttempts, n.Project = queue.NewID(), time.Hour, 3, cmp.Or(n.Project, "project")
		n.Pool = cmp.Or(n.Pool, "default")
		_, err := b.Submit(t.Context(), []queue.NewBuild{n}, now)
		must(err)
		return n.ID
	}
	maintain := func(at time.Time) {
		t.Helper()
		_, err := b.Maintain(t.Context(), queue.Rules{Limit: 100}, at)
		must(err)
	}
	admit := func(at time.Time) int {
		t.Helper()
		done, err := b.Admit(t.Context(), queue.Lane{}, 100, at)
		must(err)
		return done.Queued
	}
	submit(queue.NewBuild{})
	submit(queue.NewBuild{Pool: "fair"})
	maintain(now)
	must(b.Serve(t.Context(), []queue.ClassID{1, 2}, time.Hour, now))

	// A build of the key that version 1 has claimed and lost gives its room to another.
	lost := submit(queue.NewBuild{ConcurrencyKey: "key", Priority: 1})
	admit(now)
	rows, err := p.rows(t.Context(), "claim", now, []int32{1}, []int64{p.session}, time.Hour.Microseconds(), 100)
	must(err)
	if len(rows) != 1 || rows[0][0].([16]byte) != lost {
		t.Fatalf("version 1 has claimed %v", rows)
	}
	_, err = p.rows(t.Context(), "accept", now, []pgtype.UUID{pgID(lost)}, []int64{1}, []int64{p.session}, [][]byte{make([]byte, 32)}, []int64{0})
	must(err)
	_, err = p.rows(t.Context(), "finish", now, []int64{time.Minute.Microseconds()}, 0, []pgtype.UUID{pgID(lost)}, []int64{1},
		[]int16{10}, []string{"gone"}, []*int64{nil}, []string{""}, []int64{0}, [][]byte{nil})
	must(err)
	next := submit(queue.NewBuild{ConcurrencyKey: "key"})
	if n := admit(now); n != 1 {
		t.Fatalf("%d builds are admitted, want one of the key", n)
	}
	soon := now.Add(time.Minute)
	keyed := submit(queue.NewBuild{ConcurrencyKey: "key", NotBefore: soon})
	unknown := submit(queue.NewBuild{ConcurrencyKey: "key", NotBefore: soon, Pool: "new"})
	plainUnknown := submit(queue.NewBuild{NotBefore: soon, Pool: "new"})
	fair := submit(queue.NewBuild{NotBefore: soon, Pool: "fair", Priority: 2})
	paused := submit(queue.NewBuild{NotBefore: soon, Project: "paused"})
	plain := submit(queue.NewBuild{NotBefore: soon})

	stored := func(what string, id queue.ID, want string) {
		t.Helper()
		var got string
		err := db.Pool.QueryRow(t.Context(), `SELECT concat_ws(' ', state, class_id, not_before IS NOT NULL, admitted,
			rank = extract(epoch FROM greatest(created_at, scheduled_at)) * 1000000 - priority * 60000000)
			FROM `+db.Schema+".build WHERE id = $1", pgID(id)).Scan(&got)
		if err != nil || got != want {
			t.Errorf("%s: state, class, not_before, admitted and rank are %q, %v, want %q", what, got, err, want)
		}
	}
	for range 2 {
		_, err := p.rows(t.Context(), "due", soon, 100)
		must(err)
		stored("admitted while another waits for its back-off", next, "1 1 f t t")
		stored("back-off is over, the limit reached", lost, "0 1 f f t")
		stored("scheduled, with a key", keyed, "0 1 f f t")
		stored("scheduled, with a key, of an unknown class", unknown, "0 0 f f t")
		stored("scheduled, of an unknown class", plainUnknown, "0 0 f f t")
		stored("scheduled, of a fair pool", fair, "0 2 f f t")
		stored("scheduled, of a paused project", paused, "0 1 f f t")
		stored("scheduled", plain, "1 1 f f t")
	}
	maintain(soon)
	stored("of a class that is known now", plainUnknown, "1 3 f f t")
	stored("with a key, of a class that is known now", unknown, "0 3 f f t")
	if n := admit(soon); n != 1 {
		t.Errorf("%d builds are admitted, want that of the fair pool: the key is at its limit", n)
	}
	if _, err := b.Cancel(t.Context(), "project", []queue.ID{next}, "", 0, soon); err != nil {
		t.Error(err)
	}
	if n := admit(soon); n != 1 {
		t.Errorf("%d builds are admitted, want the next of the key", n)
	}
	stored("the next of the key", lost, "1 1 f t t")

	// What this version itself queues when its time has come is not in the way of the trigger.
	later := soon.Add(time.Minute)
	again := submit(queue.NewBuild{NotBefore: later})
	againKeyed := submit(queue.NewBuild{NotBefore: later, ConcurrencyKey: "key"})
	maintain(later)
	stored("scheduled, queued by this version", again, "1 1 f f t")
	stored("scheduled with a key, held by this version", againKeyed, "0 1 f f t")
}

// A schema that version 1 never was in does without the trigger, and so without programs of that version.
func TestTriggerIsForVersion1(t *testing.T) {
	for name, schema := range map[string]struct {
		db       func(*testing.T) *testenv.Database
		triggers int
		want     error // of version 1
	}{
		"new": {func(t *testing.T) *testenv.Database {
			_, db := open(t)
			return db
		}, 0, pgqueue.ErrTooNew},
		"of version 1": {func(t *testing.T) *testenv.Database {
			db := oldDatabase(t)
			if err := backend(t, db.Pool, &pgqueue.Options{Schema: db.Schema}).Migrate(t.Context()); err != nil {
				t.Fatal(err)
			}
			return db
		}, 1, nil},
	} {
		t.Run(name, func(t *testing.T) {
			db := schema.db(t)
			var got int
			row := db.Pool.QueryRow(t.Context(), "SELECT count(*) FROM pg_trigger WHERE tgrelid = $1::regclass AND NOT tgisinternal", db.Schema+".build")
			if err := row.Scan(&got); err != nil || got != schema.triggers {
				t.Errorf("there are %d triggers, %v; want %d", got, err, schema.triggers)
			}
			p := oldMigrator(t, db)
			if err := p.Check(t.Context(), pgxdb.Open(db.Pool)); !errors.Is(err, schema.want) {
				t.Errorf("Ping of version 1 returns %v, want %v", err, schema.want)
			}
			if err := p.Apply(t.Context(), pgxdb.Open(db.Pool)); !errors.Is(err, schema.want) {
				t.Errorf("Migrate of version 1 returns %v, want %v", err, schema.want)
			}
			if err := backend(t, db.Pool, &pgqueue.Options{Schema: db.Schema}).Ping(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}
