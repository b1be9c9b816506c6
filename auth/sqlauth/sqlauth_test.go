package sqlauth_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"reflect"
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

// firstTables makes the tables of version 1, with a key in them. The first programs with this package kept a row for each version, and
// the time.
func firstTables(t *testing.T, dir string, s subject) auth.Record {
	t.Helper()
	key, err := fs.ReadFile(sqlauth.Migrations(), dir+"/0001_key.sql")
	if err != nil {
		t.Fatal(err)
	}
	const insert = `INSERT INTO {schema}.auth_key (id, kind, hash, name, role, project, pools, worker, created_at, last_used_at) VALUES
		('000000000000000000000001', 'worker', %s, 'rack', 'worker', '', %s, 'rack-7', '2026-03-29 01:59:59.123456+00:00', '2026-03-29 02:00:00+00:00')`
	hash, pools := "decode(repeat('c0', 32), 'hex')", "'{linux,mac}'"
	if dir == "sqlite" {
		hash, pools = "x'"+strings.Repeat("c0", 32)+"'", `'["linux","mac"]'`
	}
	for query := range strings.SplitSeq(string(key)+`;
		CREATE TABLE {schema}.auth_version (
			version        integer NOT NULL PRIMARY KEY CHECK (version > 0),
			min_compatible integer NOT NULL CHECK (min_compatible BETWEEN 1 AND version),
			applied_at     timestamptz NOT NULL DEFAULT CURRENT_TIMESTAMP
		);
		INSERT INTO {schema}.auth_version (version, min_compatible) VALUES (1, 1);`+fmt.Sprintf(insert, hash, pools), ";") {
		if err := s.exec(query); err != nil {
			t.Fatal(err)
		}
	}
	at := time.Date(2026, 3, 29, 1, 59, 59, 123_456_000, time.UTC)
	r := auth.Record{Key: auth.Key{
		ID: strings.Repeat("0", 23) + "1", Kind: auth.KindWorker, Name: "rack", Role: auth.Worker, Pools: []string{"linux", "mac"},
		Worker: "rack-7", CreatedAt: at, LastUsedAt: at.Truncate(time.Second).Add(time.Second),
	}}
	for i := range r.Hash {
		r.Hash[i] = 0xc0
	}
	return r
}

