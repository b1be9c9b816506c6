package pgqueue_test

import (
	"errors"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/slipway-build/slipway/internal/testenv"
	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/queue/pgqueue"
	"github.com/slipway-build/slipway/queue/queuetest"
)

// open returns a migrated backend in a schema of its own, and that database. In the end it looks at the rows that are left.
func open(t testing.TB) (*pgqueue.Backend, *testenv.Database) {
	t.Helper()
	db := testenv.Postgres(t)
	b := backend(t, db.Pool, &pgqueue.Options{Schema: db.Schema})
	if err := b.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { checkInvariants(t, db) })
	return b, db
}

func backend(t testing.TB, pool *pgxpool.Pool, o *pgqueue.Options) *pgqueue.Backend {
	t.Helper()
	b, err := pgqueue.New(pool, o)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestBackend(t *testing.T) {
	queuetest.Run(t, func(t *testing.T) queue.Backend {
		b, _ := open(t)
		return b
	})
}

// ignore returns err unless it is one that does not matter.
func ignore(err, expected error) error {
	if errors.Is(err, expected) {
		return nil
	}
	return err
}
