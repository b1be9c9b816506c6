package sqlitequeue_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"testing"

	"modernc.org/sqlite"

	"github.com/slipway-build/slipway/internal/faultcalls"
	"github.com/slipway-build/slipway/internal/faultsql"
	"github.com/slipway-build/slipway/internal/testenv"
	"github.com/slipway-build/slipway/queue/sqlitequeue"
)

// A store is a database of tests that look at what a backend has stored. Its copies are whole databases: to write single rows would let
// triggers write others.
type store struct {
	*sql.DB
	tables       []string
	empty, saved string // files
}

const prefix = "slipway_"

// newStore returns the store of a database that has its tables and is empty. It needs a connection of the driver itself.
func newStore(t *testing.T, db *sql.DB) *store {
	t.Helper()
	s := &store{DB: db, empty: testenv.SQLite(t), saved: testenv.SQLite(t)}
	rows, err := db.QueryContext(t.Context(), "SELECT name FROM sqlite_schema WHERE type = 'table' AND name GLOB ? ORDER BY name", prefix+"*")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			t.Fatal(err)
		}
		if name = strings.TrimPrefix(name, prefix); name != "schema_version" {
			s.tables = append(s.tables, name)
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	if err := s.copy(t.Context(), copier.NewBackup, s.empty); err != nil {
		t.Fatal(err)
	}
	return s
}

// Clear implements [faultcalls.Store].
func (s *store) Clear(ctx context.Context) error { return s.copy(ctx, copier.NewRestore, s.empty) }

// Save implements [faultcalls.Store].
func (s *store) Save(ctx context.Context) error { return s.copy(ctx, copier.NewBackup, s.saved) }

// Restore implements [faultcalls.Store].
func (s *store) Restore(ctx context.Context) error { return s.copy(ctx, copier.NewRestore, s.saved) }

// Rows implements [faultcalls.Store].
func (s *store) Rows(ctx context.Context) (faultcalls.Rows, error) {
	return faultcalls.ReadRows(ctx, s.DB, prefix, s.tables)
}

// A copier is a connection of the driver.
type copier interface {
	NewBackup(file string) (*sqlite.Backup, error)
	NewRestore(file string) (*sqlite.Backup, error)
}

// copy copies the database to a file, or back.
func (s *store) copy(ctx context.Context, begin func(copier, string) (*sqlite.Backup, error), file string) error {
	conn, err := s.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	return conn.Raw(func(dc any) error {
		c, err := begin(dc.(copier), file)
		if err != nil {
			return err
		}
		_, err = c.Step(-1)
		return errors.Join(err, c.Finish())
	})
}

// plain opens a database file by the driver alone.
func plain(t *testing.T, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path+"?_synchronous=OFF")
	if err != nil {
		t.Fatal(err)
	}
	closeAtEnd(t, db)
	return db
}

// Whichever operation of a call fails, before the fact or after it, the call is made wholly or not at all and says that it failed; made
// again, it does what is left to do. Its connection is not left in the middle of something, or the next call would not get the lock.
func TestEveryOperationMayFail(t *testing.T) {
	path := testenv.SQLite(t)
	db := openDB(t, path, &sqlitequeue.Options{Relaxed: true})
	scene := faultcalls.New(t, migrated(t, db, nil), newStore(t, plain(t, path)))
	inner, err := sqlite.NewConnector("file:" + path + "?_synchronous=OFF")
	if err != nil {
		t.Fatal(err)
	}
	faults := faultsql.Wrap(inner)
	faulty := sql.OpenDB(faults)
	closeAtEnd(t, faulty)
	b, err := sqlitequeue.New(faulty, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range faultcalls.Calls() {
		t.Run(c.Name, func(t *testing.T) {
			course := scene.In(t).Course(c)
			if operations, _ := tryAll(course, b, faults, false); operations == 0 {
				t.Error("the call has no operation: the test shows nothing")
			}
			// On a slow machine the lock is tried for several times, so that an operation more or less may have hidden the commit.
			dark := 0
			for round := 0; round == 0 || dark == 0 && round < 5 && course.Changes(); round++ {
				_, dark = tryAll(course, b, faults, true)
			}
			if dark == 0 && course.Changes() {
				t.Error("no change was made by a call that failed: the test shows nothing")
			}
		})
	}
}

// tryAll makes a call with each of its operations failing. It returns how many there are, and after how many of them the change was made and
// the call returned an error.
func tryAll(o *faultcalls.Course, b *sqlitequeue.Backend, faults *faultsql.Connector, after bool) (operations, dark int) {
	for n := 0; ; n++ {
		f := faultsql.Fault{N: n, After: after}
		faults.Break(f)
		a := o.Make(b)
		struck := faults.Mend()
		if !struck && a.Err != nil {
			o.Errorf("%+v does not strike, and it returned %v", f, a)
		}
		made := o.Check(a, faultcalls.Fault{
			What: fmt.Sprintf("%+v", f), Lossy: after, Unknown: func(err error) bool { return errors.Is(err, faultsql.ErrFault) },
		})
		if made && a.Err != nil {
			dark++
		}
		if !struck {
			return n, dark
		}
	}
}
