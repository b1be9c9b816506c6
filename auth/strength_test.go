package auth_test

import (
	"crypto/md5"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"math/big"
	"strings"
	"testing"

	"github.com/slipway-build/slipway/auth"
)

func TestCheckStrengthRefuses(t *testing.T) {
	tests := map[string]struct{ key, why string }{
		"empty":                 {"", "empty"},
		"31 characters":         {"q7Zp0vR2xK9mW4tB6nC1sD8fG3hJ5lY", "shorter than 32"},
		"257 characters":        {strings.Repeat("q7Zp0vR2xK9mW4tB6nC1sD8fG3hJ5lYe", 8) + "x", "longer than 256"},
		"line break at the end": {"q7Zp0vR2xK9mW4tB6nC1sD8fG3hJ5lYe\n", "line break"},
		"space":                 {"q7Zp0vR2xK9mW4tB 6nC1sD8fG3hJ5lYe", "space"},
		"not ASCII":             {"q7Zp0vR2xK9mW4tB6nC1sD8fG3hJ5lYé", "ASCII"},
		"NUL":                   {"q7Zp0vR2xK9mW4tB6nC1sD8fG3hJ5lY\x00", "ASCII"},
		"one character":         {strings.Repeat("a", 64), "different characters"},
		"few characters":        {"abcabcaabbccabcabcaabbccabcabcaabbcc", "different characters"},
		"spaces only":           {strings.Repeat(" ", 40), "space"},
		"repeated":              {strings.Repeat("q7Zp0vR2", 4), "repeats"},
		"repeated, cut short":   {"q7Zp0vR2xKq7Zp0vR2xKq7Zp0vR2xKq7", "repeats"},
		"half repeated":         {"q7Zp0vR2xK9mW4tB" + "q7Zp0vR2xK9mW4tB", "repeats"},
		"hex digits in order":   {"0123456789abcdef0123456789abcdef", "repeats"},
		"alphabet":              {"abcdefghijklmnopqrstuvwxyz012345", "consecutive"},
		"alphabet backwards":    {"zyxwvutsrqponmlkjihgfedcba987654", "consecutive"},
		"upper case alphabet":   {"ABCDEFGHIJKLMNOPQRSTUVWXYZ654321", "consecutive"},
		"mixed case alphabet":   {"aBcDeFgHiJkLmNoPqRsTuVwXyZ012345", "consecutive"},
		"keyboard":              {"qwertyuiopasdfghjklzxcvbnm123456", "consecutive"},
		"keyboard backwards":    {"poiuytrewqlkjhgfdsamnbvcxz654321", "consecutive"},
		"runs of one character": {"aaaaabbbbbcccccdddddeeeeefffffggggghhhhh", "consecutive"},
		"padded":                {"q7Zp0vR2xK9m" + strings.Repeat("0", 20), "consecutive"},
		"default":               {"changeme-changeme-please-changeme", "words"},
		"placeholder":           {"your-secret-admin-key-goes-here-please", "words"},
		"instructions":          {"replace_this_with_a_random_32_character_string", "words"},
		"upper case words":      {"SLIPWAY-SUPER-SECRET-ADMIN-PASSWORD-1", "words"},
		"passwords":             {"Password123!Password123!Welcome1Admin", "words"},
		"documented key":        {"wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "published"},
		"hash of nothing":       {hexSum(sha256.Sum256(nil)), "published"},
		"upper case hash":       {strings.ToUpper(hexSum(md5.Sum([]byte("password")))), "published"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			err := auth.CheckStrength(tt.key)
			if !errors.Is(err, auth.ErrWeakKey) {
				t.Fatalf("error = %v, want ErrWeakKey", err)
			}
			text := err.Error()
			if !strings.Contains(text, tt.why) || !strings.Contains(text, "openssl rand") {
				t.Errorf("error %q does not tell why (%q) and how to make a better key", text, tt.why)
			}
			for i := 0; i+6 <= len(tt.key); i++ {
				if part := tt.key[i : i+6]; strings.Contains(text, part) && part != "random" && part != "charac" {
					t.Errorf("error %q shows the part %q of the key", text, part)
				}
			}
		})
	}
}

func hexSum[S [16]byte | [20]byte | [32]byte](sum S) string {
	switch s := any(sum).(type) {
	case [16]byte:
		return hex.EncodeToString(s[:])
	case [20]byte:
		return hex.EncodeToString(s[:])
	case [32]byte:
		return hex.EncodeToString(s[:])
	}
	panic("unreachable")
}

func TestCheckStrengthKnowsHashesOfCommonWords(t *testing.T) {
	for _, word := range []string{"", "password", "admin"} {
		for _, sum := range []string{hexSum(md5.Sum([]byte(word))), hexSum(sha1.Sum([]byte(word))), hexSum(sha256.Sum256([]byte(word)))} {
			if err := auth.CheckStrength(sum); err == nil {
				t.Errorf("%s, a hash of %q, passes", sum, word)
			}
		}
	}
	for _, word := range []string{"secret", "test"} {
		for _, sum := range []string{hexSum(md5.Sum([]byte(word))), hexSum(sha256.Sum256([]byte(word)))} {
			if err := auth.CheckStrength(sum); err == nil {
				t.Errorf("%s, a hash of %q, passes", sum, word)
			}
		}
	}
}

// TestCheckStrengthTakesRandomKeys makes keys in the ways people do.
func TestCheckStrengthTakesRandomKeys(t *testing.T) {
	makers := map[string]func() string{
		"GenerateKey": func() string { return auth.GenerateKey().Reveal() },
		"hex of 16":   func() string { return hex.EncodeToString(random(16)) },
		"hex of 32":   func() string { return hex.EncodeToString(random(32)) },
		"base64":      func() string { return base64.StdEncoding.EncodeToString(random(24)) },
		"base64url":   func() string { return base64.RawURLEncoding.EncodeToString(random(32)) },
		"rand.Text":   func() string { return rand.Text() + rand.Text() },
		"digits":      func() string { return new(big.Int).SetBytes(append([]byte{0xff}, random(15)...)).String() },
		"prefixed":    func() string { return "slipway-admin-key-" + hex.EncodeToString(random(16)) },
	}
	for name, makeKey := range makers {
		t.Run(name, func(t *testing.T) {
			for range 3000 {
				if key := makeKey(); auth.CheckStrength(key) != nil {
					t.Fatalf("%q: %v", key, auth.CheckStrength(key))
				}
			}
		})
	}
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

func FuzzCheckStrength(f *testing.F) {
	for _, seed := range []string{"", "changeme", strings.Repeat("ab", 20), auth.GenerateKey().Reveal()} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, key string) {
		err := auth.CheckStrength(key)
		if err == nil && len(key) < auth.MinKeyLen {
			t.Errorf("a key of %d bytes passes", len(key))
		}
		if err != nil && !errors.Is(err, auth.ErrWeakKey) {
			t.Errorf("error = %v, want ErrWeakKey", err)
		}
		if err == nil {
			if _, newErr := auth.New(nil, &auth.Options{AdminKey: auth.NewSecret(key)}); newErr != nil {
				t.Errorf("New refuses a key that passes: %v", newErr)
			}
		}
	})
}
