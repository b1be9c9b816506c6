package sqlauth

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/uptrace/bun"

	"github.com/slipway-build/slipway/internal/migrate"
)

//go:embed migrations
var migrations embed.FS

// ErrNewerSchema says that the tables were made by a newer version of this
// package, which this one does not understand.
var ErrNewerSchema = migrate.ErrTooNew

// Migrations returns the SQL that [Backend.Migrate] runs, in the directories
// postgres and sqlite, a file for each version, in the order of their names. In
// each, {schema} stands for the quoted name of the schema ("main" for SQLite). The
// first line names the lowest version of this package's tables that a program must
// know to work with the result.
func Migrations() fs.FS {
	sub, err := fs.Sub(migrations, "migrations")
	if err != nil {
		panic(err) // the directory is part of this package
	}
	return sub
}

// engine is what differs between the databases.
type engine struct {
	dir    string // of its migrations
	schema string // if there is but one
	// Its clock, in SQL: as columns of times have it, and in microseconds of the Unix epoch.
	now, micros string
	// skipLocked has a SELECT lock its rows, but for those that others have locked.
	skipLocked string
	// prepare is called in the transaction before the tables are looked at.
	prepare func(ctx context.Context, tx bun.IDB, schema string) error
}

var (
	postgres = engine{dir: "postgres", skipLocked: "FOR NO KEY UPDATE SKIP LOCKED", now: "now()", micros: "(extract(epoch FROM now()) * 1000000)::bigint", prepare: func(ctx context.Context, tx bun.IDB, schema string) error {
		if err := migrate.TakeTurn(ctx, tx, "slipway auth "+schema); err != nil {
			return err
		}
		return migrate.CreateSchema(ctx, tx, schema)
	}}
	// A transaction of SQLite is the only one that writes.
	sqlite = engine{
		dir: "sqlite", schema: "main", now: "strftime('%Y-%m-%d %H:%M:%f+00:00', 'now')", micros: "CAST(unixepoch('now', 'subsec') * 1000000 AS INTEGER)",
		prepare: func(context.Context, bun.IDB, string) error { return nil },
	}
)

// runner returns what migrates the tables.
func (b *Backend) runner() (*migrate.Runner, error) {
	files, err := fs.Sub(migrations, "migrations/"+b.engine.dir)
	if err != nil {
		return nil, err
	}
	steps, err := migrate.Load(files)
	if err != nil {
		return nil, err
	}
	return migrate.New(b.expand("{schema}.auth_version"), steps, b.expand), nil
}

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
	for busy(err) && migrate.Pause(ctx, 10*time.Millisecond) {
		err = run()
	}
	if err != nil {
		return fmt.Errorf("sqlauth: migrate: %w", err)
	}
	return nil
}

func (b *Backend) migrate(ctx context.Context, tx bun.Tx) error {
	runner, err := b.runner()
	if err != nil {
		return err
	}
	if err := b.engine.prepare(ctx, tx, b.schema); err != nil {
		return err
	}
	return runner.Apply(ctx, tx)
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
