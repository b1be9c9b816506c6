package pgqueue

import (
	"context"
	"embed"
	"fmt"
	"io/fs"

	"github.com/uptrace/bun"

	"github.com/slipway-build/slipway/internal/migrate"
)

// Errors of a schema that does not fit the program.
var (
	// ErrOutdated says that the schema is missing, or older than this program needs: [Backend.Migrate] has not been called.
	ErrOutdated = migrate.ErrOutdated
	// ErrTooNew says that a newer program has changed the schema so that this one cannot work with it any more.
	ErrTooNew = migrate.ErrTooNew
)

//go:embed migrations/*.sql
var migrations embed.FS

// Migrations returns what [Backend.Migrate] runs, for those who review it or run it with a tool of their own: files named
// 0001_initial.sql and so on, each in plain SQL but for {schema}, which stands for the quoted name of the schema and a dot. A file's
// first line names the lowest version of this package's schema that a program must know to work with the result.
func Migrations() fs.FS {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		panic(err) // the directory is part of the program
	}
	return files
}

// Migrate makes the schema and its tables, or brings them up to the version of this program; it does nothing if they are. It may be
// called by any number of processes at once: they take turns. All changes are made in one transaction. A schema that a newer program
// has migrated is left alone, and is an error, [ErrTooNew], only if that program said that older ones cannot work with it.
//
// The database user must own the schema, or, where there is none yet, have the right to create it. Waiting for the turn is bounded by
// ctx alone; a table that is in use and must be altered is waited for up to [Options].Timeout, because others queue up behind.
func (b *Backend) Migrate(ctx context.Context) error {
	err := b.bun.RunInTx(ctx, nil, func(ctx context.Context, tx bun.Tx) error {
		if err := migrate.TakeTurn(ctx, tx, b.lockName("migrate")); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, "SELECT set_config('lock_timeout', ?, true)", milliseconds(b.timeout)); err != nil {
			return err
		}
		if err := migrate.CreateSchema(ctx, tx, b.schema); err != nil {
			return err
		}
		return b.migrator.Apply(ctx, tx)
	})
	if err != nil {
		return fmt.Errorf("pgqueue: migrate: %w", explain(err))
	}
	return nil
}

// lockName names an advisory lock of this schema.
func (b *Backend) lockName(purpose string) string { return "slipway " + purpose + " " + b.schema }
