//go:build pgxmock

package pgqueue

import (
	"context"
	"errors"
	"reflect"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/pashagolub/pgxmock/v4"

	"github.com/slipway-build/slipway/internal/sqlqueue"
	"github.com/slipway-build/slipway/queue"
)

// These are answers that a real server cannot be made to give on demand: connections that die between two statements, after some rows,
// and while a transaction commits.

var errDead = errors.New("the connection died")

var (
	never   time.Time
	attempt = queue.AttemptID{Build: queue.ID{1}, Epoch: 1}
	other   = queue.AttemptID{Build: queue.ID{2}, Epoch: 1}
)

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

// A step expects one exchange with the database, which fails if err is not nil.
type step func(m *mock, err error)

// sent expects statements in one batch behind their prologue, and answers the last with rows. The exchange can fail at any of them.
func sent(rows func() *pgxmock.Rows, sql ...func(*statements) string) []step {
	steps := make([]step, len(sql)+1)
	for failing := range steps {
		steps[failing] = func(m *mock, err error) {
			batch := m.pool.ExpectBatch()
			first := batch.ExpectExec(prologueSQL).WithArgs(pgxmock.AnyArg()).WillReturnResult(pgconn.NewCommandTag("SELECT 1"))
			if failing == 0 {
				first.WillReturnError(err)
			}
			for i, text := range sql[:len(sql)-1] {
				e := batch.ExpectExec(text(&m.sql)).WithArgs(anyArgs(text(&m.sql))...).WillReturnResult(pgconn.NewCommandTag("SELECT 1"))
				if failing == i+1 {
					e.WillReturnError(err)
				}
			}
			text := sql[len(sql)-1](&m.sql)
			last := batch.ExpectQuery(text).WithArgs(anyArgs(text)...)
			if failing == len(sql) && err != nil {
				last.WillReturnError(err)
				return
			}
			last.WillReturnRows(rows())
		}
	}
	return steps
}

var placeholder = regexp.MustCompile(`\$[0-9]+`)

// anyArgs returns a matcher for each parameter of a statement.
func anyArgs(sql string) []any {
	found := placeholder.FindAllString(sql, -1)
	slices.Sort(found)
	args := make([]any, len(slices.Compact(found)))
	for i := range args {
		args[i] = pgxmock.AnyArg()
	}
	return args
}

func attemptRows(ids ...queue.AttemptID) func() *pgxmock.Rows {
	return func() *pgxmock.Rows {
		rows := pgxmock.NewRows([]string{"id", "epoch"})
		for _, id := range ids {
			rows.AddRow([16]byte(id.Build), id.Epoch)
		}
		return rows
	}
}

func endRows(ids ...queue.AttemptID) func() *pgxmock.Rows {
	return func() *pgxmock.Rows {
		rows := pgxmock.NewRows([]string{"id", "epoch", "state", "admitted", "class", "rank"})
		for _, id := range ids {
			rows.AddRow([16]byte(id.Build), id.Epoch, int16(sqlqueue.Succeeded), false, queue.ClassID(1), int64(1))
		}
		return rows
	}
}

// TestConnectionDiesBetweenStatements lets each exchange of a method fail in its turn. The method must say so, and must not pass off what
// it has so far for the whole.
func TestConnectionDiesBetweenStatements(t *testing.T) {
	type exchange struct {
		rows func() *pgxmock.Rows
		sql  []func(*statements) string
	}
	type texts = []func(*statements) string
	for _, test := range []struct {
		name      string
		exchanges []exchange
		call      func(ctx context.Context, b *Backend) (any, error)
	}{
		{
			"Accept",
			[]exchange{
				{attemptRows(attempt), texts{func(s *statements) string { return s.accept }}},
				{attemptRows(other), texts{func(s *statements) string { return s.accepted }}},
			},
			func(ctx context.Context, b *Backend) (any, error) {
				done, err := b.Accept(ctx, []queue.Acceptance{{AttemptID: attempt}, {AttemptID: other}}, never)
				return len(done), err
			},
		},
		{
			"Finish",
			[]exchange{
				{endRows(attempt), texts{func(s *statements) string { return s.lockEnding }, func(s *statements) string { return s.finish }}},
				{endRows(other), texts{func(s *statements) string { return s.finished }}},
			},
			func(ctx context.Context, b *Backend) (any, error) {
				done, err := b.Finish(ctx, []queue.Completion{
					{AttemptID: attempt, Outcome: queue.Succeeded}, {AttemptID: other, Outcome: queue.Succeeded},
				}, 0, never)
				return len(done), err
			},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			var steps [][]step
			for _, e := range test.exchanges {
				steps = append(steps, sent(e.rows, e.sql...))
			}
			for failing := range steps {
				for _, fail := range steps[failing] {
					m := newMock(t)
					for _, earlier := range steps[:failing] {
						earlier[0](m, nil)
					}
					fail(m, errDead)
					if got, err := test.call(t.Context(), m.Backend); !errors.Is(err, errDead) || got != 0 {
						t.Errorf("with exchange %d failing it returned %v, %v", failing, got, err)
					}
				}
			}
			m := newMock(t)
			for _, all := range steps {
				all[0](m, nil)
			}
			if got, err := test.call(t.Context(), m.Backend); err != nil || got != 2 {
				t.Errorf("with nothing failing it returned %v, %v; want both attempts", got, err)
			}
			m.met()
		})
	}
}

