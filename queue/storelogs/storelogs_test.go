package storelogs_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/queue/memqueue"
	"github.com/slipway-build/slipway/queue/storelogs"
	"github.com/slipway-build/slipway/storage"
	"github.com/slipway-build/slipway/storage/filestore"
	"github.com/slipway-build/slipway/storage/memstore"
)

func backends(t *testing.T) map[string]storage.Backend {
	t.Helper()
	files, err := filestore.New(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := files.Close(); err != nil {
			t.Error(err)
		}
	})
	return map[string]storage.Backend{"memory": memstore.New(), "files": files}
}

func put(t *testing.T, a queue.LogArchive, id queue.AttemptID, text string) {
	t.Helper()
	if err := a.Put(t.Context(), "web", id, strings.NewReader(text), int64(len(text))); err != nil {
		t.Fatalf("Put %q: %v", text, err)
	}
}

func want(t *testing.T, a queue.LogArchive, id queue.AttemptID, offset, length int64, text string) {
	t.Helper()
	r, err := a.Open(t.Context(), "web", id, offset, length)
	if err != nil {
		t.Errorf("Open %d bytes from %d on: %v", length, offset, err)
		return
	}
	defer r.Close()
	if got, err := io.ReadAll(r); err != nil || string(got) != text {
		t.Errorf("%d bytes from %d on are %q, %v, want %q", length, offset, got, err, text)
	}
}

// objects returns how many objects a backend has.
func objects(t *testing.T, b storage.Backend) int {
	t.Helper()
	infos, err := b.List(t.Context(), storage.Page{Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	return len(infos)
}

func TestObjects(t *testing.T) {
	for name, b := range backends(t) {
		t.Run(name, func(t *testing.T) {
			a := storelogs.New(b)
			first := queue.AttemptID{Build: queue.NewID(), Epoch: 1}
			second := queue.AttemptID{Build: first.Build, Epoch: 2}
			other := queue.AttemptID{Build: queue.NewID(), Epoch: 1}
			put(t, a, first, "0123456789")
			put(t, a, second, "second")
			put(t, a, other, "0123456789")
			if n := objects(t, b); n != 3 {
				t.Errorf("there are %d objects, want 3", n)
			}
			want(t, a, first, 0, 10, "0123456789")
			want(t, a, first, 3, 4, "3456")
			want(t, a, first, 8, 100, "89")
			want(t, a, first, 10, 5, "")
			want(t, a, first, 50, 5, "")
			want(t, a, second, 0, 1<<20, "second")
			for range 2 {
				if err := a.Delete(t.Context(), "web", first); err != nil {
					t.Fatal(err)
				}
				if _, err := a.Open(t.Context(), "web", first, 0, 1); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("Open of what was removed: %v, want fs.ErrNotExist", err)
				}
			}
			if _, err := a.Open(t.Context(), "elsewhere", second, 0, 1); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("Open in another project: %v, want fs.ErrNotExist", err)
			}
			want(t, a, second, 0, 6, "second")
			want(t, a, other, 0, 10, "0123456789")
		})
	}
}

// packed returns a text as a gzip file.
func packed(t *testing.T, text string, level int) string {
	t.Helper()
	var file strings.Builder
	w, err := gzip.NewWriterLevel(&file, level)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return file.String()
}

