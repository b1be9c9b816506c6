package ws_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/slipway-build/slipway/internal/ws"
)

func TestMessagesPassBothWays(t *testing.T) {
	server, client := pair(t, options(nil), options(nil))
	if server.Subprotocol() != subprotocol || client.Subprotocol() != subprotocol {
		t.Errorf("subprotocols %q and %q, want %q", server.Subprotocol(), client.Subprotocol(), subprotocol)
	}
	ran := run(t.Context(), server, func(ctx context.Context, kind ws.Kind, data []byte) error {
		if kind == ws.Log {
			return server.SendLog(ctx, bytes.Clone(data))
		}
		return server.SendControl(ctx, bytes.Clone(data))
	})
	type message struct {
		kind ws.Kind
		data string
	}
	got := make(chan message, 1)
	clientRan := run(t.Context(), client, func(_ context.Context, kind ws.Kind, data []byte) error {
		got <- message{kind, string(data)}
		return nil
	})
	for _, size := range []int{0, 1, 125, 126, 1 << 10, 1<<10 + 1, 65535, 65536, 1 << 20} {
		want := strings.Repeat("x", size)
		if err := client.SendControl(t.Context(), []byte(want)); err != nil {
			t.Fatal(err)
		}
		if m := receive(t, got, "the echo"); m.kind != ws.Control || m.data != want {
			t.Errorf("%d bytes of control came back as %d of kind %d", size, len(m.data), m.kind)
		}
		if err := client.SendLog(t.Context(), []byte(want)); err != nil {
			t.Fatal(err)
		}
		if m := receive(t, got, "the echo"); m.kind != ws.Log || m.data != want {
			t.Errorf("%d bytes of log came back as %d of kind %d", size, len(m.data), m.kind)
		}
	}
	client.Close(1000, "done")
	if err := receive(t, clientRan, "Run of the client"); err != nil {
		t.Errorf("Run after Close: %v, want nil", err)
	}
	var closed *ws.CloseError
	if err := receive(t, ran, "Run of the server"); !errors.As(err, &closed) || *closed != (ws.CloseError{Code: 1000, Reason: "done"}) {
		t.Errorf("Run of the other side: %v, want 1000 done", err)
	}
}

