package pgqueue_test

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/slipway-build/slipway/internal/faultcalls"
	"github.com/slipway-build/slipway/internal/pgxdb"
	"github.com/slipway-build/slipway/internal/testenv"
)

// A store is a schema of tests that look at what a backend has stored.
type store struct {
	*testenv.Database
	tables []string
}

func newStore(t *testing.T, db *testenv.Database) *store {
	t.Helper()
	const sql = `SELECT array_agg(table_name::text) FROM information_schema.tables WHERE table_schema = $1 AND table_name <> 'schema_version'`
	s := &store{Database: db}
	if err := db.Pool.QueryRow(t.Context(), sql, db.Schema).Scan(&s.tables); err != nil {
		t.Fatal(err)
	}
	slices.Sort(s.tables)
	if err := s.exec(t.Context(), s.each("; ", "CREATE TABLE {table}_saved (LIKE {table})")); err != nil {
		t.Fatal(err)
	}
	return s
}

// Clear implements [faultcalls.Store]. It is one statement, as Restore is, because the tables refer to each other.
func (s *store) Clear(ctx context.Context) error {
	return s.exec(ctx, "WITH "+s.each(", ", "of_{n} AS (DELETE FROM {table})")+" SELECT")
}

// Save implements [faultcalls.Store].
func (s *store) Save(ctx context.Context) error {
	return s.exec(ctx, s.each("; ", "DELETE FROM {table}_saved; INSERT INTO {table}_saved TABLE {table}"))
}

// Restore implements [faultcalls.Store].
func (s *store) Restore(ctx context.Context) error {
	return s.exec(ctx, "WITH "+s.each(", ", "of_{n} AS (INSERT INTO {table} OVERRIDING SYSTEM VALUE TABLE {table}_saved)")+" SELECT")
}

// Rows implements [faultcalls.Store].
func (s *store) Rows(ctx context.Context) (faultcalls.Rows, error) {
	return faultcalls.ReadRows(ctx, pgxdb.Open(s.Pool).DB, s.Schema+".", s.tables)
}

// each writes something for each table: {table} stands for its name, {n} for its number.
func (s *store) each(separator, format string) string {
	parts := make([]string, len(s.tables))
	for i, table := range s.tables {
		parts[i] = strings.NewReplacer("{table}", s.Schema+"."+table, "{n}", strconv.Itoa(i)).Replace(format)
	}
	return strings.Join(parts, separator)
}

func (s *store) exec(ctx context.Context, sql string) error {
	_, err := s.Pool.Exec(ctx, sql)
	return err
}

// forgotten waits until the server has no more to do with the connections of an application.
func (s *store) forgotten(t *testing.T, application string) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		var left int
		err := s.Pool.QueryRow(t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1", application).Scan(&left)
		if err != nil {
			t.Fatal(err)
		}
		if left == 0 {
			return
		}
		<-tick.C
	}
}
