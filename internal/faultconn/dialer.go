package faultconn

import (
	"context"
	"net"
	"sync"
)

// A Point is a kind of moment in the life of connections.
type Point int

const (
	// Sent breaks a connection when N bytes have gone to the server and another one is about to.
	Sent Point = iota
	// Received breaks a connection when N bytes have come from the server and another one is there.
	Received
	// Asked breaks a connection before the last message of request N, counted from 0, is sent. The server has seen the statements
	// of the request, if they are not in that message, but does not commit what they did.
	Asked
	// Answered breaks a connection when the server has answered request N to the end, counted from 0. The client gets not one byte
	// of that answer. Requests that were sent without waiting for it may have been carried out as well.
	Answered
)

// A Fault says when a connection breaks, and how. Bytes and requests are counted over all connections of a [Dialer] together.
type Fault struct {
	At Point
	N  int
	// Stall makes the connection pass no more bytes in either direction, instead of ending it: writes seem to succeed, reads wait
	// for their deadline. The server is not told.
	Stall bool
}

// A Dialer makes connections that break when they are told to. The zero value is ready, and its connections are sound until Break is
// called. It is safe for concurrent use.
type Dialer struct {
	mu      sync.Mutex
	armed   bool
	fault   Fault
	left    int // bytes or requests that may still pass
	stalled []*conn
}

// Dial connects to a server. It is a pgconn.DialFunc.
func (d *Dialer) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	server, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return newConn(d, server), nil
}

// Break plans a fault, which strikes one connection once. It takes the place of one that has not struck.
func (d *Dialer) Break(f Fault) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.armed, d.fault, d.left = true, f, f.N
}

// Mend calls off the fault, ends connections that stall, and reports whether the fault has struck.
func (d *Dialer) Mend() bool {
	d.mu.Lock()
	stalled := d.stalled
	d.stalled = nil
	struck := !d.armed
	d.armed = false
	d.mu.Unlock()
	for _, c := range stalled {
		_ = c.Close() // it may be closed already
	}
	return struck
}

// strikes takes a request from those that may still pass, and reports whether the fault strikes because there is none. The caller holds
// d.mu.
func (d *Dialer) strikes(p Point) bool {
	if !d.armed || d.fault.At != p {
		return false
	}
	d.armed = d.left > 0
	d.left--
	return !d.armed
}

// pass returns the part of p that may still pass, and reports whether the fault strikes because that is not all. The caller holds
// d.mu.
func (d *Dialer) pass(at Point, p []byte) ([]byte, bool) {
	if !d.armed || d.fault.At != at {
		return p, false
	}
	d.armed = len(p) <= d.left
	p = p[:min(len(p), d.left)]
	d.left -= len(p)
	return p, !d.armed
}