func (m *mock) met() {
	m.Helper()
	if err := m.pool.ExpectationsWereMet(); err != nil {
		m.Error(err)
	}
}

// TestConnectionDiesAmongRows lets the connection die when some rows have come.
func TestConnectionDiesAmongRows(t *testing.T) {
	broken := func(rows func() *pgxmock.Rows) func() *pgxmock.Rows {
		return func() *pgxmock.Rows { return rows().RowError(1, errDead) }
	}
	heads := func() *pgxmock.Rows {
		return pgxmock.NewRows([]string{"class", "rank", "n"}).AddRow(int32(1), int64(1), 1).AddRow(int32(2), int64(2), 1)
	}
	type texts = []func(*statements) string
	for name, test := range map[string]struct {
		sql  []func(*statements) string
		rows func() *pgxmock.Rows
		call func(ctx context.Context, b *Backend) (any, error)
	}{
		"Probe": {texts{func(s *statements) string { return s.probe }}, heads, func(ctx context.Context, b *Backend) (any, error) {
			return b.Probe(ctx, []queue.Reach{{Class: 1}, {Class: 2}}, 1)
		}},
		"Release": {texts{func(s *statements) string { return s.release }}, attemptRows(attempt, other), func(ctx context.Context, b *Backend) (any, error) {
			return b.Release(ctx, []queue.AttemptID{attempt, other}, 0, never)
		}},
		"Finish": {texts{
			func(s *statements) string { return s.lockEnding }, func(s *statements) string { return s.finish },
		}, endRows(attempt, other), func(ctx context.Context, b *Backend) (any, error) {
			return b.Finish(ctx, []queue.Completion{{AttemptID: attempt}, {AttemptID: other}}, 0, never)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMock(t)
			sent(broken(test.rows), test.sql...)[0](m, nil)
			got, err := test.call(t.Context(), m.Backend)
			if !errors.Is(err, errDead) || !reflect.ValueOf(got).IsNil() {
				t.Errorf("it returned %v, %v; want the error alone", got, err)
			}
		})
	}
}

// lastWord is a database whose connection dies when a batch is closed, which is when its transaction commits.
type lastWord struct{ database }

func (l lastWord) SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults {
	return dyingResults{l.database.SendBatch(ctx, b)}
}

type dyingResults struct{ pgx.BatchResults }

func (d dyingResults) Close() error { return errors.Join(d.BatchResults.Close(), errDead) }

// TestCommitFails checks that nothing counts before the commit has succeeded, whatever rows came before.
func TestCommitFails(t *testing.T) {
	t.Run("Release", func(t *testing.T) {
		m := newMock(t)
		sent(attemptRows(attempt), func(s *statements) string { return s.release })[0](m, nil)
		m.db = lastWord{m.db}
		if done, err := m.Release(t.Context(), []queue.AttemptID{attempt}, 0, never); !errors.Is(err, errDead) || done != nil {
			t.Errorf("Release returned %v, %v", done, err)
		}
		m.met()
	})
	t.Run("Finish", func(t *testing.T) {
		m := newMock(t)
		sent(endRows(attempt), func(s *statements) string { return s.lockEnding }, func(s *statements) string { return s.finish })[0](m, nil)
		m.db = lastWord{m.db}
		if done, err := m.Finish(t.Context(), []queue.Completion{{AttemptID: attempt}}, 0, never); !errors.Is(err, errDead) || done != nil {
			t.Errorf("Finish returned %v, %v", done, err)
		}
		m.met()
	})
	t.Run("Submit", func(t *testing.T) {
		m := newMock(t)
		text := m.sql.submitOne.plain
		rows := pgxmock.NewRows([]string{"class", "state", "rank", "later"}).AddRow(queue.ClassID(1), int16(sqlqueue.Queued), int64(1), false)
		m.pool.ExpectQuery(text).WithArgs(anyArgs(text)...).WillReturnRows(rows.CloseError(errDead))
		if done, err := m.Submit(t.Context(), []queue.NewBuild{{ID: queue.NewID()}}, never); !errors.Is(err, errDead) || done != nil {
			t.Errorf("Submit returned %v, %v", done, err)
		}
		m.met()
	})
}

