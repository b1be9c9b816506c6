package storelogs_test

import (
	"bytes"
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

// Putting again what is there keeps it, whatever its size.
func TestPutAgain(t *testing.T) {
	for name, b := range backends(t) {
		t.Run(name, func(t *testing.T) {
			a, id := storelogs.New(b), queue.AttemptID{Build: queue.NewID(), Epoch: 1}
			for _, text := range []string{"packed", "packed", "packed by another version"} {
				put(t, a, id, text)
				want(t, a, id, 0, 100, "packed")
			}
			if n := objects(t, b); n != 1 {
				t.Errorf("there are %d objects, want 1", n)
			}
		})
	}
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
