package pgqueue_test

import (
	"testing"
	"time"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/queue/queuetest"
)

// An admission that a crash undoes is as if nobody had looked yet: the limit counts right, and the build is admitted again.
func TestCrashUndoesAnAdmission(t *testing.T) {
	s := newLazyServer(t)
	s.waitsForItsKey()
	s.wantAdmitted(1)
	s.wantUsed(1)
	s.crash()
	s.wantUsed(0)
	s.wantAdmitted(1)
	s.wantUsed(1)
}

// What has been claimed for good has been admitted for good.
func TestCrashKeepsWhatAClaimReliesOn(t *testing.T) {
	s := newLazyServer(t)
	s.waitsForItsKey()
	s.wantAdmitted(1)
	session, err := queuetest.Open(t.Context(), s, queue.NewSession{
		Controller: queue.NewID(), Worker: "direct", Instance: "i", Pools: []string{"pool"}, Slots: 1, Direct: true,
	}, now)
	s.must(err)
	if claimed, err := s.Claim(t.Context(), demand(1, session), time.Hour, now); err != nil || len(claimed) != 1 {
		t.Fatalf("Claim returned %v, %v", claimed, err)
	}
	s.crash()
	s.wantUsed(1)
	s.wantAdmitted(0)
}

// waitsForItsKey submits two builds of a key with limit 1, and all else that they need to be admitted.
func (s *lazyServer) waitsForItsKey() {
	s.Helper()
	for range 2 {
		s.submit(queue.NewBuild{ID: queue.NewID(), Project: "project", Pool: "pool", ConcurrencyKey: "key", RunTimeout: time.Hour, MaxAttempts: 1})
	}
	_, err := s.Maintain(s.Context(), queue.Rules{Limit: 10}, now)
	s.must(err)
	s.must(s.Serve(s.Context(), []queue.ClassID{1}, time.Hour, now))
	s.must(s.SetLimit(s.Context(), queue.Limit{Project: "project", Key: "key", Max: 1}))
}

func (s *lazyServer) wantAdmitted(want int) {
	s.Helper()
	if done, err := s.Admit(s.Context(), queue.Lane{}, 10, now); err != nil || done.Queued != want {
		s.Errorf("Admit did %+v, %v; want %d queued", done, err, want)
	}
}

func (s *lazyServer) wantUsed(want int) {
	s.Helper()
	limits, err := s.Limits(s.Context(), "project", "", 1)
	s.must(err)
	if len(limits) != 1 || limits[0].Used != want {
		s.Errorf("limits are %+v, want %d used", limits, want)
	}
}
