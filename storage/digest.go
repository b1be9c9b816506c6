package storage

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

// Digest is a SHA-256 sum, the name of a blob. The result of sha256.Sum256 can
// be assigned to it.
type Digest [sha256.Size]byte

// Blob is what is declared of a blob before its bytes are sent.
type Blob struct {
	Digest Digest
	Size   int64 // bytes
}

// ParseDigest reads the one accepted form of a digest, 64 lower-case
// hexadecimal digits. Any other input is ErrInvalid.
func ParseDigest(s string) (Digest, error) {
	var d Digest
	if len(s) != hex.EncodedLen(len(d)) || !isLowerHex(s) {
		return Digest{}, fmt.Errorf("%w: digest %.80q is not 64 lower-case hexadecimal digits", ErrInvalid, s)
	}
	if _, err := hex.Decode(d[:], []byte(s)); err != nil {
		return Digest{}, fmt.Errorf("%w: digest: %w", ErrInvalid, err)
	}
	return d, nil
}

func isLowerHex(s string) bool {
	return strings.Trim(s, "0123456789abcdef") == ""
}

// String returns 64 lower-case hexadecimal digits.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// MarshalText returns the form of String.
func (d Digest) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, d[:]), nil }

// UnmarshalText accepts what ParseDigest accepts. On an error d is unchanged.
func (d *Digest) UnmarshalText(text []byte) error {
	parsed, err := ParseDigest(string(text))
	if err != nil {
		return err
	}
	*d = parsed
	return nil
}
