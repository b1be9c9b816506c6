package pgxdb_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/uptrace/bun"

	"github.com/slipway-build/slipway/internal/pgxdb"
	"github.com/slipway-build/slipway/internal/testenv"
)

type item struct {
	bun.BaseModel `bun:"table:item"`

	ID   int64 `bun:",pk"`
	Name string
	At   time.Time
	Raw  []byte
}

// open returns a database with an empty table of items, over a pool of the given size.
func open(t *testing.T, maxConns int32) (*bun.DB, *pgxpool.Pool, string) {
	t.Helper()
	d := testenv.Postgres(t)
	if _, err := d.Pool.Exec(t.Context(), "CREATE TABLE "+d.Schema+".item (id bigint PRIMARY KEY, name text, at timestamptz, raw bytea)"); err != nil {
		t.Fatal(err)
	}
	pool := d.Open(t, func(c *pgxpool.Config) { c.MaxConns = maxConns })
	return pgxdb.Open(pool), pool, d.Schema + ".item"
}

func TestNothingIsPrepared(t *testing.T) {
	const conns = 3
	db, pool, table := open(t, conns)
	ctx := t.Context()
	for i := range 200 {
		var got []item
		if err := db.NewSelect().Model(&got).ModelTableExpr(table+" AS item").Where("id = ?", i).Scan(ctx); err != nil {
			t.Fatal(err)
		}
		if _, err := db.ExecContext(ctx, "UPDATE "+table+" SET name = ? WHERE id = ?", "x", i); err != nil {
			t.Fatal(err)
		}
	}
	for range conns {
		c, err := pool.Acquire(ctx)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Release()
		var prepared int
		// This query must not count itself.
		if err := c.QueryRow(ctx, "SELECT count(*) FROM pg_prepared_statements", pgx.QueryExecModeExec).Scan(&prepared); err != nil {
			t.Fatal(err)
		}
		if prepared != 0 {
			t.Errorf("connection holds %d prepared statements, want none", prepared)
		}
	}
}

func TestValuesRoundTrip(t *testing.T) {
	db, _, table := open(t, 2)
	ctx := t.Context()
	want := item{ID: 1 << 60, Name: `it's \ "quoted" ?`, At: time.Now().UTC().Truncate(time.Microsecond), Raw: []byte{0, 1, 0xff}}
	if _, err := db.NewInsert().Model(&want).ModelTableExpr(table).Exec(ctx); err != nil {
		t.Fatal(err)
	}
	var got item
	if err := db.NewSelect().Model(&got).ModelTableExpr(table+" AS item").Where("name = ?", want.Name).Scan(ctx); err != nil {
		t.Fatal(err)
	}
	if got.ID != want.ID || got.Name != want.Name || !got.At.Equal(want.At) || string(got.Raw) != string(want.Raw) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	// Arguments that bun does not write into the text are sent as parameters.
	var n int64
	if err := db.DB.QueryRowContext(ctx, "SELECT id FROM "+table+" WHERE raw = $1 AND at = $2", want.Raw, want.At).Scan(&n); err != nil || n != want.ID {
		t.Errorf("query with parameters = %d, %v; want %d", n, err, want.ID)
	}
}

func TestTransactions(t *testing.T) {
	db, _, table := open(t, 1)
	ctx := t.Context()
	insert := func(ctx context.Context, tx bun.IDB, id int64) error {
		_, err := tx.NewInsert().Model(&item{ID: id}).ModelTableExpr(table).Exec(ctx)
		return err
	}
	undo := errors.New("undo")
	err := db.RunInTx(ctx, nil, func(ctx context.Context, tx bun.Tx) error {
		return errors.Join(insert(ctx, tx, 1), undo)
	})
	if !errors.Is(err, undo) {
		t.Fatalf("RunInTx = %v, want the error of the function", err)
	}
	err = db.RunInTx(ctx, &sql.TxOptions{Isolation: sql.LevelSerializable}, func(ctx context.Context, tx bun.Tx) error {
		var level string
		if err := tx.QueryRowContext(ctx, "SHOW transaction_isolation").Scan(&level); err != nil {
			return err
		}
		if level != "serializable" {
			t.Errorf("isolation = %q, want serializable", level)
		}
		return insert(ctx, tx, 2)
	})
	if err != nil {
		t.Fatal(err)
	}
	var ids []int64
	if err := db.NewSelect().TableExpr(table).Column("id").Scan(ctx, &ids); err != nil {
		t.Fatal(err)
	}
	if len(ids) != 1 || ids[0] != 2 {
		t.Errorf("rows after one rollback and one commit: %v, want [2]", ids)
	}
	err = db.RunInTx(ctx, &sql.TxOptions{ReadOnly: true}, func(ctx context.Context, tx bun.Tx) error {
		return insert(ctx, tx, 3)
	})
	if err == nil {
		t.Error("a read-only transaction accepted an insert")
	}
}

func TestPoolOfOneServesBothSides(t *testing.T) {
	db, pool, table := open(t, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for range 20 {
		if err := db.PingContext(ctx); err != nil {
			t.Fatal(err)
		}
		if _, err := db.ExecContext(ctx, "DELETE FROM "+table); err != nil {
			t.Fatal(err)
		}
		if _, err := pool.Exec(ctx, "DELETE FROM "+table); err != nil {
			t.Fatal(err)
		}
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := tx.Rollback(); err != nil {
			t.Fatal(err)
		}
	}
	if got := pool.Stat().AcquiredConns(); got != 0 {
		t.Errorf("%d connections are held between uses, want 0", got)
	}
}

func TestCanceledQueryFreesItsConnection(t *testing.T) {
	db, pool, _ := open(t, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := db.ExecContext(ctx, "SELECT pg_sleep(60)"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error = %v, want the deadline", err)
	}
	if err := pool.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	if err := db.PingContext(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestDriverConnKeepsItsAbilities(t *testing.T) {
	db, _, _ := open(t, 1)
	c, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	err = c.Raw(func(dc any) error {
		native, ok := dc.(interface{ Conn() *pgx.Conn })
		if !ok {
			t.Fatalf("%T hides the pgx connection", dc)
		}
		if _, ok := dc.(driver.SessionResetter); !ok {
			t.Errorf("%T cannot reset its session", dc)
		}
		if _, ok := dc.(driver.NamedValueChecker); !ok {
			t.Errorf("%T refuses values that pgx can send", dc)
		}
		return native.Conn().Ping(t.Context())
	})
	if err != nil {
		t.Error(err)
	}
}