// adoptSteps are the exchanges of an Adopt that finds one lease.
func adoptSteps() []step {
	exec := func(sql func(*statements) string) step {
		return func(m *mock, err error) {
			text := sql(&m.sql)
			e := m.pool.ExpectExec(text).WithArgs(anyArgs(text)...)
			if err != nil {
				e.WillReturnError(err)
			} else {
				e.WillReturnResult(pgconn.NewCommandTag("UPDATE 0"))
			}
		}
	}
	query := func(sql func(*statements) string, rows func() *pgxmock.Rows) step {
		return func(m *mock, err error) {
			text := sql(&m.sql)
			e := m.pool.ExpectQuery(text).WithArgs(anyArgs(text)...)
			if err != nil {
				e.WillReturnError(err)
			} else {
				e.WillReturnRows(rows())
			}
		}
	}
	leaseRows := func(ids ...queue.AttemptID) func() *pgxmock.Rows {
		return func() *pgxmock.Rows {
			rows := pgxmock.NewRows([]string{
				"id", "epoch", "session", "worker", "project", "state", "token", "digest", "size", "reason", "length", "left",
			})
			for _, id := range ids {
				rows.AddRow([16]byte(id.Build), id.Epoch, int64(1), "w", "p", int16(sqlqueue.Running), nil, nil, nil, "", int64(0), int64(0))
			}
			return rows
		}
	}
	owner := func() *pgxmock.Rows { return pgxmock.NewRows([]string{"worker"}).AddRow("w") }
	return []step{
		func(m *mock, err error) { m.pool.ExpectBegin().WillReturnError(err) },
		exec(func(*statements) string { return prologueSQL }),
		query(func(s *statements) string { return s.lockSession }, owner),
		exec(func(s *statements) string { return s.lockLeases }),
		query(func(s *statements) string { return s.adopt }, leaseRows(attempt)),
		exec(func(s *statements) string { return s.takeBackUnheld }),
		query(func(s *statements) string { return s.reports }, leaseRows()),
		func(m *mock, err error) { m.pool.ExpectCommit().WillReturnError(err) },
	}
}

// TestAdoptFailsWhole lets each statement of the longest transaction fail in its turn: it is rolled back, and no lease is returned.
func TestAdoptFailsWhole(t *testing.T) {
	steps := adoptSteps()
	adopt := func(m *mock) ([]queue.Lease, error) {
		return m.Adopt(m.Context(), 1, []queue.AttemptID{attempt}, never)
	}
	for failing := range steps {
		m := newMock(t)
		for _, earlier := range steps[:failing] {
			earlier(m, nil)
		}
		steps[failing](m, errDead)
		if failing > 0 && failing < len(steps)-1 {
			m.pool.ExpectRollback()
		}
		if failing > 0 { // once more, to be sure
			m.pool.ExpectRollback().WillReturnError(pgx.ErrTxClosed)
		}
		if leases, err := adopt(m); !errors.Is(err, errDead) || leases != nil {
			t.Errorf("with step %d failing Adopt returned %v, %v", failing, leases, err)
		}
		m.met()
	}
	m := newMock(t)
	for _, all := range steps {
		all(m, nil)
	}
	m.pool.ExpectRollback().WillReturnError(pgx.ErrTxClosed)
	if leases, err := adopt(m); err != nil || len(leases) != 1 {
		t.Errorf("with nothing failing Adopt returned %v, %v", leases, err)
	}
	m.met()
}

