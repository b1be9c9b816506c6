package ws_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/slipway-build/slipway/internal/ws"
)

func TestAcceptRefuses(t *testing.T) {
	h := newHost(t, options(nil))
	httpURL := "http" + strings.TrimPrefix(h.url, "ws")
	for _, tt := range []struct {
		name   string
		method string
		change func(http.Header)
		status int
	}{
		{"plain GET", "GET", func(h http.Header) { h.Del("Upgrade"); h.Del("Connection") }, 426},
		{"POST", "POST", func(http.Header) {}, 405},
		{"other version", "GET", func(h http.Header) { h.Set("Sec-WebSocket-Version", "8") }, 426},
		{"bad key", "GET", func(h http.Header) { h.Set("Sec-WebSocket-Key", "short") }, 400},
		{"no subprotocol", "GET", func(h http.Header) { h.Del("Sec-WebSocket-Protocol") }, 426},
		{"subprotocol of the future", "GET", func(h http.Header) { h.Set("Sec-WebSocket-Protocol", "slipway.worker.v9") }, 426},
		{"foreign origin", "GET", func(h http.Header) { h.Set("Origin", "https://evil.example") }, 403},
		{"origin null", "GET", func(h http.Header) { h.Set("Origin", "null") }, 403},
		{"empty origin", "GET", func(h http.Header) { h.Set("Origin", "") }, 403},
		{"origin that begins like the host", "GET", func(hd http.Header) { hd.Set("Origin", "http://"+h.addr()+".evil.example") }, 403},
		{"two origins", "GET", func(hd http.Header) { hd["Origin"] = []string{"http://" + h.addr(), "https://evil.example"} }, 403},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, err := http.NewRequestWithContext(t.Context(), tt.method, httpURL, nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header = http.Header{
				"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"},
				"Sec-Websocket-Key": {"AAAAAAAAAAAAAAAAAAAAAA=="}, "Sec-Websocket-Protocol": {subprotocol},
				"Cookie": {"session=valid"},
			}
			tt.change(r.Header)
			response, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			if response.StatusCode != tt.status {
				t.Errorf("status %d, want %d", response.StatusCode, tt.status)
			}
			if tt.status == 426 && response.Header.Get("Upgrade") != "websocket" {
				t.Error("426 without an Upgrade header")
			}
			if tt.status == 405 && response.Header.Get("Allow") != "GET" {
				t.Error("405 without an Allow header")
			}
		})
	}
}

func TestAcceptTakesItsOwnOrigin(t *testing.T) {
	h := newHost(t, options(nil))
	conn, err := ws.Dial(t.Context(), h.url, http.Header{"Origin": {"http://" + strings.ToUpper(h.addr())}}, nil, options(nil))
	if err != nil {
		t.Fatal(err)
	}
	conn.CloseNow()
	h.next(t).CloseNow()
}

func TestServerPicksItsBestSubprotocol(t *testing.T) {
	h := newHost(t, &ws.Options{Subprotocols: []string{"slipway.worker.v3", "slipway.worker.v2", subprotocol}})
	conn, err := ws.Dial(t.Context(), h.url, nil, nil, &ws.Options{Subprotocols: []string{subprotocol, "slipway.worker.v2"}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	server := h.next(t)
	defer server.CloseNow()
	if got := conn.Subprotocol(); got != "slipway.worker.v2" || server.Subprotocol() != got {
		t.Errorf("client speaks %q, server %q", got, server.Subprotocol())
	}
}

func TestAcceptBelowMiddleware(t *testing.T) {
	type wrapped struct {
		http.ResponseWriter
		unwrapped
	}
	accepted := make(chan error, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := ws.Accept(wrapped{w, unwrapped{w}}, r, options(nil))
		if err == nil {
			conn.CloseNow()
		}
		accepted <- err
	}))
	defer server.Close()
	conn, err := ws.Dial(t.Context(), "ws"+strings.TrimPrefix(server.URL, "http"), nil, nil, options(nil))
	if err != nil {
		t.Fatal(err)
	}
	conn.CloseNow()
	if err := receive(t, accepted, "Accept"); err != nil {
		t.Error(err)
	}
}

type unwrapped struct{ w http.ResponseWriter }

func (u unwrapped) Unwrap() http.ResponseWriter { return u.w }

