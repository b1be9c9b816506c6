package worker

import (
	"errors"
	"io"
	"testing"
	"time"

	"github.com/slipway-build/slipway/internal/ws"
	"github.com/slipway-build/slipway/worker/wire"
)

func TestRetryRule(t *testing.T) {
	closed := func(code wire.CloseCode) error { return &ws.CloseError{Code: int(code)} }
	refused := func(status int) error { return &ws.RefusedError{Status: status} }
	for _, test := range []struct {
		err    error
		rule   wire.Retry
		giveUp error
	}{
		{io.ErrUnexpectedEOF, wire.RetryBackoff, nil},
		{nil, wire.RetryBackoff, nil},
		{closed(wire.CloseGoingAway), wire.RetrySoon, nil},
		{closed(wire.CloseInternal), wire.RetryBackoff, nil},
		{closed(wire.CloseReplaced), wire.RetryBackoff, nil},
		{closed(wire.CloseUnauthorized), wire.RetryNever, ErrUnauthorized},
		{closed(wire.CloseVersion), wire.RetryNever, ErrVersion},
		{refused(401), wire.RetryNever, ErrUnauthorized},
		{refused(403), wire.RetryNever, ErrUnauthorized},
		{refused(426), wire.RetryNever, ErrVersion},
		{&ws.RefusedError{Status: 426, Body: []byte(`{"title":"x","code":"unsupported_version"}`)}, wire.RetryNever, ErrVersion},
		{&ws.RefusedError{Status: 426, Body: []byte(`{"title":"x","code":"handshake"}`)}, wire.RetrySlow, nil},
		{refused(404), wire.RetrySlow, nil},
		{refused(429), wire.RetrySlow, nil},
		{refused(503), wire.RetryBackoff, nil},
		{ws.ErrSubprotocol, wire.RetrySlow, nil},
	} {
		if got := retryRule(test.err); got != test.rule {
			t.Errorf("after %v: %v, want %v", test.err, got, test.rule)
		}
		if err := refusal(test.err); !errors.Is(err, test.giveUp) {
			t.Errorf("after %v: gives up with %v, want %v", test.err, err, test.giveUp)
		}
	}
}

func TestReconnect(t *testing.T) {
	const least, most = time.Second, 10 * time.Second
	r := reconnect{least: least, most: most}
	for i, bound := range []time.Duration{1, 2, 4, 8, 10, 10} {
		if wait := r.after(io.EOF); wait >= bound*time.Second || r.next != bound*time.Second {
			t.Errorf("failure %d: a pause of %v below %v, want below %v", i, wait, r.next, bound*time.Second)
		}
	}
	if wait := r.after(&ws.CloseError{Code: int(wire.CloseGoingAway)}); wait >= least || r.next != most {
		t.Errorf("after a controller went away: %v below %v", wait, r.next)
	}
	if wait := r.after(&ws.CloseError{Code: int(wire.CloseRateLimited)}); wait < most || wait >= 2*most {
		t.Errorf("after too many messages: %v", wait)
	}
	replaced := &ws.CloseError{Code: int(wire.CloseReplaced)}
	if wait := r.after(replaced); wait >= most {
		t.Errorf("after being replaced once: %v", wait)
	}
	if wait := r.after(replaced); wait < most {
		t.Errorf("after being replaced twice in a row: %v", wait)
	}
	r.stable()
	if wait := r.after(replaced); wait >= most {
		t.Errorf("after being replaced once more, much later: %v", wait)
	}
	r.stable()
	if r.after(io.EOF); r.next != least {
		t.Errorf("after a connection that lasted: below %v", r.next)
	}
	if wait := r.after(&ws.RefusedError{Status: 503, RetryAfter: 5 * time.Second}); wait < 5*time.Second {
		t.Errorf("a pause of %v, though 5 s were asked for", wait)
	}
	if wait := r.after(&ws.RefusedError{Status: 503, RetryAfter: time.Hour}); wait > most {
		t.Errorf("a pause of %v, though at most %v are reasonable", wait, most)
	}
}
