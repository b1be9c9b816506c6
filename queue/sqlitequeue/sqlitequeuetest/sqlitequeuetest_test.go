package sqlitequeuetest_test

import (
	"errors"
	"testing"
	"time"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/queue/sqlitequeue/sqlitequeuetest"
)

// Queues of tests are usable at once and know nothing of each other.
func TestNew(t *testing.T) {
	for _, name := range []string{"one", "two"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			q := sqlitequeuetest.New(t, &queue.Options{RunTimeout: time.Minute})
			other := sqlitequeuetest.New(t, nil)
			id, err := q.Submit(t.Context(), queue.Params{Project: "site", Spec: []byte("make")})
			if err != nil {
				t.Fatal(err)
			}
			if b, err := q.Get(t.Context(), "site", id); err != nil || b.State != queue.Pending || b.RunTimeout != time.Minute {
				t.Errorf("build is %+v, %v", b, err)
			}
			if _, err := other.Get(t.Context(), "site", id); !errors.Is(err, queue.ErrNotFound) {
				t.Errorf("another queue has the build: %v", err)
			}
		})
	}
}
