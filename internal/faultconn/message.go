package faultconn

import "encoding/binary"

// Messages that end a request, or the answer to one. The first that a client sends has no type.
const (
	startup        = 0
	query          = 'Q'
	syncRequest    = 'S'
	copyDone       = 'c'
	readyForQuery  = 'Z'
	copyInResponse = 'G'
)

// asks reports whether a message of a client ends a request.
func asks(kind byte) bool { return kind == query || kind == syncRequest || kind == copyDone }

// answers reports whether a message of a server ends the answer to a request.
func answers(kind byte) bool { return kind == readyForQuery || kind == copyInResponse }

// messages follows one direction of a connection from message to message.
type messages struct {
	untyped bool    // the next message has no type
	kind    byte    // of the message that goes by
	head    [4]byte // its length
	have    int     // bytes of head that have gone by
	rest    int     // bytes that are to come after head
	inside  bool
}

// next tells what p begins with: how many bytes up to the end of a message or of p, whether they begin a message, and whether they end it.
// The message's type is in m.kind then. p must not be empty.
func (m *messages) next(p []byte) (n int, begins, ends bool) {
	if !m.inside {
		begins, m.inside, m.have, m.kind = true, true, 0, startup
		if !m.untyped {
			m.kind = p[0]
			n = 1
		}
		m.untyped = false
	}
	if m.have < len(m.head) {
		got := copy(m.head[m.have:], p[n:])
		m.have += got
		n += got
		if m.have < len(m.head) {
			return n, begins, false
		}
		m.rest = max(0, int(binary.BigEndian.Uint32(m.head[:]))-len(m.head))
	}
	got := min(m.rest, len(p)-n)
	m.rest -= got
	m.inside = m.rest > 0
	return n + got, begins, !m.inside
}
