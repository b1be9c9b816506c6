package faultsql

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"sync"
)

// ErrFault is what operations fail with.
var ErrFault = errors.New("faultsql: the operation fails as planned")

// A Fault says which operation fails, and how.
type Fault struct {
	// N is how many operations go well before that. They are counted over all connections of a [Connector] together.
	N int
	// After lets the operation be carried out and its result be lost. Default: false, it is not carried out.
	After bool
}

// A Connector makes connections that fail when they are told to. It is safe for concurrent use.
type Connector struct {
	driver.Connector

	mu    sync.Mutex
	armed bool
	fault Fault
}

// Wrap returns a connector for [database/sql.OpenDB] whose connections are those of c. They are sound until Break is called.
func Wrap(c driver.Connector) *Connector { return &Connector{Connector: c} }

// Break plans a fault, which strikes once. It takes the place of one that has not struck.
func (c *Connector) Break(f Fault) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.armed, c.fault = true, f
}

// Mend calls off the fault and reports whether it has struck.
func (c *Connector) Mend() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	struck := !c.armed
	c.armed = false
	return struck
}

// Connect implements [driver.Connector].
func (c *Connector) Connect(ctx context.Context) (driver.Conn, error) {
	dc, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	sound, ok := dc.(soundConn)
	if !ok {
		return nil, errors.Join(fmt.Errorf("faultsql: %T lacks what is expected of a connection", dc), dc.Close())
	}
	return &conn{soundConn: sound, faults: c}, nil
}

// strike counts an operation and reports whether it is the one that fails.
func (c *Connector) strike() (f Fault, fails bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.armed {
		return Fault{}, false
	}
	if c.fault.N > 0 {
		c.fault.N--
		return Fault{}, false
	}
	c.armed = false
	return c.fault, true
}

// do carries out an operation, unless it fails before. What it returned, and shall be lost, is handed to drop.
func do[T any](c *Connector, operation func() (T, error), drop func(T) error) (T, error) {
	var lost T
	f, fails := c.strike()
	if fails && !f.After {
		return lost, ErrFault
	}
	result, err := operation()
	if err != nil || !fails {
		return result, err
	}
	return lost, errors.Join(ErrFault, drop(result))
}
