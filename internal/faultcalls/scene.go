package faultcalls

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/slipway-build/slipway/queue"
)

// A Store is the database of a backend, seen from below. The rows are those of the tables that calls change.
type Store interface {
	// Clear removes all rows.
	Clear(ctx context.Context) error
	// Save keeps a copy of the rows, in place of an earlier one.
	Save(ctx context.Context) error
	// Restore puts the rows of the copy where there are none.
	Restore(ctx context.Context) error
	// Rows reads the rows; see [ReadRows].
	Rows(ctx context.Context) (Rows, error)
}

// A Scene is a database in which every call finds something to do: one worker runs a build, is to stop another, is offered a third; a
// fourth waits, and a fifth until its class is made. Ids and times are the same whenever it is set.
type Scene struct {
	*testing.T
	queue.Backend // without faults
	Store

	now        time.Time
	controller queue.ID
	session    queue.SessionID
	direct     queue.SessionID // of a call that needs one
	class      queue.ClassID

	running, cancelling, offered queue.AttemptID
	queued, held                 queue.ID
}

// New returns a scene on a backend that makes no faults, and its store.
func New(t *testing.T, sound queue.Backend, store Store) *Scene {
	return &Scene{T: t, Backend: sound, Store: store, now: time.Date(2020, 3, 1, 12, 0, 0, 0, time.UTC), controller: numbered(100)}
}

// In returns the scene for a part of the test.
func (s *Scene) In(t *testing.T) *Scene {
	part := *s
	part.T = t
	return &part
}

const (
	project = "project"
	key     = "key" // of concurrency
	grace   = time.Minute
	avoid   = 30 * time.Second
	run     = time.Hour
	wait    = time.Hour // the queue timeout of what is not claimed
	offer   = time.Minute
	force   = time.Minute
)

// numbered returns an id.
func numbered(n byte) queue.ID { return queue.ID{6: 0x70, 8: 0x80, 15: n} }

func (s *Scene) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// open opens one session.
func open(ctx context.Context, b queue.Backend, n queue.NewSession, now time.Time) (queue.SessionID, error) {
	opened, err := b.OpenSessions(ctx, []queue.NewSession{n}, now)
	if err != nil {
		return 0, err
	}
	return opened[0].Session, nil
}

// set prepares the scene for a call.
func (s *Scene) set(c *Call) {
	s.Helper()
	ctx := s.Context()
	s.must(s.Clear(ctx))
	_, err := s.Beat(ctx, s.controller, time.Hour, s.now)
	s.must(err)
	s.session, err = open(ctx, s, s.facts(), s.now)
	s.must(err)
	s.running = s.claimed(s.submit(1, "pool", 0))
	s.cancelling = s.claimed(s.submit(2, "pool", 0))
	s.offered = s.claimed(s.submit(3, "pool", 0))
	_, err = s.accept(ctx, s.Backend, s.running, s.cancelling)
	s.must(err)
	_, err = s.Cancel(ctx, project, []queue.ID{s.cancelling.Build}, "not wanted", force, s.now)
	s.must(err)
	_, err = s.appendLog(ctx, s.Backend, 0, "hello")
	s.must(err)
	_, err = s.ReserveArtifact(ctx, s.artifact("reserved"), s.now)
	s.must(err)
	s.queued = s.submit(4, "pool", wait)
	s.held = s.submit(5, "other", wait)
	if c.prepare != nil {
		s.must(c.prepare(ctx, s))
	}
	s.must(s.Save(ctx))
}

// reset makes the scene what it was when it was set.
func (s *Scene) reset() {
	s.Helper()
	s.must(s.Clear(s.Context()))
	s.must(s.Restore(s.Context()))
}

func (s *Scene) rows() Rows {
	s.Helper()
	rows, err := s.Rows(s.Context())
	s.must(err)
	return rows
}

func (s *Scene) facts() queue.NewSession {
	return queue.NewSession{Controller: s.controller, Worker: "worker", Instance: "i", Pools: []string{"pool"}, Slots: 9}
}

func (s *Scene) build(n byte, pool string, queueTimeout time.Duration) queue.NewBuild {
	return queue.NewBuild{
		ID: numbered(n), Project: project, Pool: pool, Spec: []byte("spec"), RunTimeout: run, QueueTimeout: queueTimeout, MaxAttempts: 3,
		Backoff: queue.Backoff{Base: time.Second, Max: time.Minute},
	}
}

