package sqlqueue

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/uptrace/bun"
)

// Errors of a schema that does not fit the code.
var (
	// ErrOutdated says that the schema is missing, or older than this code needs: Migrate has not been called.
	ErrOutdated = errors.New("database schema is missing or outdated: call Migrate")
	// ErrTooNew says that newer code has changed the schema so that this code cannot work with it.
	ErrTooNew = errors.New("database schema is too new for this program: use a newer one")
)

// A Migration leads from one version of a schema to the next.
type Migration struct {
	// Version is the schema's version afterwards.
	Version int
	// MinCompatible is the lowest version of code that can work with the schema afterwards.
	MinCompatible int
	// Statements are run one by one. They contain {schema}.
	Statements []string
}

// LoadMigrations reads the files *.sql of fsys. A file's name begins with its version, "0001_", its first line is
// "-- min_compatible: N", and a statement ends with a semicolon at the end of a line. Versions count from 1 without gaps.
func LoadMigrations(fsys fs.FS) ([]Migration, error) {
	names, err := fs.Glob(fsys, "*.sql")
	if err != nil {
		return nil, err
	}
	all := make([]Migration, 0, len(names))
	for _, name := range names {
		text, err := fs.ReadFile(fsys, name)
		if err != nil {
			return nil, err
		}
		m, err := parseMigration(name, text)
		if err != nil {
			return nil, fmt.Errorf("migration %s: %w", name, err)
		}
		if m.Version != len(all)+1 {
			return nil, fmt.Errorf("migration %s: version %d is missing", name, len(all)+1)
		}
		all = append(all, m)
	}
	return all, nil
}

func parseMigration(name string, text []byte) (Migration, error) {
	number, _, _ := strings.Cut(name, "_")
	version, err := strconv.Atoi(number)
	if err != nil {
		return Migration{}, errors.New("its name must begin with a number and an underscore")
	}
	header, body, _ := strings.Cut(string(text), "\n")
	value, ok := strings.CutPrefix(header, "-- min_compatible: ")
	least, err := strconv.Atoi(value)
	if !ok || err != nil || least < 1 || least > version {
		return Migration{}, errors.New(`its first line must be "-- min_compatible: N", N at most its version`)
	}
	m := Migration{Version: version, MinCompatible: least}
	var statement strings.Builder
	for line := range strings.Lines(body) {
		content := strings.TrimSpace(line)
		if statement.Len() == 0 && (content == "" || strings.HasPrefix(content, "--")) {
			continue
		}
		statement.WriteString(line)
		if strings.HasSuffix(content, ";") {
			m.Statements = append(m.Statements, statement.String())
			statement.Reset()
		}
	}
	if statement.Len() > 0 {
		return Migration{}, errors.New("its last statement has no end")
	}
	return m, nil
}

// A Migrator brings the schema of one database to the version of its migrations.
type Migrator struct {
	names      Names
	migrations []Migration
}

// NewMigrator returns a migrator to the last of migrations, which come from [LoadMigrations].
func NewMigrator(names Names, migrations []Migration) *Migrator {
	return &Migrator{names: names, migrations: migrations}
}

// Apply runs what has not been run yet, and nothing if the schema is newer than the migrations but still fits. It must be called in
// a transaction that keeps every other Apply on the same names out, where tables can be made and altered. ErrTooNew.
func (m *Migrator) Apply(ctx context.Context, tx bun.IDB) error {
	table := m.names.Table("schema_version")
	_, err := tx.NewRaw(`CREATE TABLE IF NOT EXISTS ? (
	id integer NOT NULL PRIMARY KEY CHECK (id = 1),
	version integer NOT NULL CHECK (version >= 1),
	min_compatible integer NOT NULL CHECK (min_compatible BETWEEN 1 AND version))`, table).Exec(ctx)
	if err != nil {
		return err
	}
	version, err := m.version(ctx, tx)
	if err != nil {
		return err
	}
	for _, step := range m.migrations {
		if step.Version <= version {
			continue
		}
		for _, statement := range step.Statements {
			if _, err := tx.ExecContext(ctx, m.names.Expand(statement)); err != nil {
				return fmt.Errorf("migration %d: %w", step.Version, err)
			}
		}
		_, err = tx.NewRaw(`INSERT INTO ? (id, version, min_compatible) VALUES (1, ?, ?)
			ON CONFLICT (id) DO UPDATE SET version = excluded.version, min_compatible = excluded.min_compatible`,
			table, step.Version, step.MinCompatible).Exec(ctx)
		if err != nil {
			return fmt.Errorf("migration %d: %w", step.Version, err)
		}
	}
	return nil
}

// Check returns nil if this code can work with the schema, else ErrOutdated, ErrTooNew, or what the database says, which is all
// that can be told of a schema that was never made.
func (m *Migrator) Check(ctx context.Context, db bun.IDB) error {
	version, err := m.version(ctx, db)
	if err == nil && version < len(m.migrations) {
		return fmt.Errorf("%w (it has version %d, this program needs %d)", ErrOutdated, version, len(m.migrations))
	}
	return err
}

// version returns the schema's version, zero if it has none yet.
func (m *Migrator) version(ctx context.Context, db bun.IDB) (int, error) {
	var version, minCompatible int
	err := db.NewSelect().TableExpr("? AS v", m.names.Table("schema_version")).Column("v.version", "v.min_compatible").
		Scan(ctx, &version, &minCompatible)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if minCompatible > len(m.migrations) {
		return 0, fmt.Errorf("%w (it needs version %d, this program has %d)", ErrTooNew, minCompatible, len(m.migrations))
	}
	return version, nil
}
