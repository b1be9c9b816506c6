package queue_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/queue/memqueue"
)

// A shelf is an archive of logs.
type shelf struct {
	mu      sync.Mutex
	objects map[queue.AttemptID][]byte
	broken  error
	silent  func(queue.AttemptID) bool // what is never answered
}

func newShelf() *shelf { return &shelf{objects: make(map[queue.AttemptID][]byte)} }

// answer waits until ctx ends if that is all that is ever going to happen.
func (s *shelf) answer(ctx context.Context, id queue.AttemptID) error {
	s.mu.Lock()
	silent := s.silent != nil && s.silent(id)
	s.mu.Unlock()
	if silent {
		<-ctx.Done()
	}
	return ctx.Err()
}

func (s *shelf) hush(silent func(queue.AttemptID) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.silent = silent
}

func (s *shelf) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken = err
}

func (s *shelf) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.objects)
}

func (s *shelf) Put(ctx context.Context, _ string, id queue.AttemptID, object io.Reader, size int64) error {
	if err := s.answer(ctx, id); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	data, err := io.ReadAll(object)
	if err != nil || s.broken != nil || int64(len(data)) != size {
		return fmt.Errorf("%d bytes of %d: %w, %w", len(data), size, err, s.broken)
	}
	s.objects[id] = data
	return nil
}

func (s *shelf) Open(ctx context.Context, _ string, id queue.AttemptID, offset, length int64) (io.ReadCloser, error) {
	if err := s.answer(ctx, id); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	data, ok := s.objects[id]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return io.NopCloser(io.NewSectionReader(bytes.NewReader(data), offset, length)), nil
}

func (s *shelf) Delete(ctx context.Context, _ string, id queue.AttemptID) error {
	if err := s.answer(ctx, id); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		return s.broken
	}
	delete(s.objects, id)
	return nil
}

const logText = "one\ntwo\nthree\n"

// logged has builds run that write a log, and end.
func (f *fleet) logged(n int) []queue.AttemptID {
	f.t.Helper()
	f.submit(n, queue.Params{})
	s := f.session("worker", nil)
	offers, err := f.Claim(f.t.Context(), []queue.Idle{{Session: s, Slots: n}})
	if err != nil || len(offers) != n {
		f.t.Fatalf("Claim = %d offers, %v", len(offers), err)
	}
	var ids []queue.AttemptID
	for _, o := range offers {
		if err := f.Accept(f.t.Context(), s, o.AttemptID, queue.Digest{}); err != nil {
			f.t.Fatal(err)
		}
		if _, err := f.AppendLog(f.t.Context(), queue.LogChunk{AttemptID: o.AttemptID, Data: []byte(logText)}); err != nil {
			f.t.Fatal(err)
		}
		end := queue.Completion{AttemptID: o.AttemptID, Outcome: queue.Succeeded, LogLength: int64(len(logText))}
		if _, err := f.Finish(f.t.Context(), end); err != nil {
			f.t.Fatal(err)
		}
		ids = append(ids, o.AttemptID)
	}
	return ids
}

// gone reports whether all builds were deleted.
func (f *fleet) gone() bool {
	builds, err := f.List(f.t.Context(), queue.Filter{Project: "project"})
	return err == nil && len(builds) == 0
}

// archiving are the options of a queue with an archive.
func archiving(archive queue.LogArchive) *queue.Options {
	return &queue.Options{Archive: archive, Retention: time.Hour, Logger: slog.New(slog.DiscardHandler)}
}

// Logs of ended attempts go to the archive, are read from there as before, and are removed with their builds, however often the
// archive fails.
func TestRunArchivesLogs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		archive := newShelf()
		f := newFleet(t, memqueue.New(), archiving(archive))
		ids := f.logged(40)
		archive.fail(errBroken)
		keepGoing(t, f.Queue)
		time.AfterFunc(time.Minute, func() { archive.fail(nil) })
		within(t, 10*time.Minute, "all logs were in the archive", func() bool { return archive.count() == 40 })
		for _, id := range ids {
			page, err := f.ReadLog(t.Context(), "project", id, 4, 5)
			if err != nil || string(page.Data) != "two\nt" || page.Length != int64(len(logText)) {
				t.Fatalf("page is %+v, %v", page, err)
			}
			if at, err := f.FindLine(t.Context(), "project", id, 3); err != nil || at != 8 {
				t.Fatalf("line 3 is at %d, %v", at, err)
			}
		}
		time.AfterFunc(time.Hour-10*time.Minute, func() { archive.fail(errBroken) })
		time.AfterFunc(time.Hour+10*time.Minute, func() { archive.fail(nil) })
		within(t, time.Hour, "the builds were deleted", f.gone)
		within(t, time.Hour, "their logs were removed from the archive", func() bool { return archive.count() == 0 })
	})
}

// A process deletes builds and dies, or has no archive. Their logs are removed by whoever has one.
func TestAnotherProcessRemovesLogs(t *testing.T) {
	for name, archive := range map[string]func(queue.LogArchive) queue.LogArchive{
		"without an archive": func(queue.LogArchive) queue.LogArchive { return nil },
		"that dies":          func(queue.LogArchive) queue.LogArchive { return brokenArchive{} },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, shelf := memqueue.New(), newShelf()
				f := newFleet(t, b, archiving(shelf))
				f.logged(20)
				stop := keepGoing(t, f.Queue)
				within(t, time.Minute, "all logs were in the archive", func() bool { return shelf.count() == 20 })
				stop()
				other := newFleet(t, b, archiving(archive(shelf)))
				stop = keepGoing(t, other.Queue)
				within(t, 2*time.Hour, "the builds were deleted", other.gone)
				stop()
				if n := shelf.count(); n != 20 {
					t.Fatalf("%d logs are in the archive, want 20", n)
				}
				keepGoing(t, queue.New(b, archiving(shelf)))
				within(t, 10*time.Minute, "the logs were removed from the archive", func() bool { return shelf.count() == 0 })
			})
		})
	}
}

