package auth

import (
	"fmt"
	"io"
	"log/slog"

	"github.com/slipway-build/slipway/internal/token"
)

// A Secret is a key's text that does not show itself: however it is printed,
// logged or encoded, it reads "[redacted]". The zero Secret is the absence of one.
type Secret struct {
	text *string // behind a pointer, so that printing a struct around it shows an address
}

// NewSecret returns a Secret of the text, or the zero Secret if it is empty.
func NewSecret(text string) Secret {
	if text == "" {
		return Secret{}
	}
	return Secret{text: &text}
}

// Reveal returns the text, to be handed to its owner and to nobody else.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// IsZero reports whether there is no text.
func (s Secret) IsZero() bool { return s.text == nil }

// String implements [fmt.Stringer] with "[redacted]".
func (Secret) String() string { return token.Redacted }

// Format implements [fmt.Formatter]: every verb prints "[redacted]".
func (Secret) Format(f fmt.State, _ rune) {
	_, _ = io.WriteString(f, token.Redacted)
}

// LogValue implements [slog.LogValuer] with "[redacted]".
func (Secret) LogValue() slog.Value { return slog.StringValue(token.Redacted) }

// MarshalText implements [encoding.TextMarshaler] with "[redacted]".
func (Secret) MarshalText() ([]byte, error) { return []byte(token.Redacted), nil }
