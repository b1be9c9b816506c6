package sqlitequeue

import (
	"context"
	"embed"
	"io/fs"
	"time"

	"github.com/slipway-build/slipway/internal/migrate"
)

// Errors of a schema that does not fit this code. [Backend.Ping] and [Backend.Migrate] return them, wrapped.
var (
	// ErrOutdated says that [Backend.Migrate] has not been called since this code was installed.
	ErrOutdated = migrate.ErrOutdated
	// ErrTooNew says that a newer program has changed the schema so that this one must not use it.
	ErrTooNew = migrate.ErrTooNew
)

//go:embed migrations/*.sql
var migrations embed.FS

// Migrations returns the files that [Backend.Migrate] runs, for those who want to read or check them. {schema} in them
// stands for the prefix slipway_, and a state's name in braces for its number.
func Migrations() fs.FS {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		panic(err) // the directory is part of the program
	}
	return files
}

// Migrate brings the schema up to date, in one transaction. It may be called at each start, by several processes at
// once. Only ctx bounds it, because reading a large table takes its time, and as long as it lasts every other writer waits, or fails after
// its own timeout. The error wraps [ErrTooNew] if a newer program has made the schema one that this program cannot use; a newer schema
// that it can use is left as it is.
func (b *Backend) Migrate(ctx context.Context) error {
	return b.transact(ctx, time.Time{}, func(ctx context.Context, c *change) error {
		return b.migrator.Apply(ctx, c.conn)
	})
}

// Ping implements [queue.Records]. The error wraps [ErrOutdated] or [ErrTooNew] if the schema is the trouble.
func (b *Backend) Ping(ctx context.Context) error {
	ctx, cancel := b.bounded(ctx)
	defer cancel()
	var made int
	err := b.db.NewSelect().TableExpr("sqlite_schema").ColumnExpr("count(*)").
		Where("name = ?", string(names.Table("schema_version"))).Scan(ctx, &made)
	switch {
	case err != nil:
		return explain(err)
	case made == 0:
		return ErrOutdated
	default:
		return explain(b.migrator.Check(ctx, b.db))
	}
}
