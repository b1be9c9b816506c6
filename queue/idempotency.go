package queue

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"maps"
	"slices"
)

// hash returns a sum of all that the submitter of b asked for, but for the id. Two submits of one idempotency key must agree in it.
func (b *NewBuild) hash() Digest {
	h := hasher{sha256.New()}
	for _, text := range []string{b.Project, b.Pool, b.Labels.String(), string(b.Spec), b.ConcurrencyKey} {
		h.text(text)
	}
	if b.Source != nil {
		h.text(string(b.Source.Digest[:]))
		h.number(b.Source.Size)
	} else {
		h.text("")
	}
	for _, n := range []int64{
		int64(b.QueueTimeout), int64(b.RunTimeout), int64(b.MaxAttempts), int64(b.Backoff.Base), int64(b.Backoff.Max), int64(b.Priority),
	} {
		h.number(n)
	}
	if b.RetryFailed {
		h.number(1)
	} else {
		h.number(0)
	}
	if b.NotBefore.IsZero() {
		h.number(0)
	} else {
		h.number(b.NotBefore.UnixMicro())
	}
	h.text(string(b.RetryOf[:]))
	for _, key := range slices.Sorted(maps.Keys(b.Metadata)) {
		h.text(key)
		h.text(b.Metadata[key])
	}
	return Digest(h.Sum(nil))
}

// A hasher writes values so that no two sequences of them read the same.
type hasher struct{ hash.Hash }

func (h hasher) text(s string) {
	h.number(int64(len(s)))
	h.Write([]byte(s))
}

func (h hasher) number(n int64) {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(n))
	h.Write(b[:])
}
