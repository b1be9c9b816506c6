package ws_test

import (
	"bufio"
	"context"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/slipway-build/slipway/internal/ws"
)

const subprotocol = "slipway.worker.v1"

// patience bounds every wait of these tests; none of them is expected to last.
const patience = 20 * time.Second

func options(change func(*ws.Options)) *ws.Options {
	o := &ws.Options{Subprotocols: []string{subprotocol}}
	if change != nil {
		change(o)
	}
	return o
}

// A host accepts connections on a loopback port and hands them to the test.
type host struct {
	url   string // ws://…
	conns chan *ws.Conn
}

// newHost returns a host whose requests end when the test has run the connection: its Run happens elsewhere, as a hijacked
// connection outlives its handler.
func newHost(t *testing.T, o *ws.Options) *host {
	t.Helper()
	h := &host{conns: make(chan *ws.Conn, 256)}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := ws.Accept(w, r, o)
		if refusal, ok := errors.AsType[*ws.UpgradeError](err); ok {
			http.Error(w, refusal.Reason, refusal.Status)
			return
		}
		if err != nil {
			t.Errorf("Accept: %v", err)
			return
		}
		h.conns <- conn
	}))
	t.Cleanup(server.Close)
	h.url = "ws" + strings.TrimPrefix(server.URL, "http")
	return h
}

func (h *host) addr() string { return strings.TrimPrefix(h.url, "ws://") }

// next returns the next accepted connection.
func (h *host) next(t *testing.T) *ws.Conn {
	t.Helper()
	return receive(t, h.conns, "a connection")
}

// pair returns the two ends of one connection.
func pair(t *testing.T, accepted, dialed *ws.Options) (server, client *ws.Conn) {
	t.Helper()
	h := newHost(t, accepted)
	client, err := ws.Dial(t.Context(), h.url, nil, nil, dialed)
	if err != nil {
		t.Fatal(err)
	}
	return h.next(t), client
}

// run runs c elsewhere; the channel gets what Run returns.
func run(ctx context.Context, c *ws.Conn, handle ws.Handler) <-chan error {
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx, handle) }()
	return ended
}

func ignore(context.Context, ws.Kind, []byte) error { return nil }

func receive[T any](t *testing.T, from <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(patience):
		t.Fatalf("waited %v for %s", patience, what)
		panic("unreachable")
	}
}

// A rawPeer is a client that writes frames by hand, so that it can break every rule.
type rawPeer struct {
	t    *testing.T
	conn net.Conn
	r    *bufio.Reader
}

// Opcodes and the bit that ends a message.
const (
	opContinue = 0x0
	opText     = 0x1
	opBinary   = 0x2
	opClose    = 0x8
	opPing     = 0x9
	opPong     = 0xa
	fin        = 0x80
)

func newRawPeer(t *testing.T, h *host) *rawPeer {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", h.addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	p := &rawPeer{t: t, conn: conn, r: bufio.NewReader(conn)}
	p.send([]byte("GET / HTTP/1.1\r\nHost: " + h.addr() + "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: " + subprotocol + "\r\n\r\n"))
	response, err := http.ReadResponse(p.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("status %d", response.StatusCode)
	}
	return p
}

func (p *rawPeer) send(b []byte) {
	p.t.Helper()
	if _, err := p.conn.Write(b); err != nil {
		p.t.Fatal(err)
	}
}

// frame writes one frame, masked with zeros.
func (p *rawPeer) frame(first byte, payload []byte) {
	p.t.Helper()
	p.send(append(header(first, uint64(len(payload))), payload...))
}

// header returns the header of a frame that claims to be n bytes long.
func header(first byte, n uint64) []byte {
	b := []byte{first}
	switch {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), n)
	}
	return append(b, 0, 0, 0, 0)
}

// next reads one frame.
func (p *rawPeer) next() (first byte, payload []byte, err error) {
	var head [2]byte
	if _, err := io.ReadFull(p.r, head[:]); err != nil {
		return 0, nil, err
	}
	n := uint64(head[1])
	var more [8]byte
	switch n {
	case 126:
		_, err = io.ReadFull(p.r, more[6:])
		n = binary.BigEndian.Uint64(more[:])
	case 127:
		_, err = io.ReadFull(p.r, more[:])
		n = binary.BigEndian.Uint64(more[:])
	}
	if err != nil {
		return 0, nil, err
	}
	payload = make([]byte, n)
	_, err = io.ReadFull(p.r, payload)
	return head[0], payload, err
}

// wantClose reads up to a close frame, and expects it to have that code.
func (p *rawPeer) wantClose(code int) (reason string) {
	p.t.Helper()
	for {
		first, payload, err := p.next()
		if err != nil {
			p.t.Fatalf("reading up to a close frame: %v", err)
		}
		if first != fin|opClose {
			continue
		}
		if len(payload) < 2 || int(binary.BigEndian.Uint16(payload)) != code {
			p.t.Fatalf("close frame %x, want code %d", payload, code)
		}
		return string(payload[2:])
	}
}

// acceptKey is the answer to a handshake's key, by RFC 6455, section 4.2.2.
func acceptKey(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}
