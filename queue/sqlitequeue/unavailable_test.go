package sqlitequeue_test

import (
	"context"
	"database/sql"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"modernc.org/sqlite/vfs"

	"github.com/slipway-build/slipway/internal/testenv"
	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/queue/sqlitequeue"
)

// wantUnavailable makes calls of every kind: what changes, what reads by this package, what reads by that of both databases.
func wantUnavailable(t *testing.T, b *sqlitequeue.Backend) {
	t.Helper()
	q := queue.New(b, nil)
	_, submitErr := q.Submit(t.Context(), queue.Params{Project: "project"})
	_, maintainErr := q.Maintain(t.Context())
	_, probeErr := b.Probe(t.Context(), nil, 1)
	_, getErr := q.Get(t.Context(), "project", queue.NewID())
	_, logErr := q.ReadLog(t.Context(), "project", queue.AttemptID{Build: queue.NewID(), Epoch: 1}, 0, 1)
	for name, err := range map[string]error{
		"Submit": submitErr, "Maintain": maintainErr, "Probe": probeErr, "Get": getErr, "ReadLog": logErr,
		"Ping": b.Ping(t.Context()), "Migrate": b.Migrate(t.Context()),
	} {
		if !errors.Is(err, queue.ErrUnavailable) {
			t.Errorf("%s: %v, want %v", name, err, queue.ErrUnavailable)
		}
	}
}

func newBackend(t *testing.T, db *sql.DB, o *sqlitequeue.Options) *sqlitequeue.Backend {
	t.Helper()
	b, err := sqlitequeue.New(db, o)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestClosedDatabase(t *testing.T) {
	db, err := sqlitequeue.Open(testenv.SQLite(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	b := migrated(t, db, nil)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	wantUnavailable(t, b)
}

func TestFileIsAway(t *testing.T) {
	wantUnavailable(t, newBackend(t, plain(t, filepath.Join(t.TempDir(), "away", "queue.db")), nil))
}

func TestFileIsHeldByOthers(t *testing.T) {
	path := testenv.SQLite(t)
	b := newBackend(t, plain(t, path), &sqlitequeue.Options{Timeout: 100 * time.Millisecond})
	if err := b.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	other, err := plain(t, path).Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if _, err := other.ExecContext(t.Context(), "BEGIN EXCLUSIVE"); err != nil { // it keeps readers out, too: this is no WAL
		t.Fatal(err)
	}
	over, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := b.Maintain(over, queue.Rules{}, time.Time{}); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, queue.ErrUnavailable) {
		t.Errorf("a call whose caller has given up: %v, want its own deadline", err)
	}
	long := newBackend(t, plain(t, path), &sqlitequeue.Options{Timeout: 100 * time.Millisecond})
	if _, err := long.Get(t.Context(), "project", queue.NewID()); !errors.Is(err, queue.ErrUnavailable) {
		t.Errorf("Get: %v, want %v", err, queue.ErrUnavailable)
	}
	if _, err := b.Maintain(t.Context(), queue.Rules{}, time.Time{}); !errors.Is(err, queue.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Maintain: %v, want %v by a deadline", err, queue.ErrUnavailable)
	}
}

func TestNoRoom(t *testing.T) {
	db := plain(t, testenv.SQLite(t))
	db.SetMaxOpenConns(1) // the setting is of a connection
	b := migrated(t, db, nil)
	if _, err := db.ExecContext(t.Context(), "PRAGMA max_page_count = 1"); err != nil { // which means: no more than there are
		t.Fatal(err)
	}
	q := queue.New(b, nil)
	params := queue.Params{Project: "project", Spec: make([]byte, 200_000)}
	if _, err := q.Submit(t.Context(), params); !errors.Is(err, queue.ErrUnavailable) {
		t.Errorf("Submit: %v, want %v", err, queue.ErrUnavailable)
	}
	if _, err := db.ExecContext(t.Context(), "PRAGMA max_page_count = 10000"); err != nil {
		t.Fatal(err)
	}
	if _, err := q.Submit(t.Context(), params); err != nil {
		t.Errorf("Submit when there is room: %v", err)
	}
}

func TestDiskFails(t *testing.T) {
	path := testenv.SQLite(t)
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	migrated(t, db, nil)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	disk := &failingDisk{FS: os.DirFS(filepath.Dir(path))}
	name, mounted, err := vfs.New(disk)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := mounted.Close(); err != nil {
			t.Error(err)
		}
	})
	db, err = sql.Open("sqlite", "file:"+filepath.Base(path)+"?vfs="+name)
	if err != nil {
		t.Fatal(err)
	}
	closeAtEnd(t, db)
	b := newBackend(t, db, nil)
	if err := b.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	disk.broken.Store(true)
	if _, err := b.Get(t.Context(), "project", queue.NewID()); !errors.Is(err, queue.ErrUnavailable) {
		t.Errorf("Get: %v, want %v", err, queue.ErrUnavailable)
	}
	disk.broken.Store(false)
	if _, err := b.Get(t.Context(), "project", queue.NewID()); !errors.Is(err, queue.ErrNotFound) {
		t.Errorf("Get when the disk works again: %v, want %v", err, queue.ErrNotFound)
	}
}

// A failingDisk has files that cannot be read while it is broken.
type failingDisk struct {
	fs.FS
	broken atomic.Bool
}

func (d *failingDisk) Open(name string) (fs.File, error) {
	f, err := d.FS.Open(name)
	if err != nil {
		return nil, err
	}
	return failingFile{f.(seekingFile), d}, nil
}

type seekingFile interface {
	fs.File
	io.Seeker
}

type failingFile struct {
	seekingFile
	disk *failingDisk
}

func (f failingFile) Read(p []byte) (int, error) {
	if f.disk.broken.Load() {
		return 0, errors.New("the disk is broken")
	}
	return f.seekingFile.Read(p)
}
