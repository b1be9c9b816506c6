package sqlitequeue

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/uptrace/bun"
)

// checkTx refuses what cannot be a transaction: a database, whose statements may each go to another connection.
func checkTx(tx bun.IConn) error {
	switch tx.(type) {
	case nil, *sql.DB, *bun.DB:
		return fmt.Errorf("a %T is no transaction", tx)
	}
	return nil
}

const (
	savepoint = "SAVEPOINT slipway"
	keep      = "RELEASE slipway"
	undo      = "ROLLBACK TO slipway"
)

// within makes a change in a transaction of a caller, wholly if do returns nil and else not at all.
func within(ctx context.Context, tx bun.IConn, do func(*change) error) error {
	if _, err := tx.ExecContext(ctx, savepoint); err != nil {
		return err
	}
	err := do(&change{tx: tx, now: present(time.Time{}).UnixMicro()})
	if err == nil {
		_, err = tx.ExecContext(ctx, keep)
	}
	if err == nil {
		return nil
	}
	// ctx may be why it failed. Whether the savepoint is still there after that is up to the caller's transaction.
	ctx = context.WithoutCancel(ctx)
	_, undoErr := tx.ExecContext(ctx, undo)
	if undoErr == nil {
		_, undoErr = tx.ExecContext(ctx, keep)
	}
	return errors.Join(err, undoErr)
}
