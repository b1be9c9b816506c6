package faultconn

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// conn is a connection of a Dialer. As with any net.Conn, one goroutine may write while another reads.
type conn struct {
	net.Conn          // to the server
	void     net.Conn // where nothing ever comes from; it has the deadlines of Conn
	dialer   *Dialer

	// What follows is guarded by the dialer's lock.
	out, in  messages
	asked    int // requests that have gone out; what opened the connection is number 0
	answered int // answers that have come
	mute     int // the request whose answer shall be lost, 0 if none shall
	fault    Fault
	broken   bool
}

func newConn(d *Dialer, server net.Conn) *conn {
	void, _ := net.Pipe()
	return &conn{Conn: server, void: void, dialer: d, out: messages{untyped: true}}
}

// Write implements net.Conn.
func (c *conn) Write(p []byte) (int, error) {
	n, broken := c.send(p)
	if n > 0 {
		if n, err := c.Conn.Write(p[:n]); err != nil {
			return n, err
		}
	}
	switch {
	case !broken:
		return n, nil
	case c.fault.Stall:
		return len(p), nil
	default:
		c.Conn.Close()
		return n, &net.OpError{Op: "write", Net: c.RemoteAddr().Network(), Addr: c.RemoteAddr(), Err: os.NewSyscallError("write", syscall.EPIPE)}
	}
}

// Read implements net.Conn.
func (c *conn) Read(p []byte) (int, error) {
	for {
		n, err := c.readServer(p)
		n, broken := c.receive(p[:n])
		switch {
		case n > 0:
			return n, nil
		case broken && c.fault.Stall:
			return c.readVoid(p)
		case broken:
			c.Conn.Close()
			return 0, io.EOF
		case err != nil:
			return 0, err
		}
	}
}

// readServer reads from the server, unless that is over.
func (c *conn) readServer(p []byte) (int, error) {
	c.dialer.mu.Lock()
	broken := c.broken
	c.dialer.mu.Unlock()
	if broken {
		return 0, nil
	}
	return c.Conn.Read(p)
}

func (c *conn) readVoid(p []byte) (int, error) {
	n, err := c.void.Read(p)
	if errors.Is(err, io.ErrClosedPipe) {
		err = net.ErrClosed
	}
	return n, err
}

// send tells how much of p goes to the server, and whether the connection breaks, or broke earlier.
func (c *conn) send(p []byte) (n int, broken bool) {
	c.dialer.mu.Lock()
	defer c.dialer.mu.Unlock()
	if c.broken {
		return 0, true
	}
	p, strikes := c.dialer.pass(Sent, p)
	for n < len(p) {
		taken, begins, ends := c.out.next(p[n:])
		if begins && asks(c.out.kind) && c.dialer.strikes(Asked) {
			c.end(c.dialer.fault)
			return n, true
		}
		n += taken
		if ends {
			c.ask()
		}
	}
	if strikes {
		c.end(c.dialer.fault)
	}
	return n, strikes
}

// ask counts requests at the end of a message that goes out. The caller holds the lock.
func (c *conn) ask() {
	switch {
	case c.out.kind == startup:
		c.asked++
	case asks(c.out.kind):
		if c.dialer.strikes(Answered) {
			c.mute, c.fault = c.asked, c.dialer.fault
		}
		c.asked++
	}
}

// receive tells how much of what came from the server reaches the client, and whether the connection breaks, or broke earlier.
func (c *conn) receive(p []byte) (n int, broken bool) {
	c.dialer.mu.Lock()
	defer c.dialer.mu.Unlock()
	if c.broken {
		return 0, true
	}
	p, strikes := c.dialer.pass(Received, p)
	for seen := 0; seen < len(p); {
		taken, _, ends := c.in.next(p[seen:])
		seen += taken
		muted := c.mute > 0 && c.answered == c.mute
		if !muted {
			n = seen
		}
		if ends && answers(c.in.kind) {
			if muted {
				c.end(c.fault)
				return n, true
			}
			c.answered++
		}
	}
	if strikes {
		c.end(c.dialer.fault)
	}
	return n, strikes
}

// end breaks the connection. The caller holds the lock.
func (c *conn) end(f Fault) {
	c.broken, c.fault = true, f
	if f.Stall {
		c.dialer.stalled = append(c.dialer.stalled, c)
	}
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.void.Close()
	return c.Conn.Close()
}

// SetDeadline implements net.Conn.
func (c *conn) SetDeadline(t time.Time) error {
	return errors.Join(c.void.SetDeadline(t), c.Conn.SetDeadline(t))
}

// SetReadDeadline implements net.Conn.
func (c *conn) SetReadDeadline(t time.Time) error {
	return errors.Join(c.void.SetReadDeadline(t), c.Conn.SetReadDeadline(t))
}

// SetWriteDeadline implements net.Conn.
func (c *conn) SetWriteDeadline(t time.Time) error {
	return errors.Join(c.void.SetWriteDeadline(t), c.Conn.SetWriteDeadline(t))
}
