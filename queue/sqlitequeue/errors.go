package sqlitequeue

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/slipway-build/slipway/queue"
)

// alone returns err alone, if there is one: what a change has found before it was undone is no result.
func alone[T any](result T, err error) (T, error) {
	if err != nil {
		var none T
		return none, err
	}
	return result, nil
}

// failed reports whether err is an error of SQLite with that code, which may be an extended one.
func failed(err error, code int) bool {
	e, ok := errors.AsType[*sqlite.Error](err)
	return ok && (e.Code() == code || e.Code()&0xff == code)
}

// explain puts what says that the database cannot be used at the moment under the error that callers can test for.
func explain(err error) error {
	if err == nil || errors.Is(err, queue.ErrUnavailable) || !unusable(err) {
		return err
	}
	return fmt.Errorf("%w: %w", queue.ErrUnavailable, err)
}

func unusable(err error) bool {
	return slices.ContainsFunc(unusableCodes, func(code int) bool { return failed(err, code) }) ||
		slices.ContainsFunc(unusableErrors, func(known error) bool { return errors.Is(err, known) })
}

// unusableCodes are those by which SQLite says that the file cannot be reached, that others hold it, or that there is no room.
var unusableCodes = []int{
	sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL,
	sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PROTOCOL,
}

// unusableErrors are those of database/sql for connections and databases that were closed.
var unusableErrors = []error{sql.ErrConnDone, driver.ErrBadConn, closedError()}

// closedError returns the error of every database that was closed. It has no name.
func closedError() error {
	db := sql.OpenDB(connector{})
	_ = db.Close()
	_, err := db.Conn(context.Background())
	return err
}

// errTimeout is why a call has ended that took as long as it may.
var errTimeout = errors.New("the timeout of the backend")

// bounded returns ctx for as long as a call may take.
func (b *Backend) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, b.opts.Timeout, errTimeout)
}

// waited returns the error of a wait that ctx has ended. If that was by the backend's own timeout, the database was not to be had.
func waited(ctx context.Context, what string) error {
	err := fmt.Errorf("wait for %s: %w", what, ctx.Err())
	if errors.Is(context.Cause(ctx), errTimeout) {
		return fmt.Errorf("%w: %w", queue.ErrUnavailable, err)
	}
	return err
}
