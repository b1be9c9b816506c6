// Package sqlitequeuetest makes temporary queues on SQLite, for the tests of services that use one:
//
//	func TestRelease(t *testing.T) {
//		q := sqlitequeuetest.New(t, nil)
//		…
//	}
//
// Each queue has a file of its own, so that tests may run in parallel, and leaves nothing behind. A test that needs no database uses
// queue.New(memqueue.New(), nil).
package sqlitequeuetest

import (
	"path/filepath"
	"testing"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/queue/sqlitequeue"
)

// New returns an empty queue in a file of the test's temporary directory, which has its tables. It is closed when the test ends: the test
// must be done with it by then. What goes wrong ends the test, or fails it at its end.
//
// Options are those of [queue.New].
func New(tb testing.TB, o *queue.Options) *queue.Queue {
	tb.Helper()
	settings := &sqlitequeue.Options{Relaxed: true} // a test's builds need not outlast a power failure
	db, err := sqlitequeue.Open(filepath.Join(tb.TempDir(), "queue.db"), settings)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := db.Close(); err != nil {
			tb.Errorf("sqlitequeuetest: close the queue's database: %v", err)
		}
	})
	backend, err := sqlitequeue.New(db, settings)
	if err != nil {
		tb.Fatal(err)
	}
	if err := backend.Migrate(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	return queue.New(backend, o)
}
