package wire

import (
	"encoding/json"
	"errors"

	"github.com/slipway-build/slipway/queue"
)

// Encode returns m as the bytes of one text frame. It returns a [*FormatError] if m breaks a rule that is documented at its fields
// or comes out longer than [MaxMessage].
func Encode(m Message) ([]byte, error) {
	var c checker
	if m.check(&c); c.err != nil {
		c.err.Type = m.Type()
		return nil, c.err
	}
	data, err := json.Marshal(struct {
		T Type    `json:"t"`
		D Message `json:"d"`
	}{m.Type(), m})
	if err != nil {
		return nil, &FormatError{Type: m.Type(), Reason: "cannot be written as JSON", Err: ErrMalformed}
	}
	if len(data) > MaxMessage {
		return nil, &FormatError{Type: m.Type(), Reason: "must be at most 1 MiB long", Err: ErrTooLarge}
	}
	return data, nil
}

// Decode reads the bytes of one text frame. The message does not refer to data.
//
// A message of a type that this version does not know comes back as an [*Unknown], to be ignored; if its envelope says
// "must":true it is an error that wraps [ErrUnsupported] instead. All errors are [*FormatError].
func Decode(data []byte) (Message, error) {
	if len(data) > MaxMessage {
		return nil, &FormatError{Reason: "must be at most 1 MiB long", Err: ErrTooLarge}
	}
	if err := scan(data); err != nil {
		return nil, err
	}
	var envelope struct {
		T    Type            `json:"t"`
		D    json.RawMessage `json:"d"`
		Must bool            `json:"must"`
	}
	if err := json.Unmarshal(data, &envelope); err != nil {
		return nil, unreadable("", err)
	}
	if !envelope.T.wellFormed() {
		return nil, &FormatError{Reason: `"t" must be 1 to 64 of a-z, 0-9 and "_"`, Err: ErrMalformed}
	}
	m := envelope.T.New()
	switch {
	case m == nil && envelope.Must:
		return nil, &FormatError{Type: envelope.T, Reason: "is not known, and must not be ignored", Err: ErrUnsupported}
	case m == nil:
		return &Unknown{Name: envelope.T}, nil
	case len(envelope.D) == 0:
		envelope.D = json.RawMessage("{}")
	case envelope.D[0] != '{':
		return nil, &FormatError{Type: envelope.T, Reason: `"d" must be an object`, Err: ErrMalformed}
	}
	if err := json.Unmarshal(envelope.D, m); err != nil {
		return nil, unreadable(envelope.T, err)
	}
	var c checker
	if m.check(&c); c.err != nil {
		c.err.Type = envelope.T
		return nil, c.err
	}
	return m, nil
}

// unreadable turns what encoding/json says into words that do not repeat the input.
func unreadable(t Type, err error) error {
	if e, ok := errors.AsType[*FormatError](err); ok {
		e.Type = t
		return e
	}
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return &FormatError{Type: t, Field: e.Field, Reason: "is of the wrong JSON type or out of range", Err: ErrMalformed}
	}
	if errors.Is(err, queue.ErrInvalid) {
		return &FormatError{Type: t, Reason: "an id must be a UUID of version 7 and a digest 64 hexadecimal digits", Err: ErrMalformed}
	}
	return &FormatError{Type: t, Reason: "a value cannot be read: times are RFC 3339, bytes are base64", Err: ErrMalformed}
}
