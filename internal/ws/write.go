package ws

import (
	"fmt"
	"time"

	"github.com/gorilla/websocket"
)

// write is the one goroutine that writes, until the connection ends or cannot be written to.
func (c *Conn) write() {
	for c.writeNext() {
	}
}

// writeNext waits for something to write, writes it, and reports whether to go on. A pong does not wait for messages, but there is
// only one between any two of them, so a flood of pings holds up nothing.
func (c *Conn) writeNext() bool {
	select {
	case data := <-c.pongs:
		if !c.written(c.socket.WriteControl(websocket.PongMessage, []byte(data), c.writeDeadline())) {
			return false
		}
	default:
	}
	select {
	case <-c.ending:
		c.leave()
		return false
	default:
	}
	select {
	case data := <-c.control:
		return c.writeMessage(websocket.TextMessage, data)
	default:
	}
	select {
	case <-c.ending:
		c.leave()
		return false
	case data := <-c.pongs:
		return c.written(c.socket.WriteControl(websocket.PongMessage, []byte(data), c.writeDeadline()))
	case data := <-c.control:
		return c.writeMessage(websocket.TextMessage, data)
	case data := <-c.logs:
		return c.writeMessage(websocket.BinaryMessage, data)
	}
}

func (c *Conn) writeMessage(frame int, data []byte) bool {
	_ = c.socket.SetWriteDeadline(c.writeDeadline()) // notes it for the write, and never fails
	return c.written(c.socket.WriteMessage(frame, data))
}

// written begins the end if err is not nil.
func (c *Conn) written(err error) bool {
	switch {
	case err == nil:
		return true
	case isTimeout(err):
		c.drop(ErrWriteTimeout)
	default:
		// The peer has gone, perhaps with a close frame that says why. The reader will see, and soon.
		c.end(farewell{cause: fmt.Errorf("ws: write: %w", err), broken: true})
	}
	return false
}

// leave writes the farewell. Nobody is told of errors: the connection is at its end anyway.
func (c *Conn) leave() {
	if c.last.code == 0 {
		return
	}
	deadline := time.Now().Add(c.options.CloseTimeout)
	for c.last.flush {
		select {
		case data := <-c.control:
			_ = c.socket.SetWriteDeadline(deadline)
			if c.socket.WriteMessage(websocket.TextMessage, data) != nil {
				return
			}
			continue
		default:
		}
		break
	}
	_ = c.socket.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(c.last.code, c.last.reason), deadline)
}

func (c *Conn) writeDeadline() time.Time { return time.Now().Add(c.options.WriteTimeout) }
