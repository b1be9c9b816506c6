package wire

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Secrets are the secrets of a build: names of environment variables, and their values. However they are printed, they show only how many
// they are; as JSON they are what goes over the wire.
//
// A name is 1 to [MaxToken] of letters, digits and "_", begins with neither a digit nor SLIPWAY_, and differs from the others by more than
// upper and lower case. A value is UTF-8 without NUL. White space at its ends not counted it has at least [MinSecret] bytes: what is shorter
// cannot be told from other text, and so not be kept out of a log.
type Secrets map[string]string

// Format implements [fmt.Formatter]: every verb prints the same.
func (s Secrets) Format(f fmt.State, _ rune) {
	_, _ = fmt.Fprintf(f, "[%d secrets]", len(s))
}

// Check returns an error that says which rule is broken, and by the value of which name, but no value. It wraps [ErrMalformed].
func (s Secrets) Check() error {
	var c checker
	if s.check(&c); c.err != nil {
		return c.err
	}
	return nil
}

func (s Secrets) check(c *checker) {
	if len(s) > MaxSecrets {
		c.fail("secrets", "must be at most %d", MaxSecrets)
		return
	}
	size := 0
	seen := make(map[string]bool, len(s))
	for name, value := range s {
		size += len(name) + len(value)
		upper := strings.ToUpper(name)
		switch {
		case !variable(name):
			c.fail("secrets", `a name must be 1 to %d of letters, digits and "_", and begin with neither a digit nor SLIPWAY_`, MaxToken)
		case seen[upper]:
			c.fail("secrets", "two names must not be the same but for upper and lower case, as is that of %s", name)
		case !utf8.ValidString(value) || strings.Contains(value, "\x00"):
			c.fail("secrets", "the value of %s must be UTF-8 without NUL", name)
		case len(strings.TrimSpace(value)) < MinSecret:
			c.fail("secrets", "the value of %s must have at least %d bytes: what is shorter cannot be kept out of a log", name, MinSecret)
		}
		seen[upper] = true
	}
	if size > MaxSecretBytes {
		c.fail("secrets", "must be at most %d bytes, names and values together", MaxSecretBytes)
	}
}

// variable reports whether a secret may have that name.
func variable(name string) bool {
	for i, r := range name {
		letter := r == '_' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
		if !letter && (i == 0 || r < '0' || r > '9') {
			return false
		}
	}
	return name != "" && len(name) <= MaxToken && !strings.HasPrefix(strings.ToUpper(name), "SLIPWAY_")
}
