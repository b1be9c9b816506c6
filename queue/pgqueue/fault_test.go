//go:build pgxmock

package pgqueue

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/pashagolub/pgxmock/v4"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/queue/queuetest"
)

// These are answers that a real server cannot be made to give on demand: one item of a batch that fails, a connection that dies among rows,
// a commit or a copy that is refused, a worker that connects twice at the right moment, errors of all kinds. What a connection that is
// cut does is tried on a real server.

var errDead = errors.New("the connection died")

var never time.Time

// A mock is a backend on a scripted database.
type mock struct {
	*testing.T
	*Backend
	pool pgxmock.PgxPoolIface
}

func newMock(t *testing.T) *mock {
	t.Helper()
	pool, err := pgxmock.NewPool(pgxmock.QueryMatcherOption(pgxmock.QueryMatcherEqual))
	if err != nil {
		t.Fatal(err)
	}
	b, err := newBackend(pool, nil, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return &mock{t, b, pool}
}

func (m *mock) met() {
	m.Helper()
	if err := m.pool.ExpectationsWereMet(); err != nil {
		m.Error(err)
	}
}

// expectPrologue expects what begins every batch.
func expectPrologue(batch *pgxmock.ExpectedBatch) *pgxmock.ExpectedExec {
	return batch.ExpectExec(prologueSQL).WithArgs(pgxmock.AnyArg()).WillReturnResult(pgconn.NewCommandTag("SELECT 1"))
}

// numbers are rows of one column, the last of which cannot be read if err is not nil.
func numbers(err error) *pgxmock.Rows {
	rows := pgxmock.NewRows([]string{"n"}).AddRow(int64(1)).AddRow(int64(2))
	if err != nil {
		rows.RowError(1, err)
	}
	return rows
}

// TestBatchFails lets each item of a batch fail in its turn, then the rows of the last one, then the commit. Nothing of what came before
// counts.
func TestBatchFails(t *testing.T) {
	const items = 3 // behind the prologue
	for failing := range items + 3 {
		m := newMock(t)
		dies := func(item int) error {
			if item == failing {
				return errDead
			}
			return nil
		}
		batch := m.pool.ExpectBatch()
		if err := dies(0); err != nil {
			expectPrologue(batch).WillReturnError(err)
		} else {
			expectPrologue(batch)
		}
		var commands []command
		for i := 1; i < items; i++ {
			commands = append(commands, command{fmt.Sprintf("UPDATE %d", i), nil})
			item := batch.ExpectExec(commands[i-1].sql).WillReturnResult(pgconn.NewCommandTag("UPDATE 1"))
			if err := dies(i); err != nil {
				item.WillReturnError(err)
			}
		}
		commands = append(commands, command{"SELECT n", nil})
		query := batch.ExpectQuery("SELECT n").WillReturnRows(numbers(dies(items + 1)))
		if err := dies(items); err != nil {
			query.WillReturnError(err)
		}
		if dies(items+2) != nil {
			m.db = lastWord{m.db}
		}
		var got []int64
		err := m.sendAll(t.Context(), func(results pgx.BatchResults) error {
			rows, err := results.Query()
			if err == nil {
				got, err = pgx.CollectRows(rows, pgx.RowTo[int64])
			}
			return err
		}, commands...)
		if !errors.Is(err, errDead) {
			t.Errorf("with item %d failing it returned %v", failing, err)
		}
		if failing <= items+1 && got != nil {
			t.Errorf("with item %d failing it read %v", failing, got)
		}
	}
}

// TestNothingCountsBeforeTheCommit checks that no rows are returned, and no number of changes, if the end of a batch fails.
func TestNothingCountsBeforeTheCommit(t *testing.T) {
	m := newMock(t)
	m.db = lastWord{m.db}
	batch := m.pool.ExpectBatch()
	expectPrologue(batch)
	batch.ExpectQuery("SELECT n").WillReturnRows(numbers(nil))
	if rows, err := collect(t.Context(), m.Backend, pgx.RowTo[int64], "SELECT n"); !errors.Is(err, errDead) || rows != nil {
		t.Errorf("collect returned %v, %v", rows, err)
	}
	batch = m.pool.ExpectBatch()
	expectPrologue(batch)
	batch.ExpectExec("UPDATE").WillReturnResult(pgconn.NewCommandTag("UPDATE 2"))
	if n, err := m.change(t.Context(), "UPDATE"); !errors.Is(err, errDead) || n != 0 {
		t.Errorf("change returned %d, %v", n, err)
	}
	m.met()
}

// TestQuickStatementFails lets a statement fail that is sent by itself: when it is sent, among its rows, and at its end.
func TestQuickStatementFails(t *testing.T) {
	for name, expect := range map[string]func(*pgxmock.ExpectedQuery){
		"sent":  func(q *pgxmock.ExpectedQuery) { q.WillReturnError(errDead) },
		"rows":  func(q *pgxmock.ExpectedQuery) { q.WillReturnRows(numbers(errDead)) },
		"ended": func(q *pgxmock.ExpectedQuery) { q.WillReturnRows(numbers(nil).CloseError(errDead)) },
	} {
		m := newMock(t)
		expect(m.pool.ExpectQuery("SELECT n"))
		var n int64
		err := quickRunner{m.db}.run(t.Context(), statement{plain: "SELECT n"}, nil, func(scan scanner) error { return scan(&n) })
		if !errors.Is(err, errDead) {
			t.Errorf("%s: it returned %v", name, err)
		}
		m.met()
	}
}

// lastWord is a database whose connection dies when a batch is closed, which is when its transaction commits.
type lastWord struct{ database }

func (l lastWord) SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults {
	return dyingResults{l.database.SendBatch(ctx, b)}
}

type dyingResults struct{ pgx.BatchResults }

func (d dyingResults) Close() error { return errors.Join(d.BatchResults.Close(), errDead) }

// TestTransactionFails lets each step of a transaction of several statements fail in its turn: its begin, the prologue, a statement, a
// copy, the commit.
func TestTransactionFails(t *testing.T) {
	table := pgx.Identifier{"t"}
	const steps = 5
	for failing := range steps + 1 {
		m := newMock(t)
		dies := func(step int) error {
			if step == failing {
				return errDead
			}
			return nil
		}
		m.pool.ExpectBegin().WillReturnError(dies(0))
		if failing >= 1 {
			m.pool.ExpectExec(prologueSQL).WithArgs(pgxmock.AnyArg()).WillReturnResult(pgconn.NewCommandTag("SELECT 1")).WillReturnError(dies(1))
		}
		if failing >= 2 {
			m.pool.ExpectExec("UPDATE").WillReturnResult(pgconn.NewCommandTag("UPDATE 1")).WillReturnError(dies(2))
		}
		if failing >= 3 {
			m.pool.ExpectCopyFrom(table, []string{"n"}).WillReturnResult(1).WillReturnError(dies(3))
		}
		if failing >= 4 {
			m.pool.ExpectCommit().WillReturnError(dies(4))
		} else if failing > 0 {
			m.pool.ExpectRollback()
		}
		if failing > 0 { // pgx rolls back once more, to be sure
			m.pool.ExpectRollback().WillReturnError(pgx.ErrTxClosed)
		}
		err := m.transact(t.Context(), func(ctx context.Context, tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, "UPDATE"); err != nil {
				return err
			}
			_, err := tx.CopyFrom(ctx, table, []string{"n"}, pgx.CopyFromRows([][]any{{1}}))
			return err
		})
		if want := failing < steps; want != errors.Is(err, errDead) || want != (err != nil) {
			t.Errorf("with step %d of %d failing it returned %v", failing, steps, err)
		}
		m.met()
	}
}

