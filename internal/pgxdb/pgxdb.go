package pgxdb

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"
)

// Open returns a bun database over the connections of pool. It opens none itself
// and keeps none idle: each query and each transaction borrows one from pool and
// gives it back. Closing the result leaves pool open.
func Open(pool *pgxpool.Pool) *bun.DB {
	db := sql.OpenDB(connector{stdlib.GetPoolConnector(pool)})
	db.SetMaxIdleConns(0)
	return bun.NewDB(db, pgdialect.New())
}

// connector makes the connections of another connector send queries unprepared.
type connector struct{ driver.Connector }

func (c connector) Connect(ctx context.Context) (driver.Conn, error) {
	dc, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return &conn{dc.(*pgConn)}, nil
}

// pgConn renames the type because a field called Conn would hide its method Conn,
// which users reach through (*sql.Conn).Raw.
type pgConn = stdlib.Conn

// conn is a pgx connection whose queries are neither prepared nor cached.
type conn struct{ *pgConn }

func (c *conn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	return c.pgConn.ExecContext(ctx, query, unprepared(args))
}

func (c *conn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	return c.pgConn.QueryContext(ctx, query, unprepared(args))
}

// unprepared puts the mode in front of the arguments. A mode the caller chose
// follows it, and the last one counts.
func unprepared(args []driver.NamedValue) []driver.NamedValue {
	return slices.Insert(slices.Clip(args), 0, driver.NamedValue{Value: pgx.QueryExecModeExec})
}
