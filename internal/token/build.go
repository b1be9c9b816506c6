package token

import (
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"strconv"
)

const kindBuild = "build"

// A Token lets one attempt of one build fetch its source and upload its
// artifacts. The worker makes it, hands the text to nobody but the processes
// that transfer for the attempt, and tells the controller only the hash.
//
// However it is printed, logged or encoded, a Token shows as [Redacted].
type Token struct {
	text *string // behind a pointer, so that printing a struct around it shows an address
	hash [32]byte
}

// New makes the token of an attempt: a build's id and an epoch, which is not
// negative. Two tokens of one attempt differ.
func New(build [16]byte, epoch int64) Token {
	text, hash := Issue(kindBuild, hex.EncodeToString(build[:]), strconv.FormatInt(epoch, 10))
	return Token{text: &text, hash: hash}
}

// Reveal returns the text to present, which must not be logged. It is empty for
// the zero Token.
func (t Token) Reveal() string {
	if t.text == nil {
		return ""
	}
	return *t.text
}

// Hash returns the SHA-256 of the secret in the token.
func (t Token) Hash() [32]byte { return t.hash }

// Parse takes a presented text apart. Every error is [ErrMalformed]. The caller
// looks up what is stored for build and epoch and compares it with hash by [Match].
func Parse(text string) (build [16]byte, epoch int64, hash [32]byte, err error) {
	fields, hash, err := Open(text)
	if err != nil {
		return build, 0, [32]byte{}, err
	}
	if len(fields) != 3 || fields[0] != kindBuild || len(fields[1]) != hex.EncodedLen(len(build)) {
		return build, 0, [32]byte{}, ErrMalformed
	}
	if _, err := hex.Decode(build[:], []byte(fields[1])); err != nil {
		return [16]byte{}, 0, [32]byte{}, ErrMalformed
	}
	epoch, err = strconv.ParseInt(fields[2], 10, 64)
	if err != nil || strconv.FormatInt(epoch, 10) != fields[2] {
		return [16]byte{}, 0, [32]byte{}, ErrMalformed
	}
	return build, epoch, hash, nil
}

// String implements [fmt.Stringer] with [Redacted].
func (Token) String() string { return Redacted }

// Format implements [fmt.Formatter]: every verb prints [Redacted].
func (Token) Format(f fmt.State, _ rune) {
	_, _ = io.WriteString(f, Redacted)
}

// LogValue implements [slog.LogValuer] with [Redacted].
func (Token) LogValue() slog.Value { return slog.StringValue(Redacted) }

// MarshalText implements [encoding.TextMarshaler] with [Redacted].
func (Token) MarshalText() ([]byte, error) { return []byte(Redacted), nil }
