package pgqueue

import (
	"encoding/base64"
	"encoding/binary"

	"github.com/slipway-build/slipway/queue"
)

// maxPayload is the length of the longest notification that the server takes.
const maxPayload = 7999

// A hint travels as text: base64 of a version, flags, and any number of records, each of them a tag and what it is followed by. Who does not
// understand one takes it for a hint of everything.
const (
	hintVersion = 1

	flagWaiting = 1 << 0
	flagCancel  = 1 << 1
	flagAny     = 1 << 2

	tagFrom    = 'f' // id: 16 bytes
	tagHead    = 'h' // class, rank: varints
	tagChanged = 'c' // id: 16 bytes
)

var hintText = base64.RawURLEncoding.Strict()

// encodeHint writes as much of a hint as a notification takes, and Any for the rest.
func encodeHint(h queue.Hint) string {
	most := hintText.DecodedLen(maxPayload)
	b := []byte{hintVersion, 0}
	add := func(record []byte) bool {
		if len(b)+len(record) > most {
			h.Any = true
			return false
		}
		b = append(b, record...)
		return true
	}
	if !h.From.IsZero() {
		add(append([]byte{tagFrom}, h.From[:]...))
	}
	for _, head := range h.Heads {
		record := binary.AppendVarint([]byte{tagHead}, int64(head.Class))
		if !add(binary.AppendVarint(record, head.Rank)) {
			break
		}
	}
	for _, id := range h.Changed {
		if !add(append([]byte{tagChanged}, id[:]...)) {
			break
		}
	}
	b[1] = flag(h.Waiting, flagWaiting) | flag(h.Cancel, flagCancel) | flag(h.Any, flagAny)
	return hintText.EncodeToString(b)
}

func flag(set bool, bit byte) byte {
	if set {
		return bit
	}
	return 0
}

// decodeHint reads what encodeHint wrote. Anything else is a hint of everything.
func decodeHint(payload string) queue.Hint {
	b, err := hintText.DecodeString(payload)
	if err != nil || len(b) < 2 || b[0] != hintVersion {
		return everything
	}
	h := queue.Hint{Waiting: b[1]&flagWaiting != 0, Cancel: b[1]&flagCancel != 0, Any: b[1]&flagAny != 0}
	for b = b[2:]; len(b) > 0; {
		n := decodeRecord(&h, b)
		if n == 0 {
			return everything
		}
		b = b[n:]
	}
	return h
}

// decodeRecord adds the record at the begin of b to h and returns its length, 0 if there is none.
func decodeRecord(h *queue.Hint, b []byte) int {
	switch b[0] {
	case tagFrom:
		if copy(h.From[:], b[1:]) < len(h.From) {
			return 0
		}
		return 1 + len(h.From)
	case tagHead:
		class, n := binary.Varint(b[1:])
		if n <= 0 || class != int64(queue.ClassID(class)) {
			return 0
		}
		rank, m := binary.Varint(b[1+n:])
		if m <= 0 {
			return 0
		}
		h.Heads = append(h.Heads, queue.Head{Class: queue.ClassID(class), Rank: rank})
		return 1 + n + m
	case tagChanged:
		var id queue.ID
		if copy(id[:], b[1:]) < len(id) {
			return 0
		}
		h.Changed = append(h.Changed, id)
		return 1 + len(id)
	default:
		return 0
	}
}
