package ws

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/gorilla/websocket"
)

// A connection holds a read buffer of this size for as long as it lives. A write buffer is borrowed for each message.
const (
	readBuffer       = 1 << 10
	acceptedBuffer   = 1 << 10  // a server writes long messages from where they are
	dialedBuffer     = 32 << 10 // a client masks into the buffer, and what does not fit becomes a frame of its own
	maxHandshakeBody = 1 << 10
)

var acceptedBuffers, dialedBuffers sync.Pool

// Accept makes a connection of a request. Of the subprotocols that both sides speak it picks the one that [Options.Subprotocols]
// has first.
//
// A request with an Origin header is refused unless it names the request's own host: browsers send one, workers do not.
//
// If the request is not accepted the error is an [*UpgradeError] and the caller answers it. Any other error says that the request's
// connection has been lost in taking it over, and leaves nothing to answer.
func Accept(w http.ResponseWriter, r *http.Request, o *Options) (*Conn, error) {
	options := o.withDefaults()
	subprotocol, refusal := negotiate(r, options.Subprotocols)
	if refusal != nil {
		return nil, refuse(w, refusal)
	}
	upgrader := websocket.Upgrader{
		HandshakeTimeout: options.HandshakeTimeout,
		ReadBufferSize:   readBuffer,
		WriteBufferSize:  acceptedBuffer,
		WriteBufferPool:  &acceptedBuffers,
		Subprotocols:     []string{subprotocol},
		CheckOrigin:      sameHost,
		Error: func(_ http.ResponseWriter, _ *http.Request, status int, reason error) {
			refusal = &UpgradeError{Status: status, Reason: reason.Error()}
		},
	}
	socket, err := upgrader.Upgrade(hijacker{w}, r, nil)
	switch {
	case err == nil:
		return newConn(socket, options), nil
	case refusal != nil:
		return nil, refuse(w, refusal)
	default:
		return nil, fmt.Errorf("ws: accept: %w", err)
	}
}

// refuse sets the headers that an answer of that status must have.
func refuse(w http.ResponseWriter, refusal *UpgradeError) error {
	switch refusal.Status {
	case http.StatusUpgradeRequired:
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Upgrade", "websocket")
		w.Header().Set("Sec-WebSocket-Version", "13")
	case http.StatusMethodNotAllowed:
		w.Header().Set("Allow", http.MethodGet)
	}
	return refusal
}

// negotiate returns the subprotocol to speak, or why the request must be refused.
func negotiate(r *http.Request, speaks []string) (string, *UpgradeError) {
	switch {
	case r.Method != http.MethodGet:
		return "", &UpgradeError{http.StatusMethodNotAllowed, "the method must be GET"}
	case !websocket.IsWebSocketUpgrade(r):
		return "", &UpgradeError{http.StatusUpgradeRequired, "the request is not a WebSocket handshake"}
	case r.Header.Get("Sec-WebSocket-Version") != "13":
		return "", &UpgradeError{http.StatusUpgradeRequired, "the WebSocket version must be 13"}
	case !sameHost(r):
		return "", &UpgradeError{http.StatusForbidden, "the origin is another host"}
	}
	offered := websocket.Subprotocols(r)
	for _, name := range speaks {
		if slices.Contains(offered, name) {
			return name, nil
		}
	}
	return "", &UpgradeError{http.StatusUpgradeRequired, noSubprotocol}
}

// sameHost reports whether r comes from no origin or from its own host.
func sameHost(r *http.Request) bool {
	origins := r.Header["Origin"]
	if len(origins) == 0 {
		return true
	}
	u, err := url.Parse(origins[0])
	return err == nil && len(origins) == 1 && u.Host != "" && strings.EqualFold(u.Host, r.Host)
}

// A hijacker finds the connection below the ResponseWriters of middleware.
type hijacker struct {
	http.ResponseWriter
}

func (h hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return http.NewResponseController(h.ResponseWriter).Hijack()
}
