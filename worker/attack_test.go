package worker_test

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/slipway-build/slipway/internal/ws"
	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/worker"
	"github.com/slipway-build/slipway/worker/wire"
)

// First bytes of frames.
const (
	frameText     = 0x81
	framePing     = 0x89
	frameClose    = 0x88
	beginsMessage = 0x01
	continues     = 0x00
)

// frame returns a frame that is masked with zeros.
func frame(first byte, payload []byte) []byte {
	b := append([]byte{first, 0x80 | 127}, make([]byte, 12)...)
	binary.BigEndian.PutUint64(b[2:], uint64(len(payload)))
	if len(payload) < 126 {
		b = []byte{first, 0x80 | byte(len(payload)), 0, 0, 0, 0}
	}
	return append(b, payload...)
}

// raw connects as a worker of that name that writes its frames by hand.
func (c *controller) raw(t *testing.T, name string) (net.Conn, *bufio.Reader) {
	t.Helper()
	host := strings.TrimPrefix(c.server.URL, "http://")
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patient)); err != nil {
		t.Fatal(err)
	}
	_, err = io.WriteString(conn, "GET /v1/worker/connect HTTP/1.1\r\nHost: "+host+"\r\nAuthorization: Bearer "+secret+"_"+name+
		"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"+
		"Sec-WebSocket-Protocol: "+wire.Subprotocol+"\r\n\r\n")
	if err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(conn)
	answer, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("status %d", answer.StatusCode)
	}
	return conn, r
}

// closeCode reads up to a close frame. The frames of a hub that has not heard hello are short.
func closeCode(t *testing.T, r *bufio.Reader) int {
	t.Helper()
	for {
		head := make([]byte, 2)
		if _, err := io.ReadFull(r, head); err != nil {
			t.Fatalf("reading up to a close frame: %v", err)
		}
		payload := make([]byte, head[1])
		if _, err := io.ReadFull(r, payload); err != nil {
			t.Fatalf("reading up to a close frame: %v", err)
		}
		if head[0] == frameClose {
			return int(binary.BigEndian.Uint16(payload))
		}
	}
}

// refused tries to connect and returns the answer of a controller that does not let it, nil if it did.
func (c *controller) refused(t *testing.T, name string) *ws.RefusedError {
	t.Helper()
	header := http.Header{"Authorization": {"Bearer " + secret + "_" + name}}
	url := "ws" + strings.TrimPrefix(c.server.URL, "http") + "/v1/worker/connect"
	conn, err := ws.Dial(t.Context(), url, header, nil, &ws.Options{Subprotocols: []string{wire.Subprotocol}})
	if err != nil {
		refusal, ok := errors.AsType[*ws.RefusedError](err)
		if !ok {
			t.Fatalf("dial: %v", err)
		}
		return refusal
	}
	newPeer(t, conn)
	return nil
}

// TestBrokenFrames sends what RFC 6455 or the limits do not allow: the connection is closed with the code for it, its place is free, and
// another worker's session is as good as before.
func TestBrokenFrames(t *testing.T) {
	t.Parallel()
	pings := append(frame(framePing, []byte("ping")), frame(framePing, make([]byte, 125))...)
	for name, test := range map[string]struct {
		frames [][]byte
		want   wire.CloseCode
	}{
		"a message above the limit": {[][]byte{frame(frameText, make([]byte, wire.MaxMessage+1))}, wire.CloseTooBig},
		"fragments above the limit": {
			[][]byte{frame(beginsMessage, make([]byte, wire.MaxMessage/2)), pings, frame(continues, make([]byte, wire.MaxMessage/2+1))},
			wire.CloseTooBig,
		},
		"a frame without a mask":        {[][]byte{{frameText, 2, '{', '}'}}, wire.CloseProtocol},
		"a fragment of nothing":         {[][]byte{frame(continues, []byte("{}"))}, wire.CloseProtocol},
		"a ping of more than 125 bytes": {[][]byte{frame(framePing, make([]byte, 126))}, wire.CloseProtocol},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			c := w.controller(func(o *worker.HubOptions) { o.MaxSessions, o.HelloTimeout, o.ReadTimeout = 2, patient, patient })
			bystander := c.dial(t, "two")
			bystander.enter("two", queue.NewID())
			conn, r := c.raw(t, "one")
			for _, f := range test.frames {
				if _, err := conn.Write(f); err != nil {
					t.Fatal(err)
				}
			}
			if code := closeCode(t, r); code != int(test.want) {
				t.Errorf("closed with %d, want %d", code, test.want)
			}
			conn.Close()
			bystander.sync(1)
			eventually(t, "the place is free", func() bool { return c.refused(t, "one") == nil })
		})
	}
}

// TestConnectionsWithoutHello opens connections and says nothing. One worker gets few, all together as many as there are places; the others
// are told when to try again.
func TestConnectionsWithoutHello(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const places, ofOne = 20, 16
	c := w.controller(func(o *worker.HubOptions) {
		o.MaxSessions, o.HelloTimeout, o.ReadTimeout = places, time.Hour, time.Hour
	})
	bystander := c.dial(t, "two")
	bystander.enter("two", queue.NewID())

	silent := make([]*peer, 0, ofOne)
	for range ofOne {
		silent = append(silent, c.dial(t, "one"))
	}
	unavailable := func(name string) {
		t.Helper()
		if answer := c.refused(t, name); answer == nil || answer.Status != http.StatusServiceUnavailable || answer.RetryAfter <= 0 {
			t.Fatalf("worker %q was answered with %+v, want 503 and a time to wait", name, answer)
		}
	}
	for range 1000 {
		unavailable("one")
	}
	for _, name := range []string{"three", "four", "five"} {
		c.dial(t, name).enter(name, queue.NewID())
	}
	unavailable("six") // there is no place for anybody
	bystander.sync(1)
	for _, p := range silent {
		p.conn.CloseNow()
	}
	eventually(t, "the places are free", func() bool { return c.refused(t, "six") == nil })
	bystander.sync(2)
}

// TestPlacesAfterHelloTimeout has connections that say nothing be closed with 4408: their places are free.
func TestPlacesAfterHelloTimeout(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.controller(func(o *worker.HubOptions) {
		o.MaxSessions, o.HelloTimeout, o.ReadTimeout = 3, 500*time.Millisecond, time.Hour
	})
	for _, name := range []string{"one", "one", "two"} {
		if code := c.dial(t, name).closed(); code != wire.CloseHelloTimeout {
			t.Errorf("closed with %d", code)
		}
	}
	for _, name := range []string{"one", "two", "three"} {
		eventually(t, "there is a place for "+name, func() bool { return c.refused(t, name) == nil })
	}
}
