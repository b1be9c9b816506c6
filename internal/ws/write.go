package ws

import (
	"fmt"
	"time"

	"github.com/gorilla/websocket"
)

// wake has a goroutine write, unless one does already or Run has not been called. The caller holds c.mu.
func (c *Conn) wake() {
	if c.cancel != nil && !c.writing {
		c.writing = true
		go c.write()
	}
}

// write is the one goroutine that writes, until there is nothing to write; the one that writes the farewell is the last.
func (c *Conn) write() {
	for {
		frame, data := c.next()
		switch frame {
		case idle:
			return
		case websocket.CloseMessage:
			c.leave()
			close(c.left)
			return
		case websocket.PongMessage:
			c.written(c.socket.WriteControl(frame, data, c.writeDeadline()))
		default:
			_ = c.socket.SetWriteDeadline(c.writeDeadline()) // notes it for the write, and never fails
			c.written(c.socket.WriteMessage(frame, data))
		}
	}
}

// idle is in the place of a frame's type when there is nothing to write.
const idle = -1

// next returns what is to be written. A pong does not wait for messages, but there is only one between any two of them, so a flood of
// pings holds up nothing.
func (c *Conn) next() (frame int, data []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ping != nil && !c.ponged {
		return c.pong()
	}
	c.ponged = false
	if c.Ended() {
		return websocket.CloseMessage, nil
	}
	if data, ok := c.control.pop(); ok {
		return websocket.TextMessage, data
	}
	if data, ok := c.logs.pop(); ok {
		return websocket.BinaryMessage, data
	}
	if c.ping != nil {
		return c.pong()
	}
	c.writing = false
	return idle, nil
}

// pong returns the answer to a ping. The caller holds c.mu.
func (c *Conn) pong() (frame int, data []byte) {
	data = []byte(*c.ping)
	c.ping, c.ponged = nil, true
	return websocket.PongMessage, data
}

// written begins the end if err is not nil.
func (c *Conn) written(err error) {
	switch {
	case err == nil:
	case isTimeout(err):
		c.drop(ErrWriteTimeout)
	default:
		// The peer has gone, perhaps with a close frame that says why. The reader will see, and soon.
		c.end(farewell{cause: fmt.Errorf("ws: write: %w", err), broken: true})
	}
}

// leave writes the farewell. Nobody is told of errors: the connection is at its end anyway.
func (c *Conn) leave() {
	if c.last.code == 0 {
		return
	}
	deadline := time.Now().Add(c.options.CloseTimeout)
	for c.last.flush {
		c.mu.Lock()
		data, ok := c.control.pop()
		c.mu.Unlock()
		if !ok {
			break
		}
		_ = c.socket.SetWriteDeadline(deadline)
		if c.socket.WriteMessage(websocket.TextMessage, data) != nil {
			return
		}
	}
	_ = c.socket.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(c.last.code, c.last.reason), deadline)
}

func (c *Conn) writeDeadline() time.Time { return time.Now().Add(c.options.WriteTimeout) }
