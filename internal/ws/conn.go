package ws

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
)

// A Kind tells the two kinds of messages apart.
type Kind uint8

const (
	// Control messages are text frames.
	Control Kind = iota + 1
	// Log messages are binary frames.
	Log
)

// A Handler is given each message in the order of arrival, one at a time. Its data is good until it returns. Its context ends
// as soon as the connection begins to end.
//
// Reading waits for the handler, so a slow one slows the peer down. An error ends the connection: with the code and the
// reason of a [*CloseError] that it is or wraps, else with 1011 and no reason.
type Handler func(ctx context.Context, kind Kind, data []byte) error

// A Conn is one side of a WebSocket connection. Its methods may be called by any number of goroutines at once. While nothing is to be
// written it has no goroutine but the one that runs it.
//
// Run must be called once; a Conn that is not run is given back with CloseNow.
type Conn struct {
	socket  *websocket.Conn
	options Options

	readTimeout atomic.Int64 // in nanoseconds

	ending chan struct{} // closed when last is set
	last   farewell
	left   chan struct{} // closed when the farewell has been written

	mu      sync.Mutex
	control lane
	logs    lane
	ping    *string            // the newest that is not answered
	ponged  bool               // what was written last is an answer to a ping
	cancel  context.CancelFunc // ends the handler's context; nil before Run
	fuse    *time.Timer        // closes the socket when the end takes too long
	writing bool               // a goroutine writes, or has written the farewell
}

// A farewell is how a connection ends. It is set once.
type farewell struct {
	cause error
	// code is what the close frame says; zero: none is sent.
	code   int
	reason string
	// flush says that what waits in the control lane is sent before.
	flush bool
	// broken says that the writing side found out, so that the peer's reason may still wait to be read.
	broken bool
}

func newConn(socket *websocket.Conn, o Options) *Conn {
	c := &Conn{
		socket:  socket,
		options: o,
		ending:  make(chan struct{}),
		left:    make(chan struct{}),
		control: lane{limit: o.ControlLane},
		logs:    lane{limit: o.LogLane},
	}
	c.SetReadTimeout(o.ReadTimeout)
	// The library would answer on the reading goroutine. Here only one goroutine writes.
	socket.SetPingHandler(c.pinged)
	socket.SetPongHandler(func(string) error { return c.alive() })
	socket.SetCloseHandler(func(int, string) error { return nil })
	return c
}

// Subprotocol returns the name of the subprotocol that both sides speak.
func (c *Conn) Subprotocol() string { return c.socket.Subprotocol() }

// SetReadTimeout sets [Options.ReadTimeout] anew: it holds from the end of the next message on that is read.
func (c *Conn) SetReadTimeout(d time.Duration) { c.readTimeout.Store(int64(d)) }

// Run reads, handles and writes until the connection ends, and returns why:
//
//   - nil after [Conn.Close], and [ErrClosed] after [Conn.CloseNow];
//   - a [*CloseError] if the peer closed;
//   - the cause of ctx's end, after closing with 1001;
//   - the error that handle returned;
//   - [ErrReadTimeout], [ErrWriteTimeout], [ErrBacklog] or [ErrTooBig];
//   - an error of the network, or of a peer that does not keep to RFC 6455.
//
// The handler runs on the goroutine of Run's caller. Messages that arrive after the connection has begun to end are not handled.
// Run returns [Options.CloseTimeout] after that at the latest, or else when the handler does.
func (c *Conn) Run(ctx context.Context, handle Handler) error {
	handling, cancel := context.WithCancel(ctx)
	disarm := context.AfterFunc(handling, func() {
		c.end(farewell{cause: context.Cause(ctx), code: codeGoingAway, flush: true})
	})
	defer func() {
		// The end has come already, unless the handler panicked.
		c.end(farewell{cause: ErrClosed, code: codeInternal})
		<-c.left
		disarm()
		c.fuse.Stop()
		c.socket.Close()
	}()
	c.begin(cancel)
	peer := c.read(handling, handle)
	if peer != nil && c.last.broken {
		return peer
	}
	return c.last.cause
}

// begin has written what was sent before Run.
func (c *Conn) begin(cancel context.CancelFunc) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cancel = cancel
	if c.Ended() {
		c.finish()
		return
	}
	c.wake()
}

// finish has the farewell written, and bounds how long that and the peer's answer may take. The caller holds c.mu.
func (c *Conn) finish() {
	c.cancel()
	c.fuse = time.AfterFunc(c.options.CloseTimeout, func() { c.socket.Close() })
	c.wake()
}

// SendControl puts a control message into its lane. Nil says that it will be written if the connection lives long enough.
// The Conn keeps data, which must not be changed any more.
//
// A full lane makes SendControl wait, until ctx ends; after [Options.WriteTimeout] the connection is dropped with [ErrBacklog].
// Once the connection begins to end the error is [ErrClosed].
func (c *Conn) SendControl(ctx context.Context, data []byte) error {
	room, err := c.push(&c.control, data)
	if room == nil {
		return err
	}
	patience := time.NewTimer(c.options.WriteTimeout)
	defer patience.Stop()
	err = c.pushLater(ctx, &c.control, data, room, patience.C)
	if errors.Is(err, ErrBacklog) {
		c.drop(ErrBacklog)
	}
	return err
}

// TryControl is SendControl that never waits: if the lane is full it returns [ErrBacklog], and the connection goes on.
func (c *Conn) TryControl(data []byte) error {
	room, err := c.push(&c.control, data)
	if room != nil {
		return ErrBacklog
	}
	return err
}

// SendLog is like SendControl, for a log message, but a full lane makes it wait for as long as the connection and ctx last.
func (c *Conn) SendLog(ctx context.Context, data []byte) error {
	room, err := c.push(&c.logs, data)
	if room == nil {
		return err
	}
	return c.pushLater(ctx, &c.logs, data, room, nil)
}

// push puts data into a lane. If that is full it returns what is closed when there may be room again.
func (c *Conn) push(l *lane, data []byte) (room <-chan struct{}, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.Ended() {
		return nil, ErrClosed
	}
	if room := l.push(data); room != nil {
		return room, nil
	}
	c.wake()
	return nil, nil
}

// pushLater is push that waits for room.
func (c *Conn) pushLater(ctx context.Context, l *lane, data []byte, room <-chan struct{}, patience <-chan time.Time) (err error) {
	for room != nil {
		select {
		case <-room:
		case <-c.ending:
			return ErrClosed
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-patience:
			return ErrBacklog
		}
		room, err = c.push(l, data)
	}
	return err
}

// Close begins the end: what waits in the control lane is written, then a close frame with the code and the reason, cut to 123
// bytes. It does not wait; Run returns when the peer has confirmed. A code that may not be sent becomes 1011. Only the first end counts.
func (c *Conn) Close(code int, reason string) {
	c.end(farewell{code: sendable(code), reason: clip(reason), flush: true})
}

// CloseNow drops the connection without a word.
func (c *Conn) CloseNow() { c.drop(ErrClosed) }

func (c *Conn) end(f farewell) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.Ended() {
		return
	}
	c.last = f
	close(c.ending)
	if c.cancel != nil { // else Run does it
		c.finish()
	}
}

// drop ends the connection where saying why is of no use.
func (c *Conn) drop(cause error) {
	c.end(farewell{cause: cause})
	c.socket.Close()
}

// Ended reports whether the connection has begun to end: what is sent from now on will not be written.
func (c *Conn) Ended() bool {
	select {
	case <-c.ending:
		return true
	default:
		return false
	}
}
