package sqlitequeue

import (
	"database/sql"
	"errors"
	"io/fs"
	"net/url"
	"os"
	"runtime"
	"strconv"
	"time"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/sqlitedialect"
	"modernc.org/sqlite"

	"github.com/slipway-build/slipway/internal/migrate"
	"github.com/slipway-build/slipway/internal/sqlqueue"
	"github.com/slipway-build/slipway/queue"
)

// names are those of the tables: SQLite has no schemas.
var names = sqlqueue.WithPrefix("slipway_")

// Options configure [Open] and [New]. The zero value, and nil, mean the defaults.
type Options struct {
	// Timeout bounds every call, the wait for other writers included. Default: 5 s.
	Timeout time.Duration
	// Relaxed lets [Open] set synchronous to NORMAL: the file stays sound whatever happens, but a power failure may undo the last
	// changes although they were acknowledged. A crash of the process undoes nothing. Default: false, synchronous is FULL.
	Relaxed bool
}

func (o *Options) withDefaults() Options {
	var opts Options
	if o != nil {
		opts = *o
	}
	if opts.Timeout <= 0 {
		opts.Timeout = 5 * time.Second
	}
	return opts
}

// Open opens a database file for [New], and makes it if there is none: in WAL mode, so that readers and the one writer do not
// wait for each other, with foreign keys, and with transactions that take the write lock when they begin. Its connections keep
// the statements of this package prepared, which halves what a call costs. A new file can be read and written by its owner alone.
// The directory must exist.
//
// The file must lie on a local disk: SQLite's locks do not work on network file systems.
func Open(path string, o *Options) (*sql.DB, error) {
	opts := o.withDefaults()
	if opts.Relaxed {
		return open(path, opts.Timeout, "NORMAL")
	}
	return open(path, opts.Timeout, "FULL")
}

func open(path string, timeout time.Duration, synchronous string) (*sql.DB, error) {
	if path == "" {
		return nil, errors.New("sqlitequeue: the path of the database is empty")
	}
	if err := create(path); err != nil {
		return nil, err
	}
	params := url.Values{
		"_busy_timeout": {strconv.FormatInt(timeout.Milliseconds(), 10)},
		"_foreign_keys": {"on"},
		"_journal_mode": {"WAL"},
		"_synchronous":  {synchronous},
		"_txlock":       {"immediate"},
	}
	dsn := url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: params.Encode()}
	sqliteConnector, err := sqlite.NewConnector(dsn.String())
	if err != nil {
		return nil, err
	}
	db := sql.OpenDB(connector{sqliteConnector, timeout})
	// One connection writes at a time; the others read. Opening one costs several statements, so they are kept.
	conns := max(4, runtime.GOMAXPROCS(0))
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns)
	return db, nil
}

// create makes the file if there is none. One that exists is not opened: when a process closes a file in any way, it loses all the locks
// that SQLite has on it.
func create(path string) error {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600) //nolint:gosec // the path is the embedder's
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return file.Close()
}

// A Backend keeps a queue in an SQLite database. It is safe for concurrent use, and any number of backends, in one or several
// processes of one host, may work on the same file.
type Backend struct {
	db       *bun.DB
	reader   *sqlqueue.Reader
	migrator *migrate.Runner
	opts     Options
	// writer is held by who writes, so that the writers of a process wait in line here and not for SQLite's lock, which goes to
	// whoever asks at the right moment.
	writer chan struct{}
}

var _ queue.Backend = (*Backend)(nil)

// New returns a backend on a database of the driver "sqlite" (modernc.org/sqlite), which stays the caller's to close. [Open] makes
// one that fits; of another, all that is asked is that it be one database: a file, or memory with a single connection. How durable
// changes are is up to its synchronous setting.
//
// New does not touch the database. Call [Backend.Migrate] once before anything else.
func New(db *sql.DB, o *Options) (*Backend, error) {
	if db == nil {
		return nil, errors.New("sqlitequeue: the database is nil")
	}
	steps, err := migrate.Load(Migrations())
	if err != nil {
		return nil, err
	}
	bundb := bun.NewDB(db, sqlitedialect.New())
	return &Backend{
		db:       bundb,
		reader:   sqlqueue.NewReader(bundb, names),
		migrator: migrate.New(string(names.Table("schema_version")), steps, names.Expand),
		opts:     o.withDefaults(),
		writer:   make(chan struct{}, 1),
	}, nil
}
