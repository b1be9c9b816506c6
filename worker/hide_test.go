package worker

import (
	"crypto/sha256"
	"testing"
)

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
