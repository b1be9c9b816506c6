package sqlitequeue_test

import (
	"database/sql"
	"errors"
	"io/fs"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/slipway-build/slipway/internal/faultcalls"
	"github.com/slipway-build/slipway/internal/testenv"
	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/queue/sqlitequeue"
)

func run(t *testing.T, db *sql.DB, query string, args ...any) {
	t.Helper()
	if _, err := db.ExecContext(t.Context(), query, args...); err != nil {
		t.Fatalf("%v\n%s", err, query)
	}
}

// schema returns what makes up the database.
func schema(t *testing.T, db *sql.DB) string {
	t.Helper()
	var text string
	err := db.QueryRowContext(t.Context(), "SELECT group_concat(sql, ';') FROM (SELECT sql FROM sqlite_schema ORDER BY name)").Scan(&text)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestMigrateAgainChangesNothing(t *testing.T) {
	db := openDB(t, testenv.SQLite(t), nil)
	b := migrated(t, db, nil)
	build := queue.NewBuild{ID: queue.NewID(), Project: "project", Pool: "pool", RunTimeout: time.Hour, MaxAttempts: 1}
	if _, err := b.Submit(t.Context(), []queue.NewBuild{build}, time.Time{}); err != nil {
		t.Fatal(err)
	}
	before := schema(t, db)
	if err := b.Migrate(t.Context()); err != nil {
		t.Fatalf("second Migrate: %v", err)
	}
	if after := schema(t, db); after != before {
		t.Errorf("the schema was\n%s\nand is\n%s", before, after)
	}
	if _, err := b.Get(t.Context(), "project", build.ID); err != nil {
		t.Errorf("the build after a second Migrate: %v", err)
	}
}

func TestMigrateByManyAtOnce(t *testing.T) {
	path := testenv.SQLite(t)
	var wg sync.WaitGroup
	for range 8 {
		b, err := sqlitequeue.New(openDB(t, path, nil), nil)
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			if err := b.Migrate(t.Context()); err != nil {
				t.Errorf("Migrate: %v", err)
			}
			if err := b.Ping(t.Context()); err != nil {
				t.Errorf("Ping: %v", err)
			}
		})
	}
	wg.Wait()
}

