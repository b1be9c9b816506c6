package sqlqueue_test

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/slipway-build/slipway/internal/sqlqueue"
	"github.com/slipway-build/slipway/queue"
)

func TestNext(t *testing.T) {
	limit := queue.LogLimit{Bytes: 10, Lines: 3}
	for _, test := range []struct {
		name   string
		head   sqlqueue.LogHead
		offset int64
		data   string
		want   string
		cut    bool
		more   bool
	}{
		{"first", sqlqueue.LogHead{}, 0, "a\nb", "a\nb", false, true},
		{"next", sqlqueue.LogHead{Length: 3, Lines: 1}, 3, "c\n", "c\n", false, true},
		{"overlap", sqlqueue.LogHead{Length: 3, Lines: 1}, 1, "\nbc\n", "c\n", false, true},
		{"again", sqlqueue.LogHead{Length: 3, Lines: 1}, 0, "a\nb", "", false, false},
		{"empty", sqlqueue.LogHead{Length: 3, Lines: 1}, 3, "", "", false, false},
		{"gap", sqlqueue.LogHead{Length: 3, Lines: 1}, 4, "x", "", false, false},
		{"all the bytes", sqlqueue.LogHead{Length: 3, Lines: 1}, 3, "1234567", "1234567", false, true},
		{"a byte too many", sqlqueue.LogHead{Length: 3, Lines: 1}, 3, "12345678", "1234567", true, true},
		{"all the lines", sqlqueue.LogHead{Length: 3, Lines: 1}, 3, "1\n2\n", "1\n2\n", false, true},
		{"a byte behind the last line", sqlqueue.LogHead{Length: 3, Lines: 1}, 3, "1\n2\n3", "1\n2\n", true, true},
		{"a newline too many", sqlqueue.LogHead{Length: 3, Lines: 1}, 3, "\n\n\n", "\n\n", true, true},
		{"full of bytes", sqlqueue.LogHead{Length: 10, Lines: 1}, 10, "x", "", true, true},
		{"full of lines", sqlqueue.LogHead{Length: 6, Lines: 3}, 6, "x", "", true, true},
		{"beyond a limit that was lowered", sqlqueue.LogHead{Length: 12, Lines: 5}, 12, "x", "", true, true},
		{"cut", sqlqueue.LogHead{Length: 6, Lines: 3, Cut: true}, 6, "x", "", false, false},
	} {
		part, more := test.head.Next(queue.LogChunk{Offset: test.offset, Data: []byte(test.data)}, limit)
		if string(part.Data) != test.want || part.Cut != test.cut || more != test.more || more && part.Start != test.head.Length {
			t.Errorf("%s: %q at %d, cut %v, %v; want %q, cut %v, %v", test.name, part.Data, part.Start, part.Cut, more, test.want, test.cut, test.more)
		}
	}
}

func TestLinesOfAPart(t *testing.T) {
	for data, want := range map[string][2]int64{"": {0, 0}, "a": {0, 1}, "\n": {1, 1}, "a\nb": {1, 2}, "a\nb\n": {2, 2}, "\n\n": {2, 2}} {
		p := sqlqueue.LogPart{Data: []byte(data)}
		if got := [2]int64{p.Newlines(), p.Begun()}; got != want {
			t.Errorf("%q has newlines and lines %v, want %v", data, got, want)
		}
	}
}

// However a log is cut into chunks, and whatever is sent twice, the same is stored of it.
func TestChunksMakeNoDifference(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		text := make([]byte, random.IntN(40))
		for i := range text {
			text[i] = "ab\n"[random.IntN(3)]
		}
		limit := queue.LogLimit{Bytes: int64(random.IntN(45)), Lines: int64(random.IntN(12))}
		whole, _ := sqlqueue.LogHead{}.Next(queue.LogChunk{Data: text}, limit)
		var stored []byte
		var head sqlqueue.LogHead
		for sent := 0; sent < len(text); {
			from := random.IntN(sent + 1)
			to := from + random.IntN(len(text)-from+1)
			sent = max(sent, to)
			part, _ := head.Next(queue.LogChunk{Offset: int64(from), Data: text[from:to]}, limit)
			stored = append(stored, part.Data...)
			head = sqlqueue.LogHead{Length: int64(len(stored)), Lines: head.Lines + part.Newlines(), Cut: head.Cut || part.Cut}
		}
		if !bytes.Equal(stored, whole.Data) || head.Cut != whole.Cut {
			t.Fatalf("of %q with %+v %q is stored, cut %v; at once it is %q, %v", text, limit, stored, head.Cut, whole.Data, whole.Cut)
		}
	}
}
