package migrate

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/uptrace/bun"
)

// Errors of tables that do not fit the code.
var (
	// ErrOutdated says that the tables are missing, or older than the code needs: Migrate has not been called.
	ErrOutdated = errors.New("database schema is missing or outdated: call Migrate")
	// ErrTooNew says that newer code has changed the tables so that this code cannot work with them.
	ErrTooNew = errors.New("database schema is too new for this program: use a newer one")
)

// A Runner runs the steps of one package in one database. It is safe for concurrent use.
type Runner struct {
	ledger bun.Safe
	steps  []Step
	expand func(string) string
}

// New returns a runner of steps, which come from [Load]. The ledger is the full name of its table, as it goes into SQL. Statements go
// through expand before they are run.
func New(ledger string, steps []Step, expand func(string) string) *Runner {
	return &Runner{ledger: bun.Safe(ledger), steps: steps, expand: expand}
}

// Apply runs what has not been run yet, and nothing if the tables are newer than the steps but still fit. It must be called in a
// transaction that keeps every other Apply on the same ledger out, where tables can be made and altered. ErrTooNew.
func (r *Runner) Apply(ctx context.Context, tx bun.IDB) error {
	_, err := tx.NewRaw(`CREATE TABLE IF NOT EXISTS ? (
	id integer NOT NULL PRIMARY KEY CHECK (id = 1),
	version integer NOT NULL CHECK (version >= 1),
	min_compatible integer NOT NULL CHECK (min_compatible BETWEEN 1 AND version))`, r.ledger).Exec(ctx)
	if err != nil {
		return err
	}
	version, err := r.version(ctx, tx)
	if err != nil {
		return err
	}
	for _, step := range r.steps[min(version, len(r.steps)):] {
		if version == 0 {
			step.MinCompatible = step.MinCompatibleNew
		}
		if err := r.run(ctx, tx, step); err != nil {
			return fmt.Errorf("migration %d: %w", step.Version, err)
		}
	}
	return nil
}

func (r *Runner) run(ctx context.Context, tx bun.IDB, step Step) error {
	for _, statement := range step.Statements {
		if _, err := tx.ExecContext(ctx, r.expand(statement)); err != nil {
			return err
		}
	}
	if step.Version == 1 {
		_, err := tx.NewRaw("INSERT INTO ? (id, version, min_compatible) VALUES (1, 1, 1)", r.ledger).Exec(ctx)
		return err
	}
	// Code that could not work with the tables before cannot now: no step makes for tables what an earlier one has left out of them.
	_, err := tx.NewRaw("UPDATE ?0 SET version = ?1, min_compatible = CASE WHEN min_compatible < ?2 THEN ?2 ELSE min_compatible END",
		r.ledger, step.Version, step.MinCompatible).Exec(ctx)
	return err
}

// Check returns nil if the code can work with the tables, else ErrOutdated, ErrTooNew, or what the database says, which is all
// that can be told of tables that were never made.
func (r *Runner) Check(ctx context.Context, db bun.IDB) error {
	version, err := r.version(ctx, db)
	if err == nil && version < len(r.steps) {
		return fmt.Errorf("%w (it has version %d, this program needs %d)", ErrOutdated, version, len(r.steps))
	}
	return err
}

// version returns that of the tables, zero if there are none yet.
func (r *Runner) version(ctx context.Context, db bun.IDB) (int, error) {
	var version, minCompatible int
	err := db.NewSelect().TableExpr("? AS v", r.ledger).Column("v.version", "v.min_compatible").Scan(ctx, &version, &minCompatible)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if minCompatible > len(r.steps) {
		return 0, fmt.Errorf("%w (it needs version %d, this program has %d)", ErrTooNew, minCompatible, len(r.steps))
	}
	return version, nil
}
