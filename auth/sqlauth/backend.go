package sqlauth

import (
	"context"
	"database/sql"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/sqlitedialect"

	"github.com/slipway-build/slipway/auth"
	"github.com/slipway-build/slipway/internal/pgxdb"
	"github.com/slipway-build/slipway/internal/together"
)

const (
	defaultSchema  = "slipway"
	defaultTimeout = 5 * time.Second

	// migrateTimeout covers waiting for another process that migrates.
	migrateTimeout = time.Minute
)

// Options are the settings of a [Backend].
type Options struct {
	// Schema is the PostgreSQL schema of the tables: 1 to 63 bytes of a-z, 0-9 and
	// '_', not beginning with a digit. SQLite has none and ignores it. Default: "slipway".
	Schema string

	// Timeout bounds each operation, waiting for a connection included.
	// [Backend.Migrate] has a minute. Default: 5 s.
	Timeout time.Duration
}

// Backend is an [auth.Backend] in a SQL database. It is safe for concurrent use.
type Backend struct {
	db      *bun.DB
	engine  engine
	schema  string // unquoted
	timeout time.Duration

	lookups *together.Group[string, looked]
	touches *together.Group[use, struct{}]

	// Finished statements and names: {schema} is already replaced.
	table, touch, revoke, clock, enrol, refusal string
}

var _ auth.Backend = (*Backend)(nil)

// NewPostgres returns a Backend on the connections of pool, of which it holds at
// most one for each call. A nil o means the defaults. The error is
// [auth.ErrInvalid] for a schema that breaks the rule.
func NewPostgres(pool *pgxpool.Pool, o *Options) (*Backend, error) {
	return open(pgxdb.Open(pool), postgres, o)
}

// NewSQLite returns a Backend on a SQLite database. A nil o means the defaults.
func NewSQLite(db *sql.DB, o *Options) (*Backend, error) {
	return open(bun.NewDB(db, sqlitedialect.New()), sqlite, o)
}

var schemaName = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,62}$`)

func open(db *bun.DB, e engine, o *Options) (*Backend, error) {
	if o == nil {
		o = new(Options)
	}
	b := &Backend{db: db, engine: e, schema: o.Schema, timeout: o.Timeout}
	if b.timeout <= 0 {
		b.timeout = defaultTimeout
	}
	if b.schema == "" {
		b.schema = defaultSchema
	}
	if e.schema != "" {
		b.schema = e.schema
	}
	if !schemaName.MatchString(b.schema) {
		return nil, fmt.Errorf("sqlauth: %w: schema must be 1 to 63 bytes of a-z, 0-9 and \"_\" and not begin with a digit", auth.ErrInvalid)
	}
	b.table = b.expand(tableName)
	b.touch = b.expand(touchSQL)
	b.revoke = b.expand(revokeSQL)
	b.clock = b.expand(nowSQL)
	b.lookups, b.touches = together.NewGroup(b.lookUp, lookupLimits), together.NewGroup(b.touchAll, touchLimits)
	b.enrol = b.expand(enrolSQL)
	b.refusal = b.expand(refusalSQL)
	return b, nil
}

// expand replaces {schema} by the quoted name, and what is said of time by how the database says it.
func (b *Backend) expand(sql string) string {
	return strings.NewReplacer("{schema}", `"`+b.schema+`"`, "{now}", b.engine.now, "{micros}", b.engine.micros,
		"{lock}", b.engine.skipLocked).Replace(sql)
}

func (b *Backend) deadline(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, b.timeout)
}

const tableName = "{schema}.auth_key"

// Insert implements [auth.Backend].
func (b *Backend) Insert(ctx context.Context, r auth.Record) error {
	ctx, cancel := b.deadline(ctx)
	defer cancel()
	res, err := b.db.NewInsert().Model(newRow(r)).ModelTableExpr(b.table).On("CONFLICT (id) DO NOTHING").Exec(ctx)
	return affected(res, err, auth.ErrConflict)
}

const revokeSQL = `UPDATE {schema}.auth_key SET revoked_at = coalesce(revoked_at, ?) WHERE id = ?`

// Revoke implements [auth.Backend].
func (b *Backend) Revoke(ctx context.Context, id string, at time.Time) error {
	ctx, cancel := b.deadline(ctx)
	defer cancel()
	res, err := b.db.ExecContext(ctx, b.revoke, at, id)
	return affected(res, err, auth.ErrNotFound)
}

// List implements [auth.Backend].
func (b *Backend) List(ctx context.Context, f auth.Filter) ([]auth.Key, error) {
	ctx, cancel := b.deadline(ctx)
	defer cancel()
	var rows []row
	q := b.db.NewSelect().Model(&rows).ModelTableExpr(b.table + " AS k").OrderExpr("id DESC").Limit(int64(f.Limit))
	if f.Project != "" {
		q.Where("project = ?", f.Project)
	}
	if f.Role != "" {
		q.Where("role = ?", string(f.Role))
	}
	if f.Before != "" {
		q.Where("id < ?", f.Before)
	}
	if err := q.Scan(ctx); err != nil {
		return nil, err
	}
	keys := make([]auth.Key, len(rows))
	for i, row := range rows {
		r, err := row.record()
		if err != nil {
			return nil, err
		}
		keys[i] = r.Key
	}
	return keys, nil
}

// affected returns none if a statement succeeded without changing a row.
func affected(res sql.Result, err, none error) error {
	if err != nil {
		return err
	}
	n, err := res.RowsAffected()
	if err == nil && n == 0 {
		return none
	}
	return err
}
