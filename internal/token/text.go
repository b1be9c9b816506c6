package token

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math/big"
	"strings"
)

const (
	prefix = "slw"

	secretBytes = 32
	secretChars = 43 // 62^43 > 2^256
	sumChars    = 6  // 62^6 > 2^32

	// MaxLen is the length in bytes above which a text is refused unread.
	MaxLen = 256

	// Redacted stands for a secret wherever one would be printed.
	Redacted = "[redacted]"
)

// ErrMalformed says that a text is not one of Slipway's, or was damaged on its
// way. Its message never holds the text.
var ErrMalformed = errors.New("malformed or mistyped token")

// Issue makes a text with a fresh secret, and returns the hash to store. Fields
// consist of a-z and 0-9; a text made from others, or longer than [MaxLen],
// cannot be opened again.
func Issue(fields ...string) (text string, hash [32]byte) {
	secret := make([]byte, secretBytes)
	rand.Read(secret)
	return seal(fields, secret), sha256.Sum256(secret)
}

func seal(fields []string, secret []byte) string {
	body := prefix + "_" + strings.Join(fields, "_") + "_" + encode(secret, secretChars)
	return body + encode(checksum(body), sumChars)
}

// Open takes a text apart: its fields and the hash of its secret. Every error is
// [ErrMalformed]. A text that opens is well formed, not genuine.
func Open(text string) (fields []string, hash [32]byte, err error) {
	if len(text) > MaxLen {
		return nil, hash, ErrMalformed
	}
	parts := strings.Split(text, "_")
	last := len(parts) - 1
	if last < 2 || parts[0] != prefix || len(parts[last]) != secretChars+sumChars {
		return nil, hash, ErrMalformed
	}
	body := text[:len(text)-sumChars]
	sum, ok := decode(text[len(body):], crc32.Size)
	if !ok || !bytes.Equal(sum, checksum(body)) {
		return nil, hash, ErrMalformed
	}
	fields = parts[1:last]
	for _, f := range fields {
		if f == "" || strings.Trim(f, "0123456789abcdefghijklmnopqrstuvwxyz") != "" {
			return nil, hash, ErrMalformed
		}
	}
	secret, ok := decode(parts[last][:secretChars], secretBytes)
	if !ok {
		return nil, hash, ErrMalformed
	}
	return fields, sha256.Sum256(secret), nil
}

// Move returns the text with the secret of another under other fields. The error is
// [ErrMalformed].
func Move(text string, fields ...string) (string, error) {
	if _, _, err := Open(text); err != nil {
		return "", err
	}
	digits := text[strings.LastIndexByte(text, '_')+1:]
	secret, ok := decode(digits[:secretChars], secretBytes)
	if !ok {
		return "", ErrMalformed
	}
	return seal(fields, secret), nil
}

// Match reports whether two hashes are the same, in a time that does not depend
// on where they differ.
func Match(a, b [32]byte) bool {
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

func checksum(body string) []byte {
	return binary.BigEndian.AppendUint32(nil, crc32.ChecksumIEEE([]byte(body)))
}

// encode writes b as a number in base 62, with digits 0-9, a-z, A-Z, padded to width.
func encode(b []byte, width int) string {
	digits := new(big.Int).SetBytes(b).Text(62)
	return strings.Repeat("0", width-len(digits)) + digits
}

// decode reverses encode for a number of size bytes.
func decode(s string, size int) ([]byte, bool) {
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return nil, false
		}
	}
	n, ok := new(big.Int).SetString(s, 62)
	if !ok || n.BitLen() > 8*size {
		return nil, false
	}
	return n.FillBytes(make([]byte, size)), true
}