// What is there already is kept if it unpacks into the same log, whatever its size, and else is replaced, whatever its size.
func TestPutAgain(t *testing.T) {
	log := strings.Repeat("a line of a log\n", 10)
	small, large := packed(t, log, gzip.BestCompression), packed(t, log, gzip.NoCompression)
	split := packed(t, log[:50], gzip.BestSpeed) + packed(t, log[50:], gzip.BestSpeed)
	other := packed(t, strings.Replace(log, "a", "b", 1), gzip.NoCompression)
	if len(other) != len(large) || len(small) == len(large) {
		t.Fatalf("there are objects of %d, %d and %d bytes", len(small), len(large), len(other))
	}
	for backend, b := range backends(t) {
		for name, test := range map[string]struct{ there, put, want string }{
			"the same":                    {small, small, small},
			"of another compressor":       {small, large, small},
			"in other members":            {large, split, large},
			"another log, of that size":   {large, other, other},
			"another log, smaller":        {other, small, small},
			"another log, larger":         {small, other, other},
			"the beginning of the log":    {packed(t, log[:50], gzip.BestSpeed), small, small},
			"more than the log":           {packed(t, log+"more", gzip.BestSpeed), small, small},
			"half an object":              {large[:len(large)/2], large, large},
			"an object and more":          {small + "x", small, small},
			"no object":                   {"\x00", small, small},
			"a damaged one, of that size": {large[:50] + "?" + large[51:], large, large},
		} {
			id := queue.AttemptID{Build: queue.NewID(), Epoch: 1}
			a := storelogs.New(b)
			put(t, a, id, test.there)
			for range 2 {
				put(t, a, id, test.put)
				want(t, a, id, 0, 1<<20, test.want)
			}
			if t.Failed() {
				t.Fatalf("%s: that was put where there was %s", backend, name)
			}
		}
	}
}

// A process that ends between the removal of what was there and the put of what replaces it, or cannot tell whether that is the same, has
// not put anything. The next put does.
func TestReplaceFails(t *testing.T) {
	const level = gzip.BestSpeed
	first, second := packed(t, "the log of an attempt", level), packed(t, "the log of another attempt of that number", level)
	for name, b := range backends(t) {
		for _, broken := range []faulty{{put: true}, {delete: true}, {open: true}, {read: true}, {stat: true}} {
			broken.Backend = b
			id := queue.AttemptID{Build: queue.NewID(), Epoch: 1}
			put(t, storelogs.New(b), id, first)
			err := storelogs.New(&broken).Put(t.Context(), "web", id, strings.NewReader(second), int64(len(second)))
			if !errors.Is(err, errFault) {
				t.Errorf("%s: Put with %+v: %v, want the backend's error", name, broken, err)
			}
			if !broken.put {
				want(t, storelogs.New(b), id, 0, 1000, first)
			} else if _, err := storelogs.New(b).Open(t.Context(), "web", id, 0, 1); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s: Open after a put that failed: %v, want fs.ErrNotExist", name, err)
			}
			put(t, storelogs.New(b), id, second)
			want(t, storelogs.New(b), id, 0, 1000, second)
		}
	}
}

// What does not unpack is put where there is nothing, and replaces nothing.
func TestPutNoGzip(t *testing.T) {
	for name, b := range backends(t) {
		a, id := storelogs.New(b), queue.AttemptID{Build: queue.NewID(), Epoch: 1}
		put(t, a, id, "0123456789") // which is no gzip file
		if err := a.Put(t.Context(), "web", id, strings.NewReader("abcdefghij"), 10); !errors.Is(err, gzip.ErrHeader) {
			t.Errorf("%s: Put of what does not unpack: %v", name, err)
		}
		want(t, a, id, 0, 10, "0123456789")
	}
}

var errFault = errors.New("the backend is in trouble")

// A faulty backend fails in one of its methods, in Put only if it would have stored anything.
type faulty struct {
	storage.Backend
	put, delete, open, read, stat bool
}

func (f *faulty) Put(ctx context.Context, key storage.Key, size int64, r io.Reader) error {
	if f.put {
		r = &failing{errFault}
	}
	return f.Backend.Put(ctx, key, size, r)
}

func (f *faulty) Open(ctx context.Context, key storage.Key, offset, length int64) (io.ReadCloser, error) {
	if f.open {
		return nil, errFault
	}
	r, err := f.Backend.Open(ctx, key, offset, length)
	if f.read && err == nil {
		return struct {
			io.Reader
			io.Closer
		}{io.MultiReader(io.LimitReader(r, length/2), &failing{errFault}), r}, nil
	}
	return r, err
}

func (f *faulty) Stat(ctx context.Context, key storage.Key) (storage.Info, error) {
	if f.stat {
		return storage.Info{}, errFault
	}
	return f.Backend.Stat(ctx, key)
}

