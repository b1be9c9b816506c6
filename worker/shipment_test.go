package worker

import (
	"bytes"
	"context"
	"crypto/sha256"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/worker/wire"
)

func newTestAttempt(t *testing.T) *attempt {
	a := &attempt{log: slog.New(slog.DiscardHandler), kill: make(chan struct{}), started: make(chan struct{}), over: make(chan struct{})}
	a.ctx, a.stop = context.WithCancelCause(t.Context())
	return a
}

func newTestSpool(t *testing.T, most int64) *spool {
	t.Helper()
	s, err := newSpool(filepath.Join(t.TempDir(), "log"), most, func() {})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.file.Close() })
	return s
}

func TestSpool(t *testing.T) {
	marker := "\n[slipway] the log is cut here: it is longer than 100 bytes\n"
	for name, test := range map[string]struct {
		writes []string
		want   string
		cut    bool
	}{
		"nothing":         {nil, "", false},
		"some":            {[]string{"one ", "two"}, "one two", false},
		"all there is":    {[]string{strings.Repeat("x", 100-len(marker))}, strings.Repeat("x", 100-len(marker)), false},
		"too much":        {[]string{strings.Repeat("x", 100)}, strings.Repeat("x", 100-len(marker)) + marker, true},
		"too much, twice": {[]string{"one", strings.Repeat("x", 100), "more"}, "one" + strings.Repeat("x", 97-len(marker)) + marker, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := newTestSpool(t, 100)
			for _, text := range test.writes {
				if n, err := s.Write([]byte(text)); n != len(text) || err != nil {
					t.Errorf("Write: %d, %v", n, err)
				}
			}
			s.close()
			_, _ = s.Write([]byte("too late"))
			end, err := s.end(1000)
			if err != nil {
				t.Fatal(err)
			}
			got := make([]byte, end.length)
			if err := s.read(got, 0); err != nil {
				t.Fatal(err)
			}
			if string(got) != test.want || end.sum != sha256.Sum256(got) || (end.cut != "") != test.cut {
				t.Errorf("log %q, cut %q; want %q, cut %t", got, end.cut, test.want, test.cut)
			}
		})
	}
	t.Run("smaller than the marker", func(t *testing.T) {
		s := newTestSpool(t, 10)
		_, _ = s.Write(bytes.Repeat([]byte("x"), 20))
		if length, _ := s.size(); length > 10 {
			t.Errorf("%d bytes, at most 10 are wanted", length)
		}
	})
	t.Run("limited by the controller", func(t *testing.T) {
		s := newTestSpool(t, 100)
		_, _ = s.Write([]byte("0123456789"))
		s.close()
		end, err := s.end(4)
		if err != nil || end.length != 4 || end.sum != queue.Digest(sha256.Sum256([]byte("0123"))) || end.cut == "" {
			t.Errorf("end %+v, %v", end, err)
		}
	})
	t.Run("disk gone", func(t *testing.T) {
		s := newTestSpool(t, 100)
		s.file.Close()
		if n, err := s.Write([]byte("x")); n != 1 || err != nil {
			t.Errorf("Write: %d, %v", n, err)
		}
		if end, err := s.end(100); err != nil || end.length != 0 || end.cut == "" {
			t.Errorf("end %+v, %v", end, err)
		}
	})
}

// TestShipment takes pieces from a log as answers come and connections change.
func TestShipment(t *testing.T) {
	newLink := func() *link {
		return &link{welcome: &wire.Welcome{Limits: wire.SessionLimits{LogFrame: 10, LogWindow: 25}}}
	}
	first := newLink()
	present := first
	s := &shipment{
		spool: newTestSpool(t, 1000), links: func() *link { return present }, log: slog.New(slog.DiscardHandler),
		wake: make(chan struct{}, 1), limit: 1000,
	}
	_, _ = s.spool.Write(make([]byte, 100))
	pieces := func(want ...int64) {
		t.Helper()
		for i := 0; i < len(want); i += 2 {
			link, offset, n := s.take()
			if offset != want[i] || int64(n) != want[i+1] || n > 0 && link != present {
				t.Fatalf("piece %d: %d bytes at %d, want %d at %d", i/2, n, offset, want[i+1], want[i])
			}
		}
	}
	pieces(0, 10, 10, 10, 20, 5, 0, 0) // a window full
	s.ack(10, 25)
	pieces(25, 10, 0, 0)
	s.goTo(20) // bytes are missing
	pieces(20, 10, 30, 10, 40, 5, 0, 0)
	s.ack(15, 25) // an answer of before
	pieces(0, 0)
	s.goTo(101) // cannot be
	present = nil
	pieces(0, 0)
	present = newLink()
	s.goTo(30) // says the welcome of the next connection
	pieces(30, 10)
	present = newLink() // without a word
	pieces(30, 10, 40, 10, 50, 5, 0, 0)
	s.cap(60)
	s.ack(55, 25)
	pieces(55, 5, 0, 0)
	s.ack(60, 25)
	if _, ok := s.arrived(); ok {
		t.Error("a log that goes on has arrived")
	}
	s.spool.close()
	if limit, ok := s.arrived(); !ok || limit != 60 {
		t.Errorf("arrived: %d, %t", limit, ok)
	}
	s.rewind(57)
	pieces(57, 3)
}
