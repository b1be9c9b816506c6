package queue_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/queue/memqueue"
)

// A stenographer is a backend that counts and may fail the reading of logs.
type stenographer struct {
	queue.Backend
	reads atomic.Int64
	err   atomic.Pointer[error]
}

func (s *stenographer) ReadLog(ctx context.Context, project string, id queue.AttemptID, offset int64, max int) (queue.LogPage, error) {
	s.reads.Add(1)
	if err := s.err.Load(); err != nil {
		if errors.Is(*err, errPanic) {
			panic(*err)
		}
		return queue.LogPage{}, *err
	}
	return s.Backend.ReadLog(ctx, project, id, offset, max)
}

var errPanic = errors.New("out of paper")

// attempt has a build claimed and accepted.
func (f *fleet) attempt(session queue.SessionID) queue.AttemptID {
	f.t.Helper()
	offers, err := f.Claim(f.t.Context(), []queue.Idle{{Session: session, Slots: 1}})
	if err != nil || len(offers) != 1 {
		f.t.Fatalf("Claim = %v, %v", offers, err)
	}
	if err := f.Accept(f.t.Context(), session, offers[0].AttemptID, queue.Digest{}); err != nil {
		f.t.Fatal(err)
	}
	return offers[0].AttemptID
}

func (f *fleet) write(id queue.AttemptID, offset int64, text string) int64 {
	f.t.Helper()
	length, err := f.AppendLog(f.t.Context(), queue.LogChunk{AttemptID: id, Offset: offset, Data: []byte(text)})
	if err != nil {
		f.t.Error(err)
	}
	return length.Length
}

func (f *fleet) end(id queue.AttemptID, outcome queue.State) {
	f.t.Helper()
	if _, err := f.Finish(f.t.Context(), queue.Completion{AttemptID: id, Outcome: outcome}); err != nil {
		f.t.Error(err)
	}
}

// A transcript is what somebody saw who followed logs.
type transcript struct {
	strings.Builder
	err error
}

// follow writes down what is yielded for an attempt, or, without an epoch, for all from the newest on.
func (f *fleet) follow(ctx context.Context, id queue.AttemptID, offset int64) *transcript {
	if id.Epoch == 0 {
		return f.writeDown(f.FollowLogs(ctx, "project", id, offset), offset)
	}
	return f.writeDown(f.FollowLog(ctx, "project", id, offset), offset)
}

// writeDown writes down what is yielded, and reports pages that are not in order.
func (f *fleet) writeDown(pages iter.Seq2[queue.LogPage, error], offset int64) *transcript {
	var seen transcript
	var epoch int64
	closed := true
	for page, err := range pages {
		if err != nil {
			seen.err = err
			continue
		}
		if page.Epoch != epoch {
			if !closed || page.Epoch < epoch {
				f.t.Errorf("epoch %d follows %d, closed: %t", page.Epoch, epoch, closed)
			}
			if epoch != 0 {
				offset = 0
			}
			epoch = page.Epoch
		}
		if page.Offset != offset || (len(page.Data) == 0) != page.Closed {
			f.t.Errorf("page at %d with %d bytes, closed %t; want offset %d", page.Offset, len(page.Data), page.Closed, offset)
		}
		offset += int64(len(page.Data))
		closed = page.Closed
		seen.Write(page.Data)
		if page.Closed {
			fmt.Fprintf(&seen, "<%d of %d, cut %t>", offset, page.Length, page.Cut)
		}
	}
	return &seen
}

