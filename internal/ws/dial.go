package ws

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/gorilla/websocket"
)

// maxRetryAfter is the longest that a server may ask to wait.
const maxRetryAfter = 24 * time.Hour

// Dial connects to a server. The URL begins with ws:// or wss://; header is sent with the request, tlsConfig is for wss and may be nil.
// Redirects are not followed, and no proxy is used.
//
// A server that answers and does not accept makes the error a [*RefusedError]; one that accepts with another subprotocol, [ErrSubprotocol].
// When ctx ends while Dial is at work, the error wraps the cause. Afterwards ctx means nothing to the connection.
func Dial(ctx context.Context, url string, header http.Header, tlsConfig *tls.Config, o *Options) (*Conn, error) {
	options := o.withDefaults()
	ctx, cancel := context.WithTimeoutCause(ctx, options.HandshakeTimeout, errHandshakeTimeout)
	defer cancel()
	if tlsConfig != nil && len(tlsConfig.NextProtos) > 0 {
		// A configuration that is shared with an HTTP client may offer h2, which cannot be upgraded.
		tlsConfig = tlsConfig.Clone()
		tlsConfig.NextProtos = []string{"http/1.1"}
	}
	stop := func() bool { return true }
	dialer := websocket.Dialer{
		NetDialContext: func(_ context.Context, network, addr string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, addr)
			if err == nil {
				stop = context.AfterFunc(ctx, func() { conn.Close() })
			}
			return conn, err
		},
		TLSClientConfig: tlsConfig,
		ReadBufferSize:  readBuffer,
		WriteBufferSize: dialedBuffer,
		WriteBufferPool: &dialedBuffers,
		Subprotocols:    options.Subprotocols,
	}
	// The library heeds a context's end only until it is connected, and its deadline by an error of its own: so it gets neither.
	socket, response, err := dialer.DialContext(context.WithoutCancel(ctx), url, header) //nolint:bodyclose // the library has read the body
	if !stop() && err == nil {
		socket.Close()
		err = context.Cause(ctx)
	}
	if err == nil {
		if err = agreed(socket, response, options.Subprotocols); err == nil {
			return newConn(socket, options), nil
		}
		socket.Close()
	}
	return nil, dialError(ctx, response, err)
}

var errHandshakeTimeout = fmt.Errorf("handshake timeout: %w", context.DeadlineExceeded)

// agreed checks what the library takes on trust.
func agreed(socket *websocket.Conn, response *http.Response, offered []string) error {
	if response.Header.Get("Sec-WebSocket-Extensions") != "" {
		return errors.New("ws: the server uses an extension that it was not offered")
	}
	if !slices.Contains(offered, socket.Subprotocol()) {
		return ErrSubprotocol
	}
	return nil
}

// dialError turns what came of a dial into the errors that Dial promises.
func dialError(ctx context.Context, response *http.Response, err error) error {
	switch {
	case errors.Is(err, websocket.ErrBadHandshake) && response.StatusCode != http.StatusSwitchingProtocols:
		body, _ := io.ReadAll(io.LimitReader(response.Body, maxHandshakeBody))
		return &RefusedError{
			Status:     response.StatusCode,
			RetryAfter: retryAfter(response.Header.Get("Retry-After"), time.Now()),
			Body:       body,
		}
	case errors.Is(err, ErrSubprotocol):
		return err
	case ctx.Err() != nil:
		return fmt.Errorf("ws: dial: %w", context.Cause(ctx))
	default:
		return fmt.Errorf("ws: dial: %w", err)
	}
}

// retryAfter reads a Retry-After header, in seconds or as a date. What makes no sense is zero.
func retryAfter(value string, now time.Time) time.Duration {
	var wait time.Duration
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		wait = time.Duration(seconds) * time.Second
	} else if date, err := http.ParseTime(value); err == nil {
		wait = date.Sub(now)
	}
	return min(max(wait, 0), maxRetryAfter)
}
