package faultconn_test

import (
	"context"
	"errors"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/slipway-build/slipway/internal/faultconn"
	"github.com/slipway-build/slipway/internal/testenv"
)

// A stage is a table on a real server, seen by a sound pool and by connections that break.
type stage struct {
	*testing.T
	*testenv.Database
	faultconn.Dialer
	table string
}

func newStage(t *testing.T) *stage {
	t.Helper()
	s := &stage{T: t, Database: testenv.Postgres(t)}
	s.table = s.Schema + ".thing"
	if _, err := s.Pool.Exec(t.Context(), "CREATE TABLE "+s.table+" (n int)"); err != nil {
		t.Fatal(err)
	}
	return s
}

// connect opens a connection by the dialer.
func (s *stage) connect() (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(s.DSN)
	if err != nil {
		s.Fatal(err)
	}
	config.DialFunc = s.Dial
	conn, err := pgx.ConnectConfig(s.Context(), config)
	if err == nil {
		s.Cleanup(func() { conn.Close(context.Background()) })
	}
	return conn, err
}

// must is connect where nothing shall go wrong.
func (s *stage) must() *pgx.Conn {
	s.Helper()
	conn, err := s.connect()
	if err != nil {
		s.Fatal(err)
	}
	return conn
}

// rows waits until the backend of conn, which was cut off, has ended, and returns how many rows there are.
func (s *stage) rows(conn *pgx.Conn) int {
	s.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		var ended bool
		var n int
		err := s.Pool.QueryRow(s.Context(), "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1)", conn.PgConn().PID()).Scan(&ended)
		if err == nil && ended {
			err = s.Pool.QueryRow(s.Context(), "SELECT count(*) FROM "+s.table).Scan(&n)
		}
		if err != nil {
			s.Fatal(err)
		}
		if ended {
			return n
		}
		<-tick.C
	}
}

func TestSoundUntilToldOtherwise(t *testing.T) {
	s := newStage(t)
	conn := s.must()
	if _, err := conn.Exec(t.Context(), "INSERT INTO "+s.table+" VALUES ($1)", 1); err != nil {
		t.Error(err)
	}
	s.Break(faultconn.Fault{At: faultconn.Asked, N: 100})
	if _, err := conn.Exec(t.Context(), "INSERT INTO "+s.table+" VALUES ($1)", 2); err != nil {
		t.Error(err)
	}
	if s.Mend() {
		t.Error("Mend says that a fault has struck which was far away")
	}
}

// Wherever in a statement the connection is cut, the server has inserted the row if it was asked to the end, and not otherwise.
func TestEveryByte(t *testing.T) {
	for name, at := range map[string]faultconn.Point{"Sent": faultconn.Sent, "Received": faultconn.Received} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			want := 0
			for n := 0; ; n++ {
				conn := s.must()
				if err := conn.Ping(t.Context()); err != nil {
					t.Fatal(err)
				}
				s.Break(faultconn.Fault{At: at, N: n})
				_, err := conn.Exec(t.Context(), "INSERT INTO "+s.table+" VALUES ($1)", pgx.QueryExecModeExec, n)
				if !s.Mend() {
					if err != nil || n < 30 {
						t.Errorf("after %d bytes: %v", n, err)
					}
					break
				}
				if !lost(err) {
					t.Errorf("cut after %d bytes it returned %v", n, err)
				}
				if at == faultconn.Received {
					want++
				}
				if got := s.rows(conn); got != want {
					t.Fatalf("cut after %d bytes there are %d rows, want %d", n, got, want)
				}
			}
		})
	}
}

// lost reports whether err is what pgx makes of a connection that is gone, and not one of the server's or a deadline's.
func lost(err error) bool {
	_, reply := errors.AsType[*pgconn.PgError](err)
	return err != nil && !reply && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled)
}

func TestEveryByteOfAStartup(t *testing.T) {
	for _, at := range []faultconn.Point{faultconn.Sent, faultconn.Received} {
		s := newStage(t)
		for n := 0; ; n += 7 {
			s.Break(faultconn.Fault{At: at, N: n})
			_, err := s.connect()
			if !s.Mend() {
				break
			}
			if _, connecting := errors.AsType[*pgconn.ConnectError](err); !connecting {
				t.Errorf("cut after %d bytes the connection failed with %v", n, err)
			}
		}
	}
}

