package migrate

import (
	"context"

	"github.com/uptrace/bun"
)

// TakeTurn keeps every other transaction that takes a turn of that name waiting until this one ends. It is for PostgreSQL.
func TakeTurn(ctx context.Context, tx bun.IDB, name string) error {
	_, err := tx.ExecContext(ctx, "SELECT pg_advisory_xact_lock(hashtextextended(?, 0))", name)
	return err
}

// CreateSchema makes a schema of PostgreSQL unless it exists. It looks before it creates: CREATE SCHEMA asks for the right to create even
// if there is nothing to do.
func CreateSchema(ctx context.Context, tx bun.IDB, name string) error {
	var exists bool
	err := tx.NewRaw("SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = ?)", name).Scan(ctx, &exists)
	if err != nil || exists {
		return err
	}
	_, err = tx.ExecContext(ctx, "CREATE SCHEMA ?", bun.Ident(name))
	return err
}
