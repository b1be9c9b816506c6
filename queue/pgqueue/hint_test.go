package pgqueue

import (
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/slipway-build/slipway/queue"
)

func TestHintRoundTrip(t *testing.T) {
	for _, h := range []queue.Hint{
		{},
		{Any: true},
		{Waiting: true},
		{Cancel: true},
		{Waiting: true, Cancel: true, Any: true},
		{Heads: []queue.Head{{Class: 1, Rank: 1_800_000_000_000_000}, {Class: math.MaxInt32, Rank: math.MinInt64}, {Class: 7, Rank: math.MaxInt64}}},
		{Changed: []queue.ID{queue.NewID(), queue.NewID()}},
		{Heads: []queue.Head{{Class: 3, Rank: -5}}, Changed: []queue.ID{queue.NewID()}, Waiting: true},
	} {
		if got := decodeHint(encodeHint(h)); !reflect.DeepEqual(got, h) {
			t.Errorf("%+v became %+v", h, got)
		}
	}
}

// A notification has a longest length. What is beyond it may have changed, so anything may.
func TestHintThatDoesNotFit(t *testing.T) {
	var heads, changed, both queue.Hint
	for i := range 5000 {
		heads.Heads = append(heads.Heads, queue.Head{Class: queue.ClassID(i + 1), Rank: 1_800_000_000_000_000 + int64(i)})
		changed.Changed = append(changed.Changed, queue.NewID())
	}
	both.Heads, both.Changed, both.Cancel = heads.Heads[:500], changed.Changed, true
	for _, h := range []queue.Hint{heads, changed, both} {
		payload := encodeHint(h)
		if len(payload) > maxPayload || len(payload) < maxPayload-40 {
			t.Errorf("the payload has %d bytes, want about %d", len(payload), maxPayload)
		}
		got := decodeHint(payload)
		if !got.Any || got.Cancel != h.Cancel || got.Waiting != h.Waiting {
			t.Errorf("the flags are %v, %v, %v", got.Any, got.Cancel, got.Waiting)
		}
		if n := len(got.Heads); !reflect.DeepEqual(got.Heads[:n:n], h.Heads[:n:n]) || len(got.Changed) > len(h.Changed) {
			t.Errorf("%d heads and %d changes arrived, and not the first of those that were sent", n, len(got.Changed))
		}
	}
	if got := decodeHint(encodeHint(both)); len(got.Heads) != 500 || len(got.Changed) == 0 {
		t.Errorf("%d heads and %d changes arrived", len(got.Heads), len(got.Changed))
	}
}

func TestStrangeHint(t *testing.T) {
	head := encodeHint(queue.Hint{Heads: []queue.Head{{Class: 1, Rank: 300}}})
	changed := encodeHint(queue.Hint{Changed: []queue.ID{queue.NewID()}})
	for _, payload := range []string{
		"", "A", "hello, world", "AQ", head[:len(head)-2], changed[:len(changed)-2], head + "AAAA", strings.Repeat("A", 100), "Agg", head + "=",
	} {
		if got := decodeHint(payload); !reflect.DeepEqual(got, everything) {
			t.Errorf("%q was read as %+v", payload, got)
		}
	}
}

// FuzzDecodeHint checks that whatever arrives is read as something, and that what was read is written and read again alike.
func FuzzDecodeHint(f *testing.F) {
	f.Add("")
	f.Add(encodeHint(queue.Hint{Any: true}))
	f.Add(encodeHint(queue.Hint{Heads: []queue.Head{{Class: 9, Rank: -1}, {Class: 1 << 30, Rank: 1 << 60}}, Cancel: true}))
	f.Add(encodeHint(queue.Hint{Changed: []queue.ID{{1}, {2}}, Waiting: true}))
	f.Fuzz(func(t *testing.T, payload string) {
		h := decodeHint(payload)
		if len(payload) > maxPayload {
			return
		}
		if again := decodeHint(encodeHint(h)); !reflect.DeepEqual(again, h) {
			t.Errorf("%+v became %+v", h, again)
		}
	})
}
