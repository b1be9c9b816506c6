package sqlauth_test

import (
	"context"
	"database/sql"
	"errors"
	"io/fs"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	_ "modernc.org/sqlite"

	"github.com/slipway-build/slipway/auth"
	"github.com/slipway-build/slipway/auth/authtest"
	"github.com/slipway-build/slipway/auth/sqlauth"
	"github.com/slipway-build/slipway/internal/testenv"
)

// subject is a migrated backend and a way to run SQL beside it.
type subject struct {
	*sqlauth.Backend
	exec func(query string) error
	open func() *sqlauth.Backend // another backend on the same store
}

var engines = map[string]func(*testing.T) subject{
	"postgres": func(t *testing.T) subject {
		d := testenv.Postgres(t)
		open := func() *sqlauth.Backend {
			return must(sqlauth.NewPostgres(d.Pool, &sqlauth.Options{Schema: d.Schema}))(t)
		}
		exec := func(query string) error {
			_, err := d.Pool.Exec(t.Context(), strings.ReplaceAll(query, "{schema}", d.Schema))
			return err
		}
		return subject{open(), exec, open}
	},
	"sqlite": func(t *testing.T) subject {
		path := testenv.SQLite(t)
		connect := func() *sql.DB {
			db, err := sql.Open("sqlite", "file:"+path+"?_txlock=immediate&_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=foreign_keys(1)")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := db.Close(); err != nil {
					t.Error(err)
				}
			})
			return db
		}
		db := connect()
		open := func() *sqlauth.Backend { return must(sqlauth.NewSQLite(connect(), nil))(t) }
		exec := func(query string) error {
			_, err := db.ExecContext(t.Context(), strings.ReplaceAll(query, "{schema}", "main"))
			return err
		}
		return subject{open(), exec, open}
	},
}