// TestMaintainStopsAtAnError lets each statement of Maintain fail in its turn. What the ones before it did counts.
func TestMaintainStopsAtAnError(t *testing.T) {
	change := func(sql func(*statements) string) step {
		return func(m *mock, err error) {
			batch := m.pool.ExpectBatch()
			batch.ExpectExec(prologueSQL).WithArgs(pgxmock.AnyArg()).WillReturnResult(pgconn.NewCommandTag("SELECT 1"))
			text := sql(&m.sql)
			e := batch.ExpectExec(text).WithArgs(anyArgs(text)...)
			if err != nil {
				e.WillReturnError(err)
			} else {
				e.WillReturnResult(pgconn.NewCommandTag("UPDATE 1"))
			}
		}
	}
	collect := func(sql func(*statements) string, rows func() *pgxmock.Rows) step { return sent(rows, sql)[1] }
	one := func(column string, value any) func() *pgxmock.Rows {
		return func() *pgxmock.Rows { return pgxmock.NewRows([]string{column}).AddRow(value) }
	}
	queued := func() *pgxmock.Rows {
		return pgxmock.NewRows([]string{"class", "rank", "queued"}).AddRow(queue.ClassID(1), int64(1), true)
	}
	deleted := func() *pgxmock.Rows {
		return pgxmock.NewRows([]string{"id", "number", "project", "length"}).AddRow(pgtype.UUID{}, int64(1), "", int64(1))
	}
	steps := []struct {
		step step
		does func(*queue.Maintained)
	}{
		{change(func(s *statements) string { return s.expire }), func(d *queue.Maintained) { d.Expired++ }},
		{collect(func(s *statements) string { return s.takeBack }, queued), func(d *queue.Maintained) { d.Released++ }},
		{collect(func(s *statements) string { return s.orphans }, queued), func(d *queue.Maintained) { d.Released++ }},
		{collect(func(s *statements) string { return s.timeOut }, endRows(attempt)), func(d *queue.Maintained) { d.TimedOut++ }},
		{collect(func(s *statements) string { return s.force }, endRows(attempt)), func(d *queue.Maintained) { d.Canceled++ }},
		{collect(func(s *statements) string { return s.sweep }, endRows(attempt)), func(d *queue.Maintained) { d.Requeued++ }},
		{collect(func(s *statements) string { return s.unclassed }, one("exists", false)), func(*queue.Maintained) {}},
		{collect(func(s *statements) string { return s.classify }, queued), func(d *queue.Maintained) { d.Queued++ }},
		{collect(func(s *statements) string { return s.due }, queued), func(d *queue.Maintained) { d.Queued++ }},
		{change(func(s *statements) string { return s.settle }), func(d *queue.Maintained) { d.More = true }},
		{collect(func(s *statements) string { return s.retire }, deleted), func(d *queue.Maintained) { d.Deleted++ }},
		{collect(func(s *statements) string { return s.unreserve }, one("n", 1)), func(d *queue.Maintained) { d.Forgotten++ }},
		{change(func(s *statements) string { return s.forgetSessions }), func(d *queue.Maintained) { d.Forgotten++ }},
		{change(func(s *statements) string { return s.forgetControllers }), func(d *queue.Maintained) { d.Forgotten++ }},
		{change(func(s *statements) string { return s.forgetKeys }), func(d *queue.Maintained) { d.Forgotten++ }},
		{collect(func(s *statements) string { return s.fold }, one("n", 1)), func(d *queue.Maintained) { d.Folded++ }},
	}
	rules := queue.Rules{Controller: queue.NewID(), Retention: time.Hour, Limit: 10}
	for failing := range len(steps) + 1 {
		m := newMock(t)
		var want queue.Maintained
		for _, earlier := range steps[:failing] {
			earlier.step(m, nil)
			earlier.does(&want)
		}
		var wantErr error
		if failing < len(steps) {
			steps[failing].step(m, errDead)
			wantErr = errDead
		}
		got, err := m.Maintain(t.Context(), rules, never)
		got.Heads = nil
		if !errors.Is(err, wantErr) || !reflect.DeepEqual(got, want) {
			t.Errorf("with step %d failing Maintain returned %+v, %v; want %+v", failing, got, err, want)
		}
		m.met()
	}
}

// TestOpenSessionTriesAgain has others open sessions of the worker, and forget the controller, just before.
func TestOpenSessionTriesAgain(t *testing.T) {
	open := func(m *mock, err error) {
		sent(func() *pgxmock.Rows {
			return pgxmock.NewRows([]string{"id"}).AddRow(int64(7))
		}, func(s *statements) string { return s.openSession })[1](m, err)
	}
	m := newMock(t)
	for range 2 {
		open(m, &pgconn.PgError{Code: "23505", ConstraintName: "session_live"})
		open(m, &pgconn.PgError{Code: "23503", ConstraintName: "session_controller_id_fkey"})
	}
	open(m, nil)
	if id, err := m.OpenSession(t.Context(), queue.NewSession{Worker: "w"}, never); err != nil || id != 7 {
		t.Errorf("OpenSession returned %d, %v", id, err)
	}
	m.met()
	m = newMock(t)
	open(m, errDead)
	if id, err := m.OpenSession(t.Context(), queue.NewSession{Worker: "w"}, never); !errors.Is(err, errDead) || id != 0 {
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
		"40P01": nil, // a deadlock has no other name
		"53300": nil, // nor have too many connections
	} {
		m := newMock(t)
		reply := &pgconn.PgError{Code: code}
		sent(attemptRows(), func(s *statements) string { return s.release })[1](m, reply)
		_, err := m.Release(t.Context(), []queue.AttemptID{attempt}, 0, never)
		if !errors.Is(err, reply) || want != nil && !errors.Is(err, want) {
			t.Errorf("%s becomes %v, want %v around it", code, err, want)
		}
	}
}
