package pgqueue

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/slipway-build/slipway/queue"
)

// A database is what statements need of a *pgxpool.Pool. Every call borrows one connection and gives it back before it returns,
// or when what it returned is closed; nothing here asks for a second one in between.
type database interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	Begin(ctx context.Context) (pgx.Tx, error)
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
}

// prologueSQL prepares a transaction. The server shall end the statements that follow: a client that goes away while its statement waits
// for a lock is not noticed by the server, which would go on waiting, and then make the change. And a statement shall be planned once
// for a connection, not for each call, which takes longer than most of them run. Such a plan may be made while the tables are small
// and be kept while they grow, so that it must not read them whole, nor gather all of a class to sort it, nor be worth compiling.
//
// In a transaction that sees a single snapshot, what is decided behind a lock would be decided by what was before it. There it is an error to
// ask for another level; elsewhere it does nothing.
const prologueSQL = `
SELECT set_config('statement_timeout', $1, true), set_config('plan_cache_mode', 'force_generic_plan', true),
	set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true), set_config('jit', 'off', true),
	set_config('transaction_isolation', 'read committed', true)`

// collect runs one statement in a transaction of its own and returns its rows.
func collect[T any](ctx context.Context, b *Backend, scan pgx.RowToFunc[T], sql string, args ...any) ([]T, error) {
	var items []T
	err := b.send(ctx, sql, args, func(results pgx.BatchResults) error {
		rows, err := results.Query()
		if err != nil {
			return err
		}
		items, err = pgx.CollectRows(rows, scan)
		return err
	})
	if err != nil {
		return nil, err
	}
	return items, nil
}

// change runs one statement in a transaction of its own and returns how many rows it changed.
func (b *Backend) change(ctx context.Context, sql string, args ...any) (int, error) {
	var changed int
	err := b.send(ctx, sql, args, func(results pgx.BatchResults) error {
		tag, err := results.Exec()
		changed = int(tag.RowsAffected())
		return err
	})
	if err != nil {
		return 0, err
	}
	return changed, nil
}

// A command is a statement and its arguments.
type command struct {
	sql  string
	args []any
}

// send sends a statement behind the prologue, both in one round trip and one transaction, and lets read have its result.
func (b *Backend) send(ctx context.Context, sql string, args []any, read func(pgx.BatchResults) error) error {
	return b.sendAll(ctx, read, command{sql, args})
}

// sendAll is send for several statements, of which each sees what was committed before it began. Read has the result of the last.
func (b *Backend) sendAll(ctx context.Context, read func(pgx.BatchResults) error, commands ...command) error {
	ctx, cancel := b.bounded(ctx)
	defer cancel()
	batch := new(pgx.Batch)
	batch.Queue(prologueSQL, serverLimit{ctx})
	for _, c := range commands {
		batch.Queue(c.sql, c.args...)
	}
	results := b.db.SendBatch(ctx, batch)
	var err error
	for range commands { // the prologue, and all but the last
		if err == nil {
			_, err = results.Exec()
		}
	}
	if err == nil {
		err = read(results)
	}
	// The transaction ends, and its changes are durable, when Close says so.
	if closeErr := results.Close(); err == nil {
		err = closeErr
	}
	return explain(err)
}

// transact runs several statements in one transaction.
func (b *Backend) transact(ctx context.Context, do func(ctx context.Context, tx pgx.Tx) error) error {
	ctx, cancel := b.bounded(ctx)
	defer cancel()
	err := pgx.BeginFunc(ctx, b.db, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, prologueSQL, serverLimit{ctx}); err != nil {
			return err
		}
		return do(ctx, tx)
	})
	return explain(err)
}

// bounded gives ctx the backend's deadline.
func (b *Backend) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, b.timeout)
}

// A serverLimit is an argument: how long the server may take. It is less than is left of ctx, so that the server's word arrives before
// the connection is given up; and it is worked out when the argument is sent, because there may have been a wait for the connection.
type serverLimit struct{ ctx context.Context }

func (l serverLimit) Value() (driver.Value, error) {
	deadline, _ := l.ctx.Deadline()
	left := time.Until(deadline)
	return milliseconds(left - max(left/10, min(left/2, 200*time.Millisecond))), nil
}

// milliseconds writes a limit as the server reads it. Zero would mean no limit.
func milliseconds(d time.Duration) string {
	return strconv.FormatInt(max(1, d.Milliseconds()), 10)
}

// explain makes the server's own words for a limit that was reached, for a missing schema and for its being away ones that callers can
// test for.
func explain(err error) error {
	reply, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		if unreachable(err) {
			return fmt.Errorf("%w: %w", queue.ErrUnavailable, err)
		}
		return err
	}
	switch code := reply.Code; {
	case code == "57014" || code == "55P03": // query_canceled, lock_not_available
		return fmt.Errorf("%w: %w", context.DeadlineExceeded, err)
	case code == "3F000" || code == "42P01": // invalid_schema_name, undefined_table
		return fmt.Errorf("%w: %w", ErrOutdated, err)
	case slices.ContainsFunc(away, func(class string) bool { return strings.HasPrefix(code, class) }):
		return fmt.Errorf("%w: %w", queue.ErrUnavailable, err)
	default:
		return err
	}
}

// away are the classes of codes by which a server says that it cannot go on at the moment: connection exception, insufficient resources,
// the subclass of operator intervention that is about shutdowns and starts, and system error.
var away = []string{"08", "53", "57P", "58"}

// unreachable reports whether err is of the connection to the server, and not of a limit of ours. What the connection was to do may have
// been done.
func unreachable(err error) bool {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	_, connecting := errors.AsType[*pgconn.ConnectError](err)
	_, connected := errors.AsType[*net.OpError](err)
	return connecting || connected || slices.ContainsFunc(severed, func(known error) bool { return errors.Is(err, known) })
}

// severed are errors of connections that ended, as the network, pgx and database/sql tell them.
var severed = []error{io.EOF, io.ErrUnexpectedEOF, pgconn.ErrConnClosed, driver.ErrBadConn}

// present returns now as an argument: null, which stands for the server's clock, if it is zero.
func present(now time.Time) pgtype.Timestamptz {
	return pgtype.Timestamptz{Time: now, Valid: !now.IsZero()}
}

// uuid returns an id as an argument.
func uuid(id queue.ID) pgtype.UUID { return pgtype.UUID{Bytes: id, Valid: true} }

// scanAttemptID reads a build's id and an epoch.
func scanAttemptID(row pgx.CollectableRow) (queue.AttemptID, error) {
	var id queue.AttemptID
	err := row.Scan((*[16]byte)(&id.Build), &id.Epoch)
	return id, err
}