// A brokenArchive removes nothing.
type brokenArchive struct{ queue.LogArchive }

func (brokenArchive) Delete(context.Context, string, queue.AttemptID) error { return errBroken }

// A process puts an object into the archive and dies before it has said so. If the build is deleted before another has got to its log,
// the object is removed.
func TestUnsaidObjectIsRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, shelf := memqueue.New(), newShelf()
		f := newFleet(t, forgetful{b}, archiving(shelf))
		ids := f.logged(3)
		stop := keepGoing(t, f.Queue)
		within(t, time.Minute, "all logs were in the archive", func() bool { return shelf.count() == 3 })
		stop()
		if page, err := f.ReadLog(t.Context(), "project", ids[0], 0, 3); err != nil || page.Archived || string(page.Data) != "one" {
			t.Fatalf("page is %+v, %v", page, err)
		}
		other := newFleet(t, b, archiving(nil))
		stop = keepGoing(t, other.Queue)
		within(t, 2*time.Hour, "the builds were deleted", other.gone)
		stop()
		keepGoing(t, queue.New(b, archiving(shelf)))
		within(t, 10*time.Minute, "the logs were removed from the archive", func() bool { return shelf.count() == 0 })
	})
}

// A forgetful backend does not learn that a log is in the archive.
type forgetful struct{ queue.Backend }

func (forgetful) ArchiveLog(context.Context, queue.AttemptID) error { return errBroken }

// Calls of an archive end, even if it does not answer. What it does not answer about stays behind, and all else goes on.
func TestSilentArchive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shelf := newShelf()
		f := newFleet(t, memqueue.New(), archiving(shelf))
		ids := f.logged(30)
		odd := func(id queue.AttemptID) bool { return id == ids[3] || id == ids[4] }
		shelf.hush(odd)
		keepGoing(t, f.Queue)
		within(t, 10*time.Minute, "all logs but two were in the archive", func() bool { return shelf.count() == 28 })
		shelf.hush(nil)
		within(t, 10*time.Minute, "all logs were in the archive", func() bool { return shelf.count() == 30 })
		shelf.hush(odd)
		begun := time.Now()
		if _, err := f.ReadLog(t.Context(), "project", ids[3], 0, 10); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("ReadLog: %v, want the deadline of the archive", err)
		}
		if took := time.Since(begun); took > time.Minute {
			t.Errorf("ReadLog waited for %v", took)
		}
		within(t, 2*time.Hour, "all logs but two were removed from the archive", func() bool { return shelf.count() == 2 })
		shelf.hush(nil)
		within(t, 10*time.Minute, "all logs were removed from the archive", func() bool { return shelf.count() == 0 })
	})
}

// A put that comes to its end after the hold is not told to the backend, and the rest of what was taken on with it is given up: by then
// others may have taken it over. A machine that was suspended meanwhile is known only by its wall clock, which in a bubble of synctest
// never differs from the monotonic one: here both have gone on.
func TestNothingIsArchivedAfterTheHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &telling{Backend: memqueue.New()}
		f := newFleet(t, b, archiving(&lateArchive{newShelf(), b}))
		ids := f.logged(3)
		stop := keepGoing(t, f.Queue)
		within(t, 20*time.Minute, "all logs were in the archive", func() bool {
			for _, id := range ids {
				if page, err := f.ReadLog(t.Context(), "project", id, 0, 1); err != nil || !page.Archived {
					return false
				}
			}
			return true
		})
		stop()
		want := []string{"take", "put late", "take", "put", "tell", "put", "tell", "put", "tell"}
		if got := b.events(); !slices.Equal(got, want) {
			t.Errorf("what happened is %q, want %q", got, want)
		}
	})
}

// A lateArchive has the first object after the hold, whatever becomes of the ctx.
type lateArchive struct {
	*shelf
	told *telling
}

func (a *lateArchive) Put(ctx context.Context, project string, id queue.AttemptID, object io.Reader, size int64) error {
	if len(a.told.events()) > 1 {
		a.told.note("put")
		return a.shelf.Put(ctx, project, id, object, size)
	}
	a.told.note("put late")
	<-time.After(5*time.Minute + time.Second)
	return a.shelf.Put(context.WithoutCancel(ctx), project, id, object, size)
}

// A telling backend keeps what has happened about the archive.
type telling struct {
	queue.Backend
	mu   sync.Mutex
	said []string
}

func (b *telling) note(event string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.said = append(b.said, event)
}

func (b *telling) events() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.said)
}

func (b *telling) ClosedLogs(ctx context.Context, limit int, hold time.Duration, now time.Time) ([]queue.ClosedLog, error) {
	logs, err := b.Backend.ClosedLogs(ctx, limit, hold, now)
	if len(logs) > 0 {
		b.note("take")
	}
	return logs, err
}

func (b *telling) ArchiveLog(ctx context.Context, id queue.AttemptID) error {
	b.note("tell")
	return b.Backend.ArchiveLog(ctx, id)
}
