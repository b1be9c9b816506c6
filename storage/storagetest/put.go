package storagetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/slipway-build/slipway/storage"
)

var putCases = []testCase{
	{"PutThenSee", "a nil error from Put means that the blob is visible", putThenSee},
	{"PutReadsToEOF", "Put reads r until io.EOF", putReadsToEOF},
	{"PutTwice", "if a blob of that size is already there, Put returns nil and does not touch r", putTwice},
	{"PutOtherSize", "if a blob of another size is already there, Put returns ErrDigest, does not touch r and replaces nothing", putOtherSize},
	{"PutCut", "if r fails, Put publishes nothing and returns an error that wraps the one of r", putCut},
	{"PutUnlike", "content unlike its declaration is not published", putUnlike},
	{"PutCanceled", "r observes the context, and a Put that failed for it publishes nothing", putCanceled},
	{"PutInProgress", "a blob is visible whole or not at all", putInProgress},
	{"PutOvertaken", "if another Put of the key published first, that is success; a slow reader holds up nobody", putOvertaken},
	{"PutOvertakenThenCut", "a Put that fails leaves alone what another Put of the key published", putOvertakenThenCut},
	{"PutTwins", "all methods may be called from several goroutines at once, for one key too", putTwins},
	{"Projects", "a blob belongs to one project: another's does not exist", projects},
	{"Modified", "Modified is when the blob was put", modified},
}

func putThenSee(t *testing.T, s subject) {
	for i, size := range []int{0, 1, 2, 511, 32<<10 - 1, 32 << 10, 64<<10 + 1, 1<<20 + 3} {
		name := fmt.Sprintf("p%d", i)
		data := content(i, size)
		s.absent(t, mustKey(t, name, describe(data).Digest))
		s.present(t, s.put(t, name, data), data)
	}
}

func putReadsToEOF(t *testing.T, s subject) {
	for i, size := range []int{0, 1, 32 << 10} {
		data := content(i, size)
		r := &stream{data: data}
		if err := s.Put(t.Context(), mustKey(t, project, describe(data).Digest), int64(size), r); err != nil {
			t.Fatalf("Put: %v", err)
		}
		if !r.ended {
			t.Errorf("Put of %d bytes stopped before io.EOF", size)
		}
	}
}

func putTwice(t *testing.T, s subject) {
	data := content(1, 1000)
	key := s.put(t, project, data)
	if err := s.Put(t.Context(), key, 1000, untouchable{t}); err != nil {
		t.Errorf("second Put: %v", err)
	}
	if err := s.store.Put(t.Context(), project, describe(data), untouchable{t}); err != nil {
		t.Errorf("second Put through a Store: %v", err)
	}
	s.present(t, key, data)
}

func putOtherSize(t *testing.T, s subject) {
	data := content(1, 1000)
	key := s.put(t, project, data)
	for _, size := range []int64{0, 999, 1001} {
		if err := s.Put(t.Context(), key, size, untouchable{t}); !errors.Is(err, storage.ErrDigest) {
			t.Errorf("Put as %d bytes: %v, want ErrDigest", size, err)
		}
	}
	s.present(t, key, data)
}

func putCut(t *testing.T, s subject) {
	broken := errors.New("connection broken")
	for _, size := range []int{0, 1, 100, 64 << 10, 300_000} {
		data := content(1, size)
		key := mustKey(t, project, describe(data).Digest)
		for _, at := range []int{0, 1, size / 2, size - 1, size} {
			if at < 0 || at > size {
				continue
			}
			err := s.Put(t.Context(), key, int64(size), &stream{data: data[:at], end: broken})
			if !errors.Is(err, broken) {
				t.Errorf("Put of %d bytes cut at %d: %v, want the error of the reader", size, at, err)
			}
			s.absent(t, key)
		}
		if keys := s.listed(t, project); len(keys) > 0 {
			t.Errorf("List shows %v after failed Puts only", keys)
		}
	}
}

func putUnlike(t *testing.T, s subject) {
	data := content(1, 100_000)
	blob := describe(data)
	flipped := bytes.Clone(data)
	flipped[len(flipped)-1] ^= 1
	for name, sent := range map[string][]byte{
		"nothing": nil, "a byte less": data[1:], "a byte more": append(bytes.Clone(data), 0), "a bit flipped": flipped,
	} {
		err := s.store.Put(t.Context(), project, blob, &stream{data: sent})
		if !errors.Is(err, storage.ErrDigest) {
			t.Errorf("Put of %s: %v, want ErrDigest", name, err)
		}
		s.absent(t, mustKey(t, project, blob.Digest))
	}
	s.present(t, s.put(t, project, data), data)
}

