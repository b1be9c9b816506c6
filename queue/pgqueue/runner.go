package pgqueue

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"

	"github.com/slipway-build/slipway/queue"
)

// A runner runs the statements of a submit, wherever that takes place.
type runner interface {
	// run runs a statement and has row read each of the rows that it returns.
	run(ctx context.Context, s statement, args []any, row func(scanner) error) error
	// limit returns an argument for statements that bound their waits themselves, nil if they should not.
	limit(ctx context.Context) any
}

// A scanner reads the columns of a row.
type scanner func(columns ...any) error

// A statement is one in the two forms that it may be needed in: with parameters, $1, $2, …, and with those of bun, ?0, ?1, ….
type statement struct{ plain, bun string }

var parameter = regexp.MustCompile(`\$([0-9]+)`)

func bothForms(sql string) statement {
	return statement{plain: sql, bun: parameter.ReplaceAllStringFunc(sql, func(p string) string {
		n, _ := strconv.Atoi(p[1:])
		return "?" + strconv.Itoa(n-1)
	})}
}

// quickRunner runs each statement in a transaction of its own, without the prologue: for statements that wait for no lock, or bound the wait
// themselves, and that look up single rows only, so that one plan is as good as another.
type quickRunner struct{ database }

func (r quickRunner) run(ctx context.Context, s statement, args []any, row func(scanner) error) error {
	return explain(pgxRunner{r.database}.run(ctx, s, args, row))
}

func (quickRunner) limit(ctx context.Context) any { return serverLimit{ctx} }

// ownRunner runs each statement in a transaction of its own, behind the prologue.
type ownRunner struct{ *Backend }

func (r ownRunner) run(ctx context.Context, s statement, args []any, row func(scanner) error) error {
	return r.send(ctx, s.plain, args, func(results pgx.BatchResults) error {
		rows, err := results.Query()
		return eachRow(rows, err, row)
	})
}

func (ownRunner) limit(context.Context) any { return nil } // the prologue sets one

// pgxRunner runs statements in a caller's transaction by way of pgx.
type pgxRunner struct {
	tx interface {
		Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	}
}

func (r pgxRunner) run(ctx context.Context, s statement, args []any, row func(scanner) error) error {
	rows, err := r.tx.Query(ctx, s.plain, args...)
	return eachRow(rows, err, row)
}

func (pgxRunner) limit(context.Context) any { return nil }

// eachRow reads what a query has returned, to its end: until then nobody knows that it has succeeded.
func eachRow(rows pgx.Rows, err error, row func(scanner) error) error {
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := row(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}

// sqlRunner runs statements in a caller's transaction by way of database/sql, over any driver.
type sqlRunner struct {
	conn bun.IConn
	bun  *bun.DB
}

func (r sqlRunner) run(ctx context.Context, s statement, args []any, row func(scanner) error) error {
	conn, bare := unwrap(r.conn)
	query := s.plain
	if !bare || hasArray(args) {
		query, args = r.written(s, args), nil
	}
	rows, err := conn.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := row(rows.Scan); err != nil {
			return err
		}
	}
	return errors.Join(rows.Err(), rows.Close())
}

func (sqlRunner) limit(context.Context) any { return nil }

// unwrap returns what is below bun, which takes parameters as the driver does, and reports whether it has found it.
func unwrap(conn bun.IConn) (bun.IConn, bool) {
	switch c := conn.(type) {
	case *sql.Tx, *sql.Conn, *sql.DB:
		return c, true
	case bun.Tx:
		return c.Tx, true
	case *bun.DB:
		return c.DB, true
	case bun.Conn:
		return c.Conn, true
	default:
		return conn, false
	}
}

// hasArray reports whether there are arguments that not every driver takes.
func hasArray(args []any) bool {
	return slices.ContainsFunc(args, isArray)
}

func isArray(arg any) bool {
	switch arg.(type) {
	case []pgtype.UUID, []string, []bool, []int16, []int32, []int64, [][]byte:
		return true
	default:
		return false
	}
}

// written returns the statement with its values written into it, which is a form that every driver takes.
func (r sqlRunner) written(s statement, args []any) string {
	values := make([]any, len(args))
	for i, arg := range args {
		switch v := arg.(type) {
		case []pgtype.UUID:
			texts := make([]string, len(v))
			for j := range v {
				texts[j] = queue.ID(v[j].Bytes).String() // the zero ID for null
			}
			values[i] = pgdialect.Array(texts)
		default:
			if values[i] = arg; isArray(arg) {
				values[i] = pgdialect.Array(arg)
			}
		}
	}
	return r.bun.NewRaw(s.bun, values...).String()
}

// An idText reads an id that the statement returns as text, which every driver knows.
type idText queue.ID

func (t *idText) Scan(src any) error {
	switch v := src.(type) {
	case string:
		return (*queue.ID)(t).UnmarshalText([]byte(v))
	case []byte:
		return (*queue.ID)(t).UnmarshalText(v)
	default:
		return fmt.Errorf("cannot read an id from %T", src)
	}
}
