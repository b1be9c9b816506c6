package testenv

import (
	"context"
	"crypto/rand"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// EnvDatabaseURL names the variable that holds the URL of the PostgreSQL server
// tests run against. Its user must be allowed to create schemas. Unset or empty
// means a throw-away cluster.
const EnvDatabaseURL = "SLIPWAY_TEST_DATABASE_URL"

// cleanupTimeout bounds each step that a test's cleanup takes on the server.
const cleanupTimeout = 15 * time.Second

// Database is a schema of one test on a PostgreSQL server.
type Database struct {
	// Pool is connected to the server. It does not put Schema on the search path.
	// It is closed when the test ends.
	Pool *pgxpool.Pool

	// Schema is the name of an empty schema, which needs no quoting. It is dropped
	// with all it holds when the test ends.
	Schema string

	// DSN is the URL of the server, for connections of other processes.
	DSN string
}

// shared is the one cluster of this test binary. Nobody stops it: it dies with
// the process.
var shared = sync.OnceValues(func() (*Cluster, error) {
	return StartPostgres(context.Background(), nil)
})

// Postgres returns a fresh schema on a real PostgreSQL server. It fails the test
// when there is none to be had.
func Postgres(t testing.TB) *Database {
	t.Helper()
	dsn := os.Getenv(EnvDatabaseURL)
	if dsn == "" {
		c, err := shared()
		if err != nil {
			t.Fatal(err)
		}
		dsn = c.URL()
	}
	d := &Database{DSN: dsn, Schema: "slipway_test_" + strings.ToLower(rand.Text()[:16])}
	execute(t, t.Context(), dsn, "CREATE SCHEMA "+d.Schema)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), cleanupTimeout)
		defer cancel()
		execute(t, ctx, dsn, "DROP SCHEMA "+d.Schema+" CASCADE")
	})
	d.Pool = d.Open(t, nil)
	return d
}

// Open returns another pool on the same server, closed when the test ends.
// configure may change its configuration, for example MaxConns; nil changes nothing.
func (d *Database) Open(t testing.TB, configure func(*pgxpool.Config)) *pgxpool.Pool {
	t.Helper()
	cfg, err := pgxpool.ParseConfig(d.DSN)
	if err != nil {
		t.Fatalf("testenv: parse the URL of the server: %v", err)
	}
	if configure != nil {
		configure(cfg)
	}
	pool, err := pgxpool.NewWithConfig(t.Context(), cfg)
	if err != nil {
		t.Fatalf("testenv: open a pool: %v", err)
	}
	t.Cleanup(func() { closePool(t, pool) })
	return pool
}

// closePool reports a connection that the test forgot to release, instead of
// waiting for it forever.
func closePool(t testing.TB, pool *pgxpool.Pool) {
	t.Helper()
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		pool.Close()
	}()
	select {
	case <-closed:
	case <-time.After(cleanupTimeout):
		t.Errorf("testenv: %d connections were not released %v after the end of the test", pool.Stat().AcquiredConns(), cleanupTimeout)
	}
}

// execute runs one statement on a connection of its own.
func execute(t testing.TB, ctx context.Context, dsn, sql string) { //nolint:revive // t first, as in every test helper
	t.Helper()
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		t.Fatalf("testenv: connect to PostgreSQL: %v", err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, sql); err != nil {
		t.Fatalf("testenv: %s: %v", sql, err)
	}
}