// requests are calls that insert a row, with the number of the request that does it for good.
var requests = map[string]struct {
	last int
	call func(ctx context.Context, conn *pgx.Conn, insert string) error
}{
	"simple": {0, func(ctx context.Context, conn *pgx.Conn, insert string) error {
		_, err := conn.Exec(ctx, insert, pgx.QueryExecModeSimpleProtocol, 1)
		return err
	}},
	"prepared": {1, func(ctx context.Context, conn *pgx.Conn, insert string) error {
		_, err := conn.Exec(ctx, insert, 1)
		return err
	}},
	"batch": {1, func(ctx context.Context, conn *pgx.Conn, insert string) error {
		batch := new(pgx.Batch)
		batch.Queue("SELECT $1::int", 1)
		batch.Queue(insert, 1)
		return conn.SendBatch(ctx, batch).Close()
	}},
	"transaction": {2, func(ctx context.Context, conn *pgx.Conn, insert string) error {
		return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, insert, pgx.QueryExecModeExec, 1)
			return err
		})
	}},
}

func TestEveryRequest(t *testing.T) {
	for name, test := range requests {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			want := 0
			for _, at := range []faultconn.Point{faultconn.Asked, faultconn.Answered} {
				for n := 0; ; n++ {
					conn := s.must()
					s.Break(faultconn.Fault{At: at, N: n})
					err := test.call(t.Context(), conn, "INSERT INTO "+s.table+" VALUES ($1)")
					struck := s.Mend()
					if struck != (n <= test.last) {
						t.Fatalf("request %d: struck is %v, and there should be %d", n, struck, test.last+1)
					}
					if !struck {
						break
					}
					if !lost(err) {
						t.Errorf("request %d failed with %v", n, err)
					}
					if at == faultconn.Answered && n == test.last {
						want++
					}
					if got := s.rows(conn); got != want {
						t.Errorf("point %d, request %d: there are %d rows, want %d", at, n, got, want)
					}
				}
				if _, err := s.Pool.Exec(t.Context(), "TRUNCATE "+s.table); err != nil {
					t.Fatal(err)
				}
				want = 0
			}
		})
	}
}

// A copy asks twice: for leave to send the rows, and by their end. pgx does not wait for the first answer, so that the rows may be
// there without it.
func TestCopy(t *testing.T) {
	for n, want := range [][]int{{0, 2}, {2}} {
		s := newStage(t)
		conn := s.must()
		rows := pgx.CopyFromRows([][]any{{1}, {2}})
		s.Break(faultconn.Fault{At: faultconn.Answered, N: 1 + n}) // the first request is for the columns
		if _, err := conn.CopyFrom(t.Context(), pgx.Identifier{s.Schema, "thing"}, []string{"n"}, rows); !lost(err) {
			t.Errorf("CopyFrom returned %v", err)
		}
		if !s.Mend() {
			t.Error("the fault has not struck")
		}
		if got := s.rows(conn); !slices.Contains(want, got) {
			t.Errorf("answer %d lost: there are %d rows, want one of %v", n, got, want)
		}
	}
}

// A connection that stalls ends by the client's deadline alone.
func TestStall(t *testing.T) {
	for _, f := range []faultconn.Fault{
		{At: faultconn.Sent, N: 20}, {At: faultconn.Received, N: 20}, {At: faultconn.Asked}, {At: faultconn.Answered},
	} {
		s := newStage(t)
		conn := s.must()
		f.Stall = true
		s.Break(f)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		_, err := conn.Exec(ctx, "INSERT INTO "+s.table+" VALUES ($1)", pgx.QueryExecModeExec, 1)
		if !errors.Is(err, context.DeadlineExceeded) || ctx.Err() == nil {
			t.Errorf("%+v: Exec returned %v", f, err)
		}
		if !s.Mend() {
			t.Errorf("%+v has not struck", f)
		}
		want := 0
		if f.At == faultconn.Received || f.At == faultconn.Answered {
			want = 1
		}
		if got := s.rows(conn); got != want {
			t.Errorf("%+v: there are %d rows, want %d", f, got, want)
		}
	}
}

// A fault strikes once: a connection that follows is sound, and one that was struck stays so.
func TestStrikesOnce(t *testing.T) {
	s := newStage(t)
	first, second := s.must(), s.must()
	s.Break(faultconn.Fault{At: faultconn.Asked})
	if err := first.Ping(t.Context()); err == nil {
		t.Error("the first connection is sound")
	}
	if err := second.Ping(t.Context()); err != nil {
		t.Errorf("the second connection is broken, too: %v", err)
	}
	s.Mend()
	if err := first.Ping(t.Context()); err == nil {
		t.Error("the first connection is sound again")
	}
}

// A reader that waits while its connection is cut by the writer learns that it has ended.
func TestReaderWaits(t *testing.T) {
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	var d faultconn.Dialer
	conn, err := d.Dial(t.Context(), "tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	read := make(chan error)
	go func() {
		_, err := conn.Read(make([]byte, 1))
		read <- err
	}()
	d.Break(faultconn.Fault{At: faultconn.Sent, N: 2})
	if n, err := conn.Write([]byte("long")); n != 2 || err == nil {
		t.Errorf("Write returned %d, %v; want 2 and an error", n, err)
	}
	if err := <-read; err == nil {
		t.Error("Read returned no error")
	}
}
