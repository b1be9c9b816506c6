package sqlqueue

import (
	"database/sql"
	"maps"
	"testing"
	"time"

	"github.com/slipway-build/slipway/queue"
)

func TestColumnsReadBothDialects(t *testing.T) {
	id := queue.NewID()
	at := time.Date(2026, 3, 1, 12, 0, 0, 123456000, time.UTC)
	sum := queue.Digest{1, 2, 3}
	for _, src := range []any{id[:], [16]byte(id), id.String(), []byte(id.String())} {
		var c idColumn
		if err := c.Scan(src); err != nil || queue.ID(c) != id {
			t.Errorf("%T is read as %v, %v; want %v", src, queue.ID(c), err, id)
		}
	}
	for _, src := range []any{at.UnixMicro(), at, at.In(time.FixedZone("", 7200))} {
		var c timeColumn
		if err := c.Scan(src); err != nil || time.Time(c) != at {
			t.Errorf("%v is read as %v, %v; want %v", src, time.Time(c), err, at)
		}
	}
	var c digestColumn
	if err := c.Scan(sum[:]); err != nil || queue.Digest(c) != sum {
		t.Errorf("a digest is read as %v, %v; want %v", queue.Digest(c), err, sum)
	}
	if err := c.Scan(nil); err != nil || c != (digestColumn{}) {
		t.Errorf("a null digest is read as %v, %v", c, err)
	}
	none := idColumn(id)
	if err := none.Scan(nil); err != nil || !queue.ID(none).IsZero() {
		t.Errorf("a null id is read as %v, %v", queue.ID(none), err)
	}
	when := timeColumn(at)
	if err := when.Scan(nil); err != nil || !time.Time(when).IsZero() {
		t.Errorf("a null time is read as %v, %v", time.Time(when), err)
	}
}

func TestColumnsRefuseWhatTheyAreNot(t *testing.T) {
	for _, test := range []struct {
		column sql.Scanner
		srcs   []any
	}{
		{new(idColumn), []any{int64(1), "0198", []byte{1, 2}}},
		{new(timeColumn), []any{"2026-03-01", 1.5, []byte{1}}},
		{new(digestColumn), []any{"00", []byte{1, 2}, int64(1)}},
	} {
		for _, src := range test.srcs {
			if err := test.column.Scan(src); err == nil {
				t.Errorf("%T reads %v", test.column, src)
			}
		}
	}
}

func TestLabelsAreReadBack(t *testing.T) {
	for _, labels := range []queue.Labels{{}, {"os": "linux"}, {"os": "linux", "a/b": "", "z": "X.y-1"}} {
		got, err := ParseLabels(labels.String())
		if err != nil || got == nil || got.String() != labels.String() {
			t.Errorf("%v is read back as %v, %v", labels, got, err)
		}
	}
}

func TestMetadataIsReadBack(t *testing.T) {
	for _, m := range []map[string]string{nil, {"a": "1"}, {"": "", "b": `"<\>&`, "ü": "\u2028\n"}} {
		got, err := ParseMetadata(FormatMetadata(m))
		if err != nil || !maps.Equal(got, m) || (got == nil) != (m == nil) {
			t.Errorf("%v is read back as %v, %v", m, got, err)
		}
	}
	if got := FormatMetadata(map[string]string{}); got != "" {
		t.Errorf("no metadata is stored as %q", got)
	}
	for _, s := range []string{"1", "{", `{"a":1}`} {
		if m, err := ParseMetadata(s); err == nil {
			t.Errorf("%q is read as %v", s, m)
		}
	}
}
