package faultsql

import (
	"context"
	"database/sql/driver"
	"errors"
	"io"
	"strings"
)

// soundConn is what is expected of a driver's connections.
type soundConn interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
	driver.Pinger
	driver.SessionResetter
	driver.Validator
}

type conn struct {
	soundConn
	faults *Connector
}

func (c *conn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	if strings.EqualFold(query, "ROLLBACK") {
		return c.soundConn.ExecContext(ctx, query, args)
	}
	return exec(c.faults, func() (driver.Result, error) { return c.soundConn.ExecContext(ctx, query, args) })
}

func (c *conn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	return rowsOf(c.faults, func() (driver.Rows, error) { return c.soundConn.QueryContext(ctx, query, args) })
}

func (c *conn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	s, err := do(c.faults, func() (driver.Stmt, error) { return c.soundConn.PrepareContext(ctx, query) }, driver.Stmt.Close)
	if err != nil {
		return nil, err
	}
	sound, ok := s.(soundStmt)
	if !ok {
		return nil, errors.Join(errors.New("faultsql: the statement lacks what is expected of one"), s.Close())
	}
	return &stmt{sound, c.faults}, nil
}

func (c *conn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	t, err := do(c.faults, func() (driver.Tx, error) { return c.soundConn.BeginTx(ctx, opts) }, driver.Tx.Rollback)
	if err != nil {
		return nil, err
	}
	return &tx{t, c.faults}, nil
}

type soundStmt interface {
	driver.Stmt
	driver.StmtExecContext
	driver.StmtQueryContext
}

type stmt struct {
	soundStmt
	faults *Connector
}

func (s *stmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	return exec(s.faults, func() (driver.Result, error) { return s.soundStmt.ExecContext(ctx, args) })
}

func (s *stmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	return rowsOf(s.faults, func() (driver.Rows, error) { return s.soundStmt.QueryContext(ctx, args) })
}

type tx struct {
	driver.Tx
	faults *Connector
}

// Commit rolls back if it fails before the fact, as a database does: no transaction may stay on a connection that goes back to its pool.
func (t *tx) Commit() error {
	f, fails := t.faults.strike()
	switch {
	case !fails:
		return t.Tx.Commit()
	case f.After:
		return errors.Join(ErrFault, t.Tx.Commit())
	default:
		return errors.Join(ErrFault, t.Rollback())
	}
}

type rows struct {
	driver.Rows
	faults *Connector
}

func (r *rows) Next(dest []driver.Value) error {
	if _, fails := r.faults.strike(); fails {
		return ErrFault
	}
	return r.Rows.Next(dest)
}

func exec(faults *Connector, run func() (driver.Result, error)) (driver.Result, error) {
	return do(faults, run, func(driver.Result) error { return nil })
}

func rowsOf(faults *Connector, query func() (driver.Rows, error)) (driver.Rows, error) {
	r, err := do(faults, query, drain)
	if err != nil {
		return nil, err
	}
	return &rows{r, faults}, nil
}

// drain reads rows to their end: a statement that changes something has done so for certain only then.
func drain(r driver.Rows) error {
	dest := make([]driver.Value, len(r.Columns()))
	for {
		if err := r.Next(dest); err != nil {
			if err == io.EOF {
				err = nil
			}
			return errors.Join(err, r.Close())
		}
	}
}
