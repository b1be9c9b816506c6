package sqlitequeue_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"modernc.org/sqlite"

	"github.com/slipway-build/slipway/internal/testenv"
	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/queue/sqlitequeue"
)

var errFault = errors.New("the disk is on fire")

// faults makes the statement fail that comes after a number of others, once.
type faults struct {
	driver.Connector
	mu   sync.Mutex
	left int // statements before the one that fails; negative: none does
}

func (f *faults) arm(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.left = n
}

// disarm reports whether the fault is still to come.
func (f *faults) disarm() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	left := f.left
	f.left = -1
	return left >= 0
}

// next counts a statement. What ends a transaction that failed, and tidies up, goes through.
func (f *faults) next(query string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.left < 0 || query == "ROLLBACK" || strings.HasPrefix(query, "PRAGMA busy_timeout =") {
		return nil
	}
	f.left--
	if f.left < 0 {
		return errFault
	}
	return nil
}

func (f *faults) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := f.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return &faultyConn{Conn: conn, faults: f}, nil
}

type faultyConn struct {
	driver.Conn
	faults *faults
}

func (c *faultyConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	if err := c.faults.next(query); err != nil {
		return nil, err
	}
	return c.Conn.(driver.ExecerContext).ExecContext(ctx, query, args)
}

func (c *faultyConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	if err := c.faults.next(query); err != nil {
		return nil, err
	}
	return c.Conn.(driver.QueryerContext).QueryContext(ctx, query, args)
}

// stage is a backend in which a worker holds one build, is offered another, and a third waits.
type stage struct {
	*sqlitequeue.Backend
	now                      time.Time
	controller               queue.ID
	session                  queue.SessionID
	class                    queue.ClassID
	waiting, offered, leased queue.AttemptID
}

const project = "project"

var logLimit = queue.LogLimit{Bytes: 1 << 20, Lines: 1000}

func newStage(t *testing.T, b *sqlitequeue.Backend) *stage {
	t.Helper()
	s := &stage{Backend: b, now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), controller: queue.NewID()}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	facts := newSession("worker", 3)
	facts.Controller = s.controller
	_, err := b.Beat(t.Context(), s.controller, time.Hour, s.now)
	must(err)
	s.session, err = b.OpenSession(t.Context(), facts, s.now)
	must(err)
	for _, id := range []*queue.AttemptID{&s.leased, &s.offered, &s.waiting} {
		s.now = s.now.Add(time.Second)
		_, err := b.Submit(t.Context(), []queue.NewBuild{s.build()}, s.now)
		must(err)
		_, err = b.Maintain(t.Context(), queue.Rules{Limit: 10}, s.now)
		must(err)
		classes, err := b.Classes(t.Context(), 0, 1)
		must(err)
		s.class = classes[0].ID
		if id == &s.waiting {
			continue
		}
		claimed, err := s.claim(t.Context())
		must(err)
		*id = claimed[0].AttemptID
		if id == &s.leased {
			must(s.accept(t.Context(), *id))
		}
	}
	builds, err := b.List(t.Context(), queue.Filter{Project: project, Limit: 1})
	must(err)
	s.waiting.Build = builds[0].ID
	return s
}

func (s *stage) build() queue.NewBuild {
	return queue.NewBuild{
		ID: queue.NewID(), Project: project, Pool: queue.DefaultPool, RunTimeout: time.Hour, QueueTimeout: 24 * time.Hour, MaxAttempts: 2,
		Backoff: queue.Backoff{Base: time.Second, Max: time.Minute},
	}
}

func (s *stage) claim(ctx context.Context) ([]queue.Claimed, error) {
	demand := []queue.Demand{{Reach: queue.Reach{Class: s.class, Floor: queue.NoFloor}, Slots: []queue.SessionID{s.session}}}
	return s.Claim(ctx, demand, time.Minute, s.now)
}

func (s *stage) accept(ctx context.Context, id queue.AttemptID) error {
	done, err := s.Accept(ctx, []queue.Acceptance{{AttemptID: id, Session: s.session, TokenHash: queue.Digest{1}}}, s.now)
	if err == nil && len(done) == 0 {
		err = queue.ErrStaleLease
	}
	return err
}

// snapshot returns all that is stored.
func snapshot(t *testing.T, db *sql.DB) string {
	t.Helper()
	var text strings.Builder
	for _, table := range []string{"build", "attempt", "log_head", "log_chunk", "artifact", "class", "session", "controller"} {
		if err := dump(t.Context(), &text, db, table); err != nil {
			t.Fatal(err)
		}
	}
	return text.String()
}

func dump(ctx context.Context, text *strings.Builder, db *sql.DB, table string) error {
	rows, err := db.QueryContext(ctx, "SELECT * FROM slipway_"+table)
	if err != nil {
		return err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return err
	}
	for rows.Next() {
		values := make([]any, len(columns))
		for i := range values {
			values[i] = new(any)
		}
		if err := rows.Scan(values...); err != nil {
			return err
		}
		for i, v := range values {
			fmt.Fprintf(text, "%s.%s=%v ", table, columns[i], *v.(*any))
		}
		text.WriteByte('\n')
	}
	return rows.Err()
}

