package sqlitequeue

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// statements are the texts that this package runs over and over, each as it is sent.
var statements = make(map[string]bool)

// statement completes the text of a statement with the names of tables and the numbers of states. Limits that are arguments are written
// LIMIT +?, because SQLite parses a statement anew whenever a plain one is bound.
func statement(text string) string {
	text = names.Expand(text)
	statements[text] = true
	return text
}

// A connector makes connections that keep this package's statements prepared: to parse them costs more than to run them.
// database/sql could keep them only for transactions that it began itself.
type connector struct {
	driver.Connector
	timeout time.Duration // for opening a connection
}

func (c connector) Connect(ctx context.Context) (driver.Conn, error) {
	dc, err := c.open(ctx)
	if err != nil {
		return nil, err
	}
	able, ok := dc.(sqliteConn)
	if !ok {
		return nil, errors.Join(fmt.Errorf("sqlitequeue: %T lacks what is expected of a connection", dc), dc.Close())
	}
	return &conn{sqliteConn: able, prepared: make(map[string]preparedStmt)}, nil
}

// open opens a connection. While somebody else puts a new file into WAL mode SQLite refuses at once, whatever the busy timeout.
func (c connector) open(ctx context.Context) (driver.Conn, error) {
	over := time.After(c.timeout)
	for {
		dc, err := c.Connector.Connect(ctx)
		if !failed(err, sqlite3.SQLITE_BUSY) {
			return dc, err
		}
		select {
		case <-time.After(patience):
		case <-ctx.Done():
			return nil, err
		case <-over:
			return nil, err
		}
	}
}

// sqliteConn is what the driver's connections offer to database/sql and, by (*sql.Conn).Raw, to its users.
type sqliteConn interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
	pooled
	NewBackup(dst string) (*sqlite.Backup, error)
}

// pooled is what the pool asks of a connection.
type pooled interface {
	driver.Pinger
	driver.SessionResetter
	driver.Validator
}

// conn is a connection with statements. One goroutine uses it at a time, and none of this package runs a statement while it reads the
// rows of the same.
type conn struct {
	sqliteConn
	prepared map[string]preparedStmt
}

type preparedStmt interface {
	driver.Stmt
	driver.StmtExecContext
	driver.StmtQueryContext
}

func (c *conn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	stmt, err := c.stmt(ctx, query)
	if err != nil {
		return nil, err
	}
	if stmt == nil {
		return c.sqliteConn.ExecContext(ctx, query, args)
	}
	return stmt.ExecContext(ctx, args)
}

func (c *conn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	stmt, err := c.stmt(ctx, query)
	if err != nil {
		return nil, err
	}
	if stmt == nil {
		return c.sqliteConn.QueryContext(ctx, query, args)
	}
	return stmt.QueryContext(ctx, args)
}

// stmt returns the prepared statement of a query, nil if the query is none of this package.
func (c *conn) stmt(ctx context.Context, query string) (preparedStmt, error) {
	if stmt := c.prepared[query]; stmt != nil {
		return stmt, nil
	}
	if !statements[query] {
		return nil, nil
	}
	ds, err := c.PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	stmt, ok := ds.(preparedStmt)
	if !ok {
		return nil, ds.Close()
	}
	c.prepared[query] = stmt
	return stmt, nil
}

func (c *conn) Close() error {
	var errs []error
	for _, stmt := range c.prepared {
		errs = append(errs, stmt.Close())
	}
	return errors.Join(append(errs, c.sqliteConn.Close())...)
}
