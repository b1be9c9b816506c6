package queue_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/slipway-build/slipway/queue"
)

func wantInvalid(t *testing.T, what string, err error) {
	t.Helper()
	if !errors.Is(err, queue.ErrInvalid) {
		t.Errorf("%q: error is %v, want one that wraps ErrInvalid", what, err)
	}
}

// Ids made later sort later, also within a millisecond.
func TestNewIDGrows(t *testing.T) {
	last := queue.NewID()
	for range 10_000 {
		id := queue.NewID()
		if bytes.Compare(last[:], id[:]) >= 0 || last.String() >= id.String() {
			t.Fatalf("%v was made before %v", last, id)
		}
		last = id
	}
}

func TestNewIDIsUnique(t *testing.T) {
	var mu sync.Mutex
	seen := make(map[queue.ID]bool)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 1000 {
				id := queue.NewID()
				mu.Lock()
				if seen[id] {
					t.Errorf("%v was made twice", id)
				}
				seen[id] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}

func TestNewIDHoldsTheTime(t *testing.T) {
	before := time.Now().Add(-time.Second).UnixMilli()
	id := queue.NewID()
	var ms int64
	for _, b := range id[:6] {
		ms = ms<<8 | int64(b)
	}
	if after := time.Now().Add(time.Minute).UnixMilli(); ms < before || ms > after {
		t.Errorf("id %v was made at %d, between %d and %d", id, ms, before, after)
	}
	if id[6]>>4 != 7 || id[8]>>6 != 2 {
		t.Errorf("%v is not a UUID of version 7", id)
	}
}

func TestParseID(t *testing.T) {
	const text = "0198c2f0-7d4e-7cc3-98c4-dc0c0c07398f"
	id, err := queue.ParseID(strings.ToUpper(text))
	if err != nil || id.String() != text || id.IsZero() {
		t.Errorf("ParseID(%q) = %v, %v", text, id, err)
	}
	for _, s := range []string{
		"", text[1:], text + "0", "{" + text + "}", strings.ReplaceAll(text, "-", ""), strings.Replace(text, "-", "_", 1),
		strings.Replace(text, "0", "g", 1), strings.Replace(text, "7cc3", "4cc3", 1), strings.Replace(text, "98c4", "c8c4", 1),
		"00000000-0000-0000-0000-000000000000", " " + text[1:], text[:35] + "\x00", "../../etc/passwd", "0198c2f0-7d4e-7cc3-98c4-dc0c0c0739é",
	} {
		id, err := queue.ParseID(s)
		wantInvalid(t, s, err)
		if !id.IsZero() {
			t.Errorf("ParseID(%q) = %v", s, id)
		}
	}
}

func TestIDInJSON(t *testing.T) {
	id := queue.NewID()
	text, err := json.Marshal(map[string]queue.ID{"id": id})
	if err != nil {
		t.Fatal(err)
	}
	var back map[string]queue.ID
	if err := json.Unmarshal(text, &back); err != nil || back["id"] != id {
		t.Errorf("%v came back as %v, %v", id, back["id"], err)
	}
	wantInvalid(t, "json", json.Unmarshal([]byte(`{"id":"x"}`), &back))
}

func FuzzParseID(f *testing.F) {
	for _, s := range []string{
		"0198c2f0-7d4e-7cc3-98c4-dc0c0c07398f", "0198C2F0-7D4E-7CC3-98C4-DC0C0C07398F", "", "----", "00000000-0000-0000-0000-000000000000",
		"0198c2f0-7d4e-4cc3-98c4-dc0c0c07398f", "../../../../../../../../../etc/passw", strings.Repeat("-", 36),
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		id, err := queue.ParseID(s)
		if err != nil {
			wantInvalid(t, s, err)
			return
		}
		if id.String() != strings.ToLower(s) || id.IsZero() {
			t.Errorf("ParseID(%q) = %v", s, id)
		}
	})
}

func TestDigest(t *testing.T) {
	text := strings.Repeat("0a", 32)
	d, err := queue.ParseDigest(strings.ToUpper(text))
	if err != nil || d.String() != text {
		t.Errorf("ParseDigest(%q) = %v, %v", text, d, err)
	}
	for _, s := range []string{"", text[1:], text + "0", strings.Replace(text, "a", "g", 1), "sha256:" + text[7:]} {
		d, err := queue.ParseDigest(s)
		wantInvalid(t, s, err)
		if d != (queue.Digest{}) {
			t.Errorf("ParseDigest(%q) = %v", s, d)
		}
	}
	encoded, err := json.Marshal(d)
	if err != nil || string(encoded) != `"`+text+`"` {
		t.Errorf("%v is %s in JSON, %v", d, encoded, err)
	}
	var back queue.Digest
	if err := json.Unmarshal(encoded, &back); err != nil || back != d {
		t.Errorf("%v came back as %v, %v", d, back, err)
	}
}