// Whoever follows a log sees all of it, from this process and from others, over all attempts.
func TestFollowLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		backend := memqueue.New()
		here, there := newFleet(t, backend, nil), newFleet(t, backend, nil)
		build := here.submit(1, queue.Params{Backoff: queue.Backoff{Base: time.Nanosecond, Max: time.Nanosecond}})[0]
		session := there.session("worker", nil)
		var follows sync.WaitGroup
		transcripts := make(map[string]*transcript)
		var mu sync.Mutex
		follow := func(name string, id queue.AttemptID, offset int64) {
			follows.Go(func() {
				seen := here.follow(t.Context(), id, offset)
				mu.Lock()
				defer mu.Unlock()
				transcripts[name] = seen
			})
		}
		follow("all", queue.AttemptID{Build: build}, 0)
		synctest.Wait()
		first := there.attempt(session)
		follow("first", first, 0)
		pause(3 * time.Second)
		there.write(first, 0, "one ")
		follow("late", first, 2)
		follow("beyond", first, 6)
		pause(3 * time.Second)
		there.write(first, 4, "two ")
		here.write(first, 8, "three ")
		if _, err := there.Finish(t.Context(), queue.Completion{AttemptID: first, Outcome: queue.Lost}); err != nil {
			t.Fatal(err)
		}
		pause(time.Minute)
		there.maintain()
		second := there.attempt(session)
		there.write(second, 0, "four")
		there.end(second, queue.Succeeded)
		follows.Wait()
		for name, want := range map[string]string{
			"all":    "one two three <14 of 14, cut false>four<4 of 4, cut false>",
			"first":  "one two three <14 of 14, cut false>",
			"late":   "e two three <14 of 14, cut false>",
			"beyond": "o three <14 of 14, cut false>",
		} {
			if got := transcripts[name]; got.String() != want || got.err != nil {
				t.Errorf("%s: saw %q, %v, want %q", name, got, got.err, want)
			}
		}
		last, whole := "four<4 of 4, cut false>", "three <14 of 14, cut false>four<4 of 4, cut false>"
		newest := queue.AttemptID{Build: build}
		if again := here.follow(t.Context(), newest, 0); again.String() != last {
			t.Errorf("after the end: %q", again)
		}
		if again := here.writeDown(here.FollowLog(t.Context(), "project", newest, 0), 0); again.String() != last {
			t.Errorf("the newest after the end: %q", again)
		}
		if again := here.writeDown(here.FollowLogs(t.Context(), "project", first, 8), 8); again.String() != whole {
			t.Errorf("from the first on: %q", again)
		}
	})
}

// pause lets the time of a bubble pass.
func pause(d time.Duration) { <-time.After(d) }

// Whoever follows a build before its first attempt sees that, though the second has come when they look.
func TestFollowLogOfTheFirstAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, memqueue.New(), nil)
		build := f.submit(1, queue.Params{Backoff: queue.Backoff{Base: time.Nanosecond, Max: time.Nanosecond}})[0]
		var one, all *transcript
		var follows sync.WaitGroup
		follows.Go(func() { one = f.writeDown(f.FollowLog(t.Context(), "project", queue.AttemptID{Build: build}, 0), 0) })
		follows.Go(func() { all = f.follow(t.Context(), queue.AttemptID{Build: build}, 0) })
		synctest.Wait()
		other := newFleet(t, f.Backend(), &queue.Options{Avoid: time.Nanosecond}) // gives no hints
		session := other.session("worker", nil)
		for _, text := range []string{"first", "second"} {
			id := other.attempt(session)
			other.write(id, 0, text)
			outcome := queue.Succeeded
			if text == "first" {
				outcome = queue.Lost
			}
			other.end(id, outcome)
			pause(time.Microsecond)
			other.maintain()
		}
		follows.Wait()
		if one.String() != "first<5 of 5, cut false>" || all.String() != "first<5 of 5, cut false>second<6 of 6, cut false>" {
			t.Errorf("saw %q, %q", one, all)
		}
	})
}

// However many follow a log, it is read once; and less often the longer nothing is added.
func TestFollowLogReadsOnceForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		backend := &stenographer{Backend: memqueue.New()}
		here, there := newFleet(t, backend, nil), newFleet(t, backend, nil)
		here.submit(1, queue.Params{})
		id := there.attempt(there.session("worker", nil))
		const many = 500
		var follows sync.WaitGroup
		for range many {
			follows.Go(func() {
				if seen := here.follow(t.Context(), id, 0); seen.err != nil || seen.Len() < 4000 {
					t.Errorf("saw %d bytes, %v", seen.Len(), seen.err)
				}
			})
		}
		synctest.Wait()
		joined := backend.reads.Load()
		if joined > many+1 {
			t.Errorf("%d reads for %d to join", joined, many)
		}
		pause(10 * time.Minute)
		if idle := backend.reads.Load() - joined; idle < 400 || idle > 1000 {
			t.Errorf("%d reads in ten minutes in which nothing was added", idle)
		}
		joined = backend.reads.Load()
		for i := range int64(1000) {
			here.write(id, 4*i, "tick")
			pause(5 * time.Millisecond)
		}
		if busy := backend.reads.Load() - joined; busy < 100 || busy > 300 {
			t.Errorf("%d reads in five seconds in which bytes were added 1,000 times", busy)
		}
		here.end(id, queue.Succeeded)
		follows.Wait()
	})
}

