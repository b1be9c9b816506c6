package sqlitequeue

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/uptrace/bun"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/slipway-build/slipway/queue"
)

// A change is a transaction that holds the database's one write lock. What it reads stays true until it ends, so a change
// may look first and write then.
type change struct {
	conn bun.Conn  // not set if the transaction is a caller's
	tx   bun.IConn // where statements run
	now  int64     // the present, in microseconds
}

// change makes a change with do, wholly if do returns nil and else not at all, before the backend's timeout.
func (b *Backend) change(ctx context.Context, now time.Time, do func(context.Context, *change) error) error {
	ctx, cancel := b.bounded(ctx)
	defer cancel()
	return b.transact(ctx, now, do)
}

// transact is change for as long as ctx lasts.
func (b *Backend) transact(ctx context.Context, now time.Time, do func(context.Context, *change) error) error {
	select {
	case b.writer <- struct{}{}:
		defer func() { <-b.writer }()
	case <-ctx.Done():
		return waited(ctx, "other writers")
	}
	conn, err := b.db.Conn(ctx)
	if err != nil {
		return explain(err)
	}
	defer conn.Close()
	if err = begin(ctx, conn); err == nil {
		// The clock is read under the lock, so that times are in the order of the changes.
		err = do(ctx, &change{conn: conn, tx: conn.Conn, now: present(now).UnixMicro()})
	}
	if err == nil {
		_, err = conn.Conn.ExecContext(ctx, commitSQL)
	}
	if err != nil {
		rollback(ctx, conn)
	}
	return explain(err)
}

var (
	beginSQL    = statement("BEGIN IMMEDIATE")
	commitSQL   = statement("COMMIT")
	rollbackSQL = statement("ROLLBACK")
)

// patience is how long one attempt to take the write lock may last.
const patience = 10 * time.Millisecond

// begin takes the write lock, at once: a transaction that took it later could fail in the middle. While SQLite waits, it tries ever more
// rarely, so that whoever has waited longest comes last when several processes write all the time; waits that begin anew every few
// milliseconds are fair enough.
func begin(ctx context.Context, conn bun.Conn) error {
	for {
		attempt, cancel := context.WithTimeout(ctx, patience)
		_, err := conn.Conn.ExecContext(attempt, beginSQL)
		over := attempt.Err() != nil
		if failed(err, sqlite3.SQLITE_BUSY) {
			<-attempt.Done() // the connection has no busy timeout, or a shorter one
		}
		cancel()
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return waited(ctx, "other processes that write")
		case over:
			rollback(ctx, conn) // should it have begun at the last moment
		case !failed(err, sqlite3.SQLITE_BUSY):
			return err
		}
	}
}

// rollback ends a transaction that failed, also if ctx is why, unless it never began or SQLite has ended it by itself, which it
// says with its plainest error. A connection that might still be in a transaction is closed.
func rollback(ctx context.Context, conn bun.Conn) {
	_, err := conn.Conn.ExecContext(context.WithoutCancel(ctx), rollbackSQL)
	if err != nil && !failed(err, sqlite3.SQLITE_ERROR) {
		discard(conn)
	}
}

// discard closes a connection instead of giving it back to the pool.
func discard(conn bun.Conn) { _ = conn.Raw(func(any) error { return driver.ErrBadConn }) }

// exec runs a statement and returns how many rows it changed.
func (c *change) exec(ctx context.Context, query string, args ...any) (int, error) {
	result, err := c.tx.ExecContext(ctx, query, args...)
	if err != nil {
		return 0, err
	}
	n, err := result.RowsAffected()
	return int(n), err
}

// each runs a query and calls scan for each row. It ends at the first error.
func (c *change) each(ctx context.Context, scan func(*sql.Rows) error, query string, args ...any) error {
	rows, err := c.tx.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	return each(rows, scan)
}

func each(rows *sql.Rows, scan func(*sql.Rows) error) (err error) {
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// list makes the one argument that carries a whole set into a statement, which reads it with json_each. Ids are
// text there, to be read with unhex(…, '-'), digests and bytes hexadecimal.
func list[T any](items []T) (string, error) {
	if items == nil {
		return "[]", nil // and not null, which json_each takes for an element
	}
	text, err := json.Marshal(items)
	return string(text), err
}

// present returns now as it can be stored. The zero time stands for the clock of this host, which is the clock of every process that
// uses the file.
func present(now time.Time) time.Time {
	if now.IsZero() {
		now = time.Now()
	}
	return now.Truncate(time.Microsecond)
}

// scanID reads an id from a BLOB.
func scanID(id *queue.ID) sql.Scanner { return (*blob)(id) }

// blob is the destination of a BLOB of 16 bytes.
type blob queue.ID

func (b *blob) Scan(src any) error {
	if v, ok := src.([]byte); ok && len(v) == len(b) {
		copy(b[:], v)
		return nil
	}
	return fmt.Errorf("%T is not an id", src)
}
