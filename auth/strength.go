package auth

import (
	"fmt"
	"slices"
	"strings"

	"github.com/slipway-build/slipway/internal/token"
)

// The rules of [CheckStrength] that are numbers, in bytes.
const (
	MinKeyLen = 32
	MaxKeyLen = token.MaxLen

	minDistinct = 6  // one random key of 32 decimal digits in ten million has fewer
	minPersonal = 16 // what must be left of a key besides words of examples
	minRun      = 4  // neighbours that make a sequence
)

// howToMake ends every message of CheckStrength.
const howToMake = "; make a random one, for example with: openssl rand -hex 32"

// CheckStrength returns an error that wraps [ErrWeakKey] unless key, which a
// person or a script has set, is fit to guard a service: [MinKeyLen] to
// [MaxKeyLen] printable ASCII characters without spaces, not repeated, not
// sequential, not a known default. The error tells what is wrong and how to make
// a good key; it holds nothing of the key.
//
// It finds keys that nobody meant to keep. It cannot tell whether a key is random.
func CheckStrength(key string) error {
	reason := weakness(key)
	if reason == "" {
		return nil
	}
	return fmt.Errorf("%w: %s%s", ErrWeakKey, reason, howToMake)
}

// GenerateKey returns a fresh random key that passes [CheckStrength], for modes of
// development and for commands that print a key to be put into a configuration.
func GenerateKey() Secret {
	text, _ := token.Issue("admin")
	return NewSecret(text)
}

// weakness says why a key is weak, or nothing.
func weakness(key string) string {
	switch {
	case key == "":
		return "it is empty"
	case len(key) < MinKeyLen:
		return fmt.Sprintf("it is shorter than %d characters", MinKeyLen)
	case len(key) > MaxKeyLen:
		return fmt.Sprintf("it is longer than %d characters", MaxKeyLen)
	case strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' }):
		return "it has a space, a line break or another character that is not printable ASCII"
	case distinct(key) < minDistinct:
		return fmt.Sprintf("it has fewer than %d different characters", minDistinct)
	case repeats(key):
		return "it repeats a shorter text"
	case 2*sequential(key) > len(key):
		return "more than half of it are runs of repeated or consecutive characters"
	case slices.Contains(published, strings.ToLower(key)):
		return "it is a published example"
	case personal(key) < minPersonal:
		return "it consists of words that examples and defaults are made of"
	}
	return ""
}

func distinct(key string) int {
	seen := make(map[byte]bool)
	for i := range len(key) {
		seen[key[i]] = true
	}
	return len(seen)
}

// repeats reports whether key is a text of at most half its length, over and over;
// the last time may be cut short.
func repeats(key string) bool {
	for period := 1; period <= len(key)/2; period++ {
		if key[period:] == key[:len(key)-period] {
			return true
		}
	}
	return false
}

// keyboard holds the characters that lie side by side, upper case folded.
const keyboard = "1234567890 qwertyuiop asdfghjkl zxcvbnm"

// steps are the ways in which a character can follow from the one before.
var steps = []func(a, b byte) bool{
	func(a, b byte) bool { return a == b },
	func(a, b byte) bool { return b == a+1 },
	func(a, b byte) bool { return a == b+1 },
	func(a, b byte) bool { return strings.Contains(keyboard, string([]byte{a, b})) },
	func(a, b byte) bool { return strings.Contains(keyboard, string([]byte{b, a})) },
}

// sequential counts the characters that lie in a run of at least minRun, each
// following from the one before in the same way.
func sequential(key string) int {
	key = strings.ToLower(key)
	inRun := make([]bool, len(key))
	for _, follows := range steps {
		start := 0
		for i := 1; i <= len(key); i++ {
			if i < len(key) && follows(key[i-1], key[i]) {
				continue
			}
			for j := start; i-start >= minRun && j < i; j++ {
				inRun[j] = true
			}
			start = i
		}
	}
	n := 0
	for _, in := range inRun {
		if in {
			n++
		}
	}
	return n
}

// stock removes the words that placeholders are made of. Longer words come before
// the ones they contain.
var stock = strings.NewReplacer(slices.Concat(
	[]string{"/", "", "-", "", "_", "", ".", "", ":", "", "+", "", "=", "", "!", "", "@", "", "#", "", "$", ""},
	pairs("characters", "production", "development", "administrator", "placeholder", "changeme", "changeit", "replace", "default",
		"example", "minimum", "password", "qwerty", "insecure", "supersecret", "generate", "slipway", "letmein", "welcome",
		"please", "sample", "secret", "string", "random", "change", "should", "insert", "master", "server", "secure", "access",
		"value", "token", "admin", "super", "least", "local", "build", "before", "queue", "worker", "agent",
		"your", "this", "with", "long", "must", "have", "very", "here", "demo", "test", "pass", "root", "user", "auth", "bits",
		"that", "only", "never", "dont", "not", "use", "for", "dev", "key", "api", "the", "and", "set", "foo", "bar", "baz", "put",
		"abc", "xyz", "256", "128", "123", "at", "is", "to", "me", "my", "in", "of", "32", "64"))...)

func pairs(words ...string) []string {
	var p []string
	for _, w := range words {
		p = append(p, w, "")
	}
	return p
}

// personal counts what is left of a key without the words of placeholders.
func personal(key string) int { return len(stock.Replace(strings.ToLower(key))) }

// published are keys that documents show and hashes of things everybody hashes,
// in lower case.
var published = []string{
	"wjalrxutnfemi/k7mdeng/bpxrficyexamplekey",                         // the secret access key of Amazon's documents
	"d41d8cd98f00b204e9800998ecf8427e",                                 // MD5 of nothing
	"da39a3ee5e6b4b0d3255bfef95601890afd80709",                         // SHA-1 of nothing
	"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", // SHA-256 of nothing
	"5f4dcc3b5aa765d61d8327deb882cf99",                                 // MD5 of "password"
	"5baa61e4c9b93f3f0682250b6cf8331b7ee68fd8",                         // SHA-1 of "password"
	"5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8", // SHA-256 of "password"
	"21232f297a57a5a743894a0e4a801fc3",                                 // MD5 of "admin"
	"d033e22ae348aeb5660fc2140aec35850c4da997",                         // SHA-1 of "admin"
	"8c6976e5b5410415bde908bd4dee15dfb167a9c873fc4bb8a81f6f2ab448a918", // SHA-256 of "admin"
	"5ebe2294ecd0e0f08eab7690d2a6ee69",                                 // MD5 of "secret"
	"2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b", // SHA-256 of "secret"
	"098f6bcd4621d373cade4e832627b4f6",                                 // MD5 of "test"
	"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", // SHA-256 of "test"
}
