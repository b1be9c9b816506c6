package ws

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// buffers hold messages while they are handled, so that an idle connection has none.
var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// read hands messages to handle until the connection ends. When it returns, the end has begun. Once it has, read goes on only
// to see the peer's close frame, which it returns: a socket that is closed with bytes unread may lose what was
// written last.
func (c *Conn) read(ctx context.Context, handle Handler) *CloseError {
	for {
		if err := c.alive(); err != nil {
			return c.readFailed(err)
		}
		frame, r, err := c.socket.NextReader()
		if err != nil {
			return c.readFailed(err)
		}
		if c.Ended() {
			continue // the next call skips the message
		}
		kind := Control
		if frame == websocket.BinaryMessage {
			kind = Log
		}
		if err := c.handleMessage(ctx, kind, r, handle); err != nil {
			return c.readFailed(err)
		}
	}
}

// handleMessage reads one message and hands it on. It returns the errors of reading only.
func (c *Conn) handleMessage(ctx context.Context, kind Kind, r io.Reader, handle Handler) error {
	buf := buffers.Get().(*bytes.Buffer)
	defer buffers.Put(buf)
	buf.Reset()
	n, err := buf.ReadFrom(io.LimitReader(r, c.options.MaxMessage+1))
	if err != nil {
		return err
	}
	if n > c.options.MaxMessage {
		c.end(farewell{cause: ErrTooBig, code: codeTooBig, reason: "message too big", flush: true})
		return nil
	}
	if err := handle(ctx, kind, buf.Bytes()); err != nil {
		f := farewell{cause: err, code: codeInternal, flush: true}
		if e, ok := errors.AsType[*CloseError](err); ok {
			f.code, f.reason = sendable(e.Code), clip(e.Reason)
		}
		c.end(f)
	}
	return nil
}

// readFailed begins the end that an error of reading stands for.
func (c *Conn) readFailed(err error) *CloseError {
	if e, ok := errors.AsType[*websocket.CloseError](err); ok && e.Code != codeAbnormal {
		peer := &CloseError{Code: e.Code, Reason: e.Text}
		c.end(farewell{cause: peer, code: e.Code})
		return peer
	}
	switch {
	case websocket.IsCloseError(err, codeAbnormal):
		c.drop(fmt.Errorf("ws: read: %w", io.ErrUnexpectedEOF))
	case isTimeout(err):
		c.drop(ErrReadTimeout)
	case errors.Is(err, websocket.ErrReadLimit): // a length that no memory holds
		c.end(farewell{cause: ErrTooBig, code: codeTooBig, reason: "message too big"})
	default:
		c.drop(fmt.Errorf("ws: read: %w", err))
	}
	return nil
}

// alive gives the peer the read timeout anew.
func (c *Conn) alive() error {
	return c.socket.SetReadDeadline(time.Now().Add(time.Duration(c.readTimeout.Load())))
}

// pinged notes what to answer. RFC 6455 lets an older ping go unanswered when a newer one has come.
func (c *Conn) pinged(data string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ping = &data
	c.wake()
	return c.alive()
}