func (f *faulty) Delete(ctx context.Context, key storage.Key) error {
	if f.delete {
		return errFault
	}
	return f.Backend.Delete(ctx, key)
}

// What cannot be put wholly is not put.
func TestPutFails(t *testing.T) {
	broken := errors.New("broken")
	over, cancel := context.WithCancel(context.Background())
	cancel()
	for name, b := range backends(t) {
		t.Run(name, func(t *testing.T) {
			a, id := storelogs.New(b), queue.AttemptID{Build: queue.NewID(), Epoch: 1}
			for name, test := range map[string]struct {
				ctx     context.Context
				project string
				r       io.Reader
				want    error // nil: any
			}{
				"too short":       {t.Context(), "web", strings.NewReader("1234"), nil},
				"too long":        {t.Context(), "web", strings.NewReader("123456"), nil},
				"a broken read":   {t.Context(), "web", io.MultiReader(strings.NewReader("1234"), &failing{broken}), broken},
				"an ended ctx":    {over, "web", strings.NewReader("12345"), context.Canceled},
				"no such project": {t.Context(), "../web", strings.NewReader("12345"), storage.ErrInvalid},
			} {
				err := a.Put(test.ctx, test.project, id, test.r, 5)
				if err == nil || test.want != nil && !errors.Is(err, test.want) {
					t.Errorf("%s: %v, want %v", name, err, test.want)
				}
			}
			if n := objects(t, b); n != 0 {
				t.Errorf("there are %d objects, want none", n)
			}
		})
	}
}

type failing struct{ err error }

func (f *failing) Read([]byte) (int, error) { return 0, f.err }

// A log goes all the way: it is archived, read back in parts and by lines, and removed with its build.
func TestQueueWithArchive(t *testing.T) {
	for name, b := range backends(t) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { goAllTheWay(t, b) })
		})
	}
}

func goAllTheWay(t *testing.T, b storage.Backend) {
	q := queue.New(memqueue.New(), &queue.Options{Archive: storelogs.New(b), Retention: time.Hour})
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	var log bytes.Buffer
	for i := range 100_000 {
		fmt.Fprintf(&log, "line %d\n", i+1)
	}
	running.Go(func() {
		err := queue.NewWorker(q, "worker", nil).Run(ctx, func(_ context.Context, job *queue.Job) error {
			_, err := job.Log().Write(log.Bytes())
			return err
		})
		if err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	id, err := q.Submit(ctx, queue.Params{Project: "web"})
	if err != nil {
		t.Fatal(err)
	}
	if done, err := q.Wait(ctx, "web", id); err != nil || done.State != queue.Succeeded {
		t.Fatalf("the build: %+v, %v", done, err)
	}
	<-time.After(time.Minute)
	if n := objects(t, b); n != 1 {
		t.Fatalf("there are %d objects, want 1", n)
	}
	attempt := queue.AttemptID{Build: id}
	var got []byte
	for int64(len(got)) < int64(log.Len()) {
		page, err := q.ReadLog(ctx, "web", attempt, int64(len(got)), 300_000)
		if err != nil || len(page.Data) == 0 || !page.Archived {
			t.Fatalf("page at %d: %d bytes, archived %t, %v", len(got), len(page.Data), page.Archived, err)
		}
		got = append(got, page.Data...)
	}
	if !bytes.Equal(got, log.Bytes()) {
		t.Error("the log that was read is not the one that was written")
	}
	at, err := q.FindLine(ctx, "web", attempt, 77_777)
	if err != nil || at != int64(bytes.Index(log.Bytes(), []byte("line 77777\n"))) {
		t.Errorf("line 77,777 is at %d, %v", at, err)
	}
	<-time.After(time.Hour)
	if _, err := q.Get(ctx, "web", id); !errors.Is(err, queue.ErrNotFound) {
		t.Errorf("the build after its retention: %v, want ErrNotFound", err)
	}
	if n := objects(t, b); n != 0 {
		t.Errorf("%d objects are left", n)
	}
}
