package worker

import (
	"bytes"
	"crypto/sha256"
	"strings"
	"testing"
)

// FuzzRedactor cuts a stream into writes at any places: what comes out is the whole stream with the secret replaced, whatever the cuts.
func FuzzRedactor(f *testing.F) {
	f.Add("slw_build_x", "a slw_build_x b", []byte{5, 1, 3})
	f.Add("aab", "aaaab aab aa", []byte{1, 1, 1, 1, 1, 1, 1, 1})
	f.Add("abab", "abababab", []byte{3, 2})
	f.Add("x", "xxyx", []byte{})
	f.Add("secret", "no end: secre", []byte{200})
	f.Add("ab", strings.Repeat("ab-a", redactorPiece/2), []byte{255, 0, 7})
	f.Fuzz(func(t *testing.T, secret, stream string, cuts []byte) {
		if secret == "" {
			return
		}
		var got bytes.Buffer
		r := newRedactor(secret, func(p []byte) { got.Write(p) })
		rest := []byte(stream)
		for _, n := range cuts {
			cut := min(int(n), len(rest))
			r.write(rest[:cut])
			rest = rest[cut:]
			if len(r.buf) >= len(secret) {
				t.Fatalf("%d bytes are kept back of a secret of %d", len(r.buf), len(secret))
			}
		}
		r.write(rest)
		r.flush()
		if want := strings.ReplaceAll(stream, secret, redacted); got.String() != want {
			t.Errorf("%q without %q is %q, want %q", stream, secret, got.String(), want)
		}
		if cap(r.buf) > redactorPiece+len(secret) {
			t.Errorf("%d bytes of memory", cap(r.buf))
		}
	})
}

// TestSpoolHides has the log, its length and its sum be those of what may be seen.
func TestSpoolHides(t *testing.T) {
	s := newTestSpool(t, 1000)
	s.hide("slw_build_secret")
	for _, p := range []string{"TOKEN=slw_bui", "ld_secret\nand the beginning of one: slw_bu"} {
		if n, err := s.Write([]byte(p)); n != len(p) || err != nil {
			t.Errorf("Write: %d, %v", n, err)
		}
	}
	s.close()
	const want = "TOKEN=[redacted]\nand the beginning of one: slw_bu"
	end, err := s.end(1000)
	if err != nil || end.length != int64(len(want)) || end.sum != sha256.Sum256([]byte(want)) {
		t.Errorf("end %+v, %v", end, err)
	}
	got := make([]byte, end.length)
	if err := s.read(got, 0); err != nil || string(got) != want {
		t.Errorf("log %q, %v; want %q", got, err, want)
	}
}
