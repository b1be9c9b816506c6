package pgqueue

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
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
// first line names the lowest version of this package's schema that a program must know to work with the result, and with that of all files
// run in one transaction, of new tables, if that is another.
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
// In a schema that was of the version before, programs of that version go on beside those of this one, so that a service can be upgraded
// process by process. In one that is made anew they get [ErrTooNew] from Ping and Migrate, and should not be run.
//
// Limits of concurrency keys, schedules and back-offs hold for programs of the version before, too, whatever they finish and queue. The rest
// they do not know. Version 1
//
//   - claims what is queued of pools and projects that are paused;
//   - queues at once what it submits to a fair pool or for a paused project, until Maintain and Admit hold it;
//   - does not say what its sessions serve, so that builds that have to be admitted wait for a session of this version;
//   - ends a build that has failed, even if it is to be attempted again, and knows one back-off for all builds;
//   - counts nothing for statistics, and what it reserves for artifacts not for quotas;
//   - goes on with a log that was cut, and shows nothing of one that is in the archive.
//
// So pause, make pools fair and set Options.Archive of the queue when the last of them is gone. A schema that was of version 1 once keeps the
// trigger build_due, for them: it costs a Finish a twenty-fifth of the server's time, others less. It may be dropped then, if min_compatible in
// schema_version is set to 2.
//
// The database user must own the schema, or, where there is none yet, have the right to create it. Waiting for the turn is bounded by
// ctx alone; that the table of builds is free is waited for up to [Options].Timeout, because others queue up behind. If the other tables
// are not free at once then, Migrate lets those who have them pass and tries again.
//
// While an older schema is brought up to date, every other call of every program waits, and fails after its own timeout, because the
// tables are locked until the new indexes are there.
func (b *Backend) Migrate(ctx context.Context) error {
	err := b.bun.RunInTx(ctx, nil, b.migrate)
	for errors.Is(err, errInUse) && migrate.Pause(ctx, rand.N(50*time.Millisecond)) { // a different time each, so that they do not meet again
		err = b.bun.RunInTx(ctx, nil, b.migrate)
	}
	if err != nil {
		return fmt.Errorf("pgqueue: migrate: %w", explain(err))
	}
	return nil
}

func (b *Backend) migrate(ctx context.Context, tx bun.Tx) error {
	if err := migrate.TakeTurn(ctx, tx, b.lockName("migrate")); err != nil {
		return err
	}
	if err := setLockTimeout(ctx, tx, b.timeout); err != nil {
		return err
	}
	if err := migrate.CreateSchema(ctx, tx, b.schema); err != nil {
		return err
	}
	if err := b.lockTables(ctx, tx); err != nil {
		return err
	}
	return b.migrator.Apply(ctx, tx)
}

// errInUse says that statements that hold some tables wait for others that Migrate has locked.
var errInUse = errors.New("the tables are in use")

// lockTables locks the tables of an older schema, all of them before any is changed. A statement that has locked one of them may be waiting
// for another that is locked here: it, too, would fail if Migrate waited on, so Migrate gives up before the server looks for deadlocks.
func (b *Backend) lockTables(ctx context.Context, tx bun.Tx) error {
	var tables []string
	err := tx.NewRaw(`SELECT c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = ? AND c.relkind = 'r' AND c.relname IN (?) ORDER BY c.relname <> 'build', c.relname`,
		b.schema, bun.List([]string{"build", "attempt", "log_head", "log_chunk", "artifact", "session", "controller", "class"})).Scan(ctx, &tables)
	if err != nil || len(tables) == 0 {
		return err
	}
	if err := b.migrator.Check(ctx, tx); !errors.Is(err, migrate.ErrOutdated) {
		return err
	}
	for i, table := range tables {
		_, err := tx.ExecContext(ctx, "LOCK TABLE ?.? IN ACCESS EXCLUSIVE MODE", bun.Ident(b.schema), bun.Ident(table))
		if err == nil && i == 0 {
			err = setLockTimeout(ctx, tx, 50*time.Millisecond)
		}
		if reply, ok := errors.AsType[*pgconn.PgError](err); ok && reply.Code == "55P03" && i > 0 { // lock_not_available
			return errInUse
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func setLockTimeout(ctx context.Context, tx bun.Tx, d time.Duration) error {
	_, err := tx.ExecContext(ctx, "SELECT set_config('lock_timeout', ?, true)", milliseconds(d))
	return err
}

// lockName names an advisory lock of this schema.
func (b *Backend) lockName(purpose string) string { return "slipway " + purpose + " " + b.schema }
