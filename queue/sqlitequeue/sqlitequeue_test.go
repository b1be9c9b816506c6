package sqlitequeue_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"modernc.org/sqlite"

	"github.com/slipway-build/slipway/internal/faultcalls"
	"github.com/slipway-build/slipway/internal/testenv"
	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/queue/queuetest"
	"github.com/slipway-build/slipway/queue/sqlitequeue"
)

// openDB opens a database file until the test ends.
func openDB(t testing.TB, path string, o *sqlitequeue.Options) *sql.DB {
	t.Helper()
	db, err := sqlitequeue.Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	closeAtEnd(t, db)
	return db
}

func closeAtEnd(t testing.TB, db *sql.DB) {
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
}

// migrated returns a backend on a database that has its tables.
func migrated(t testing.TB, db *sql.DB, o *sqlitequeue.Options) *sqlitequeue.Backend {
	t.Helper()
	b, err := sqlitequeue.New(db, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return b
}

// open returns a backend on a database file, which is made if there is none.
func open(t testing.TB, path string, o *sqlitequeue.Options) *sqlitequeue.Backend {
	t.Helper()
	return migrated(t, openDB(t, path, o), o)
}

// Each case has a copy of one file that has its tables: to make them for each would be a seventh of the work.
func TestBackend(t *testing.T) {
	file := migratedFile(t)
	queuetest.Run(t, func(t *testing.T) queue.Backend {
		path := testenv.SQLite(t)
		if err := os.WriteFile(path, file, 0o600); err != nil {
			t.Fatal(err)
		}
		db, err := sqlitequeue.OpenVolatile(path)
		if err != nil {
			t.Fatal(err)
		}
		closeAtEnd(t, db)
		b, err := sqlitequeue.New(db, nil)
		if err != nil {
			t.Fatal(err)
		}
		return b
	})
}

// migratedFile returns what is in the file of a database that has its tables and nothing else.
func migratedFile(t *testing.T) []byte {
	t.Helper()
	path := testenv.SQLite(t)
	db, err := sqlitequeue.Open(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	migrated(t, db, nil)
	if err := db.Close(); err != nil { // which brings all into the one file
		t.Fatal(err)
	}
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// A single connection without any setting is enough: no call asks for a second one while it holds one, or relies on what Open sets.
func TestBareConnection(t *testing.T) {
	db, err := sql.Open("sqlite", ":memory:")
	if err != nil {
		t.Fatal(err)
	}
	closeAtEnd(t, db)
	db.SetMaxOpenConns(1)
	scene := faultcalls.New(t, migrated(t, db, nil), newStore(t, db))
	for _, c := range faultcalls.Calls() {
		t.Run(c.Name, func(t *testing.T) { scene.In(t).Course(c) })
	}
}

// databasePath returns the file that a database is.
func databasePath(t *testing.T, db *sql.DB) (path string) {
	t.Helper()
	if err := db.QueryRowContext(t.Context(), "SELECT file FROM pragma_database_list").Scan(&path); err != nil {
		t.Fatal(err)
	}
	return path
}

// The driver's own ways to copy a database that is in use can be reached.
func TestBackup(t *testing.T) {
	db := openDB(t, testenv.SQLite(t), nil)
	stored := queue.NewBuild{ID: queue.NewID(), Project: "project", Pool: "pool", RunTimeout: time.Hour, MaxAttempts: 1}
	if _, err := migrated(t, db, nil).Submit(t.Context(), []queue.NewBuild{stored}, time.Time{}); err != nil {
		t.Fatal(err)
	}
	paths := map[string]string{"NewBackup": testenv.SQLite(t), "VACUUM INTO": testenv.SQLite(t)}
	run(t, db, "VACUUM INTO ?", paths["VACUUM INTO"])
	conn, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	err = conn.Raw(func(dc any) error {
		backup, err := dc.(interface {
			NewBackup(dst string) (*sqlite.Backup, error)
		}).NewBackup(paths["NewBackup"])
		if err != nil {
			return err
		}
		_, err = backup.Step(-1)
		return errors.Join(err, backup.Finish())
	})
	if err != nil {
		t.Fatal(err)
	}
	for how, path := range paths {
		build, err := open(t, path, nil).Get(t.Context(), stored.Project, stored.ID)
		if err != nil || build.State != queue.Pending {
			t.Errorf("in the copy made by %s the build is %v, %v", how, build.State, err)
		}
	}
}

func TestOpenTakesAnyPath(t *testing.T) {
	for _, name := range []string{"plain", "a b", "per%20cent", "question?mark=1", "hash#tag", "naïve", "semi;colon&and"} {
		path := filepath.Join(t.TempDir(), name)
		open(t, path, nil)
		if file := databasePath(t, openDB(t, path, nil)); filepath.Base(file) != name {
			t.Errorf("the database %q is the file %q", name, filepath.Base(file))
		}
		for _, suffix := range []string{"", "-wal", "-shm"} {
			if info, err := os.Stat(path + suffix); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("the file %q: %v, %v; want mode 600", name+suffix, info, err)
			}
		}
	}
	if _, err := sqlitequeue.Open(filepath.Join(t.TempDir(), "none", "queue.db"), nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Open in a directory that does not exist: %v", err)
	}
	if _, err := sqlitequeue.Open("", nil); err == nil {
		t.Error("Open takes an empty path")
	}
	if _, err := sqlitequeue.New(nil, nil); err == nil {
		t.Error("New takes no database")
	}
}

func TestOpenSettings(t *testing.T) {
	for _, test := range []struct {
		opts        sqlitequeue.Options
		synchronous int
		timeout     int
	}{
		{sqlitequeue.Options{}, 2, 5000},
		{sqlitequeue.Options{Relaxed: true, Timeout: 3 * time.Second}, 1, 3000},
	} {
		db := openDB(t, testenv.SQLite(t), &test.opts)
		b := migrated(t, db, &test.opts)
		if _, err := b.Beat(t.Context(), queue.NewID(), time.Minute, time.Time{}); err != nil {
			t.Fatal(err)
		}
		var journal string
		var synchronous, timeout, keys int
		for pragma, dest := range map[string]any{
			"journal_mode": &journal, "synchronous": &synchronous, "busy_timeout": &timeout, "foreign_keys": &keys,
		} {
			if err := db.QueryRowContext(t.Context(), "PRAGMA "+pragma).Scan(dest); err != nil {
				t.Fatal(err)
			}
		}
		if journal != "wal" || synchronous != test.synchronous || timeout != test.timeout || keys != 1 {
			t.Errorf("with %+v: journal_mode %s, synchronous %d, busy_timeout %d, foreign_keys %d",
				test.opts, journal, synchronous, timeout, keys)
		}
	}
}

// Two backends on one file are what two processes are, but for the lock that a process has of its own.
func TestBackendsClaimEachBuildOnce(t *testing.T) {
	const builds, perBackend = 300, 4
	path := testenv.SQLite(t)
	backends := []*sqlitequeue.Backend{open(t, path, nil), open(t, path, nil)}
	q := queue.New(backends[0], nil)
	params := make([]queue.Params, builds)
	for i := range params {
		params[i].Project = "project"
	}
	if _, err := q.SubmitMany(t.Context(), params); err != nil {
		t.Fatal(err)
	}
	if _, err := q.Maintain(t.Context()); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	claims := make(map[queue.AttemptID]int)
	var wg sync.WaitGroup
	for i, b := range backends {
		q := queue.New(b, nil)
		for j := range perBackend {
			wg.Go(func() {
				session, err := q.OpenSession(t.Context(), newSession(fmt.Sprintf("worker-%d-%d", i, j), 7))
				if err != nil {
					t.Error(err)
					return
				}
				for {
					offers, err := q.Claim(t.Context(), []queue.Idle{{Session: session, Slots: 7}})
					if err != nil {
						t.Error(err)
					}
					if len(offers) == 0 {
						return
					}
					mu.Lock()
					for _, offer := range offers {
						claims[offer.AttemptID]++
					}
					mu.Unlock()
				}
			})
		}
	}
	wg.Wait()
	if len(claims) != builds {
		t.Errorf("%d attempts were claimed, want %d", len(claims), builds)
	}
	for id, n := range claims {
		if n != 1 || id.Epoch != 1 {
			t.Errorf("%v was claimed %d times", id, n)
		}
	}
}

// lockFile begins a transaction that writes, from elsewhere, and returns its end.
func lockFile(t *testing.T, path string) (unlock func()) {
	t.Helper()
	tx, err := openDB(t, path, nil).BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := tx.Rollback(); err != nil {
			t.Error(err)
		}
	}
}

func TestBusyDatabase(t *testing.T) {
	const timeout = 300 * time.Millisecond
	path := testenv.SQLite(t)
	b := open(t, path, &sqlitequeue.Options{Timeout: timeout})
	id := queue.NewID()
	submit := func(ctx context.Context) error {
		build := queue.NewBuild{ID: id, Project: "project", Pool: "pool", RunTimeout: time.Hour, MaxAttempts: 1}
		_, err := b.Submit(ctx, []queue.NewBuild{build}, time.Time{})
		return err
	}
	unlock := lockFile(t, path)
	begin := time.Now()
	err := submit(t.Context())
	if took := time.Since(begin); !errors.Is(err, queue.ErrUnavailable) || took < timeout || took > 10*timeout {
		t.Errorf("a submit while another process writes: %v after %v, want %v after %v", err, took, queue.ErrUnavailable, timeout)
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(timeout/10, cancel)
	if err := submit(ctx); !errors.Is(err, context.Canceled) || errors.Is(err, queue.ErrUnavailable) {
		t.Errorf("a submit that is canceled meanwhile: %v", err)
	}
	if _, err := b.Get(t.Context(), "project", id); !errors.Is(err, queue.ErrNotFound) {
		t.Errorf("a read while another process writes: %v, want %v", err, queue.ErrNotFound)
	}
	unlock()
	if err := submit(t.Context()); err != nil {
		t.Errorf("a submit when the other process is done: %v", err)
	}
}

// A call that its context ends, at whatever point, has happened wholly or not at all.
func TestCanceledCallsLeaveNoHalves(t *testing.T) {
	b := open(t, testenv.SQLite(t), &sqlitequeue.Options{Relaxed: true})
	q := queue.New(b, nil)
	session, err := q.OpenSession(t.Context(), newSession("worker", 1))
	if err != nil {
		t.Fatal(err)
	}
	failures := 0
	limit := 10 * time.Microsecond // longer after a call that failed, shorter after one that did not: always about what a call takes
	for range 50 {
		id, err := q.Submit(t.Context(), queue.Params{Project: "project"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := q.Maintain(t.Context()); err != nil {
			t.Fatal(err)
		}
		offers, err := q.Claim(t.Context(), []queue.Idle{{Session: session, Slots: 1}})
		if err != nil || len(offers) != 1 || offers[0].Build != id {
			t.Fatalf("claimed %v, %v", offers, err)
		}
		attempt := offers[0].AttemptID
		if err := q.Accept(t.Context(), session, attempt, queue.Digest{1}); err != nil {
			t.Fatal(err)
		}
		brief := func(call func(context.Context) error) {
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			if call(ctx) != nil {
				failures++
				limit = limit * 3 / 2
			} else {
				limit = limit * 2 / 3
			}
		}
		brief(func(ctx context.Context) error {
			_, err := q.AppendLog(ctx, queue.LogChunk{AttemptID: attempt, Data: make([]byte, 5000)})
			return err
		})
		end := queue.Completion{AttemptID: attempt, Outcome: queue.Failed}
		brief(func(ctx context.Context) error { _, err := q.Finish(ctx, end); return err })
		build, err := b.Get(t.Context(), "project", id)
		if err != nil {
			t.Fatal(err)
		}
		checkAttempts(t, b, build)
		if _, err := q.Finish(t.Context(), end); err != nil {
			t.Fatalf("a second Finish after a canceled one: %v", err)
		}
	}
	t.Logf("%d of 100 calls were canceled in time", failures)
	if failures == 0 || failures == 100 {
		t.Error("the deadlines do not fall into the calls: the test shows nothing")
	}
}
