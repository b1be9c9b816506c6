package faultsql_test

import (
	"context"
	"database/sql"
	"errors"
	"testing"

	"modernc.org/sqlite"

	"github.com/slipway-build/slipway/internal/faultsql"
	"github.com/slipway-build/slipway/internal/testenv"
)

// open returns a database with a table whose connections fail on demand.
func open(t *testing.T) (*sql.DB, *faultsql.Connector) {
	t.Helper()
	inner, err := sqlite.NewConnector("file:" + testenv.SQLite(t) + "?_synchronous=OFF&_journal_mode=WAL")
	if err != nil {
		t.Fatal(err)
	}
	c := faultsql.Wrap(inner)
	db := sql.OpenDB(c)
	t.Cleanup(func() { db.Close() })
	if _, err := db.ExecContext(t.Context(), "CREATE TABLE thing (n INTEGER)"); err != nil {
		t.Fatal(err)
	}
	return db, c
}

// rows returns how many rows there are.
func rows(t *testing.T, db *sql.DB) int {
	t.Helper()
	var n int
	if err := db.QueryRowContext(t.Context(), "SELECT count(*) FROM thing").Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func inTx(ctx context.Context, db *sql.DB, do func(*sql.Tx) error) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if err := do(tx); err != nil {
		return err
	}
	return tx.Commit()
}

// Each call inserts one row by its operation number done, and has some in all.
func TestEveryOperation(t *testing.T) {
	const insert = "INSERT INTO thing VALUES (1)"
	for name, test := range map[string]struct {
		operations, done int
		call             func(ctx context.Context, db *sql.DB) error
	}{
		"Exec": {1, 0, func(ctx context.Context, db *sql.DB) error {
			_, err := db.ExecContext(ctx, insert)
			return err
		}},
		"Query": {2, 0, func(ctx context.Context, db *sql.DB) error {
			var n int
			return db.QueryRowContext(ctx, insert+" RETURNING n").Scan(&n)
		}},
		"Prepare": {2, 1, func(ctx context.Context, db *sql.DB) error {
			stmt, err := db.PrepareContext(ctx, insert)
			if err != nil {
				return err
			}
			defer stmt.Close()
			_, err = stmt.ExecContext(ctx)
			return err
		}},
		"PrepareQuery": {3, 1, func(ctx context.Context, db *sql.DB) error {
			stmt, err := db.PrepareContext(ctx, insert+" RETURNING n")
			if err != nil {
				return err
			}
			defer stmt.Close()
			var n int
			return stmt.QueryRowContext(ctx).Scan(&n)
		}},
		"Tx": {3, 2, func(ctx context.Context, db *sql.DB) error {
			return inTx(ctx, db, func(tx *sql.Tx) error {
				_, err := tx.ExecContext(ctx, insert)
				return err
			})
		}},
		"Rows": {3, 0, func(ctx context.Context, db *sql.DB) error {
			rows, err := db.QueryContext(ctx, insert+" RETURNING n")
			if err != nil {
				return err
			}
			defer rows.Close()
			for rows.Next() {
			}
			return rows.Err()
		}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, after := range []bool{false, true} {
				for n := range test.operations + 1 {
					db, c := open(t)
					c.Break(faultsql.Fault{N: n, After: after})
					err := test.call(t.Context(), db)
					struck := c.Mend()
					if struck != (n < test.operations) || struck != errors.Is(err, faultsql.ErrFault) {
						t.Errorf("operation %d, after %v: struck is %v, the error %v", n, after, struck, err)
					}
					want := 0
					if n > test.done || n == test.done && after {
						want = 1
					}
					if got := rows(t, db); got != want {
						t.Errorf("operation %d, after %v: there are %d rows, want %d", n, after, got, want)
					}
				}
			}
		})
	}
}

// A fault strikes once, and never a rollback.
func TestStrikesOnce(t *testing.T) {
	db, c := open(t)
	c.Break(faultsql.Fault{N: 1})
	err := inTx(t.Context(), db, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(t.Context(), "INSERT INTO thing VALUES (1)")
		return err
	})
	if !errors.Is(err, faultsql.ErrFault) {
		t.Errorf("the transaction returned %v", err)
	}
	if _, err := db.ExecContext(t.Context(), "INSERT INTO thing VALUES (1)"); err != nil {
		t.Errorf("after the fault: %v", err)
	}
	if !c.Mend() || rows(t, db) != 1 {
		t.Errorf("there are %d rows, want 1", rows(t, db))
	}
	c.Break(faultsql.Fault{})
	if _, err := db.ExecContext(t.Context(), "ROLLBACK"); err == nil || errors.Is(err, faultsql.ErrFault) {
		t.Errorf("a rollback of nothing returned %v, want the database's own error", err)
	}
	if c.Mend() {
		t.Error("a rollback was counted")
	}
}
