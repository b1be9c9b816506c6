package pgqueue_test

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/slipway-build/slipway/internal/testenv"
	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/queue/queuetest"
)

// A lazyServer writes to the disk when it is asked to, and else hardly ever, so that a crash undoes what did not wait for the disk.
type lazyServer struct {
	*stage
	cluster *testenv.Cluster
}

func newLazyServer(t *testing.T) *lazyServer {
	t.Helper()
	cluster, err := testenv.StartPostgres(t.Context(), &testenv.Options{
		Fsync: true, Settings: map[string]string{"wal_writer_delay": "10s", "wal_writer_flush_after": "0", "bgwriter_lru_maxpages": "0"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cluster.Stop(); err != nil {
			t.Error(err)
		}
	})
	pool, err := pgxpool.New(t.Context(), cluster.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	db := &testenv.Database{Pool: pool, Schema: "slipway", DSN: cluster.URL()}
	b := backend(t, pool, nil)
	if err := b.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := &lazyServer{stage: &stage{T: t, Backend: b, db: db}, cluster: cluster}
	s.session = s.open("worker")
	// Whatever vacuum and others have begun shall not make a later commit durable.
	_, err = pool.Exec(t.Context(), "ALTER TABLE slipway.build SET (autovacuum_enabled = off)")
	s.must(err)
	return s
}

// crash kills the server and starts it again.
func (s *lazyServer) crash() {
	s.Helper()
	s.must(s.cluster.Kill())
	s.must(s.cluster.Restart(s.Context()))
	s.db.Pool.Reset()
	s.must(s.Ping(s.Context()))
}

// queued submits a build whose class is known.
func (s *lazyServer) queued() queue.ID {
	s.Helper()
	n := queue.NewBuild{ID: queue.NewID(), Project: "project", Pool: "pool", RunTimeout: time.Hour, MaxAttempts: 3}
	s.submit(n)
	_, err := s.Maintain(s.Context(), queue.Rules{Limit: 10}, now)
	s.must(err)
	return n.ID
}

func (s *lazyServer) claim(session queue.SessionID) queue.AttemptID {
	s.Helper()
	claimed, err := s.Claim(s.Context(), demand(1, session), time.Hour, now)
	s.must(err)
	if len(claimed) != 1 {
		s.Fatalf("%d builds were claimed", len(claimed))
	}
	return claimed[0].AttemptID
}

func (s *lazyServer) wantState(id queue.ID, want queue.State, epoch int64) {
	s.Helper()
	build, err := s.Get(s.Context(), "project", id)
	s.must(err)
	if build.State != want || build.Epoch != epoch {
		s.Fatalf("build is %v, epoch %d; want %v, epoch %d", build.State, build.Epoch, want, epoch)
	}
}

// TestCrashUndoesAnOffer has the server crash right after a claim that it answered. The claim is undone, its epoch is given to another
// session, and whoever was offered the build first cannot accept it, nor do anything to the attempt of the other.
func TestCrashUndoesAnOffer(t *testing.T) {
	s := newLazyServer(t)
	other := s.open("other")
	id := s.queued()
	first := s.claim(s.session)
	s.wantState(id, queue.Offered, 1)
	s.crash()
	s.wantState(id, queue.Pending, 0)
	second := s.claim(other)
	if second != first {
		t.Fatalf("the second claim is %v, want the epoch of the first again", second)
	}
	if n, err := s.accept(t.Context(), first); err != nil || n != 0 {
		t.Errorf("accept of an offer that the crash has undone: %d, %v", n, err)
	}
	accepted, err := s.Accept(t.Context(), []queue.Acceptance{{AttemptID: second, Session: other, TokenHash: queue.Digest{2}}}, now)
	if err != nil || len(accepted) != 1 {
		t.Fatalf("accept of the second offer: %v, %v", accepted, err)
	}
	ended, err := s.Finish(t.Context(), []queue.Completion{{AttemptID: first, Session: s.session, Outcome: queue.Lost}}, avoid, now)
	if err != nil || len(ended) != 0 {
		t.Errorf("finish by the session whose offer was undone: %v, %v", ended, err)
	}
	if adopted, err := s.Adopt(t.Context(), s.open("worker"), []queue.AttemptID{first}, now); err != nil || len(adopted.Leases) != 0 {
		t.Errorf("adopt by the worker whose offer was undone: %v, %v", adopted, err)
	}
	s.wantState(id, queue.Running, 1)
}

// TestCrashKeepsWhatRuns has the server crash right after it has told that something may run.
func TestCrashKeepsWhatRuns(t *testing.T) {
	t.Run("Accept", func(t *testing.T) {
		s := newLazyServer(t)
		id := s.queued()
		attempt := s.claim(s.session)
		if n, err := s.accept(t.Context(), attempt); err != nil || n != 1 {
			t.Fatalf("Accept returned %d attempts, %v", n, err)
		}
		s.crash()
		s.wantState(id, queue.Running, 1)
	})
	t.Run("Direct", func(t *testing.T) {
		s := newLazyServer(t)
		direct, err := queuetest.Open(t.Context(), s, queue.NewSession{
			Controller: queue.NewID(), Worker: "direct", Instance: "i", Pools: []string{"pool"}, Slots: 9, Direct: true,
		}, now)
		s.must(err)
		id := s.queued()
		s.claim(direct)
		s.crash()
		s.wantState(id, queue.Running, 1)
	})
	t.Run("Mixed", func(t *testing.T) {
		s := newLazyServer(t)
		direct, err := queuetest.Open(t.Context(), s, queue.NewSession{
			Controller: queue.NewID(), Worker: "direct", Instance: "i", Pools: []string{"pool"}, Slots: 9, Direct: true,
		}, now)
		s.must(err)
		first, second := s.queued(), s.queued()
		claimed, err := s.Claim(t.Context(), demand(1, s.session, direct), time.Hour, now)
		if err != nil || len(claimed) != 2 {
			t.Fatalf("Claim returned %v, %v", claimed, err)
		}
		s.crash()
		s.wantState(first, queue.Offered, 1)
		s.wantState(second, queue.Running, 1)
	})
}