func TestAcceptWithoutAConnectionToTakeOver(t *testing.T) {
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(t.Context(), "GET", "/", nil)
	r.Header = http.Header{
		"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"},
		"Sec-Websocket-Key": {"AAAAAAAAAAAAAAAAAAAAAA=="}, "Sec-Websocket-Protocol": {subprotocol},
	}
	_, err := ws.Accept(w, r, options(nil))
	if refusal, ok := errors.AsType[*ws.UpgradeError](err); !ok || refusal.Status != 500 {
		t.Errorf("Accept: %v, want status 500", err)
	}
	if w.Body.Len() > 0 {
		t.Errorf("Accept answered by itself: %q", w.Body)
	}
}

func TestDialRefused(t *testing.T) {
	for _, tt := range []struct {
		name       string
		retryAfter string
		want       time.Duration
	}{
		{"none", "", 0},
		{"seconds", "7", 7 * time.Second},
		{"negative", "-7", 0},
		{"nonsense", "soon", 0},
		{"endless", "2147483647", 24 * time.Hour},
		{"past date", "Wed, 21 Oct 2015 07:28:00 GMT", 0},
		{"far date", "Wed, 21 Oct 2115 07:28:00 GMT", 24 * time.Hour},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var authorization string
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				authorization = r.Header.Get("Authorization")
				if tt.retryAfter != "" {
					w.Header().Set("Retry-After", tt.retryAfter)
				}
				w.WriteHeader(http.StatusTooManyRequests)
				io.WriteString(w, strings.Repeat("no ", 1<<16))
			}))
			defer server.Close()
			header := http.Header{"Authorization": {"Bearer canary-7f3a"}}
			_, err := ws.Dial(t.Context(), "ws"+strings.TrimPrefix(server.URL, "http"), header, nil, options(nil))
			refused, ok := errors.AsType[*ws.RefusedError](err)
			if !ok {
				t.Fatalf("Dial: %v, want a *RefusedError", err)
			}
			if refused.Status != 429 || refused.RetryAfter != tt.want || len(refused.Body) != 1<<10 {
				t.Errorf("status %d, retry after %v, %d bytes of body", refused.Status, refused.RetryAfter, len(refused.Body))
			}
			if authorization != "Bearer canary-7f3a" || strings.Contains(err.Error(), "canary") {
				t.Errorf("sent %q, error %q", authorization, err)
			}
		})
	}
}

func TestDialDoesNotFollowRedirects(t *testing.T) {
	server := httptest.NewServer(http.RedirectHandler("ws://evil.example/", http.StatusFound))
	defer server.Close()
	_, err := ws.Dial(t.Context(), "ws"+strings.TrimPrefix(server.URL, "http"), nil, nil, options(nil))
	if refused, ok := errors.AsType[*ws.RefusedError](err); !ok || refused.Status != http.StatusFound {
		t.Errorf("Dial: %v, want status 302", err)
	}
}

func TestDialDistrustsTheAnswer(t *testing.T) {
	for name, tt := range map[string]struct {
		header string
		want   error
	}{
		"no subprotocol":      {"", ws.ErrSubprotocol},
		"other subprotocol":   {"Sec-WebSocket-Protocol: slipway.worker.v9\r\n", ws.ErrSubprotocol},
		"compression":         {"Sec-WebSocket-Protocol: " + subprotocol + "\r\nSec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover\r\n", nil},
		"unknown extension":   {"Sec-WebSocket-Protocol: " + subprotocol + "\r\nSec-WebSocket-Extensions: x-later\r\n", nil},
		"answer to other key": {"Sec-WebSocket-Protocol: " + subprotocol + "\r\nSec-WebSocket-Accept: AAAA\r\n", nil},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				conn, _, err := http.NewResponseController(w).Hijack()
				if err != nil {
					t.Error(err)
					return
				}
				defer conn.Close()
				head := "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
				if !strings.Contains(tt.header, "Accept") {
					head += "Sec-WebSocket-Accept: " + acceptKey(r.Header.Get("Sec-WebSocket-Key")) + "\r\n"
				}
				io.WriteString(conn, head+tt.header+"\r\n")
			}))
			defer server.Close()
			conn, err := ws.Dial(t.Context(), "ws"+strings.TrimPrefix(server.URL, "http"), nil, nil, options(nil))
			if err == nil {
				conn.CloseNow()
				t.Fatal("Dial took it")
			}
			if tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("Dial: %v, want %v", err, tt.want)
			}
			if _, ok := errors.AsType[*ws.RefusedError](err); ok {
				t.Errorf("Dial: %v; the server did accept", err)
			}
		})
	}
}

