package wire

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/slipway-build/slipway/queue"
)

// A checker keeps the first rule that a message breaks.
type checker struct {
	err *FormatError
}

func (c *checker) fail(field, reason string, args ...any) {
	if c.err == nil {
		c.err = &FormatError{Field: field, Reason: fmt.Sprintf(reason, args...), Err: ErrMalformed}
	}
}

func (c *checker) id(field string, id queue.ID) {
	if id[6]>>4 != 7 || id[8]>>6 != 2 {
		c.fail(field, "must be a UUID of version 7")
	}
}

func (c *checker) between(field string, n, low, high int64) {
	if n < low || n > high {
		c.fail(field, "must be from %d to %d", low, high)
	}
}

// size checks a number of bytes.
func (c *checker) size(field string, n int64) {
	if n < 0 {
		c.fail(field, "must not be negative")
	}
}

// duration checks a duration that may be zero.
func (c *checker) duration(field string, m Millis) {
	c.between(field, int64(m), 0, int64(MillisOf(MaxDuration)))
}

// interval checks a duration that must not be zero.
func (c *checker) interval(field string, m Millis) {
	c.between(field, int64(m), 1, int64(MillisOf(MaxDuration)))
}

func (c *checker) name(field, s string) {
	if queue.CheckName(field, s) != nil {
		c.fail(field, `must be 1 to %d bytes of a-z, 0-9, ".", "_" and "-", begin with a letter or digit, and not contain ".."`,
			queue.MaxName)
	}
}

// token checks a short word that must be there.
func (c *checker) token(field, s string) {
	if s == "" || len(s) > MaxToken || !visible(s) {
		c.fail(field, "must be 1 to %d visible ASCII characters", MaxToken)
	}
}

// path checks an absolute path that stays on the host it is resolved against.
func (c *checker) path(field, s string) {
	switch {
	case len(s) > MaxPath:
		c.fail(field, "must be at most %d bytes long", MaxPath)
	case !strings.HasPrefix(s, "/") || strings.HasPrefix(s, "//"):
		c.fail(field, `must begin with exactly one "/"`)
	case !visible(s) || strings.ContainsAny(s, `\#`):
		c.fail(field, `must consist of visible ASCII characters other than "\" and "#"`)
	case slices.Contains(strings.Split(s, "/"), ".."):
		c.fail(field, `must not contain ".."`)
	}
}

// each checks the elements of a list with check, and names the element in the error.
func each[T any](c *checker, field string, list []T, check func(*T, *checker)) {
	if c.err != nil {
		return
	}
	if len(list) > MaxList {
		c.fail(field, "must have at most %d elements", MaxList)
		return
	}
	for i := range list {
		if check(&list[i], c); c.err != nil {
			c.err.Field = fmt.Sprintf("%s[%d].%s", field, i, c.err.Field)
			return
		}
	}
}

// oneOf checks a word that has a fixed set of values.
func oneOf[T ~string](c *checker, field string, value T, values []T) {
	if !slices.Contains(values, value) {
		c.fail(field, "must be one of %v", values)
	}
}

func visible(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

func (c *checker) exitCode(field string, code *int) {
	if code != nil {
		c.between(field, int64(*code), math.MinInt32, math.MaxInt32)
	}
}

// digest checks that a digest was given: no known input has the sum zero.
func (c *checker) digest(field string, d queue.Digest) {
	if d == (queue.Digest{}) {
		c.fail(field, "must be given")
	}
}
