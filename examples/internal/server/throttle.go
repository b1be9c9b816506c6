package server

import (
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

const (
	// mostRefusals is how many refusals of one neighborhood may come at once.
	mostRefusals = 10
	// forgetting is how long it takes to forget one of them.
	forgetting = 6 * time.Second
	// mostRefused is how many neighborhoods are remembered. Those above share what they are allowed.
	mostRefused = 10_000
)

// A throttle slows down those who try one wrong secret after the other. Others are not held up. The zero throttle is ready for use, by
// several at once.
type throttle struct {
	mu sync.Mutex
	// forgotten tells of each neighborhood when all its refusals are forgotten.
	forgotten map[netip.Prefix]time.Time
}

// enter counts an attempt as a refusal, which [throttle.leave] takes back, or returns an error if there were too many.
func (t *throttle) enter(from netip.Prefix, now time.Time) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	from = t.place(from, now)
	at := t.forgotten[from]
	if at.Before(now) {
		at = now
	}
	if wait := at.Sub(now) - (mostRefusals-1)*forgetting; wait > 0 {
		return &throttled{wait}
	}
	t.forgotten[from] = at.Add(forgetting)
	return nil
}

// leave takes an attempt back, as it was no refusal.
func (t *throttle) leave(from netip.Prefix, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	from = t.place(from, now)
	if at := t.forgotten[from].Add(-forgetting); at.After(now) {
		t.forgotten[from] = at
	} else {
		delete(t.forgotten, from)
	}
}

// place returns where the refusals of a neighborhood are remembered.
func (t *throttle) place(from netip.Prefix, now time.Time) netip.Prefix {
	if t.forgotten == nil {
		t.forgotten = make(map[netip.Prefix]time.Time)
	}
	if _, known := t.forgotten[from]; known || len(t.forgotten) < mostRefused {
		return from
	}
	maps.DeleteFunc(t.forgotten, func(_ netip.Prefix, at time.Time) bool { return !at.After(now) })
	if len(t.forgotten) < mostRefused {
		return from
	}
	return netip.Prefix{}
}

// neighborhood is whom an address is taken for: an address of IPv4, or the 64 bits of IPv6 that one household has at least.
func neighborhood(address string) netip.Prefix {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return netip.Prefix{}
	}
	ip := ap.Addr().Unmap().WithZone("")
	bits := ip.BitLen()
	if ip.Is6() {
		bits = 64
	}
	prefix, err := ip.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return prefix
}

// throttled says that there were too many refusals.
type throttled struct{ wait time.Duration }

func (e *throttled) Error() string { return fmt.Sprintf("too many refusals; again in %v", e.wait) }

var errThrottled = newProblem(http.StatusTooManyRequests, "rate_limited", "Too many credentials from this address were refused.",
	"Wait as long as Retry-After says.")
