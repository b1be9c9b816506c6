package workertest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/slipway-build/slipway/internal/ws"
	"github.com/slipway-build/slipway/worker/wire"
)

// patience is how long a test waits for what must come.
const patience = 30 * time.Second

// A Peer is one side of a connection that says what a test wants it to say, and keeps what arrives. Its methods fail the test, so they
// are called by the test's own goroutine.
type Peer struct {
	tb   testing.TB
	conn *ws.Conn

	mu       sync.Mutex
	received []any // [wire.Message] or [*wire.LogFrame]
	faults   []string
	next     int           // what Await has not passed yet
	changed  chan struct{} // closed when something has been received, or the connection has ended
	over     bool
	reason   error
}

func newPeer(tb testing.TB, conn *ws.Conn) *Peer {
	return &Peer{tb: tb, conn: conn, changed: make(chan struct{})}
}

// serve keeps what arrives until the connection ends, and has react see it first. What is no frame of the protocol is a fault.
func (p *Peer) serve(ctx context.Context, react func(any)) {
	err := p.conn.Run(ctx, func(_ context.Context, kind ws.Kind, data []byte) error {
		m, err := decode(kind, data)
		if err != nil {
			p.fault("a frame was received that breaks the protocol: %v", err)
			return nil
		}
		if react != nil {
			react(m)
		}
		p.note(func() { p.received = append(p.received, m) })
		return nil
	})
	p.note(func() { p.over, p.reason = true, err })
}

func decode(kind ws.Kind, data []byte) (any, error) {
	if kind == ws.Control {
		return wire.Decode(data)
	}
	frame, err := wire.DecodeLog(slices.Clone(data))
	return &frame, err
}

func (p *Peer) note(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
	close(p.changed)
	p.changed = make(chan struct{})
}

// fault notes what the other side did wrong, to be told at the end of the test: the goroutines of connections must not fail it.
func (p *Peer) fault(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = append(p.faults, fmt.Sprintf(format, args...))
}

// report fails the test if there were faults.
func (p *Peer) report() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range p.faults {
		p.tb.Error(f)
	}
}

// Send sends a message.
func (p *Peer) Send(m wire.Message) {
	p.tb.Helper()
	data, err := wire.Encode(m)
	if err != nil {
		p.tb.Fatalf("encode: %v", err)
	}
	p.SendText(string(data))
}

// SendText sends a text frame as it is. A connection that has ended takes it without a word.
func (p *Peer) SendText(frame string) {
	p.tb.Helper()
	if err := p.conn.SendControl(p.tb.Context(), []byte(frame)); err != nil && !errors.Is(err, ws.ErrClosed) {
		p.tb.Fatalf("send: %v", err)
	}
}

// SendLog sends log bytes of an attempt.
func (p *Peer) SendLog(ref wire.Ref, offset int64, data string) {
	p.tb.Helper()
	frame, err := wire.EncodeLog(nil, wire.LogFrame{Ref: ref, Offset: offset, Data: []byte(data)})
	if err != nil {
		p.tb.Fatalf("encode: %v", err)
	}
	p.SendBinary(frame)
}

// SendBinary sends a binary frame as it is.
func (p *Peer) SendBinary(frame []byte) {
	p.tb.Helper()
	if err := p.conn.SendLog(p.tb.Context(), frame); err != nil && !errors.Is(err, ws.ErrClosed) {
		p.tb.Fatalf("send: %v", err)
	}
}

// Close ends the connection with a code.
func (p *Peer) Close(code wire.CloseCode) { p.conn.Close(int(code), code.String()) }

// Drop ends the connection without a word.
func (p *Peer) Drop() { p.conn.CloseNow() }

// Closed waits for the end of the connection and returns the code with which the other side closed it.
func (p *Peer) Closed() wire.CloseCode {
	p.tb.Helper()
	p.wait("the end of the connection", func() bool { return p.over })
	p.mu.Lock()
	defer p.mu.Unlock()
	closed, ok := errors.AsType[*ws.CloseError](p.reason)
	if !ok {
		p.tb.Fatalf("the connection ended with %v, not with a close frame", p.reason)
	}
	return wire.CloseCode(closed.Code)
}

// Ended waits for the end of the connection, however it comes.
func (p *Peer) Ended() {
	p.tb.Helper()
	p.wait("the end of the connection", func() bool { return p.over })
}

// Received returns what has arrived so far: pointers to messages and to [wire.LogFrame].
func (p *Peer) Received() []any {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.received)
}

// wait waits until cond, which is called under the lock, is true.
func (p *Peer) wait(what string, cond func() bool) {
	p.tb.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		p.mu.Lock()
		holds, changed := cond(), p.changed
		p.mu.Unlock()
		if holds {
			return
		}
		select {
		case <-changed:
		case <-deadline.C:
			p.tb.Fatalf("waited in vain for %s; what came is %s", what, p.describe())
		}
	}
}

func (p *Peer) describe() string {
	var words []string
	for _, m := range p.Received() {
		switch m := m.(type) {
		case wire.Message:
			words = append(words, string(m.Type()))
		case *wire.LogFrame:
			words = append(words, fmt.Sprintf("log[%d:%d]", m.Offset, m.Offset+int64(len(m.Data))))
		}
	}
	return fmt.Sprint(words)
}

// Await waits for a message that matches, such as a [*wire.Accept] or a [*wire.LogFrame], and passes over others. It begins behind
// the one that was last awaited. A nil match is one that everything of the type fits.
func Await[M any](p *Peer, match func(M) bool) M {
	p.tb.Helper()
	var found M
	ok, over := false, false
	p.wait(fmt.Sprintf("a %T", found), func() bool {
		for ; p.next < len(p.received) && !ok; p.next++ {
			if m, is := p.received[p.next].(M); is && (match == nil || match(m)) {
				found, ok = m, true
			}
		}
		over = p.over
		return ok || over
	})
	if !ok {
		p.tb.Fatalf("the connection ended with %v before a %T came; what came is %s", p.reason, found, p.describe())
	}
	return found
}

// count returns how many messages that match have arrived.
func count[M any](p *Peer, match func(M) bool) (n int) {
	for _, m := range p.Received() {
		if m, is := m.(M); is && (match == nil || match(m)) {
			n++
		}
	}
	return n
}

// eventually waits until cond is true.
func eventually(tb testing.TB, what string, cond func() bool) {
	tb.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-deadline.C:
			tb.Fatalf("waited in vain until %s", what)
		case <-tick.C:
		}
	}
}
