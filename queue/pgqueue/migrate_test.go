package pgqueue_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/slipway-build/slipway/internal/testenv"
	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/queue/pgqueue"
)

// unmigrated returns a backend on an empty schema.
func unmigrated(t *testing.T) (*pgqueue.Backend, *testenv.Database) {
	t.Helper()
	db := testenv.Postgres(t)
	return backend(t, db.Pool, &pgqueue.Options{Schema: db.Schema}), db
}

func execute(t *testing.T, db *testenv.Database, sql string, args ...any) {
	t.Helper()
	if _, err := db.Pool.Exec(t.Context(), strings.ReplaceAll(sql, "{schema}", db.Schema), args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func TestNewRefuses(t *testing.T) {
	_, db := unmigrated(t)
	for _, o := range []pgqueue.Options{
		{Schema: "Upper"},
		{Schema: "with space"},
		{Schema: `quo"te`},
		{Schema: "1st"},
		{Schema: "pg_mine"},
		{Schema: strings.Repeat("x", 64)},
		{Schema: "x;DROP"},
		{Schema: "a.b"},
		{Schema: "x\n"},
		{Timeout: -1},
	} {
		if _, err := pgqueue.New(db.Pool, &o); err == nil {
			t.Errorf("New took %+v", o)
		}
	}
	for _, o := range []*pgqueue.Options{nil, {}, {Schema: "_x9"}, {Schema: strings.Repeat("x", 63)}, {Timeout: time.Hour}} {
		if _, err := pgqueue.New(db.Pool, o); err != nil {
			t.Errorf("New refused %+v: %v", o, err)
		}
	}
}

func TestMigrateAgain(t *testing.T) {
	b, db := unmigrated(t)
	if err := b.Ping(t.Context()); !errors.Is(err, pgqueue.ErrOutdated) {
		t.Errorf("Ping before Migrate: %v, want ErrOutdated", err)
	}
	if _, err := b.Submit(t.Context(), []queue.NewBuild{{ID: queue.NewID(), Project: "p"}}, now); !errors.Is(err, pgqueue.ErrOutdated) {
		t.Errorf("Submit before Migrate: %v, want ErrOutdated", err)
	}
	for range 3 {
		if err := b.Migrate(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	var versions, version int
	row := db.Pool.QueryRow(t.Context(), "SELECT count(*), max(version) FROM "+db.Schema+".schema_version")
	if err := row.Scan(&versions, &version); err != nil || versions != 1 || version != 2 {
		t.Errorf("there are %d versions up to %d, %v; want one, 2", versions, version, err)
	}
}

func TestMigrateFromManyProcesses(t *testing.T) {
	_, db := unmigrated(t)
	var migrating sync.WaitGroup
	for range 8 {
		migrating.Go(func() {
			if err := backend(t, db.Pool, &pgqueue.Options{Schema: db.Schema}).Migrate(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	migrating.Wait()
}

func TestMigrateMakesTheSchema(t *testing.T) {
	_, db := unmigrated(t)
	name := db.Schema + "_made"
	b := backend(t, db.Pool, &pgqueue.Options{Schema: name})
	t.Cleanup(func() {
		if _, err := db.Pool.Exec(context.Background(), "DROP SCHEMA "+name+" CASCADE"); err != nil {
			t.Error(err)
		}
	})
	if err := b.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := b.Ping(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestTwoSchemasSideBySide(t *testing.T) {
	a, db := open(t)
	b, _ := open(t)
	id := queue.NewID()
	for _, backend := range []*pgqueue.Backend{a, b} {
		q := queue.New(backend, nil)
		if _, err := q.Submit(t.Context(), queue.Params{ID: id, Project: "p"}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := queue.New(a, nil).Cancel(t.Context(), "p", id, ""); err != nil {
		t.Fatal(err)
	}
	if build, err := b.Get(t.Context(), "p", id); err != nil || build.State != queue.Pending {
		t.Errorf("build of the other schema is %v, %v", build.State, err)
	}
	// A search_path that leads elsewhere changes nothing.
	pool := db.Open(t, func(c *pgxpool.Config) { c.ConnConfig.RuntimeParams["search_path"] = "pg_catalog" })
	if err := wholeLife(t.Context(), queue.New(backend(t, pool, &pgqueue.Options{Schema: db.Schema}), nil), "w"); err != nil {
		t.Error(err)
	}
}

func TestVersions(t *testing.T) {
	for _, test := range []struct {
		name                   string
		version, minCompatible int
		want                   error
	}{
		{"of a newer program that this one can work with", 99, 1, nil},
		{"of a newer program that this one cannot work with", 99, 99, pgqueue.ErrTooNew},
	} {
		t.Run(test.name, func(t *testing.T) {
			b, db := open(t)
			execute(t, db, "UPDATE {schema}.schema_version SET version = $1, min_compatible = $2", test.version, test.minCompatible)
			if err := b.Ping(t.Context()); !errors.Is(err, test.want) {
				t.Errorf("Ping: %v, want %v", err, test.want)
			}
			if err := b.Migrate(t.Context()); !errors.Is(err, test.want) {
				t.Errorf("Migrate: %v, want %v", err, test.want)
			}
			var version int
			if err := db.Pool.QueryRow(t.Context(), "SELECT version FROM "+db.Schema+".schema_version").Scan(&version); err != nil || version != 99 {
				t.Errorf("version is %d, %v; want it left alone", version, err)
			}
		})
	}
}

func TestMigrateWaitsAsLongAsItsContext(t *testing.T) {
	b, db := unmigrated(t)
	tx, err := db.Pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.Background())
	if _, err := tx.Exec(t.Context(), "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", "slipway migrate "+db.Schema); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), impatience)
	defer cancel()
	if err := b.Migrate(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Migrate while another migrates: %v, want the deadline", err)
	}
}

func TestMigrationsAreReadable(t *testing.T) {
	names, err := fs.Glob(pgqueue.Migrations(), "*.sql")
	if err != nil || len(names) == 0 {
		t.Fatalf("names are %v, %v", names, err)
	}
	db := testenv.Postgres(t) // where a tool of somebody else runs them
	for i, name := range names {
		text, err := fs.ReadFile(pgqueue.Migrations(), name)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(name, fmt.Sprintf("%04d_", i+1)) || !strings.HasPrefix(string(text), "-- min_compatible: ") {
			t.Errorf("%s is not the migration to version %d, or says nothing of compatibility", name, i+1)
		}
		execute(t, db, strings.ReplaceAll(string(text), "{schema}", `"`+db.Schema+`".`))
	}
}

// TestPrivileges checks what the package documentation says that users need.
func TestPrivileges(t *testing.T) {
	_, db := unmigrated(t)
	owner, service := db.Schema+"_o", db.Schema+"_s"
	for _, role := range []string{owner, service} {
		execute(t, db, "CREATE ROLE "+role)
		t.Cleanup(func() {
			if _, err := db.Pool.Exec(context.Background(), "REASSIGN OWNED BY "+role+" TO CURRENT_USER; DROP OWNED BY "+role+"; DROP ROLE "+role); err != nil {
				t.Error(err)
			}
		})
	}
	as := func(role string) *pgqueue.Backend {
		pool := db.Open(t, func(c *pgxpool.Config) { c.ConnConfig.RuntimeParams["role"] = role })
		return backend(t, pool, &pgqueue.Options{Schema: db.Schema})
	}
	execute(t, db, "ALTER SCHEMA {schema} OWNER TO "+owner)
	if err := as(owner).Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	execute(t, db, "GRANT USAGE ON SCHEMA {schema} TO "+service+"; GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO "+service)
	b := as(service)
	if err := wholeLife(t.Context(), queue.New(b, nil), "w"); err != nil {
		t.Error(err)
	}
	if _, err := b.Maintain(t.Context(), queue.Rules{Limit: 10}, time.Now().Add(24*time.Hour)); err != nil {
		t.Error(err)
	}
	if err := b.Ping(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestConstraints checks that the database itself refuses rows that no statement of this package would write.
func TestConstraints(t *testing.T) {
	s := newStage(t)
	offered, running, done := s.offered(), s.running(), s.running()
	pending := queue.NewID()
	s.submit(queue.NewBuild{ID: pending, Project: "p", Pool: "new", RunTimeout: time.Hour, MaxAttempts: 3})
	_, err := s.appendLog(t.Context(), running, 0, "log")
	s.must(err)
	_, err = s.ReserveArtifact(t.Context(), queue.NewArtifact{AttemptID: running, Name: "a"}, now)
	s.must(err)
	if _, err := s.finish(t.Context(), done, 0); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		id  queue.ID
		set string // of a row of build, or a whole statement
	}{
		{pending, "state = -1"},
		{pending, "state = 11"},
		{pending, "state = 1"}, // of no class
		{pending, "state = 7"}, // without its time
		{pending, "finished_at = now()"},
		{pending, "session_id = 1"},
		{pending, "deadline = now()"},
		{pending, "epoch = -1"},
		{pending, "epoch = 1"}, // of no worker
		{pending, "worker = 'w'"},
		{pending, "attempts_used = 1"},
		{pending, "started_at = now()"},
		{pending, "source_size = 1"},
		{pending, "source_digest = repeat('x', 32)::bytea"},
		{pending, "source_size = 1, source_digest = 'x'"},
		{pending, "expires_at = now()"},
		{pending, "queue_timeout = 0, expires_at = now()"},
		{pending, "run_timeout = -1"},
		{pending, "avoid_worker = 'w'"},
		{pending, "avoid_until = now()"},
		{pending, "project = ''"},
		{pending, "pool = ''"},
		{pending, "class_id = -1"},
		{pending, "class_id = 1"}, // which is another
		{pending, "limit_key = 'k'"},
		{pending, "idem_key = 'k'"},
		{pending, "backoff_base = backoff_max + 1"},
		{offered.Build, "session_id = NULL"},
		{offered.Build, "deadline = NULL"},
		{offered.Build, "token_hash = repeat('x', 32)::bytea"},
		{offered.Build, "class_id = NULL"},
		{offered.Build, "not_before = now()"},
		{offered.Build, "worker = ''"},
		{offered.Build, "epoch = 0"},
		{running.Build, "attempts_used = 0"},
		{running.Build, "attempts_used = 2"}, // of one epoch
		{running.Build, "max_attempts = 0"},
		{running.Build, "started_at = NULL"},
		{running.Build, "token_hash = 'x'"},
		{running.Build, "state = 1"}, // with a lease
		{running.Build, "state = 5, finished_at = now()"},
		{done.Build, "finished_at = NULL"},
		{done.Build, "state = 3"},
		{done.Build, "token_hash = repeat('x', 32)::bytea"},
		{done.Build, "UPDATE {schema}.attempt SET outcome = 3"},
		{done.Build, "UPDATE {schema}.attempt SET result = 4"},
		{done.Build, "UPDATE {schema}.attempt SET epoch = 0"},
		{done.Build, "UPDATE {schema}.attempt SET worker = ''"},
		{done.Build, "UPDATE {schema}.attempt SET log_sha256 = 'x'"},
		{running.Build, "UPDATE {schema}.log_head SET length = -1"},
		{running.Build, "UPDATE {schema}.log_head SET tail = length + 1"},
		{running.Build, "UPDATE {schema}.log_chunk SET start = -1"},
		{running.Build, "UPDATE {schema}.log_chunk SET data = ''"},
		{running.Build, "UPDATE {schema}.artifact SET size = -1"},
		{running.Build, "UPDATE {schema}.artifact SET name = ''"},
		{running.Build, "UPDATE {schema}.artifact SET digest = 'x'"},
		{running.Build, "UPDATE {schema}.session SET slots = 0"},
		{running.Build, "UPDATE {schema}.session SET worker = ''"},
		{running.Build, "UPDATE {schema}.session SET replaced = true"},
		{running.Build, "UPDATE {schema}.controller SET fresh_since = alive_until + interval '1 s'"},
		{running.Build, "UPDATE {schema}.schema_version SET id = 2"},
		{running.Build, "UPDATE {schema}.schema_version SET min_compatible = version + 1"},
	} {
		sql := test.set
		if !strings.HasPrefix(sql, "UPDATE") {
			sql = "UPDATE {schema}.build SET " + sql + " WHERE id = '" + test.id.String() + "'"
		}
		if code := refusal(t, s.db, sql); code != "23514" && code != "noticed" { // check_violation
			t.Errorf("%s: SQLSTATE %q, want a constraint that refuses it, or an invariant", sql, code)
		}
	}
	for sql, want := range map[string]string{
		"INSERT INTO {schema}.session SELECT * FROM {schema}.session":                       "428C9", // its id is the database's
		"DELETE FROM {schema}.controller":                                                   "23503",
		"DELETE FROM {schema}.build WHERE id = '" + done.Build.String() + "'":               "noticed",
		"INSERT INTO {schema}.class (pool, labels) SELECT pool, labels FROM {schema}.class": "23505",
		`INSERT INTO {schema}.session (controller_id, worker, instance, labels, pools, slots, direct, opened_at)
			SELECT controller_id, worker, instance, labels, pools, slots, direct, opened_at FROM {schema}.session`: "23505",
	} {
		if code := refusal(t, s.db, sql); code != want {
			t.Errorf("%s: SQLSTATE %q, want %s", sql, code, want)
		}
	}
}

// refusal returns with which code the database refuses a statement, or that it breaks an invariant. It changes nothing.
func refusal(t *testing.T, db *testenv.Database, sql string) (code string) {
	t.Helper()
	err := pgx.BeginFunc(t.Context(), db.Pool, func(tx pgx.Tx) error {
		tag, err := tx.Exec(t.Context(), strings.ReplaceAll(sql, "{schema}", db.Schema))
		if err == nil && tag.RowsAffected() == 0 {
			return errors.New("the statement changes nothing")
		}
		if err == nil {
			found, lookErr := violations(t.Context(), tx, db.Schema)
			if err = lookErr; len(found) > 0 {
				return errors.New("noticed")
			}
		}
		return errors.Join(err, errors.New("undo"))
	})
	if reply, ok := errors.AsType[*pgconn.PgError](err); ok {
		return reply.Code
	}
	return err.Error()
}
