package ws

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Reasons for the end of a connection, beside a [*CloseError] and errors of the network.
var (
	// ErrClosed says that the connection has ended, or is about to.
	ErrClosed = errors.New("ws: connection closed")
	// ErrReadTimeout says that the peer was silent for longer than [Options.ReadTimeout].
	ErrReadTimeout = errors.New("ws: nothing read in time")
	// ErrWriteTimeout says that a message could not be written within [Options.WriteTimeout].
	ErrWriteTimeout = errors.New("ws: nothing written in time")
	// ErrBacklog says that the control lane stayed full for longer than [Options.WriteTimeout].
	ErrBacklog = errors.New("ws: too many control messages wait")
	// ErrTooBig says that the peer sent a message of more than [Options.MaxMessage] bytes.
	ErrTooBig = errors.New("ws: message too big")
	// ErrSubprotocol says that the server that was dialed chose none of the subprotocols it was offered, or that a request to be accepted
	// names none of those that are spoken.
	ErrSubprotocol = errors.New("ws: no subprotocol in common")
)

// Close codes of RFC 6455 that this package uses itself.
const (
	codeGoingAway = 1001
	codeNoStatus  = 1005 // stands for a close frame without a code
	codeAbnormal  = 1006 // stands for an end without a close frame
	codeTooBig    = 1009
	codeInternal  = 1011
	maxReason     = 123 // what a close frame has room for
)

// A CloseError is a close frame. [Conn.Run] returns it when the peer sent one; a [Handler] that returns it has one sent.
type CloseError struct {
	// Code is 1005 if the peer gave none.
	Code int
	// Reason comes from the peer: UTF-8, at most 123 bytes, and otherwise anything.
	Reason string
}

// Error implements error.
func (e *CloseError) Error() string {
	if e.Reason == "" {
		return "ws: closed with code " + strconv.Itoa(e.Code)
	}
	return fmt.Sprintf("ws: closed with code %d: %q", e.Code, e.Reason)
}

// An UpgradeError says why a request was not accepted. Nothing has been written as an answer yet, but the headers
// that it needs are set.
type UpgradeError struct {
	// Status is the HTTP status to answer with: 403 for a foreign origin, 426 without a subprotocol in common or for a request that
	// is no WebSocket handshake, 405, 400, or 500 for a ResponseWriter that cannot be taken over.
	Status int
	// Reason says what was wrong, without repeating the request.
	Reason string
}

// Error implements error.
func (e *UpgradeError) Error() string { return "ws: not accepted: " + e.Reason }

// Is reports whether target is [ErrSubprotocol] and the two sides speak no subprotocol in common.
func (e *UpgradeError) Is(target error) bool {
	return target == ErrSubprotocol && e.Reason == noSubprotocol
}

// noSubprotocol is the reason of a request that names none of the subprotocols that are spoken.
const noSubprotocol = "no subprotocol in common"

// A RefusedError is the answer of a server that did not accept the handshake.
type RefusedError struct {
	Status int
	// RetryAfter is what the server asked to wait, zero if it did not ask.
	RetryAfter time.Duration
	// Body is the beginning of the answer's body, at most 1 KiB.
	Body []byte
}

// Error implements error.
func (e *RefusedError) Error() string {
	return "ws: handshake refused with status " + strconv.Itoa(e.Status)
}

// sendable returns code, or 1011 if RFC 6455 forbids to send it.
func sendable(code int) int {
	switch {
	case code >= 1000 && code <= 1003, code >= 1007 && code <= 1014, code >= 3000 && code <= 4999:
		return code
	default:
		return codeInternal
	}
}

// clip cuts a reason to what a close frame has room for.
func clip(reason string) string {
	reason = strings.ToValidUTF8(reason, "\uFFFD")
	if len(reason) <= maxReason {
		return reason
	}
	cut := maxReason
	for !utf8.RuneStart(reason[cut]) {
		cut--
	}
	return reason[:cut]
}

func isTimeout(err error) bool {
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout()
}