// TestOpenSessionTriesAgain has others open sessions of the worker, and forget the controller, just before.
func TestOpenSessionTriesAgain(t *testing.T) {
	args := make([]any, 8)
	for i := range args {
		args[i] = pgxmock.AnyArg()
	}
	open := func(m *mock, err error) {
		batch := m.pool.ExpectBatch()
		expectPrologue(batch)
		query := batch.ExpectQuery(m.sql.openSessions).WithArgs(args...).WillReturnRows(pgxmock.NewRows([]string{"worker", "id", "offers"}).AddRow("w", queue.SessionID(7), false))
		if err != nil {
			query.WillReturnError(err)
		}
	}
	m := newMock(t)
	for range 2 {
		open(m, &pgconn.PgError{Code: "23505", ConstraintName: "session_live"})
		open(m, &pgconn.PgError{Code: "23503", ConstraintName: "session_controller_id_fkey"})
	}
	open(m, nil)
	if id, err := queuetest.Open(t.Context(), m, queue.NewSession{Worker: "w"}, never); err != nil || id != 7 {
		t.Errorf("OpenSession returned %d, %v", id, err)
	}
	m.met()
	m = newMock(t)
	open(m, errDead)
	if id, err := queuetest.Open(t.Context(), m, queue.NewSession{Worker: "w"}, never); !errors.Is(err, errDead) || id != 0 {
		t.Errorf("OpenSession on a dead connection returned %d, %v", id, err)
	}
	m.met()
}

// TestServersWords checks what becomes of the codes that a server answers with.
func TestServersWords(t *testing.T) {
	for code, want := range map[string]error{
		"57014": context.DeadlineExceeded, // statement_timeout
		"55P03": context.DeadlineExceeded, // lock_timeout
		"3F000": ErrOutdated,
		"42P01": ErrOutdated,
		"08006": queue.ErrUnavailable, // connection_failure
		"53100": queue.ErrUnavailable, // disk_full
		"53300": queue.ErrUnavailable, // too_many_connections
		"57P01": queue.ErrUnavailable, // admin_shutdown
		"57P02": queue.ErrUnavailable, // crash_shutdown
		"57P03": queue.ErrUnavailable, // cannot_connect_now
		"58030": queue.ErrUnavailable, // io_error
		"40P01": nil,                  // a deadlock has no other name
	} {
		m := newMock(t)
		reply := &pgconn.PgError{Code: code}
		batch := m.pool.ExpectBatch()
		expectPrologue(batch)
		batch.ExpectExec("UPDATE").WillReturnError(reply)
		_, err := m.change(t.Context(), "UPDATE")
		if !errors.Is(err, reply) || want != nil && !errors.Is(err, want) {
			t.Errorf("%s becomes %v, want %v around it", code, err, want)
		}
	}
}
