package queue

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"sync/atomic"
	"time"
)

// An ID names a build. It is a UUID version 7 (RFC 9562): its first 60 bits, but for the version, are the time it was made in
// milliseconds and 4096ths of them, so ids made later sort later. The submitter makes it; nothing else is read from the time inside.
type ID [16]byte

// lastID is the time in the newest id of this process, in 4096ths of a millisecond.
var lastID atomic.Int64

// NewID returns a new id, which sorts after all that this process has made before: builds of one batch keep their order. It is
// safe for concurrent use.
func NewID() ID {
	now := time.Now()
	ticks := now.UnixMilli()<<12 | int64(now.Nanosecond()%1e6)<<12/1e6
	for {
		last := lastID.Load()
		ticks = max(ticks, last+1)
		if lastID.CompareAndSwap(last, ticks) {
			break
		}
	}
	var id ID
	binary.BigEndian.PutUint64(id[:8], uint64(ticks>>12)<<16|0x7000|uint64(ticks&0xfff))
	rand.Read(id[8:])
	id[8] = id[8]&0x3f | 0x80
	return id
}

// IDAt returns the lowest id that can have been made at t, to the millisecond, or later: a bound for [Filter].
func IDAt(t time.Time) ID {
	var id ID
	binary.BigEndian.PutUint64(id[:8], uint64(max(0, t.UnixMilli()))<<16|0x7000)
	id[8] = 0x80
	return id
}

// valid reports whether id is a UUID of version 7.
func (id ID) valid() bool { return id[6]>>4 == 7 && id[8]>>6 == 2 }

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
	if !id.valid() {
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
