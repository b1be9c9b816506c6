// Package peer is a worker in Slipway's protocol, written from docs/protocol.md and from nothing else: it imports nothing of Slipway.
// It runs one build at a time, of the kind that command interop hands out.
package peer

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	mrand "math/rand/v2"
	"net/http"
	"strings"
	"time"

	"github.com/coder/websocket"
)

const subprotocol = "slipway.worker.v1"

// A Worker connects to one controller and runs what it is offered.
type Worker struct {
	// Drop breaks the connection each time that many log bytes were sent over it, but twice at most. Zero: never.
	Drop int
	// Repeat is after how long accept, finished and log bytes that were not answered are sent again. Welcome is how long hello may go without
	// an answer.
	Repeat, Welcome time.Duration
	// Pause bounds the first pause before a reconnect.
	Pause time.Duration

	url, credential, name string
	instance              string
	client                *http.Client
	attempt               *attempt // what it runs, or owes a report for; nil if there is nothing
	drops                 int
	draining              bool
}

// New returns a worker of that name for the controller at a URL.
func New(url, credential, name string) *Worker {
	return &Worker{
		Repeat: 3 * time.Second, Welcome: 10 * time.Second, Pause: 500 * time.Millisecond,
		url: strings.TrimSuffix(url, "/"), credential: credential, name: name, instance: newUUID(),
		client: &http.Client{
			Timeout:       30 * time.Second,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// Run connects, again and again, until ctx ends or the controller refuses the worker for good.
func (w *Worker) Run(ctx context.Context) error {
	bound := w.Pause
	for {
		begun := time.Now()
		if w.attempt != nil {
			w.attempt.watch(begun)
		}
		err := w.connect(ctx)
		if w.draining && w.attempt == nil {
			return nil
		}
		if ctx.Err() != nil {
			return nil //nolint:nilerr // the end of ctx is why the connection has ended
		}
		if refused, ok := errors.AsType[*refusedError](err); ok && refused.final() {
			return err
		}
		if time.Since(begun) > 30*time.Second {
			bound = w.Pause
		}
		pause := mrand.N(bound)
		switch status := websocket.CloseStatus(err); status {
		case websocket.StatusGoingAway:
		case 4401, 4426:
			return err
		case 1002, 1009, 1013, 4403, 4429:
			pause = 30*time.Second + mrand.N(30*time.Second)
		default:
			bound = min(2*bound, 30*time.Second)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

var errDrained = errors.New("asked to leave, and nothing is left")

// A refusedError is a handshake that was answered with something else than 101.
type refusedError struct{ status int }

func (e *refusedError) Error() string {
	return fmt.Sprintf("the controller refused the handshake with %d", e.status)
}

func (e *refusedError) final() bool { return e.status == 401 || e.status == 403 || e.status == 426 }

// connect serves one connection to its end.
func (w *Worker) connect(ctx context.Context) error {
	conn, response, err := websocket.Dial(ctx, w.url+"/v1/worker/connect", &websocket.DialOptions{ //nolint:bodyclose // it needs no closing
		HTTPClient:   w.client,
		HTTPHeader:   http.Header{"Authorization": {"Bearer " + w.credential}},
		Subprotocols: []string{subprotocol},
	})
	if err != nil {
		if response != nil && response.StatusCode != http.StatusSwitchingProtocols {
			return &refusedError{response.StatusCode}
		}
		return err
	}
	defer func() { _ = conn.CloseNow() }()
	if conn.Subprotocol() != subprotocol {
		return errors.New("the server does not speak the protocol")
	}
	conn.SetReadLimit(1 << 20)
	return (&connection{worker: w, conn: conn}).serve(ctx)
}

// An id names an attempt.
type id struct {
	Build string `json:"build"`
	Epoch uint32 `json:"epoch"`
}

// makeToken returns a build token and what accept says of it.
func makeToken(of id) (text string, secret [32]byte) {
	_, _ = rand.Read(secret[:]) // which never fails
	body := fmt.Sprintf("slw_build_%s_%d_%s", strings.ReplaceAll(of.Build, "-", ""), of.Epoch, base62(secret[:], 43))
	return body + base62(checksum(body), 6), secret
}

// base62 writes b as a number with the digits 0-9, a-z, A-Z.
func base62(b []byte, width int) string {
	const digits = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	out := make([]byte, width)
	n, digit := new(big.Int).SetBytes(b), new(big.Int)
	for i := range out {
		n.DivMod(n, big.NewInt(62), digit)
		out[width-1-i] = digits[digit.Int64()]
	}
	return string(out)
}

// newUUID returns a UUID of version 7.
func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // which never fails
	binary.BigEndian.PutUint64(b[:8], uint64(time.Now().UnixMilli())<<16|0x7000|uint64(b[6]&0x0f)<<8|uint64(b[7]))
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// An envelope is a text frame.
type envelope struct {
	Type string          `json:"t"`
	Data json.RawMessage `json:"d"`
	Must bool            `json:"must"`
}