func must(b *sqlauth.Backend, err error) func(*testing.T) *sqlauth.Backend {
	return func(t *testing.T) *sqlauth.Backend {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
}

// eachEngine runs a test on a fresh, empty database of each kind.
func eachEngine(t *testing.T, check func(t *testing.T, s subject)) {
	for name, open := range engines {
		t.Run(name, func(t *testing.T) { check(t, open(t)) })
	}
}

func migrate(t *testing.T, b *sqlauth.Backend) {
	t.Helper()
	if err := b.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestBackend(t *testing.T) {
	for name, open := range engines {
		t.Run(name, func(t *testing.T) {
			authtest.Run(t, func(t *testing.T) auth.Backend {
				s := open(t)
				migrate(t, s.Backend)
				return s.Backend
			})
		})
	}
}

func TestPoolOfOne(t *testing.T) {
	authtest.Run(t, func(t *testing.T) auth.Backend {
		d := testenv.Postgres(t)
		pool := d.Open(t, func(c *pgxpool.Config) { c.MaxConns = 1 })
		b := must(sqlauth.NewPostgres(pool, &sqlauth.Options{Schema: d.Schema}))(t)
		migrate(t, b)
		return b
	})
}

func TestMigrateTwiceAndAtOnce(t *testing.T) {
	eachEngine(t, func(t *testing.T, s subject) {
		errs := make([]error, 6)
		var wg sync.WaitGroup
		for i := range errs {
			b := s.open()
			wg.Go(func() { errs[i] = b.Migrate(t.Context()) })
		}
		wg.Wait()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
		migrate(t, s.Backend)
		if _, err := s.List(t.Context(), auth.Filter{Limit: 1}); err != nil {
			t.Error(err)
		}
	})
}

func TestMigrateCreatesSchema(t *testing.T) {
	d := testenv.Postgres(t)
	schema := d.Schema + "_new"
	t.Cleanup(func() {
		if _, err := d.Pool.Exec(context.Background(), "DROP SCHEMA IF EXISTS "+schema+" CASCADE"); err != nil {
			t.Error(err)
		}
	})
	b := must(sqlauth.NewPostgres(d.Pool, &sqlauth.Options{Schema: schema}))(t)
	migrate(t, b)
	if _, err := b.List(t.Context(), auth.Filter{Limit: 1}); err != nil {
		t.Error(err)
	}
}

func TestMigrateMeetsNewerVersion(t *testing.T) {
	eachEngine(t, func(t *testing.T, s subject) {
		migrate(t, s.Backend)
		if err := s.exec("UPDATE {schema}.auth_version SET version = 90"); err != nil {
			t.Fatal(err)
		}
		if err := s.Migrate(t.Context()); err != nil {
			t.Errorf("newer but compatible tables: %v", err)
		}
		if err := s.exec("UPDATE {schema}.auth_version SET version = 91, min_compatible = 91"); err != nil {
			t.Fatal(err)
		}
		if err := s.Migrate(t.Context()); !errors.Is(err, sqlauth.ErrNewerSchema) {
			t.Errorf("incompatible tables: error = %v, want ErrNewerSchema", err)
		}
	})
}

// The first programs with this package kept a row for each version, and the time.
func TestMigrateMeetsTheFirstTables(t *testing.T) {
	eachEngine(t, func(t *testing.T, s subject) {
		for _, query := range []string{
			`CREATE TABLE {schema}.auth_version (
				version        integer NOT NULL PRIMARY KEY CHECK (version > 0),
				min_compatible integer NOT NULL CHECK (min_compatible BETWEEN 1 AND version),
				applied_at     timestamptz NOT NULL DEFAULT CURRENT_TIMESTAMP
			)`,
			"INSERT INTO {schema}.auth_version (version, min_compatible) VALUES (1, 1)",
			"CREATE TABLE {schema}.auth_key (id text)",
		} {
			if err := s.exec(query); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Migrate(t.Context()); err != nil {
			t.Errorf("tables that are there already: %v", err)
		}
	})
}

func TestMigrateIsOneTransaction(t *testing.T) {
	eachEngine(t, func(t *testing.T, s subject) {
		// A table in the way makes the first migration fail after the version table.
		if err := s.exec("CREATE TABLE {schema}.auth_key (id text)"); err != nil {
			t.Fatal(err)
		}
		if err := s.Migrate(t.Context()); err == nil {
			t.Fatal("Migrate succeeded over a foreign table")
		}
		if err := s.exec("SELECT * FROM {schema}.auth_version"); err == nil {
			t.Error("a failed migration left its version table behind")
		}
		if err := s.exec("DROP TABLE {schema}.auth_key"); err != nil {
			t.Fatal(err)
		}
		migrate(t, s.Backend)
	})
}

func TestTablesRefuse(t *testing.T) {
	good := auth.Record{Key: auth.Key{
		ID: strings.Repeat("0", 24), Kind: auth.KindAPI, Name: "ci", Role: auth.Submitter, Project: "web", CreatedAt: time.Unix(1, 0).UTC(),
	}}
	tests := map[string]func(*auth.Record){
		"id":                    func(r *auth.Record) { r.ID = "short" },
		"id characters":         func(r *auth.Record) { r.ID = strings.Repeat("W", 24) },
		"kind":                  func(r *auth.Record) { r.Kind = "other" },
		"kind against role":     func(r *auth.Record) { r.Kind = auth.KindWorker },
		"no name":               func(r *auth.Record) { r.Name = "" },
		"role":                  func(r *auth.Record) { r.Role = "root" },
		"submitter everywhere":  func(r *auth.Record) { r.Project = "" },
		"viewer everywhere":     func(r *auth.Record) { r.Role, r.Project = auth.Viewer, "" },
		"viewer with pools":     func(r *auth.Record) { r.Role, r.Pools = auth.Viewer, []string{"linux"} },
		"admin of a project":    func(r *auth.Record) { r.Role = auth.Admin },
		"worker without pools":  func(r *auth.Record) { r.Kind, r.Role, r.Project, r.Worker = auth.KindWorker, auth.Worker, "", "w" },
		"submitter as a worker": func(r *auth.Record) { r.Worker = "w" },
	}
	eachEngine(t, func(t *testing.T, s subject) {
		migrate(t, s.Backend)
		for name, spoil := range tests {
			t.Run(name, func(t *testing.T) {
				r := good
				spoil(&r)
				if err := s.Insert(t.Context(), r); err == nil {
					t.Errorf("the table took %+v", r.Key)
				}
			})
		}
		if err := s.Insert(t.Context(), good); err != nil {
			t.Errorf("the table refuses the record that the cases spoil: %v", err)
		}
	})
}

func TestOperationsHaveDeadline(t *testing.T) {
	d := testenv.Postgres(t)
	pool := d.Open(t, func(c *pgxpool.Config) { c.MaxConns = 1 })
	b := must(sqlauth.NewPostgres(pool, &sqlauth.Options{Schema: d.Schema, Timeout: 50 * time.Millisecond}))(t)
	migrate(t, b)
	held, err := pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer held.Release()
	ctx := t.Context()
	now := time.Unix(1, 0).UTC()
	_, lookupErr := b.Lookup(ctx, strings.Repeat("0", 24))
	_, listErr := b.List(ctx, auth.Filter{Limit: 1})
	for op, err := range map[string]error{
		"Insert": b.Insert(ctx, auth.Record{Key: auth.Key{ID: strings.Repeat("0", 24), CreatedAt: now}}),
		"Lookup": lookupErr,
		"Touch":  b.Touch(ctx, strings.Repeat("0", 24), now),
		"Revoke": b.Revoke(ctx, strings.Repeat("0", 24), now),
		"List":   listErr,
	} {
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s without a free connection: error = %v, want the deadline", op, err)
		}
	}
}

func TestSchemaName(t *testing.T) {
	d := testenv.Postgres(t)
	for _, name := range []string{`x"; DROP TABLE y; --`, "Upper", "1st", "a b", "a.b", strings.Repeat("a", 64), "{schema}"} {
		if _, err := sqlauth.NewPostgres(d.Pool, &sqlauth.Options{Schema: name}); !errors.Is(err, auth.ErrInvalid) {
			t.Errorf("schema %q: error = %v, want ErrInvalid", name, err)
		}
	}
	if _, err := sqlauth.NewPostgres(d.Pool, nil); err != nil {
		t.Errorf("default schema: %v", err)
	}
}

func TestMigrationsAreNumbered(t *testing.T) {
	for _, dir := range []string{"postgres", "sqlite"} {
		files, err := fs.Glob(sqlauth.Migrations(), dir+"/[0-9][0-9][0-9][0-9]_*.sql")
		if err != nil || len(files) == 0 {
			t.Errorf("%s: %d migrations, %v", dir, len(files), err)
		}
	}
}
