package storagetest

import (
	"context"
	"errors"
	"io"
	"os"
	"testing"
	"testing/iotest"

	"github.com/slipway-build/slipway/storage"
)

var openCases = []testCase{
	{"OpenRanges", "Open delivers length bytes from offset on, and then io.EOF", openRanges},
	{"OpenClamped", "a Store cuts a range at the end of the blob", openClamped},
	{"OpenReaders", "readers of one blob are independent", openReaders},
	{"OpenSeeker", "a Store reads a blob of any backend in any order", openSeeker},
	{"OpenFile", "OpenFile opens the blob for reading only", openFile},
	{"OpenDeleted", "a reader of a blob that is deleted goes on or fails, but never delivers other bytes", openDeleted},
	{"OpenCanceled", "a reader fails once its context is cancelled", openCanceled},
}

var edges = []int64{0, 1, 2, 4095, 4096, 32 << 10, 65_535, 65_536, 99_998, 99_999, 100_000}

func openRanges(t *testing.T, s subject) {
	data := content(1, 100_000)
	key := s.put(t, project, data)
	for _, from := range edges {
		for _, to := range edges {
			if from >= to {
				continue
			}
			r, err := s.Open(t.Context(), key, from, to-from)
			if err != nil {
				t.Fatalf("Open(%d, %d): %v", from, to-from, err)
			}
			readAll(t, r, data[from:to])
		}
	}
}

func openClamped(t *testing.T, s subject) {
	data := content(1, 1000)
	key := s.put(t, project, data)
	for _, c := range []struct {
		offset, length int64
		want           []byte
	}{
		{0, -1, data},
		{0, 0, nil},
		{0, 1001, data},
		{0, 1 << 62, data},
		{999, -1, data[999:]},
		{999, 2, data[999:]},
		{1000, -1, nil},
		{1000, 1, nil},
		{1001, 1, nil},
		{1 << 62, 1 << 62, nil},
	} {
		r, err := s.store.Open(t.Context(), project, key.Digest(), c.offset, c.length)
		if err != nil {
			t.Errorf("Open(%d, %d): %v", c.offset, c.length, err)
			continue
		}
		readAll(t, r, c.want)
	}
	if _, err := s.store.Open(t.Context(), project, key.Digest(), -1, 1); !errors.Is(err, storage.ErrInvalid) {
		t.Errorf("Open at -1: %v, want ErrInvalid", err)
	}
}

func openReaders(t *testing.T, s subject) {
	data := content(1, 10_000)
	key := s.put(t, project, data)
	var readers []io.ReadCloser
	for i := range 10 {
		r, err := s.Open(t.Context(), key, int64(i), int64(10_000-i))
		if err != nil {
			t.Fatalf("Open: %v", err)
		}
		readers = append(readers, r)
		got := make([]byte, 100)
		if _, err := io.ReadFull(r, got); err != nil {
			t.Errorf("Read: %v", err)
		}
		compare(t, got, data[i:i+100])
	}
	for i, r := range readers {
		readAll(t, r, data[i+100:])
	}
}

func openSeeker(t *testing.T, s subject) {
	for i, size := range []int{0, 1, 3000} {
		data := content(i, size)
		key := s.put(t, project, data)
		r, err := s.store.OpenSeeker(t.Context(), project, key.Digest())
		if err != nil {
			t.Fatalf("OpenSeeker: %v", err)
		}
		if err := iotest.TestReader(r, data); err != nil {
			t.Errorf("%d bytes: %v", size, err)
		}
		if err := r.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	absent := describe([]byte("absent")).Digest
	if _, err := s.store.OpenSeeker(t.Context(), project, absent); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("OpenSeeker of an absent blob: %v, want ErrNotFound", err)
	}
}

func openFile(t *testing.T, s subject) {
	b, ok := s.Backend.(storage.FileOpener)
	if !ok {
		return
	}
	data := content(1, 1000)
	key := s.put(t, project, data)
	f, err := b.OpenFile(t.Context(), key)
	if err != nil {
		t.Fatalf("OpenFile: %v", err)
	}
	if _, err := f.WriteString("x"); err == nil {
		t.Errorf("the file can be written to")
	}
	readAll(t, f, data)
	r, err := s.store.OpenSeeker(t.Context(), project, key.Digest())
	if err != nil {
		t.Fatalf("OpenSeeker: %v", err)
	}
	if _, ok := r.(*os.File); !ok {
		t.Errorf("OpenSeeker returns %T, want *os.File", r)
	}
	readAll(t, r, data)
}

func openDeleted(t *testing.T, s subject) {
	data := content(1, 1<<20)
	key := s.put(t, project, data)
	r, err := s.Open(t.Context(), key, 0, 1<<20)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	defer func() { _ = r.Close() }()
	got := make([]byte, 1<<20)
	if _, err := io.ReadFull(r, got[:10]); err != nil {
		t.Fatalf("Read: %v", err)
	}
	if err := s.Delete(t.Context(), key); err != nil {
		t.Fatalf("Delete: %v", err)
	}
	s.put(t, project, content(2, 1<<20))
	n, err := io.ReadFull(r, got[10:])
	compare(t, got[:10+n], data[:10+n])
	if err != nil && n == len(data) {
		t.Errorf("Read: %v", err)
	}
}

func openCanceled(t *testing.T, s subject) {
	key := s.put(t, project, content(1, 1000))
	if _, err := s.store.Open(canceled(t), project, key.Digest(), 0, -1); !errors.Is(err, context.Canceled) {
		t.Errorf("Open with a canceled context: %v, want context.Canceled", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	r, err := s.store.Open(ctx, project, key.Digest(), 0, -1)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	defer func() { _ = r.Close() }()
	if _, err := io.ReadFull(r, make([]byte, 10)); err != nil {
		t.Fatalf("Read: %v", err)
	}
	cancel()
	if _, err := io.ReadAll(r); !errors.Is(err, context.Canceled) {
		t.Errorf("Read after the context was canceled: %v, want context.Canceled", err)
	}
}