func TestControlGoesBeforeLogs(t *testing.T) {
	const logs, controls = 10, 5
	server, client := pair(t, options(nil), options(nil))
	for i := range logs {
		if err := server.SendLog(t.Context(), fmt.Appendf(nil, "log %d", i)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range controls {
		if err := server.SendControl(t.Context(), fmt.Appendf(nil, "control %d", i)); err != nil {
			t.Fatal(err)
		}
	}
	var want []string
	for i := range controls {
		want = append(want, fmt.Sprintf("control %d", i))
	}
	for i := range logs {
		want = append(want, fmt.Sprintf("log %d", i))
	}
	ran := run(t.Context(), server, ignore)
	var got []string
	err := client.Run(t.Context(), func(_ context.Context, _ ws.Kind, data []byte) error {
		if got = append(got, string(data)); len(got) == len(want) {
			client.Close(1000, "")
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	receive(t, ran, "Run of the server")
}

func TestControlPassesLogsThatWaitForASlowReader(t *testing.T) {
	h := newHost(t, options(nil))
	peer := newRawPeer(t, h)
	server := h.next(t)
	ran := run(t.Context(), server, ignore)

	// Logs until the network takes no more and the lane is full; then one control message, and only then the peer reads.
	sent := fill(t, server)
	if err := server.SendControl(t.Context(), []byte("cancel")); err != nil {
		t.Fatal(err)
	}
	for before := 0; ; before++ {
		first, payload, err := peer.next()
		if err != nil {
			t.Fatal(err)
		}
		if first == fin|opText {
			if string(payload) != "cancel" {
				t.Errorf("control message %q", payload)
			}
			if after := sent - before; after < 15 {
				t.Errorf("control came with %d log messages after it, want all that filled the lane", after)
			}
			break
		}
	}
	server.CloseNow()
	if err := receive(t, ran, "Run"); !errors.Is(err, ws.ErrClosed) {
		t.Errorf("Run after CloseNow: %v, want ErrClosed", err)
	}
}

// fill sends logs until neither the network nor the lane takes more, and returns how many.
func fill(t *testing.T, c *ws.Conn) int {
	t.Helper()
	for sent := 0; ; sent++ {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		err := c.SendLog(ctx, make([]byte, 64<<10))
		cancel()
		if errors.Is(err, context.DeadlineExceeded) {
			return sent
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// flood sends logs until the connection has ended.
func flood(t *testing.T, c *ws.Conn) {
	t.Helper()
	for {
		if err := c.SendLog(t.Context(), make([]byte, 64<<10)); err != nil {
			if !errors.Is(err, ws.ErrClosed) {
				t.Errorf("SendLog: %v, want ErrClosed", err)
			}
			return
		}
	}
}

func TestPingsDoNotHoldUpReadingWhenNothingCanBeWritten(t *testing.T) {
	h := newHost(t, options(nil))
	peer := newRawPeer(t, h)
	server := h.next(t)
	got := make(chan struct{})
	ran := run(t.Context(), server, func(context.Context, ws.Kind, []byte) error {
		close(got)
		return nil
	})
	fill(t, server)
	for range 100 {
		peer.frame(fin|opPing, []byte("ping"))
	}
	peer.frame(fin|opText, []byte("x"))
	receive(t, got, "the message behind the pings")
	server.CloseNow()
	receive(t, ran, "Run")
}

func TestPeerThatNeverReadsIsDropped(t *testing.T) {
	h := newHost(t, options(func(o *ws.Options) { o.WriteTimeout = 200 * time.Millisecond }))
	newRawPeer(t, h)
	server := h.next(t)
	ran := run(t.Context(), server, ignore)
	flood(t, server)
	if err := receive(t, ran, "Run"); !errors.Is(err, ws.ErrWriteTimeout) {
		t.Errorf("Run: %v, want ErrWriteTimeout", err)
	}
}

func TestFullControlLane(t *testing.T) {
	server, client := pair(t, options(func(o *ws.Options) { o.WriteTimeout, o.ControlLane = 100*time.Millisecond, 2 }), options(nil))
	for range 2 {
		if err := server.TryControl([]byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("not waiting")
	cancel(cause)
	if err := server.SendControl(ctx, []byte("x")); !errors.Is(err, cause) {
		t.Errorf("SendControl with a context that has ended: %v, want its cause", err)
	}
	if err := server.TryControl([]byte("x")); !errors.Is(err, ws.ErrBacklog) || server.Ended() {
		t.Errorf("TryControl into a full lane: %v, want ErrBacklog; ended: %t", err, server.Ended())
	}
	if err := server.SendControl(t.Context(), []byte("x")); !errors.Is(err, ws.ErrBacklog) || !server.Ended() {
		t.Errorf("SendControl into a full lane: %v, want ErrBacklog; ended: %t", err, server.Ended())
	}
	if err := server.TryControl([]byte("x")); !errors.Is(err, ws.ErrClosed) {
		t.Errorf("TryControl after that: %v, want ErrClosed", err)
	}
	if err := server.SendControl(t.Context(), []byte("x")); !errors.Is(err, ws.ErrClosed) {
		t.Errorf("SendControl after that: %v, want ErrClosed", err)
	}
	if err := server.Run(t.Context(), ignore); !errors.Is(err, ws.ErrBacklog) {
		t.Errorf("Run: %v, want ErrBacklog", err)
	}
	if err := client.Run(t.Context(), ignore); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("Run of the other side: %v, want ErrUnexpectedEOF", err)
	}
}

func TestLargeMessageIsRefused(t *testing.T) {
	const limit = 1000
	for name, write := range map[string]func(*rawPeer){
		"one frame": func(p *rawPeer) { p.frame(fin|opText, make([]byte, limit+1)) },
		"fragments": func(p *rawPeer) {
			p.frame(opText, make([]byte, limit))
			p.frame(fin|opContinue, make([]byte, 1))
		},
		"fragments without end": func(p *rawPeer) {
			p.frame(opBinary, make([]byte, limit))
			p.frame(opContinue, make([]byte, limit))
			p.frame(opContinue, make([]byte, limit))
		},
		"a header that lies": func(p *rawPeer) { p.send(append(header(fin|opText, 1<<62), make([]byte, limit+1)...)) },
		"a negative length":  func(p *rawPeer) { p.send(header(fin|opText, 1<<63)) },
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t, options(func(o *ws.Options) { o.MaxMessage = limit }))
			peer := newRawPeer(t, h)
			ran := run(t.Context(), h.next(t), func(context.Context, ws.Kind, []byte) error {
				t.Error("the handler was called")
				return nil
			})
			write(peer)
			peer.wantClose(1009)
			peer.conn.Close()
			if err := receive(t, ran, "Run"); !errors.Is(err, ws.ErrTooBig) {
				t.Errorf("Run: %v, want ErrTooBig", err)
			}
		})
	}
}

func TestMessageOfExactlyTheLimit(t *testing.T) {
	h := newHost(t, options(func(o *ws.Options) { o.MaxMessage = 1000 }))
	peer := newRawPeer(t, h)
	server := h.next(t)
	got := make(chan int, 1)
	ran := run(t.Context(), server, func(_ context.Context, _ ws.Kind, data []byte) error {
		got <- len(data)
		return nil
	})
	peer.frame(fin|opText, make([]byte, 1000))
	if n := receive(t, got, "the message"); n != 1000 {
		t.Errorf("%d bytes, want 1000", n)
	}
	server.CloseNow()
	receive(t, ran, "Run")
}

func TestPeerLearnsWhyInMidMessage(t *testing.T) {
	// The client is still writing its large message when the server refuses it.
	server, client := pair(t, options(func(o *ws.Options) { o.MaxMessage = 1 << 10 }), options(nil))
	ran := run(t.Context(), server, ignore)
	for range 8 {
		if err := client.SendLog(t.Context(), make([]byte, 4<<20)); err != nil {
			t.Fatal(err)
		}
	}
	var closed *ws.CloseError
	if err := client.Run(t.Context(), ignore); !errors.As(err, &closed) || closed.Code != 1009 {
		t.Errorf("Run of the sender: %v, want 1009", err)
	}
	if err := receive(t, ran, "Run"); !errors.Is(err, ws.ErrTooBig) {
		t.Errorf("Run of the receiver: %v, want ErrTooBig", err)
	}
}

func TestFragmentsWithPingsBetween(t *testing.T) {
	h := newHost(t, options(nil))
	peer := newRawPeer(t, h)
	server := h.next(t)
	got := make(chan string, 1)
	ran := run(t.Context(), server, func(_ context.Context, kind ws.Kind, data []byte) error {
		got <- fmt.Sprint(kind, " ", string(data))
		return nil
	})
	peer.frame(opBinary, []byte("one "))
	peer.frame(fin|opPing, []byte("p"))
	peer.frame(opContinue, nil)
	peer.frame(fin|opPong, nil)
	peer.frame(fin|opContinue, []byte("two"))
	if s := receive(t, got, "the message"); s != fmt.Sprint(ws.Log, " one two") {
		t.Errorf("got %q", s)
	}
	if first, payload, err := peer.next(); err != nil || first != fin|opPong || string(payload) != "p" {
		t.Errorf("answer to the ping: %x %q, %v", first, payload, err)
	}
	server.CloseNow()
	receive(t, ran, "Run")
}

func TestRulesOfTheProtocolAreKept(t *testing.T) {
	for name, write := range map[string]func(*rawPeer){
		"unmasked":             func(p *rawPeer) { p.send([]byte{fin | opText, 1, 'x'}) },
		"compressed":           func(p *rawPeer) { p.frame(fin|0x40|opText, []byte("x")) },
		"unknown opcode":       func(p *rawPeer) { p.frame(fin|0x3, nil) },
		"lonely continuation":  func(p *rawPeer) { p.frame(fin|opContinue, []byte("x")) },
		"message in a message": func(p *rawPeer) { p.frame(opText, []byte("x")); p.frame(fin|opText, []byte("x")) },
		"long ping":            func(p *rawPeer) { p.frame(fin|opPing, make([]byte, 126)) },
		"fragmented ping":      func(p *rawPeer) { p.frame(opPing, nil) },
		"close with bad code":  func(p *rawPeer) { p.frame(fin|opClose, []byte{0x03, 0xed}) },
		"close with bad UTF-8": func(p *rawPeer) { p.frame(fin|opClose, []byte{0x03, 0xe8, 0xff}) },
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t, options(nil))
			peer := newRawPeer(t, h)
			ran := run(t.Context(), h.next(t), func(context.Context, ws.Kind, []byte) error {
				t.Error("the handler was called")
				return nil
			})
			write(peer)
			err := receive(t, ran, "Run")
			if _, ok := errors.AsType[*ws.CloseError](err); err == nil || ok {
				t.Errorf("Run: %v, want an error of reading", err)
			}
		})
	}
}

func TestPingFloodHoldsNothingUp(t *testing.T) {
	h := newHost(t, options(nil))
	peer := newRawPeer(t, h)
	server := h.next(t)
	ran := run(t.Context(), server, func(ctx context.Context, _ ws.Kind, _ []byte) error {
		return errors.Join(server.SendLog(ctx, []byte("log")), server.SendControl(ctx, []byte("control")))
	})
	pings := bytes.Repeat(append(header(fin|opPing, 4), "ping"...), 1000)
	var flood sync.WaitGroup
	flood.Go(func() {
		for range 50 {
			peer.send(pings)
		}
		peer.frame(fin|opText, []byte("go on"))
		for range 50 {
			peer.send(pings)
		}
		peer.frame(fin|opPing, []byte("last"))
	})
	var pongs int
	var messages []string
	for {
		first, payload, err := peer.next()
		if err != nil {
			t.Fatal(err)
		}
		if first != fin|opPong {
			messages = append(messages, string(payload))
			continue
		}
		if pongs++; string(payload) == "last" {
			break
		}
	}
	flood.Wait()
	if slices.Sort(messages); !slices.Equal(messages, []string{"control", "log"}) {
		t.Errorf("messages %q came through the flood", messages)
	}
	if pongs > 100_001 {
		t.Errorf("%d pongs for 100001 pings", pongs)
	}
	server.CloseNow()
	receive(t, ran, "Run")
}

func TestAbruptEnd(t *testing.T) {
	for name, end := range map[string]func(*rawPeer){
		"between frames": func(*rawPeer) {},
		"in a header":    func(p *rawPeer) { p.send([]byte{fin | opText}) },
		"in a message":   func(p *rawPeer) { p.send(append(header(fin|opText, 100), "cut off"...)) },
		"reset": func(p *rawPeer) {
			if err := p.conn.(*net.TCPConn).SetLinger(0); err != nil {
				p.t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t, options(nil))
			peer := newRawPeer(t, h)
			server := h.next(t)
			ran := run(t.Context(), server, ignore)
			end(peer)
			peer.conn.Close()
			err := receive(t, ran, "Run")
			if _, ok := errors.AsType[*ws.CloseError](err); err == nil || ok {
				t.Errorf("Run: %v, want an error of the network", err)
			}
			if err := server.SendControl(t.Context(), nil); !errors.Is(err, ws.ErrClosed) {
				t.Errorf("SendControl afterwards: %v, want ErrClosed", err)
			}
		})
	}
}

func TestSilentPeerIsDropped(t *testing.T) {
	h := newHost(t, options(func(o *ws.Options) { o.ReadTimeout = 100 * time.Millisecond }))
	for name, write := range map[string]func(*rawPeer){
		"silent from the start":  func(*rawPeer) {},
		"silent in mid-message":  func(p *rawPeer) { p.send(append(header(fin|opText, 100), "half"...)) },
		"silent after a message": func(p *rawPeer) { p.frame(fin|opText, []byte("x")) },
	} {
		t.Run(name, func(t *testing.T) {
			peer := newRawPeer(t, h)
			ran := run(t.Context(), h.next(t), ignore)
			write(peer)
			if err := receive(t, ran, "Run"); !errors.Is(err, ws.ErrReadTimeout) {
				t.Errorf("Run: %v, want ErrReadTimeout", err)
			}
		})
	}
}

func TestAnyFrameKeepsAlive(t *testing.T) {
	const timeout = 500 * time.Millisecond
	h := newHost(t, options(func(o *ws.Options) { o.ReadTimeout = timeout }))
	peer := newRawPeer(t, h)
	server := h.next(t)
	ran := run(t.Context(), server, ignore)
	tick := time.NewTicker(timeout / 10)
	defer tick.Stop()
	frames := []byte{fin | opPing, fin | opPong, fin | opText, fin | opBinary}
	for i := range 30 {
		<-tick.C
		peer.frame(frames[i/8%len(frames)], []byte("x"))
		select {
		case err := <-ran:
			t.Fatalf("Run ended: %v", err)
		default:
		}
	}
	server.CloseNow()
	receive(t, ran, "Run")
}

func TestCloseCodesPassBothWays(t *testing.T) {
	long := strings.Repeat("é", 80) // 160 bytes
	for _, tt := range []struct {
		code       int
		reason     string
		wantCode   int
		wantReason string
	}{
		{1000, "", 1000, ""},
		{1001, "deploy", 1001, "deploy"},
		{4409, "replaced by a newer connection", 4409, "replaced by a newer connection"},
		{4429, long, 4429, long[:122]},
		{4429, "x" + long, 4429, "x" + long[:122]},
		{4401, "bad \xff byte", 4401, "bad \uFFFD byte"},
		{1006, "may not be sent", 1011, "may not be sent"},
		{7, "no code at all", 1011, "no code at all"},
	} {
		for _, serverCloses := range []bool{true, false} {
			server, client := pair(t, options(nil), options(nil))
			closer, other := client, server
			if serverCloses {
				closer, other = server, client
			}
			ran := run(t.Context(), closer, ignore)
			closer.Close(tt.code, tt.reason)
			closer.Close(1000, "only the first end counts")
			var got *ws.CloseError
			if err := other.Run(t.Context(), ignore); !errors.As(err, &got) || *got != (ws.CloseError{Code: tt.wantCode, Reason: tt.wantReason}) {
				t.Errorf("%d %q arrived as %v", tt.code, tt.reason, err)
			} else if !utf8.ValidString(got.Reason) {
				t.Errorf("reason %q is not UTF-8", got.Reason)
			}
			if err := receive(t, ran, "Run"); err != nil {
				t.Errorf("Run of the side that closed: %v, want nil", err)
			}
		}
	}
}

func TestCloseWithoutACode(t *testing.T) {
	h := newHost(t, options(nil))
	peer := newRawPeer(t, h)
	ran := run(t.Context(), h.next(t), ignore)
	peer.frame(fin|opClose, nil)
	if first, payload, err := peer.next(); err != nil || first != fin|opClose || len(payload) != 0 {
		t.Errorf("answer %x %x, %v; want an empty close frame", first, payload, err)
	}
	var closed *ws.CloseError
	if err := receive(t, ran, "Run"); !errors.As(err, &closed) || closed.Code != 1005 {
		t.Errorf("Run: %v, want 1005", err)
	}
}

func TestCloseSendsWhatWaitsInTheControlLane(t *testing.T) {
	server, client := pair(t, options(nil), options(nil))
	for _, word := range []string{"drain", "bye"} {
		if err := server.SendControl(t.Context(), []byte(word)); err != nil {
			t.Fatal(err)
		}
	}
	if err := server.SendLog(t.Context(), []byte("log")); err != nil {
		t.Fatal(err)
	}
	server.Close(1001, "deploy")
	if err := server.SendControl(t.Context(), []byte("late")); !errors.Is(err, ws.ErrClosed) {
		t.Errorf("SendControl after Close: %v, want ErrClosed", err)
	}
	ran := run(t.Context(), server, ignore)
	var got []string
	err := client.Run(t.Context(), func(_ context.Context, _ ws.Kind, data []byte) error {
		got = append(got, string(data))
		return nil
	})
	if e, ok := errors.AsType[*ws.CloseError](err); !ok || e.Code != 1001 {
		t.Errorf("Run: %v, want 1001", err)
	}
	if !slices.Equal(got, []string{"drain", "bye"}) {
		t.Errorf("got %q", got)
	}
	receive(t, ran, "Run")
}

func TestPeerThatDoesNotConfirmTheClose(t *testing.T) {
	h := newHost(t, options(func(o *ws.Options) { o.CloseTimeout = 100 * time.Millisecond }))
	peer := newRawPeer(t, h)
	server := h.next(t)
	ran := run(t.Context(), server, func(context.Context, ws.Kind, []byte) error {
		t.Error("the handler was called after Close")
		return nil
	})
	server.Close(4403, "disabled")
	if reason := peer.wantClose(4403); reason != "disabled" {
		t.Errorf("reason %q", reason)
	}
	peer.frame(fin|opText, []byte("too late"))
	if err := receive(t, ran, "Run"); err != nil {
		t.Errorf("Run: %v, want nil", err)
	}
}

func TestErrorOfTheHandler(t *testing.T) {
	plain := errors.New("database does not answer at 10.0.0.7")
	for _, tt := range []struct {
		err    error
		code   int
		reason string
	}{
		{plain, 1011, ""},
		{&ws.CloseError{Code: 4408, Reason: "no hello"}, 4408, "no hello"},
		{fmt.Errorf("refused: %w", &ws.CloseError{Code: 4401, Reason: "revoked"}), 4401, "revoked"},
	} {
		server, client := pair(t, options(nil), options(nil))
		ran := run(t.Context(), server, func(context.Context, ws.Kind, []byte) error { return tt.err })
		if err := client.SendControl(t.Context(), []byte("hello")); err != nil {
			t.Fatal(err)
		}
		var closed *ws.CloseError
		if err := client.Run(t.Context(), ignore); !errors.As(err, &closed) || *closed != (ws.CloseError{Code: tt.code, Reason: tt.reason}) {
			t.Errorf("%v reached the peer as %v", tt.err, err)
		}
		if err := receive(t, ran, "Run"); !errors.Is(err, tt.err) {
			t.Errorf("Run: %v, want %v", err, tt.err)
		}
	}
}

func TestEndOfTheContext(t *testing.T) {
	server, client := pair(t, options(nil), options(nil))
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("shutting down")
	handling := make(chan struct{})
	ran := run(ctx, server, func(ctx context.Context, _ ws.Kind, _ []byte) error {
		close(handling)
		<-ctx.Done()
		return nil
	})
	if err := client.SendControl(t.Context(), []byte("x")); err != nil {
		t.Fatal(err)
	}
	clientRan := run(t.Context(), client, ignore)
	receive(t, handling, "the handler")
	cancel(cause)
	if err := receive(t, ran, "Run"); !errors.Is(err, cause) {
		t.Errorf("Run: %v, want the cause", err)
	}
	if e, ok := errors.AsType[*ws.CloseError](receive(t, clientRan, "Run of the client")); !ok || e.Code != 1001 {
		t.Errorf("the peer got %v, want 1001", e)
	}
}

func TestPanicOfTheHandlerReachesTheCaller(t *testing.T) {
	server, client := pair(t, options(nil), options(nil))
	recovered := make(chan any, 1)
	go func() {
		defer func() { recovered <- recover() }()
		_ = server.Run(context.Background(), func(context.Context, ws.Kind, []byte) error { panic("out of luck") })
	}()
	if err := client.SendControl(t.Context(), []byte("x")); err != nil {
		t.Fatal(err)
	}
	if e, ok := errors.AsType[*ws.CloseError](client.Run(t.Context(), ignore)); !ok || e.Code != 1011 {
		t.Errorf("the peer got %v, want 1011", e)
	}
	if v := receive(t, recovered, "the panic"); v != "out of luck" {
		t.Errorf("recovered %v", v)
	}
}

// TestPeersReasonIsNotLost: the peer closed while this side was busy handling and writing, so that writing fails before the
// close frame is read.
func TestPeersReasonIsNotLost(t *testing.T) {
	h := newHost(t, options(nil))
	peer := newRawPeer(t, h)
	server := h.next(t)
	handling := make(chan struct{})
	ran := run(t.Context(), server, func(ctx context.Context, _ ws.Kind, _ []byte) error {
		close(handling)
		<-ctx.Done()
		return nil
	})
	peer.frame(fin|opText, []byte("x"))
	receive(t, handling, "the handler")
	peer.frame(fin|opClose, append([]byte{0x11, 0x39}, "replaced"...))
	peer.conn.Close()
	flood(t, server)
	var closed *ws.CloseError
	if err := receive(t, ran, "Run"); !errors.As(err, &closed) || *closed != (ws.CloseError{Code: 4409, Reason: "replaced"}) {
		t.Errorf("Run: %v, want 4409 replaced", err)
	}
}

func TestCloseUnderLoad(t *testing.T) {
	for range 20 {
		server, client := pair(t, options(nil), options(nil))
		ran := run(t.Context(), server, func(context.Context, ws.Kind, []byte) error {
			server.Close(4409, "replaced")
			return nil
		})
		var sender sync.WaitGroup
		sender.Go(func() { flood(t, client) })
		var closed *ws.CloseError
		if err := client.Run(t.Context(), ignore); !errors.As(err, &closed) || closed.Code != 4409 {
			t.Errorf("Run: %v, want 4409", err)
		}
		sender.Wait()
		if err := receive(t, ran, "Run"); err != nil {
			t.Errorf("Run of the side that closed: %v, want nil", err)
		}
	}
}

func TestNoGoroutineIsLeft(t *testing.T) {
	h := newHost(t, options(nil))
	before := runtime.NumGoroutine()
	ends := []func(server, client *ws.Conn){
		func(server, _ *ws.Conn) { server.Close(1001, "") },
		func(_, client *ws.Conn) { client.Close(1000, "") },
		func(server, _ *ws.Conn) { server.CloseNow() },
		func(_, client *ws.Conn) { client.CloseNow() },
		func(server, client *ws.Conn) { server.Close(1001, ""); client.Close(1000, "") },
	}
	for i := range 200 {
		client, err := ws.Dial(t.Context(), h.url, nil, nil, options(nil))
		if err != nil {
			t.Fatal(err)
		}
		server := h.next(t)
		serverRan, clientRan := run(t.Context(), server, ignore), run(t.Context(), client, ignore)
		_ = client.SendControl(t.Context(), []byte("hello"))
		_ = client.SendLog(t.Context(), []byte("log"))
		_ = server.SendControl(t.Context(), []byte("welcome"))
		ends[i%len(ends)](server, client)
		receive(t, serverRan, "Run of the server")
		receive(t, clientRan, "Run of the client")
	}
	waitForGoroutines(t, before)
}

func TestConnThatIsNeverRunLeavesNothing(t *testing.T) {
	h := newHost(t, options(nil))
	before := runtime.NumGoroutine()
	for range 20 {
		client, err := ws.Dial(t.Context(), h.url, nil, nil, options(nil))
		if err != nil {
			t.Fatal(err)
		}
		client.CloseNow()
		h.next(t).CloseNow()
	}
	waitForGoroutines(t, before)
}

// waitForGoroutines waits until there are no more goroutines than there were.
func waitForGoroutines(t *testing.T, before int) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for runtime.NumGoroutine() > before {
		select {
		case <-tick.C:
		case <-deadline:
			stacks := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, %d before\n%s", runtime.NumGoroutine(), before, stacks[:runtime.Stack(stacks, true)])
		}
	}
}
