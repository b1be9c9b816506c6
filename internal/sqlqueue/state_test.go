package sqlqueue_test

import (
	"testing"

	"github.com/slipway-build/slipway/internal/sqlqueue"
	"github.com/slipway-build/slipway/queue"
)

func TestStoredStatesArePublicOnesAgain(t *testing.T) {
	for _, s := range queue.States() {
		if got := sqlqueue.Stored(s).Public(); got != s {
			t.Errorf("%v is stored as %d, which is %v", s, sqlqueue.Stored(s), got)
		}
		for _, stored := range sqlqueue.StoredAs(s) {
			if got := stored.Public(); got != s {
				t.Errorf("%v is searched as %d, which is %v", s, stored, got)
			}
		}
	}
	if n := len(sqlqueue.StoredAs(queue.States()...)); n != len(queue.States())+1 {
		t.Errorf("StoredAs of all states has %d members, want one more than there are states", n)
	}
	if got := sqlqueue.Stored(0); got.Public() != 0 {
		t.Errorf("an invalid state is stored as %d", got)
	}
}

func TestStateRefusesWhatIsNone(t *testing.T) {
	for _, src := range []any{nil, int64(-1), int64(11), "1", 1.0} {
		var s sqlqueue.State
		if err := s.Scan(src); err == nil {
			t.Errorf("Scan(%v) read %d", src, s)
		}
	}
}
