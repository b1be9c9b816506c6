package queue

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"time"
)

// An ID names a build. It is a UUID version 7 (RFC 9562): its first 48 bits are the time it was made in
// milliseconds, so ids made later sort later. The submitter makes it; nothing else is read from the time inside.
type ID [16]byte

// NewID returns a new id. It is safe for concurrent use.
func NewID() ID {
	var id ID
	rand.Read(id[6:])
	var ms [8]byte
	binary.BigEndian.PutUint64(ms[:], uint64(time.Now().UnixMilli())<<16)
	copy(id[:6], ms[:6])
	id[6] = id[6]&0x0f | 0x70
	id[8] = id[8]&0x3f | 0x80
	return id
}

// ParseID reads the 36-character form that [ID.String] writes. Letters may have either case.
// Everything else, other UUID versions among it, is an error that wraps [ErrInvalid].
func ParseID(s string) (ID, error) {
	var id ID
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return ID{}, invalid("id", "must be a UUID such as 0198c2f0-7d4e-7cc3-98c4-dc0c0c07398f")
	}
	plain := s[:8] + s[9:13] + s[14:18] + s[19:23] + s[24:]
	if _, err := hex.Decode(id[:], []byte(plain)); err != nil {
		return ID{}, invalid("id", "must be a UUID such as 0198c2f0-7d4e-7cc3-98c4-dc0c0c07398f")
	}
	if id[6]>>4 != 7 || id[8]>>6 != 2 {
		return ID{}, invalid("id", "must be a UUID of version 7")
	}
	return id, nil
}

// String returns the canonical form: 36 characters, lower case.
func (id ID) String() string {
	b, _ := id.MarshalText()
	return string(b)
}

// IsZero reports whether id is the zero ID, which names no build.
func (id ID) IsZero() bool { return id == ID{} }

// MarshalText implements [encoding.TextMarshaler].
func (id ID) MarshalText() ([]byte, error) {
	var b [36]byte
	hex.Encode(b[0:8], id[0:4])
	b[8] = '-'
	hex.Encode(b[9:13], id[4:6])
	b[13] = '-'
	hex.Encode(b[14:18], id[6:8])
	b[18] = '-'
	hex.Encode(b[19:23], id[8:10])
	b[23] = '-'
	hex.Encode(b[24:36], id[10:16])
	return b[:], nil
}

// UnmarshalText implements [encoding.TextUnmarshaler]. It takes what [ParseID] takes.
func (id *ID) UnmarshalText(b []byte) error {
	parsed, err := ParseID(string(b))
	if err != nil {
		return err
	}
	*id = parsed
	return nil
}
