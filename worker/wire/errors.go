package wire

import (
	"errors"
	"strings"
)

// Kinds of refusal, found with [errors.Is] in what this package returns.
var (
	// ErrMalformed says that a frame breaks a rule of the protocol. The peer is broken: close with [CloseProtocol].
	ErrMalformed = errors.New("malformed")
	// ErrTooLarge says that a frame, or something in it, is larger than the protocol allows. Close with [CloseTooBig].
	ErrTooLarge = errors.New("too large")
	// ErrUnsupported says that a frame is of a kind that this version does not know and that must not be ignored.
	// Answer with an [Error] of [CodeUnsupported].
	ErrUnsupported = errors.New("unsupported")
)

// A FormatError says what is wrong with a frame. Its text may be shown to the peer: it repeats no value of the frame.
type FormatError struct {
	// Type is the type of the message, or empty if the error was found before the type was known.
	Type Type
	// Field is the offending field within "d", such as "running[3].epoch", or empty.
	Field string
	// Reason is the rule that is broken.
	Reason string
	// Err is [ErrMalformed], [ErrTooLarge] or [ErrUnsupported].
	Err error
}

// Error implements error.
func (e *FormatError) Error() string {
	parts := []string{"wire"}
	for _, part := range []string{string(e.Type), e.Field, e.Reason} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, ": ")
}

// Unwrap returns e.Err.
func (e *FormatError) Unwrap() error { return e.Err }
