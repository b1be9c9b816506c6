package server

import (
	"errors"
	"net/netip"
	"testing"
	"time"
)

func TestThrottle(t *testing.T) {
	var th throttle
	now := time.Now()
	here, there := netip.MustParsePrefix("192.0.2.1/32"), netip.MustParsePrefix("192.0.2.2/32")
	for i := range mostRefusals {
		if err := th.enter(here, now); err != nil {
			t.Fatalf("number %d: %v", i, err)
		}
	}
	busy, ok := errors.AsType[*throttled](th.enter(here, now))
	if !ok || busy.wait != forgetting {
		t.Fatalf("after %d refusals: %v, want to wait %v", mostRefusals, busy, forgetting)
	}
	if err := th.enter(there, now); err != nil {
		t.Errorf("another address: %v", err)
	}
	if err := th.enter(here, now.Add(busy.wait-1)); err == nil {
		t.Error("too early, and let through")
	}
	if err := th.enter(here, now.Add(busy.wait)); err != nil {
		t.Errorf("after the wait: %v", err)
	}
	th.leave(here, now.Add(busy.wait))
	if err := th.enter(here, now.Add(busy.wait)); err != nil {
		t.Errorf("after an attempt that was no refusal: %v", err)
	}
	if err := th.enter(here, now.Add(busy.wait)); err == nil {
		t.Error("one refusal is forgotten, and two attempts are let through")
	}
	later := now.Add(time.Hour)
	for i := range mostRefusals {
		if err := th.enter(here, later); err != nil {
			t.Fatalf("an hour later, number %d: %v", i, err)
		}
	}
}

// TestThrottleIsBounded: whoever has many addresses gets no more memory, and does not get others forgotten.
func TestThrottleIsBounded(t *testing.T) {
	var th throttle
	now := time.Now()
	known := netip.MustParsePrefix("192.0.2.1/32")
	for range mostRefusals {
		if err := th.enter(known, now); err != nil {
			t.Fatal(err)
		}
	}
	refused := 0
	for i := range 2 * mostRefused {
		prefix := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 32)
		if th.enter(prefix, now) != nil {
			refused++
		}
	}
	if len(th.forgotten) > mostRefused+1 || refused < mostRefused/2 {
		t.Errorf("%d are remembered, %d were refused", len(th.forgotten), refused)
	}
	if th.enter(known, now) == nil {
		t.Error("the first was forgotten")
	}
	if err := th.enter(netip.MustParsePrefix("198.51.100.1/32"), now.Add(time.Hour)); err != nil || len(th.forgotten) > 1 {
		t.Errorf("an hour later: %v, and %d are remembered", err, len(th.forgotten))
	}
}

func TestNeighborhood(t *testing.T) {
	for address, want := range map[string]string{
		"192.0.2.1:80": "192.0.2.1/32", "[::ffff:192.0.2.1]:80": "192.0.2.1/32", "[2001:db8:1:2:3::4]:80": "2001:db8:1:2::/64",
		"[fe80::1%eth0]:80": "fe80::/64", "": "invalid Prefix", "@": "invalid Prefix",
	} {
		if got := neighborhood(address).String(); got != want {
			t.Errorf("%q is of %s, want %s", address, got, want)
		}
	}
}