// mute returns the address of a server that takes connections and never answers, and a channel with the connections.
func mute(t *testing.T) (addr string, conns <-chan net.Conn) {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	taken := make(chan net.Conn, 1)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			taken <- conn
		}
	}()
	t.Cleanup(func() { listener.Close() })
	return listener.Addr().String(), taken
}

func TestDialHeedsItsContext(t *testing.T) {
	for _, scheme := range []string{"ws://", "wss://"} {
		addr, taken := mute(t)
		ctx, cancel := context.WithCancelCause(t.Context())
		cause := errors.New("not waiting")
		dialed := make(chan error, 1)
		go func() {
			_, err := ws.Dial(ctx, scheme+addr, nil, nil, options(nil))
			dialed <- err
		}()
		conn := receive(t, taken, "the connection")
		defer conn.Close()
		cancel(cause)
		if err := receive(t, dialed, "Dial"); !errors.Is(err, cause) {
			t.Errorf("%s: Dial: %v, want the cause", scheme, err)
		}
	}
}

func TestDialTimesOut(t *testing.T) {
	addr, _ := mute(t)
	_, err := ws.Dial(t.Context(), "ws://"+addr, nil, nil, options(func(o *ws.Options) { o.HandshakeTimeout = 50 * time.Millisecond }))
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Dial: %v, want DeadlineExceeded", err)
	}
}

func TestDialNobody(t *testing.T) {
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := listener.Addr().String()
	listener.Close()
	if _, err := ws.Dial(t.Context(), "ws://"+addr, nil, nil, options(nil)); err == nil {
		t.Error("Dial reached nobody and did not say so")
	}
	if _, err := ws.Dial(t.Context(), "ftp://"+addr, nil, nil, options(nil)); err == nil {
		t.Error("Dial took another scheme")
	}
}

func TestTLS(t *testing.T) {
	conns := make(chan *ws.Conn, 1)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := ws.Accept(w, r, options(nil))
		if err != nil {
			t.Error(err)
			return
		}
		conns <- conn
	}))
	server.EnableHTTP2 = true
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // the refused handshake is meant
	server.StartTLS()
	defer server.Close()
	url := "wss" + strings.TrimPrefix(server.URL, "https")
	if _, err := ws.Dial(t.Context(), url, nil, nil, options(nil)); err == nil {
		t.Error("Dial trusted an unknown authority")
	}
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	config := &tls.Config{RootCAs: roots, NextProtos: []string{"h2", "http/1.1"}}
	client, err := ws.Dial(t.Context(), url, nil, config, options(nil))
	if err != nil {
		t.Fatal(err)
	}
	if config.NextProtos[0] != "h2" {
		t.Error("Dial changed the caller's configuration")
	}
	host := receive(t, conns, "the connection")
	ran := run(t.Context(), host, ignore)
	host.Close(4403, "disabled")
	if e, ok := errors.AsType[*ws.CloseError](client.Run(t.Context(), ignore)); !ok || e.Code != 4403 {
		t.Errorf("the peer got %v, want 4403", e)
	}
	if err := receive(t, ran, "Run"); err != nil {
		t.Error(err)
	}
}

func TestSlowPeerUnderTLSIsCutInTime(t *testing.T) {
	conns := make(chan *ws.Conn, 1)
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := ws.Accept(w, r, options(func(o *ws.Options) { o.WriteTimeout = 200 * time.Millisecond }))
		if err != nil {
			t.Error(err)
			return
		}
		conns <- conn
	}))
	defer server.Close()
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	client, err := ws.Dial(t.Context(), "wss"+strings.TrimPrefix(server.URL, "https"), nil, &tls.Config{RootCAs: roots}, options(nil))
	if err != nil {
		t.Fatal(err)
	}
	defer client.CloseNow() // it is never run, so it never reads
	host := receive(t, conns, "the connection")
	ran := run(t.Context(), host, ignore)
	flood(t, host)
	if err := receive(t, ran, "Run"); !errors.Is(err, ws.ErrWriteTimeout) {
		t.Errorf("Run: %v, want ErrWriteTimeout", err)
	}
}