func putCanceled(t *testing.T, s subject) {
	data := content(1, 100_000)
	for _, at := range []int{1, 50_000, 99_999} {
		ctx, cancel := context.WithCancel(t.Context())
		err := s.store.Put(ctx, project, describe(data), &stream{data: data, at: at, halt: cancel})
		cancel()
		if !errors.Is(err, context.Canceled) {
			t.Errorf("Put canceled at %d: %v, want context.Canceled", at, err)
		}
		s.absent(t, mustKey(t, project, describe(data).Digest))
	}
	if err := s.store.Put(canceled(t), project, describe(data), untouchable{t}); !errors.Is(err, context.Canceled) {
		t.Errorf("Put with a canceled context: %v, want context.Canceled", err)
	}
}

func putInProgress(t *testing.T, s subject) {
	data := content(1, 200_000)
	key := mustKey(t, project, describe(data).Digest)
	for _, at := range []int{0, 1, 100_000, 199_999, 200_000} {
		r := &stream{data: data, at: at, halt: func() { s.absent(t, key) }}
		if err := s.store.Put(t.Context(), project, describe(data), r); err != nil {
			t.Fatalf("Put: %v", err)
		}
		s.present(t, key, data)
		if err := s.Delete(t.Context(), key); err != nil {
			t.Fatalf("Delete: %v", err)
		}
	}
}

func putOvertaken(t *testing.T, s subject) {
	data := content(1, 100_000)
	var key storage.Key
	slow := &stream{data: data, at: 50_000, halt: func() {
		key = s.put(t, project, data)
		s.present(t, key, data)
	}}
	if err := s.store.Put(t.Context(), project, describe(data), slow); err != nil {
		t.Errorf("Put that was overtaken: %v", err)
	}
	s.present(t, key, data)
}

func putOvertakenThenCut(t *testing.T, s subject) {
	data := content(1, 100_000)
	broken := errors.New("connection broken")
	var key storage.Key
	slow := &stream{data: data[:60_000], end: broken, at: 50_000, halt: func() { key = s.put(t, project, data) }}
	if err := s.store.Put(t.Context(), project, describe(data), slow); !errors.Is(err, broken) {
		t.Errorf("Put that was overtaken and cut: %v, want the error of the reader", err)
	}
	s.present(t, key, data)
}

func putTwins(t *testing.T, s subject) {
	data := content(1, 50_000)
	var (
		ready sync.WaitGroup
		done  sync.WaitGroup
		start = make(chan struct{})
	)
	for range 16 {
		ready.Add(1)
		done.Go(func() {
			ready.Done()
			<-start
			if err := s.store.Put(t.Context(), project, describe(data), &stream{data: data}); err != nil {
				t.Errorf("Put: %v", err)
			}
			r, err := s.store.Open(t.Context(), project, describe(data).Digest, 0, -1)
			if err != nil {
				t.Errorf("Open after Put: %v", err)
				return
			}
			readAll(t, r, data)
		})
	}
	ready.Wait()
	close(start)
	done.Wait()
	s.present(t, mustKey(t, project, describe(data).Digest), data)
}

func projects(t *testing.T, s subject) {
	data := content(1, 100)
	one := s.put(t, "one", data)
	two := mustKey(t, "two", one.Digest())
	s.absent(t, two)
	if err := s.Delete(t.Context(), two); err != nil {
		t.Errorf("Delete: %v", err)
	}
	s.present(t, one, data)
	s.put(t, "two", data)
	s.present(t, two, data)
	if err := s.Delete(t.Context(), one); err != nil {
		t.Errorf("Delete: %v", err)
	}
	s.absent(t, one)
	s.present(t, two, data)
}

func modified(t *testing.T, s subject) {
	// The backend's clock need not be ours.
	const tolerance = time.Hour
	key := s.put(t, project, content(1, 100))
	info, err := s.Stat(t.Context(), key)
	if err != nil {
		t.Fatalf("Stat: %v", err)
	}
	if age := time.Since(info.Modified).Abs(); age > tolerance {
		t.Errorf("Modified = %v, which is %v from now", info.Modified, age)
	}
	infos, err := s.List(t.Context(), storage.Page{Project: project, Limit: 1})
	if err != nil || len(infos) != 1 {
		t.Fatalf("List = %v, %v", infos, err)
	}
	if got := infos[0]; got.Size != info.Size || !got.Modified.Equal(info.Modified) {
		t.Errorf("List describes the blob as %+v, Stat as %+v", got, info)
	}
}
