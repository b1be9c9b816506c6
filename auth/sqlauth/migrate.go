package sqlauth

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/uptrace/bun"
)

//go:embed migrations
var migrations embed.FS

// ErrNewerSchema says that the tables were made by a newer version of this
// package, which this one does not understand.
var ErrNewerSchema = errors.New("the tables of keys need a newer version of this program")

// minCompatible is the oldest version of the tables that the last migration
// leaves usable for: a program that knows less must not touch them.
const minCompatible = 1

// Migrations returns the SQL that [Backend.Migrate] runs, in the directories
// postgres and sqlite, a file for each version, in the order of their names. In
// each, {schema} stands for the quoted name of the schema ("main" for SQLite).
func Migrations() fs.FS {
	sub, err := fs.Sub(migrations, "migrations")
	if err != nil {
		panic(err) // the directory is part of this package
	}
	return sub
}

// engine is what differs between the databases.
type engine struct {
	dir     string   // of its migrations
	schema  string   // if there is but one
	prepare []string // run in the transaction before the tables are looked at; ? is the schema
}

var (
	postgres = engine{dir: "postgres", prepare: []string{
		`SELECT pg_advisory_xact_lock(hashtextextended('slipway auth ' || ?, 0))`,
		`DO $$ BEGIN
			IF NOT EXISTS (SELECT FROM pg_namespace WHERE nspname = ?) THEN
				CREATE SCHEMA {schema};
			END IF;
		END $$`,
	}}
	sqlite = engine{dir: "sqlite", schema: "main"}
)

const (
	createVersionSQL = `CREATE TABLE IF NOT EXISTS {schema}.auth_version (
		version        integer NOT NULL PRIMARY KEY CHECK (version > 0),
		min_compatible integer NOT NULL CHECK (min_compatible BETWEEN 1 AND version),
		applied_at     timestamptz NOT NULL DEFAULT CURRENT_TIMESTAMP
	)`
	readVersionSQL  = `SELECT coalesce(max(version), 0), coalesce(max(min_compatible), 0) FROM {schema}.auth_version`
	writeVersionSQL = `INSERT INTO {schema}.auth_version (version, min_compatible) VALUES (?, ?)`
)

// Migrate creates the tables, or brings those of an older version up to date, in
// one transaction. Several processes may do so at once. Tables of a newer version
// are left alone: Migrate succeeds if that version says that this program may go
// on, and returns [ErrNewerSchema] if not. PostgreSQL's user needs the right to
// create the schema unless it exists.
func (b *Backend) Migrate(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, migrateTimeout)
	defer cancel()
	run := func() error { return b.db.RunInTx(ctx, nil, b.migrate) }
	err := run()
	for busy(err) && rest(ctx) {
		err = run()
	}
	if err != nil {
		return fmt.Errorf("sqlauth: migrate: %w", err)
	}
	return nil
}

// busy reports whether SQLite refused at once, as it does, whatever its busy timeout, when several open a new file and one of them
// is about to change its journal mode.
func busy(err error) bool {
	const sqliteBusy = 5
	refusal, ok := errors.AsType[interface {
		error
		Code() int
	}](err)
	return ok && refusal.Code()&0xff == sqliteBusy
}

// rest waits a moment, and reports whether ctx has not ended.
func rest(ctx context.Context) bool {
	t := time.NewTimer(10 * time.Millisecond)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

func (b *Backend) migrate(ctx context.Context, tx bun.Tx) error {
	for _, query := range slices.Concat(b.engine.prepare, []string{createVersionSQL}) {
		if _, err := tx.ExecContext(ctx, b.expand(query), b.schema); err != nil {
			return err
		}
	}
	var version, needed int
	if err := tx.QueryRowContext(ctx, b.expand(readVersionSQL)).Scan(&version, &needed); err != nil {
		return err
	}
	files, err := fs.Glob(migrations, "migrations/"+b.engine.dir+"/*.sql")
	if err != nil {
		return err
	}
	if needed > len(files) {
		return fmt.Errorf("%w: version %d, and this one knows %d", ErrNewerSchema, needed, len(files))
	}
	for ; version < len(files); version++ {
		if err := b.apply(ctx, tx.Tx, files[version]); err != nil {
			return fmt.Errorf("%s: %w", files[version], err)
		}
		if _, err := tx.ExecContext(ctx, b.expand(writeVersionSQL), version+1, min(minCompatible, version+1)); err != nil {
			return err
		}
	}
	return nil
}

// apply runs a file of statements as it is: bun must not look for arguments in it.
func (b *Backend) apply(ctx context.Context, tx *sql.Tx, name string) error {
	text, err := fs.ReadFile(migrations, name)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, b.expand(string(text)))
	return err
}