// What this process adds, and the end of the build, is seen at once; what another adds, within a second or so.
func TestFollowLogIsPrompt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		backend := memqueue.New()
		here, there := newFleet(t, backend, nil), newFleet(t, backend, nil)
		here.submit(1, queue.Params{})
		id := there.attempt(there.session("worker", nil))
		seen := make(chan time.Time)
		var follows sync.WaitGroup
		follows.Go(func() {
			for range here.FollowLog(t.Context(), "project", id, 0) {
				seen <- time.Now()
			}
		})
		var offset int64
		for _, c := range []struct {
			act   func()
			limit time.Duration
		}{
			{func() { offset = here.write(id, offset, "here") }, 20 * time.Millisecond},
			{func() { offset = there.write(id, offset, "there") }, 1200 * time.Millisecond},
			{func() { here.end(id, queue.Succeeded) }, 20 * time.Millisecond},
		} {
			pause(time.Minute)
			begun := time.Now()
			c.act()
			if took := (<-seen).Sub(begun); took > c.limit {
				t.Errorf("seen after %v, want %v", took, c.limit)
			}
		}
		follows.Wait()
	})
}

// One who is slow misses nothing, and keeps nobody waiting.
func TestFollowLogWaitsForNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, memqueue.New(), nil)
		f.submit(1, queue.Params{})
		id := f.attempt(f.session("worker", nil))
		var written, slow bytes.Buffer
		var follows sync.WaitGroup
		follows.Go(func() {
			for page, err := range f.FollowLog(t.Context(), "project", id, 0) {
				if err != nil {
					t.Error(err)
				}
				slow.Write(page.Data)
				pause(time.Hour)
			}
		})
		var fast *transcript
		follows.Go(func() { fast = f.follow(t.Context(), id, 0) })
		for i := range int64(64) {
			piece := strings.Repeat(string('a'+rune(i%26)), 100_000)
			written.WriteString(piece)
			if got := f.write(id, i*100_000, piece); got != (i+1)*100_000 {
				t.Fatalf("stored %d bytes", got)
			}
			pause(50 * time.Millisecond)
		}
		begun := time.Now()
		f.end(id, queue.Succeeded)
		synctest.Wait()
		pause(2 * time.Second)
		if fast == nil {
			t.Errorf("the fast one waits still, %v after the end", time.Since(begun))
		}
		follows.Wait()
		if !bytes.Equal(slow.Bytes(), written.Bytes()) {
			t.Errorf("the slow one saw %d bytes of %d, or others", slow.Len(), written.Len())
		}
		if want := written.String() + "<6400000 of 6400000, cut false>"; fast.String() != want {
			t.Errorf("the fast one saw %d bytes, want %d", fast.Len(), len(want))
		}
	})
}

// A log that is cut says so at its end.
func TestFollowLogCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, memqueue.New(), &queue.Options{LogBytes: 10})
		f.submit(1, queue.Params{})
		id := f.attempt(f.session("worker", nil))
		pausing := time.AfterFunc(time.Minute, func() {
			f.write(id, 0, "more than ten bytes")
			f.end(id, queue.Succeeded)
		})
		defer pausing.Stop()
		if seen := f.follow(t.Context(), id, 0); seen.String() != "more than <10 of 10, cut true>" {
			t.Errorf("saw %q, %v", seen, seen.err)
		}
	})
}

func TestFollowLogErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		backend := &stenographer{Backend: memqueue.New()}
		f := newFleet(t, backend, &queue.Options{Retention: time.Hour})
		build := f.submit(1, queue.Params{})[0]
		newest := queue.AttemptID{Build: build}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		for _, c := range []struct {
			ctx    context.Context
			id     queue.AttemptID
			offset int64
			want   error
		}{
			{t.Context(), queue.AttemptID{Build: queue.NewID()}, 0, queue.ErrNotFound},
			{t.Context(), queue.AttemptID{Build: build, Epoch: 9}, 0, queue.ErrNotFound},
			{t.Context(), newest, -1, queue.ErrInvalid},
			{t.Context(), queue.AttemptID{Build: build, Epoch: -1}, 0, queue.ErrInvalid},
			{ctx, newest, 0, context.DeadlineExceeded},
		} {
			seen := f.follow(c.ctx, c.id, c.offset)
			if e, ok := errors.AsType[*queue.Error](seen.err); !errors.Is(seen.err, c.want) || !ok || e.Op != "follow log" || e.ID != c.id.Build {
				t.Errorf("%v at %d: %v, want %v", c.id, c.offset, seen.err, c.want)
			}
		}
		id := f.attempt(f.session("worker", nil))
		ctx, cancel = context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if seen := f.follow(ctx, id, 0); !errors.Is(seen.err, context.DeadlineExceeded) {
			t.Errorf("with a context that ended: %v", seen.err)
		}
		var follows sync.WaitGroup
		follows.Go(func() {
			if seen := f.follow(t.Context(), id, 0); seen.err != nil || !strings.HasPrefix(seen.String(), "before after<") {
				t.Errorf("across an outage: %q, %v", seen, seen.err)
			}
		})
		f.write(id, 0, "before ")
		pause(time.Minute)
		backend.err.Store(new(queue.ErrUnavailable))
		pause(time.Minute)
		f.write(id, 7, "after")
		if seen := f.follow(t.Context(), id, 0); !errors.Is(seen.err, queue.ErrUnavailable) {
			t.Errorf("begun in an outage: %v", seen.err)
		}
		backend.err.Store(nil)
		pause(time.Minute)
		f.end(id, queue.Succeeded)
		follows.Wait()
		pause(2 * time.Hour)
		f.maintain()
		if seen := f.follow(t.Context(), id, 0); !errors.Is(seen.err, queue.ErrNotFound) {
			t.Errorf("of a build that was deleted: %v", seen.err)
		}
		missing := queue.AttemptID{Build: f.submit(1, queue.Params{})[0], Epoch: 9}
		if seen := f.writeDown(f.FollowLogs(t.Context(), "project", missing, 0), 0); !errors.Is(seen.err, queue.ErrNotFound) {
			t.Errorf("from an attempt on that is not there: %v", seen.err)
		}
	})
}

// An error that nobody expects ends a follow, and so does a panic, without ending the process.
func TestFollowLogBroken(t *testing.T) {
	for _, broken := range []error{io.ErrNoProgress, errPanic} {
		synctest.Test(t, func(t *testing.T) {
			backend := &stenographer{Backend: memqueue.New()}
			f := newFleet(t, backend, nil)
			f.submit(1, queue.Params{})
			id := f.attempt(f.session("worker", nil))
			breaking := time.AfterFunc(time.Minute, func() { backend.err.Store(&broken) })
			defer breaking.Stop()
			if seen := f.follow(t.Context(), id, 0); seen.err == nil || !strings.Contains(seen.err.Error(), broken.Error()) {
				t.Errorf("got %v", seen.err)
			}
		})
	}
}

// A thousand who come and go, each in their own way, leave nothing behind.
func TestFollowLogFreesWhatItHas(t *testing.T) {
	f := newFleet(t, memqueue.New(), nil)
	const many = 1000
	ids := f.submit(10, queue.Params{})
	session := f.session("worker", nil)
	var attempts []queue.AttemptID
	for range ids {
		id := f.attempt(session)
		f.write(id, 0, "first")
		attempts = append(attempts, id)
	}
	before := runtime.NumGoroutine()
	ctx, cancel := context.WithCancel(t.Context())
	var first, leaving, ending sync.WaitGroup
	for i := range many {
		first.Add(1)
		id := attempts[i%len(attempts)]
		if i%20 < 10 { // by the build
			id.Epoch = 0
		}
		ctx, group := ctx, &leaving
		if i%3 == 2 {
			ctx, group = t.Context(), &ending
		}
		group.Go(func() {
			said := sync.OnceFunc(first.Done)
			for page, err := range f.FollowLog(ctx, "project", id, 0) {
				said()
				switch {
				case i%3 == 0:
					return
				case err != nil && (i%3 != 1 || !errors.Is(err, context.Canceled)):
					t.Errorf("%d: %v", i, err)
				case err == nil && !page.Closed && string(page.Data) != "first":
					t.Errorf("%d: %q", i, page.Data)
				}
			}
		})
	}
	first.Wait()
	cancel()
	leaving.Wait()
	for _, id := range slices.Backward(attempts) {
		f.end(id, queue.Succeeded)
	}
	ending.Wait()
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for runtime.NumGoroutine() > before {
		select {
		case <-deadline:
			t.Fatalf("%d goroutines are left, there were %d", runtime.NumGoroutine(), before)
		case <-tick.C:
		}
	}
}