func TestSchemaVersions(t *testing.T) {
	for _, test := range []struct {
		name          string
		version       int
		minCompatible int
		want          error
	}{
		{"Newer", 7, 1, nil},
		{"TooNew", 7, 7, sqlitequeue.ErrTooNew},
	} {
		t.Run(test.name, func(t *testing.T) {
			db := openDB(t, testenv.SQLite(t), nil)
			b := migrated(t, db, nil)
			run(t, db, "UPDATE slipway_schema_version SET version = ?, min_compatible = ?", test.version, test.minCompatible)
			before := schema(t, db)
			if err := b.Migrate(t.Context()); !errors.Is(err, test.want) {
				t.Errorf("Migrate: %v, want %v", err, test.want)
			}
			if err := b.Ping(t.Context()); !errors.Is(err, test.want) {
				t.Errorf("Ping: %v, want %v", err, test.want)
			}
			var version int
			if err := db.QueryRowContext(t.Context(), "SELECT version FROM slipway_schema_version").Scan(&version); err != nil {
				t.Fatal(err)
			}
			if version != test.version || schema(t, db) != before {
				t.Errorf("Migrate changed the schema, to version %d", version)
			}
		})
	}
	t.Run("None", func(t *testing.T) {
		b, err := sqlitequeue.New(openDB(t, testenv.SQLite(t), nil), nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Ping(t.Context()); !errors.Is(err, sqlitequeue.ErrOutdated) {
			t.Errorf("Ping of an empty database: %v, want %v", err, sqlitequeue.ErrOutdated)
		}
	})
	t.Run("Older", func(t *testing.T) {
		db := openDB(t, testenv.SQLite(t), nil)
		b := migrated(t, db, nil)
		run(t, db, "DELETE FROM slipway_schema_version")
		if err := b.Ping(t.Context()); !errors.Is(err, sqlitequeue.ErrOutdated) {
			t.Errorf("Ping of an old schema: %v, want %v", err, sqlitequeue.ErrOutdated)
		}
	})
}

// A newer program may add columns and tables while this one runs on, with statements that it prepared before.
func TestSchemaGrowsUnderRunningBackend(t *testing.T) {
	db := openDB(t, testenv.SQLite(t), nil)
	b := migrated(t, db, nil)
	makeCalls := func() {
		t.Helper()
		store := newStore(t, plain(t, databasePath(t, db)))
		scene := faultcalls.New(t, b, store)
		for _, name := range []string{"Submit", "Accept", "AppendLogs", "Finish", "Claim", "Beat", "Maintain"} {
			scene.Course(faultcalls.Named(name))
		}
		if err := store.Clear(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	makeCalls()
	other := openDB(t, databasePath(t, db), nil)
	run(t, other, "ALTER TABLE slipway_build ADD COLUMN later TEXT")
	run(t, other, "CREATE INDEX slipway_build_later ON slipway_build (later)")
	run(t, other, "UPDATE slipway_schema_version SET version = version + 1")
	if err := b.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	makeCalls()
}

func TestMigrationsCanBeRead(t *testing.T) {
	files, err := fs.Glob(sqlitequeue.Migrations(), "*.sql")
	if err != nil || len(files) == 0 || files[0] != "0001_init.sql" {
		t.Fatalf("files are %v, %v", files, err)
	}
	text, err := fs.ReadFile(sqlitequeue.Migrations(), files[0])
	if err != nil || !strings.Contains(string(text), "CREATE TABLE {schema}build ") {
		t.Errorf("%s does not make the table of builds, %v", files[0], err)
	}
}

// What no code of this package would write is refused by the database, whoever writes it.
func TestSchemaRefusesBadRows(t *testing.T) {
	db := openDB(t, testenv.SQLite(t), nil)
	migrated(t, db, nil)
	build := func(columns, values string) string {
		return `INSERT INTO slipway_build (id, project, pool, labels, class_id, rank, max_attempts, run_timeout, created_at, ` + columns +
			`) VALUES (randomblob(16), 'p', 'q', '', 1, 1, 3, 1, 1, ` + values + `)`
	}
	leased := "state, epoch, session_id, worker, deadline, attempts_used, started_at"
	run(t, db, `INSERT INTO slipway_class (id, pool, labels) VALUES (1, 'q', '')`)
	run(t, db, `INSERT INTO slipway_controller (id, alive_until, fresh_since) VALUES (zeroblob(16), 1, 1)`)
	session := `INSERT INTO slipway_session (controller_id, worker, instance, labels, pools, slots, direct, opened_at, ended_at, replaced)
		VALUES (zeroblob(16), 'w', 'boot', '', 'q', `
	for name, good := range map[string]string{
		"held":     build("state", "0"),
		"queued":   build("state", "1"),
		"unknown":  strings.Replace(build("state", "0"), "'', 1,", "'', 0,", 1),
		"new":      strings.Replace(build("state", "0"), "'', 1,", "'', NULL,", 1),
		"keyed":    build("state, idem_key, idem_hash", "0, 'key', zeroblob(32)"),
		"offered":  build(leased, "2, 1, 7, 'w', 1, 0, NULL"),
		"running":  build(leased, "3, 1, 7, 'w', 1, 1, 1"),
		"finished": build("state, finished_at", "5, 1"),
		"session":  session + `1, 0, 1, NULL, 0)`,
	} {
		if _, err := db.ExecContext(t.Context(), good); err != nil {
			t.Errorf("%s: %v\n%s", name, err, good)
		}
	}
	var id []byte
	if err := db.QueryRowContext(t.Context(), "SELECT id FROM slipway_build WHERE state = 5").Scan(&id); err != nil {
		t.Fatal(err)
	}
	run(t, db, `INSERT INTO slipway_log_head (build_id, epoch, length) VALUES (?, 1, 0)`, id)
	_, twice, _ := strings.Cut(build("state, idem_key, idem_hash", "0, 'k', zeroblob(32)"), "VALUES ")
	for name, bad := range map[string]string{
		"no such state":                build("state", "11"),
		"negative state":               build("state", "-1"),
		"short id":                     strings.Replace(build("state", "1"), "randomblob(16)", "randomblob(15)", 1),
		"text for a number":            build("state, not_before", "0, 'soon'"),
		"queued without class":         strings.Replace(build("state", "1"), "'', 1,", "'', NULL,", 1),
		"queued and held by time":      build("state, not_before", "1, 5"),
		"queued and leased":            build("state, session_id", "1, 7"),
		"offered without session":      build(leased, "2, 1, NULL, 'w', 1, 0, NULL"),
		"offered without deadline":     build(leased, "2, 1, 7, 'w', NULL, 0, NULL"),
		"offered without epoch":        build(leased, "2, 0, 7, 'w', 1, 0, NULL"),
		"offered to nobody":            build(leased, "2, 1, 7, '', 1, 0, NULL"),
		"offered with a token":         build(leased+", token_hash", "2, 1, 7, 'w', 1, 0, NULL, zeroblob(32)"),
		"running without a start":      build(leased, "3, 1, 7, 'w', 1, 1, NULL"),
		"too many attempts":            build(leased, "3, 4, 7, 'w', 1, 4, 1"),
		"more attempts than claims":    build(leased, "3, 1, 7, 'w', 1, 2, 1"),
		"negative epoch":               build("state, epoch", "1, -1"),
		"finished without time":        build("state", "5"),
		"finished and leased":          build("state, finished_at, session_id, deadline", "5, 1, 7, 1"),
		"unfinished with time":         build("state, finished_at", "1, 1"),
		"half a source":                build("state, source_size", "1, 5"),
		"short digest":                 build("state, source_size, source_digest", "1, 5, zeroblob(31)"),
		"half a queue timeout":         build("state, queue_timeout", "1, 5"),
		"half an avoided worker":       build("state, avoid_worker", "1, 'w'"),
		"a class twice":                `INSERT INTO slipway_class (pool, labels) VALUES ('q', '')`,
		"second live session":          session + `1, 0, 1, NULL, 0)`,
		"session without slots":        session + `0, 0, 1, 1, 0)`,
		"replaced and alive":           session + `1, 0, 1, NULL, 1)`,
		"session of no controller":     strings.Replace(session, "zeroblob(16)", "randomblob(16)", 1) + `1, 0, 1, 1, 0)`,
		"attempt of no build":          `INSERT INTO slipway_log_head (build_id, epoch, length) VALUES (randomblob(16), 1, 0)`,
		"negative log":                 `UPDATE slipway_log_head SET length = -1`,
		"empty chunk":                  `INSERT INTO slipway_log_chunk SELECT build_id, epoch, 0, x'' FROM slipway_log_head`,
		"chunk of no log":              `INSERT INTO slipway_log_chunk SELECT build_id, 2, 0, x'00' FROM slipway_log_head`,
		"attempt that has not ended":   `INSERT INTO slipway_attempt SELECT build_id, 1, 'w', 1, 1, 3, NULL, '', NULL, '', NULL, 0 FROM slipway_log_head`,
		"attempt that led to an offer": `INSERT INTO slipway_attempt SELECT build_id, 1, 'w', 1, 1, 5, 2, '', NULL, '', NULL, 0 FROM slipway_log_head`,
		"artifact without digest":      `INSERT INTO slipway_artifact SELECT build_id, 1, 'a', 'p', x'', 1, 0, 1 FROM slipway_log_head`,
		"queued in no class":           strings.Replace(build("state", "1"), "'', 1,", "'', 0,", 1),
		"negative class":               strings.Replace(build("state", "0"), "'', 1,", "'', -1,", 1),
		"negative back-off":            build("state, backoff_base", "0, -1"),
		"back-off beyond its maximum":  build("state, backoff_base, backoff_max", "0, 2, 1"),
		"half an idempotency key":      build("state, idem_key", "0, 'key'"),
		"short idempotency hash":       build("state, idem_key, idem_hash", "0, 'key', zeroblob(31)"),
		"short id of another build":    build("state, retry_of", "0, zeroblob(15)"),
		"a key twice":                  strings.Replace(build("state, idem_key, idem_hash", "0, 'k', zeroblob(32)"), "VALUES", "VALUES "+twice+",", 1),
		"a weight of nothing":          `INSERT INTO slipway_share (pool, project, weight) VALUES ('q', 'p', 0)`,
		"a limit of nothing":           `INSERT INTO slipway_build_limit (project, key, max_running) VALUES ('p', 'k', 0)`,
		"a limit of no key":            `INSERT INTO slipway_build_limit (project, key, max_running) VALUES ('p', '', 1)`,
		"negative quota":               `INSERT INTO slipway_project (name, artifact_quota) VALUES ('p', -1)`,
		"negative lines":               `UPDATE slipway_log_head SET lines = -1`,
		"second version":               `INSERT INTO slipway_schema_version (id, version, min_compatible) VALUES (2, 1, 1)`,
	} {
		if _, err := db.ExecContext(t.Context(), bad); err == nil {
			t.Errorf("%s: the database takes\n%s", name, bad)
		} else if !strings.Contains(err.Error(), "constraint") {
			t.Errorf("%s: %v\n%s", name, err, bad)
		}
	}
}
