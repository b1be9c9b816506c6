package pgqueue

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/uptrace/bun"

	"github.com/slipway-build/slipway/internal/migrate"
	"github.com/slipway-build/slipway/internal/pgxdb"
	"github.com/slipway-build/slipway/internal/sqlqueue"
	"github.com/slipway-build/slipway/queue"
)

// Options configure a [Backend]. The zero value, and nil, mean the defaults.
type Options struct {
	// Schema is the schema of the database that holds the tables: a lower-case letter or underscore, then lower-case letters,
	// digits and underscores, at most 63 in all, not beginning with "pg_". Several queues can live side by side in one
	// database, each in its schema. Default: "slipway".
	Schema string
	// Timeout bounds each operation, from asking the pool for a connection to the end of the commit; a context that ends earlier
	// wins. The server, too, gives up a statement, a little earlier, so that nothing is left waiting for a lock. It bounds each of the
	// transactions of [Backend.Maintain], and not [Backend.Migrate]. Default: 5 s.
	Timeout time.Duration
}

// A Backend keeps a queue in a PostgreSQL database. It is safe for concurrent use, and so is the database for any number of
// processes that have a Backend on the same schema.
type Backend struct {
	db       database
	pool     *pgxpool.Pool // to take connections from for good
	bun      *bun.DB
	reader   *sqlqueue.Reader
	migrator *migrate.Runner
	schema   string
	timeout  time.Duration
	sql      statements
}

var _ queue.Backend = (*Backend)(nil)

// New returns a backend on the connections of pool, which stays the caller's: New opens no connection, and the backend never
// closes the pool. The schema must have been made by [Backend.Migrate] before anything else is called. An error is about o.
func New(pool *pgxpool.Pool, o *Options) (*Backend, error) {
	var opts Options
	if o != nil {
		opts = *o
	}
	b, err := newBackend(pool, pgxdb.Open(pool), opts)
	if err != nil {
		return nil, err
	}
	b.pool = pool
	return b, nil
}

var identifier = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,62}$`)

func newBackend(db database, cold *bun.DB, opts Options) (*Backend, error) {
	if opts.Schema == "" {
		opts.Schema = "slipway"
	}
	if !identifier.MatchString(opts.Schema) || strings.HasPrefix(opts.Schema, "pg_") {
		return nil, fmt.Errorf("pgqueue: Schema %q: must be a lower-case identifier that does not begin with pg_", opts.Schema)
	}
	if opts.Timeout < 0 {
		return nil, fmt.Errorf("pgqueue: Timeout %v: must not be negative", opts.Timeout)
	}
	if opts.Timeout == 0 {
		opts.Timeout = 5 * time.Second
	}
	steps, err := migrate.Load(Migrations())
	if err != nil {
		return nil, fmt.Errorf("pgqueue: %w", err)
	}
	names := sqlqueue.WithPrefix(`"` + opts.Schema + `".`)
	return &Backend{
		db:       db,
		bun:      cold,
		reader:   sqlqueue.NewReader(cold, names),
		migrator: migrate.New(string(names.Table("schema_version")), steps, names.Expand),
		schema:   opts.Schema,
		timeout:  opts.Timeout,
		sql:      expand(names),
	}, nil
}

// Ping implements [queue.Records]: it fails if the database does not answer, with [ErrOutdated] if the schema was not migrated
// far enough for this program, and with [ErrTooNew] if it was migrated too far.
func (b *Backend) Ping(ctx context.Context) error {
	ctx, cancel := b.bounded(ctx)
	defer cancel()
	return explain(b.migrator.Check(ctx, b.bun))
}