// submit submits a build, and has its class made if it is the first one.
func (s *Scene) submit(n byte, pool string, queueTimeout time.Duration) queue.ID {
	s.Helper()
	b := s.build(n, pool, queueTimeout)
	_, err := s.Submit(s.Context(), []queue.NewBuild{b}, s.now)
	s.must(err)
	if n == 1 {
		_, err := s.Maintain(s.Context(), queue.Rules{Limit: 10}, s.now)
		s.must(err)
		classes, err := s.Classes(s.Context(), 0, 1)
		s.must(err)
		s.class = classes[0].ID
	}
	return b.ID
}

func (s *Scene) reach() queue.Reach { return queue.Reach{Class: s.class, Floor: queue.NoFloor} }

func (s *Scene) claim(ctx context.Context, b queue.Backend) ([]queue.Claimed, error) {
	return b.Claim(ctx, []queue.Demand{{Reach: s.reach(), Slots: []queue.SessionID{s.session}}}, offer, s.now)
}

// claimed claims a build.
func (s *Scene) claimed(id queue.ID) queue.AttemptID {
	s.Helper()
	claimed, err := s.claim(s.Context(), s.Backend)
	s.must(err)
	if len(claimed) != 1 || claimed[0].Build != id {
		s.Fatalf("Claim returned %v, want build %v", claimed, id)
	}
	return claimed[0].AttemptID
}

func (s *Scene) accept(ctx context.Context, b queue.Backend, ids ...queue.AttemptID) ([]queue.AttemptID, error) {
	accepts := make([]queue.Acceptance, len(ids))
	for i, id := range ids {
		accepts[i] = queue.Acceptance{AttemptID: id, Session: s.session, TokenHash: queue.Digest{1}, Slack: time.Second}
	}
	done, err := b.Accept(ctx, accepts, s.now)
	if err == nil && len(done) != len(ids) {
		return nil, fmt.Errorf("%d of %d attempts were accepted: %w", len(done), len(ids), queue.ErrStaleLease)
	}
	return done, err
}

func (s *Scene) appendLog(ctx context.Context, b queue.Backend, offset int64, data string) ([]queue.LogLength, error) {
	done, err := b.AppendLogs(ctx, []queue.LogChunk{{AttemptID: s.running, Offset: offset, Data: []byte(data)}},
		queue.LogLimit{Bytes: 1 << 20, Lines: 1 << 20}, s.now)
	if err == nil && (len(done) != 1 || done[0].Length != offset+int64(len(data))) {
		return nil, fmt.Errorf("AppendLogs returned %v", done)
	}
	return done, err
}

func (s *Scene) artifact(name string) queue.NewArtifact {
	return queue.NewArtifact{AttemptID: s.running, Name: name, Digest: queue.Digest{2}, Size: 3}
}

func (s *Scene) rules() queue.Rules {
	return queue.Rules{Controller: s.controller, Grace: grace, Avoid: avoid, KeepKeys: time.Hour, Limit: 10}
}

// An Answer is what a call returned.
type Answer struct {
	Err    error
	result any
}

// mixed reports whether there is a result beside an error: what a transaction gave that was rolled back, or may have been, must not be taken
// for one. What a Maintain did before an error is no result.
func (a Answer) mixed() bool {
	_, counts := a.result.(queue.Maintained)
	return a.Err != nil && !counts && a.result != nil && !reflect.ValueOf(a.result).IsZero()
}

// String returns the result and the error.
func (a Answer) String() string { return fmt.Sprintf("%+v, %v", a.result, a.Err) }

// same reports whether both calls succeeded with the same result, or failed with errors that mean the same to a caller.
func (a Answer) same(b Answer) bool {
	for _, known := range []error{queue.ErrConflict, queue.ErrNotFound, queue.ErrStaleLease} {
		if errors.Is(a.Err, known) || errors.Is(b.Err, known) {
			return errors.Is(a.Err, known) && errors.Is(b.Err, known)
		}
	}
	return a.Err == nil && b.Err == nil && a.String() == b.String()
}

// moved returns what a Maintain says that it did to builds.
func (a Answer) moved() map[string]int {
	m, _ := a.result.(queue.Maintained)
	return map[string]int{
		"interned": m.Interned, "queued": m.Queued, "expired": m.Expired, "released": m.Released, "timed out": m.TimedOut,
		"canceled": m.Canceled, "requeued": m.Requeued, "lost": m.Lost,
	}
}
