package wire

import (
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/slipway-build/slipway/queue"
)

// A Ref names an attempt: a build and the epoch of the claim. Every message about an attempt carries it, and it is good only while
// it is the newest of its build. It converts to a [queue.AttemptID] and back.
type Ref struct {
	Build queue.ID `json:"build"`
	// Epoch is from 1 to [MaxEpoch].
	Epoch int64 `json:"epoch"`
}

func (r *Ref) check(c *checker) {
	c.id("build", r.Build)
	c.between("epoch", r.Epoch, 1, MaxEpoch)
}

// Millis is a duration as it is written on the wire: whole milliseconds, from zero to [MaxDuration].
type Millis int64

// MillisOf returns d in milliseconds, rounded down, so that a lease is never longer than what was granted; but what is longer than
// nothing is at least one millisecond.
func MillisOf(d time.Duration) Millis {
	if d > 0 && d < time.Millisecond {
		return 1
	}
	return Millis(d / time.Millisecond)
}

// Duration returns m as a [time.Duration].
func (m Millis) Duration() time.Duration { return time.Duration(m) * time.Millisecond }

// Text is a short text for people: a reason or an explanation.
//
// Any string may be sent as a Text. Encoding cuts it to [MaxText] bytes at a character's border, and writes U+FFFD in place of
// whatever is not UTF-8 and of control characters other than newline and tab. Decoding refuses a longer text and replaces
// the same characters, so that a Text that was decoded is fit to be shown.
type Text string

// MarshalText implements [encoding.TextMarshaler].
func (t Text) MarshalText() ([]byte, error) { return []byte(printable(string(t))), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (t *Text) UnmarshalText(b []byte) error {
	if len(b) > MaxText {
		return &FormatError{Reason: "a text must be at most 1024 bytes long", Err: ErrTooLarge}
	}
	*t = Text(printable(string(b)))
	return nil
}

// printable replaces what a terminal might act on, then cuts s to MaxText.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' && r != '\t' {
			return utf8.RuneError
		}
		return r
	}, s)
	if len(s) <= MaxText {
		return s
	}
	cut := MaxText
	for !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut]
}