// preparations are what has to happen on a stage before a change.
var preparations = map[string]func(context.Context, *stage) error{
	"Sweep": func(ctx context.Context, s *stage) error {
		return s.LoseSessions(ctx, []queue.SessionID{s.session}, s.now)
	},
	"Adopt": func(ctx context.Context, s *stage) (err error) {
		facts := newSession("worker", 1)
		facts.Controller = s.controller
		s.session, err = s.OpenSession(ctx, facts, s.now)
		return err
	},
}

// changes are the calls that change something on a stage.
var changes = map[string]func(context.Context, *stage) error{
	"Submit": func(ctx context.Context, s *stage) error {
		_, err := s.Submit(ctx, []queue.NewBuild{s.build()}, s.now)
		return err
	},
	"Claim":  func(ctx context.Context, s *stage) error { _, err := s.claim(ctx); return err },
	"Accept": func(ctx context.Context, s *stage) error { return s.accept(ctx, s.offered) },
	"Release": func(ctx context.Context, s *stage) error {
		_, err := s.Release(ctx, []queue.AttemptID{s.offered}, time.Minute, s.now)
		return err
	},
	"Finish": func(ctx context.Context, s *stage) error {
		_, err := s.Finish(ctx, []queue.Completion{{AttemptID: s.leased, Outcome: queue.Lost}}, time.Minute, s.now)
		return err
	},
	"Cancel": func(ctx context.Context, s *stage) error {
		_, err := s.Cancel(ctx, project, []queue.ID{s.leased.Build}, "not wanted", time.Minute, s.now)
		return err
	},
	"Maintain": func(ctx context.Context, s *stage) error {
		_, err := s.Maintain(ctx, queue.Rules{Controller: s.controller, Limit: 10}, s.now.Add(2*time.Hour))
		return err
	},
	"Sweep": func(ctx context.Context, s *stage) error {
		_, err := s.Maintain(ctx, queue.Rules{Controller: s.controller, Limit: 10, Avoid: time.Minute}, s.now.Add(time.Minute))
		return err
	},
	"Adopt": func(ctx context.Context, s *stage) error {
		_, err := s.Adopt(ctx, s.session, nil, s.now)
		return err
	},
	"Beat": func(ctx context.Context, s *stage) error {
		_, err := s.Beat(ctx, s.controller, 2*time.Hour, s.now)
		return err
	},
	"OpenSession": func(ctx context.Context, s *stage) error {
		facts := newSession("worker", 1)
		facts.Controller = queue.NewID()
		_, err := s.OpenSession(ctx, facts, s.now)
		return err
	},
	"LoseSessions": func(ctx context.Context, s *stage) error {
		return s.LoseSessions(ctx, []queue.SessionID{s.session}, s.now)
	},
	"AppendLogs": func(ctx context.Context, s *stage) error {
		_, err := s.AppendLogs(ctx, []queue.LogChunk{{AttemptID: s.leased, Data: []byte("hello")}}, logLimit, s.now)
		return err
	},
	"ReserveArtifact": func(ctx context.Context, s *stage) error {
		_, err := s.ReserveArtifact(ctx, queue.NewArtifact{AttemptID: s.leased, Name: "app", Size: 1}, s.now)
		return err
	},
}

// Whichever statement of a call fails, nothing was changed; and when none fails any more, the call does what it should.
func TestEveryStatementMayFail(t *testing.T) {
	for name, call := range changes {
		t.Run(name, func(t *testing.T) {
			connector, err := sqlite.NewConnector("file:" + testenv.SQLite(t) + "?_synchronous=OFF&_journal_mode=WAL")
			if err != nil {
				t.Fatal(err)
			}
			f := &faults{Connector: connector, left: -1}
			db := sql.OpenDB(f)
			closeAtEnd(t, db)
			s := newStage(t, migrated(t, db, nil))
			if prepare := preparations[name]; prepare != nil {
				if err := prepare(t.Context(), s); err != nil {
					t.Fatal(err)
				}
			}
			before := snapshot(t, db)
			for n := 0; ; n++ {
				f.arm(n)
				err := call(t.Context(), s)
				if f.disarm() {
					t.Logf("%d statements", n)
					if err != nil {
						t.Errorf("after all failures: %v", err)
					}
					break
				}
				if !errors.Is(err, errFault) {
					t.Errorf("statement %d failed, and the call returned %v", n, err)
				}
				if after := snapshot(t, db); after != before {
					t.Fatalf("statement %d failed, and what was\n%s\nis\n%s", n, before, after)
				}
			}
			if snapshot(t, db) == before {
				t.Error("the call changes nothing: the test shows nothing")
			}
		})
	}
}
