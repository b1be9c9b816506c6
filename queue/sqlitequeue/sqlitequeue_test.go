package sqlitequeue_test

import (
	"testing"

	"github.com/slipway-build/slipway/internal/testenv"
	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/queue/queuetest"
	"github.com/slipway-build/slipway/queue/sqlitequeue"
)

// open returns a backend on a database file, which is made if there is none.
func open(t testing.TB, path string, o *sqlitequeue.Options) *sqlitequeue.Backend {
	t.Helper()
	db, err := sqlitequeue.Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	b, err := sqlitequeue.New(db, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return b
}

func TestBackend(t *testing.T) {
	queuetest.Run(t, func(t *testing.T) queue.Backend {
		return open(t, testenv.SQLite(t), &sqlitequeue.Options{Relaxed: true})
	})
}
