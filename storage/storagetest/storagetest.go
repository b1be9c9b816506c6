package storagetest

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/slipway-build/slipway/storage"
)

// Run checks the whole contract, each case as a subtest of its own on a fresh
// and empty backend from open. A failing subtest prints the sentence of the
// contract that was broken. What open needs to take down it leaves to
// t.Cleanup.
func Run(t *testing.T, open func(t *testing.T) storage.Backend) {
	for _, c := range contract() {
		t.Run(c.name, func(t *testing.T) {
			t.Cleanup(func() {
				if t.Failed() {
					t.Logf("contract: %s", c.contract)
				}
			})
			b := open(t)
			c.check(t, subject{Backend: b, store: storage.New(b, nil)})
		})
	}
}

type testCase struct {
	name     string
	contract string
	check    func(t *testing.T, s subject)
}

func contract() []testCase {
	var all []testCase
	all = append(all, putCases...)
	all = append(all, openCases...)
	all = append(all, listCases...)
	return append(all, otherCases...)
}

// subject is the backend under test and a Store over it. Cases go through the
// Store where the contract rests on what a Store guarantees.
type subject struct {
	storage.Backend

	store *storage.Store
}

const project = "project"

// content returns size bytes that are the same for the same arguments.
func content(seed, size int) []byte {
	data := make([]byte, size)
	rnd := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(size), byte(size >> 8), byte(size >> 16)})
	_, _ = rnd.Read(data)
	return data
}

func describe(data []byte) storage.Blob {
	return storage.Blob{Digest: sha256.Sum256(data), Size: int64(len(data))}
}

func mustKey(t *testing.T, project string, d storage.Digest) storage.Key {
	t.Helper()
	key, err := storage.NewKey(project, d)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (s subject) put(t *testing.T, project string, data []byte) storage.Key {
	t.Helper()
	blob := describe(data)
	if err := s.store.Put(t.Context(), project, blob, &stream{data: data}); err != nil {
		t.Fatalf("Put of %d bytes: %v", len(data), err)
	}
	return mustKey(t, project, blob.Digest)
}

// present checks that a blob can be seen by every method, and is data.
func (s subject) present(t *testing.T, key storage.Key, data []byte) {
	t.Helper()
	info, err := s.Stat(t.Context(), key)
	if err != nil {
		t.Fatalf("Stat of a stored blob: %v", err)
	}
	if info.Key != key || info.Size != int64(len(data)) {
		t.Errorf("Stat = %v, %d bytes; want %v, %d bytes", info.Key, info.Size, key, len(data))
	}
	r, err := s.store.Open(t.Context(), key.Project(), key.Digest(), 0, -1)
	if err != nil {
		t.Fatalf("Open of a stored blob: %v", err)
	}
	readAll(t, r, data)
	if keys := s.listed(t, key.Project()); len(keys) != 1 || keys[0] != key {
		t.Errorf("List = %v, want only %v", keys, key)
	}
}

// absent checks that no method can see a blob.
func (s subject) absent(t *testing.T, key storage.Key) {
	t.Helper()
	if _, err := s.Stat(t.Context(), key); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("Stat of an absent blob: %v, want ErrNotFound", err)
	}
	if r, err := s.Open(t.Context(), key, 0, 1); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("Open of an absent blob: %v, want ErrNotFound", err)
		if err == nil {
			_ = r.Close()
		}
	}
	if b, ok := s.Backend.(storage.FileOpener); ok {
		if f, err := b.OpenFile(t.Context(), key); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("OpenFile of an absent blob: %v, want ErrNotFound", err)
			_ = f.Close()
		}
	}
	for _, listed := range s.listed(t, key.Project()) {
		if listed == key {
			t.Errorf("List shows the absent blob %v", key)
		}
	}
}

// listed returns the keys of the first page of a project.
func (s subject) listed(t *testing.T, project string) []storage.Key {
	t.Helper()
	infos, err := s.List(t.Context(), storage.Page{Project: project, Limit: 1000})
	if err != nil {
		t.Fatalf("List: %v", err)
	}
	return keysOf(infos)
}

func keysOf(infos []storage.Info) []storage.Key {
	keys := make([]storage.Key, len(infos))
	for i, info := range infos {
		keys[i] = info.Key
	}
	return keys
}

// readAll reads r to its end, closes it and compares.
func readAll(t *testing.T, r io.ReadCloser, want []byte) {
	t.Helper()
	got, err := io.ReadAll(r)
	if err != nil {
		t.Errorf("Read: %v", err)
	}
	if err := r.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	compare(t, got, want)
}

func compare(t *testing.T, got, want []byte) {
	t.Helper()
	if string(got) != string(want) {
		t.Errorf("read %d bytes with digest %v, want %d with %v", len(got), describe(got).Digest, len(want), describe(want).Digest)
	}
}

// stream delivers data in uneven pieces and then fails with end, or io.EOF if
// that is nil. At position at, it first calls halt.
type stream struct {
	data []byte
	end  error
	at   int
	halt func()

	pos   int
	ended bool
}

func (s *stream) Read(p []byte) (int, error) {
	rest := s.data[s.pos:]
	if s.halt != nil && s.pos <= s.at {
		if s.pos == s.at {
			halt := s.halt
			s.halt = nil
			halt()
		} else {
			rest = s.data[s.pos:s.at]
		}
	}
	if len(rest) == 0 {
		s.ended = true
		if s.end != nil {
			return 0, s.end
		}
		return 0, io.EOF
	}
	n := copy(p, rest[:min(len(rest), 1+s.pos/2)])
	s.pos += n
	return n, nil
}

// untouchable fails the test when it is read.
type untouchable struct{ t *testing.T }

func (u untouchable) Read([]byte) (int, error) {
	u.t.Errorf("Put read the content of a blob that is stored already")
	return 0, errors.New("must not be read")
}

func canceled(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}