func TestMigrateMeetsTheFirstTables(t *testing.T) {
	for dir, open := range engines {
		t.Run(dir, func(t *testing.T) {
			s := open(t)
			want := firstTables(t, dir, s)
			migrate(t, s.Backend)
			got, err := s.Lookup(t.Context(), want.ID)
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("after the upgrade: %+v, %v; want %+v", got, err, want)
			}
			// Programs of version 1 name the columns they know, and store and refuse as before.
			const insert = `INSERT INTO {schema}.auth_key (id, kind, hash, name, role, project, pools, worker, created_at)
				SELECT '00000000000000000000000%d', '%s', hash, name, '%s', project, pools, worker, created_at FROM {schema}.auth_key WHERE id LIKE '%%1'`
			if err := s.exec(fmt.Sprintf(insert, 2, "worker", "worker")); err != nil {
				t.Errorf("a key of a program of version 1: %v", err)
			}
			if err := s.exec(fmt.Sprintf(insert, 3, "api", "worker")); err == nil {
				t.Error("the upgraded table takes a worker's key of another kind")
			}
		})
	}
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
	enroller := auth.Record{Key: auth.Key{
		ID: strings.Repeat("2", 24), Kind: auth.KindEnrol, Name: "rack", Role: auth.Enroller, Worker: "*", Pools: []string{"linux"}, Uses: 1,
		CreatedAt: good.CreatedAt, ExpiresAt: good.CreatedAt,
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
		"submitter with uses":   func(r *auth.Record) { r.Uses = 1 },
		"submitter, enrolled":   func(r *auth.Record) { r.EnrolledBy = strings.Repeat("1", 24) },
		"worker, enrolled here": func(r *auth.Record) {
			r.Kind, r.Role, r.Project, r.Worker, r.Pools = auth.KindWorker, auth.Worker, "", "w", []string{"linux"}
			r.EnrolledBy = strings.Repeat("1", 24)
		},
		"enroller without end":     func(r *auth.Record) { *r = enroller; r.ExpiresAt = time.Time{} },
		"enroller without uses":    func(r *auth.Record) { *r = enroller; r.Uses = 0 },
		"enroller with many uses":  func(r *auth.Record) { *r = enroller; r.Uses = auth.MaxUses + 1 },
		"enroller without pools":   func(r *auth.Record) { *r = enroller; r.Pools = nil },
		"enroller without pattern": func(r *auth.Record) { *r = enroller; r.Worker = "" },
		"enroller of a kind":       func(r *auth.Record) { *r = enroller; r.Kind = auth.KindWorker },
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
		for _, r := range []auth.Record{good, enroller} {
			if err := s.Insert(t.Context(), r); err != nil {
				t.Errorf("the table refuses the record that the cases spoil: %v", err)
			}
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
	_, nowErr := b.Now(ctx)
	_, enrolErr := b.Enrol(ctx, auth.Record{Key: auth.Key{ID: strings.Repeat("0", 24)}})
	for op, err := range map[string]error{
		"Insert": b.Insert(ctx, auth.Record{Key: auth.Key{ID: strings.Repeat("0", 24), CreatedAt: now}}),
		"Lookup": lookupErr,
		"Touch":  b.Touch(ctx, strings.Repeat("0", 24), now),
		"Revoke": b.Revoke(ctx, strings.Repeat("0", 24), now),
		"List":   listErr,
		"Now":    nowErr,
		"Enrol":  enrolErr,
	} {
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s without a free connection: error = %v, want the deadline", op, err)
		}
	}
}

// TestEnrolmentGoesByTheClockOfTheDatabase has a database whose clock is a day ahead of this program's.
func TestEnrolmentGoesByTheClockOfTheDatabase(t *testing.T) {
	d := testenv.Postgres(t)
	ahead := d.Schema + "_ahead"
	for _, query := range []string{
		"CREATE SCHEMA " + ahead, "CREATE FUNCTION " + ahead + ".now() RETURNS timestamptz LANGUAGE sql AS $$ SELECT pg_catalog.now() + interval '1 day' $$",
	} {
		if _, err := d.Pool.Exec(t.Context(), query); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if _, err := d.Pool.Exec(context.Background(), "DROP SCHEMA "+ahead+" CASCADE"); err != nil {
			t.Error(err)
		}
	})
	pool := d.Open(t, func(c *pgxpool.Config) { c.ConnConfig.RuntimeParams["search_path"] = ahead + ", pg_catalog" })
	b := must(sqlauth.NewPostgres(pool, &sqlauth.Options{Schema: d.Schema}))(t)
	migrate(t, b)
	keys, err := auth.New(b, nil)
	if err != nil {
		t.Fatal(err)
	}
	token, secret, err := keys.Create(t.Context(), auth.NewKey{Name: "rack", Role: auth.Enroller, Worker: "*", Pools: []string{"linux"}, Uses: 9})
	if err != nil {
		t.Fatal(err)
	}
	off := time.Until(token.ExpiresAt) - 25*time.Hour
	if off.Abs() > time.Minute {
		t.Errorf("a token that is good for an hour expires %v off", off)
	}
	key, err := keys.Enrol(t.Context(), secret.Reveal(), auth.Enrolment{Worker: "rack-1", Hash: [32]byte{1}})
	if err != nil || key.CreatedAt.Sub(token.CreatedAt).Abs() > time.Minute {
		t.Errorf("enrolled %+v, %v", key, err)
	}
	// Not for this program, but for the database the token is over.
	if _, err := d.Pool.Exec(t.Context(), "UPDATE "+d.Schema+".auth_key SET expires_at = pg_catalog.now() + interval '1 hour' WHERE id = $1", token.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := keys.Enrol(t.Context(), secret.Reveal(), auth.Enrolment{Worker: "rack-2", Hash: [32]byte{2}}); !errors.Is(err, auth.ErrUnauthenticated) {
		t.Errorf("an expired token: error = %v", err)
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
