package faultconn

import "testing"

// However a stream is cut into pieces, the same messages begin and end in it.
func TestMessagesInPieces(t *testing.T) {
	stream := []byte("\x00\x00\x00\x09start" + "Q\x00\x00\x00\x08text" + "S\x00\x00\x00\x04" + "d\x00\x00\x00\x05x")
	for size := 1; size <= len(stream); size++ {
		m := messages{untyped: true}
		var begun, ended []byte
		for i := 0; i < len(stream); i += size {
			for piece := stream[i:min(i+size, len(stream))]; len(piece) > 0; {
				n, begins, ends := m.next(piece)
				if begins {
					begun = append(begun, m.kind)
				}
				if ends {
					ended = append(ended, m.kind)
				}
				piece = piece[n:]
			}
		}
		if want := "\x00QSd"; string(begun) != want || string(ended) != want {
			t.Errorf("in pieces of %d: %q begin and %q end, want %q", size, begun, ended, want)
		}
	}
}
