package pgqueue_test

import (
	"context"
	"net/url"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/slipway-build/slipway/internal/testenv"
	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/queue/pgqueue"
)

// openEnglish returns a migrated backend in a database that sorts text as a dictionary does.
func openEnglish(t *testing.T) *pgqueue.Backend {
	t.Helper()
	db := testenv.Postgres(t)
	execute(t, db, "CREATE DATABASE "+db.Schema+" TEMPLATE template0 ENCODING 'UTF8' LOCALE_PROVIDER icu ICU_LOCALE 'en-US'")
	t.Cleanup(func() {
		if _, err := db.Pool.Exec(context.WithoutCancel(t.Context()), "DROP DATABASE "+db.Schema+" WITH (FORCE)"); err != nil {
			t.Error(err)
		}
	})
	dsn, err := url.Parse(db.DSN)
	if err != nil {
		t.Fatal(err)
	}
	dsn.Path = "/" + db.Schema
	pool, err := pgxpool.New(t.Context(), dsn.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	b := backend(t, pool, nil)
	if err := b.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return b
}

// TestCollationOfTheDatabase checks that names are in the order of their bytes in every database.
func TestCollationOfTheDatabase(t *testing.T) {
	s := &stage{T: t, Backend: openEnglish(t)}
	s.session = s.open("worker")
	id := s.running()
	for _, name := range []string{"b/0", "apple", "b-1", "Zebra"} {
		_, err := s.ReserveArtifact(t.Context(), queue.NewArtifact{AttemptID: id, Name: name}, now)
		s.must(err)
		_, err = s.CommitArtifact(t.Context(), id, name, now)
		s.must(err)
	}
	artifacts, err := s.ListArtifacts(t.Context(), "project", id)
	s.must(err)
	var got []string
	for _, a := range artifacts {
		got = append(got, a.Name)
	}
	if want := []string{"Zebra", "apple", "b-1", "b/0"}; !slices.Equal(got, want) {
		t.Errorf("artifacts are %q, want %q", got, want)
	}
}
