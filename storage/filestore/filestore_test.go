package filestore_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"maps"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/slipway-build/slipway/storage"
	"github.com/slipway-build/slipway/storage/filestore"
	"github.com/slipway-build/slipway/storage/storagetest"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(victimDir); dir != "" {
		os.Exit(victim(dir, os.Getenv(victimProject)))
	}
	os.Exit(m.Run())
}

// Each backend of the suite must also leave nothing but blobs behind.
func TestBackend(t *testing.T) {
	storagetest.Run(t, func(t *testing.T) storage.Backend {
		dir := t.TempDir()
		t.Cleanup(func() { checkTree(t, dir) })
		return open(t, dir)
	})
}

// A decorator that hides OpenFile and Ping.
func TestDecorator(t *testing.T) {
	storagetest.Run(t, func(t *testing.T) storage.Backend {
		return struct{ storage.Backend }{open(t, t.TempDir())}
	})
}

// Two Backends on one directory, used in turns, are one store.
func TestShared(t *testing.T) {
	storagetest.Run(t, func(t *testing.T) storage.Backend {
		dir := t.TempDir()
		return &turns{Backend: open(t, dir), other: open(t, dir)}
	})
}

// turns puts through one Backend and does all else through another.
type turns struct {
	*filestore.Backend

	other *filestore.Backend
}

func (b *turns) Put(ctx context.Context, key storage.Key, size int64, r io.Reader) error {
	return b.other.Put(ctx, key, size, r)
}

func open(t *testing.T, dir string) *filestore.Backend {
	t.Helper()
	b, err := filestore.New(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

func describe(data []byte) storage.Blob {
	return storage.Blob{Digest: sha256.Sum256(data), Size: int64(len(data))}
}

func mustPut(t *testing.T, s *storage.Store, project string, data []byte) storage.Key {
	t.Helper()
	if err := s.Put(t.Context(), project, describe(data), bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	key, err := storage.NewKey(project, describe(data).Digest)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// tree returns all paths below dir, with the content of regular files and the
// target of links.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	found := make(map[string]string)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		switch {
		case d.Type().IsRegular():
			data, err := os.ReadFile(path)
			found[name] = string(data)
			return err
		case d.Type() == fs.ModeSymlink:
			target, err := os.Readlink(path)
			found[name] = "-> " + target
			return err
		}
		found[name] = d.Type().String()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// checkTree checks that the directory of a store holds whole blobs under their
// names and no temporary file.
func checkTree(t *testing.T, dir string) {
	t.Helper()
	for path, content := range tree(t, dir) {
		fi, err := os.Lstat(filepath.Join(dir, path))
		if err != nil {
			t.Fatal(err)
		}
		if fi.IsDir() {
			if fi.Mode().Perm() != 0o700 {
				t.Errorf("directory %s has mode %v", path, fi.Mode())
			}
			continue
		}
		key, err := storage.ParseKey(strings.TrimPrefix(filepath.ToSlash(path), "blobs/"))
		if err != nil || !strings.HasPrefix(path, "blobs") {
			t.Errorf("%s was left behind", path)
			continue
		}
		if fi.Mode() != 0o600 {
			t.Errorf("%s has mode %v", path, fi.Mode())
		}
		if describe([]byte(content)).Digest != key.Digest() {
			t.Errorf("%s holds other bytes", path)
		}
	}
}

func TestFailedPutLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	s := storage.New(open(t, dir), nil)
	before := tree(t, dir)
	data := bytes.Repeat([]byte("some bytes"), 50_000)
	blob := describe(data)
	for at := 0; at < len(data); at += 64 << 10 {
		cut := io.MultiReader(bytes.NewReader(data[:at]), iotest.ErrReader(io.ErrUnexpectedEOF))
		if err := s.Put(t.Context(), "p", blob, cut); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("Put cut at %d: %v", at, err)
		}
		if err := s.Put(t.Context(), "p", blob, bytes.NewReader(data[:at])); !errors.Is(err, storage.ErrDigest) {
			t.Errorf("Put ended at %d: %v", at, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	canceling := io.MultiReader(bytes.NewReader(data[:1000]), readerFunc(func(p []byte) (int, error) {
		cancel()
		return len(p), nil
	}))
	if err := s.Put(ctx, "p", blob, canceling); !errors.Is(err, context.Canceled) {
		t.Errorf("Put canceled: %v", err)
	}
	if after := tree(t, dir); !maps.Equal(before, after) {
		t.Errorf("failed Puts left %v", slices.Sorted(maps.Keys(after)))
	}
}

// A Put that comes second leaves the file of the first where it is.
func TestPutNeverReplaces(t *testing.T) {
	dir := t.TempDir()
	s := storage.New(open(t, dir), nil)
	data := []byte("some bytes")
	file := func() fs.FileInfo {
		name := describe(data).Digest.String()
		fi, err := os.Stat(filepath.Join(dir, "blobs", "p", name[:2], name))
		if err != nil {
			t.Fatal(err)
		}
		return fi
	}
	var first fs.FileInfo
	r := bytes.NewReader(data)
	slow := readerFunc(func(p []byte) (int, error) {
		if first == nil {
			mustPut(t, s, "p", data)
			first = file()
		}
		return r.Read(p)
	})
	if err := s.Put(t.Context(), "p", describe(data), slow); err != nil {
		t.Fatal(err)
	}
	if !os.SameFile(first, file()) {
		t.Error("the second Put replaced the file")
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestLowDisk(t *testing.T) {
	dir := t.TempDir()
	b, err := filestore.New(dir, &filestore.Options{MinFreeBytes: math.MaxInt64})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	data := []byte("some bytes")
	s := storage.New(b, nil)
	unread := readerFunc(func([]byte) (int, error) { t.Error("content was read"); return 0, io.EOF })
	if err := s.Put(t.Context(), "p", describe(data), unread); !errors.Is(err, storage.ErrNoSpace) {
		t.Errorf("Put on a full disk: %v, want ErrNoSpace", err)
	}
	if err := s.Ping(t.Context()); err != nil {
		t.Errorf("Ping: %v", err)
	}
	mustPut(t, storage.New(open(t, dir), nil), "p", data)
	if err := s.Put(t.Context(), "p", describe(data), unread); err != nil {
		t.Errorf("Put of what is there, on a full disk: %v", err)
	}
	for name, minFree := range map[string]int64{"default": 0, "no guard": -1} {
		b, err := filestore.New(t.TempDir(), &filestore.Options{MinFreeBytes: minFree})
		if err != nil {
			t.Fatal(err)
		}
		mustPut(t, storage.New(b, nil), name[:2], data)
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestNewRemovesStale(t *testing.T) {
	dir := t.TempDir()
	open(t, dir)
	tmp := filepath.Join(dir, "tmp")
	for name, age := range map[string]time.Duration{"old": 25 * time.Hour, "young": 23 * time.Hour} {
		path := filepath.Join(tmp, name)
		if err := os.WriteFile(path, []byte("part"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, time.Time{}, time.Now().Add(-age)); err != nil {
			t.Fatal(err)
		}
	}
	open(t, dir)
	got := slices.Sorted(maps.Keys(tree(t, tmp)))
	if !slices.Equal(got, []string{"young"}) {
		t.Errorf("left in tmp: %v, want only young", got)
	}
}

func TestNewMakesParents(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b", "c")
	s := storage.New(open(t, dir), nil)
	mustPut(t, s, "p", []byte("x"))
	checkTree(t, dir)
}

func TestNewFails(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	for name, path := range map[string]string{
		"a file":          file,
		"below a file":    filepath.Join(file, "below"),
		"blobs is a file": filepath.Join(dir, "one"),
		"tmp is a file":   filepath.Join(dir, "two"),
		"dir is a NUL":    "\x00",
	} {
		_ = os.Mkdir(filepath.Join(dir, "one"), 0o700)
		_ = os.Mkdir(filepath.Join(dir, "two"), 0o700)
		for _, name := range []string{"file", "one/blobs", "two/tmp"} {
			if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if b, err := filestore.New(path, nil); err == nil {
			t.Errorf("%s: New succeeded", name)
			_ = b.Close()
		}
	}
}

func TestPingFails(t *testing.T) {
	for _, name := range []string{"blobs", "tmp"} {
		dir := t.TempDir()
		s := storage.New(open(t, dir), nil)
		if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
		if err := s.Ping(t.Context()); err == nil || errors.Is(err, storage.ErrNotFound) {
			t.Errorf("Ping without %s: %v, want another error", name, err)
		}
	}
	// Nor is a missing tmp an absent blob.
	dir := t.TempDir()
	s := storage.New(open(t, dir), nil)
	if err := os.RemoveAll(filepath.Join(dir, "tmp")); err != nil {
		t.Fatal(err)
	}
	if err := s.Put(t.Context(), "p", describe([]byte("x")), strings.NewReader("x")); err == nil || errors.Is(err, storage.ErrNotFound) {
		t.Errorf("Put without tmp: %v, want another error", err)
	}
}

func TestListLeavesOutStrays(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir)
	s := storage.New(b, nil)
	key := mustPut(t, s, "p", []byte("some bytes"))
	shard := filepath.Join(dir, "blobs", filepath.Dir(filepath.FromSlash(key.String())))
	name := key.Digest().String()
	for _, path := range []string{
		filepath.Join(dir, "blobs", "file"),
		filepath.Join(dir, "blobs", "p", "file"),
		filepath.Join(dir, "blobs", "p", "zz"),
		filepath.Join(shard, "file"),
		filepath.Join(shard, name+".part"),
		filepath.Join(shard, strings.ToUpper(name)),
	} {
		if err := os.WriteFile(path, []byte("stray"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{
		filepath.Join(dir, "blobs", "..p", name[:2], name),
		filepath.Join(dir, "blobs", "p", "00", "00"+name[2:]), // a directory
		filepath.Join(dir, "blobs", "p", "01", name),
	} {
		if err := os.MkdirAll(path, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, project := range []string{"", "p"} {
		infos, err := b.List(t.Context(), storage.Page{Project: project, Limit: 100})
		if err != nil || len(infos) != 1 || infos[0].Key != key {
			t.Errorf("List of %q = %v, %v; want only %v", project, infos, err, key)
		}
	}
}

// A download must reach the ResponseWriter as a file, or the kernel cannot
// send it.
func TestServeContent(t *testing.T) {
	s := storage.New(open(t, t.TempDir()), nil)
	data := bytes.Repeat([]byte("some bytes"), 10_000)
	key := mustPut(t, s, "p", data)
	r, err := s.OpenSeeker(t.Context(), "p", key.Digest())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	w := &fileWriter{ResponseRecorder: httptest.NewRecorder()}
	w.Header().Set("Content-Type", "application/octet-stream")
	request := httptest.NewRequest(http.MethodGet, "/", nil)
	request.Header.Set("Range", "bytes=1-99999")
	http.ServeContent(w, request, "", time.Time{}, r)
	if w.Code != http.StatusPartialContent || !bytes.Equal(w.Body.Bytes(), data[1:]) {
		t.Errorf("status %d with %d bytes", w.Code, w.Body.Len())
	}
	if !w.file {
		t.Error("the ResponseWriter did not get the file")
	}
}

type fileWriter struct {
	*httptest.ResponseRecorder

	file bool
}

func (w *fileWriter) ReadFrom(r io.Reader) (int64, error) {
	if limited, ok := r.(*io.LimitedReader); ok {
		_, w.file = limited.R.(*os.File)
	}
	return io.Copy(w.ResponseRecorder, r)
}

// FuzzNames drives a store in a directory beside a canary with whatever names
// it is given: either they are refused, or the store holds one blob more in a
// place that is its own.
func FuzzNames(f *testing.F) {
	for _, project := range []string{
		"a", "a.b-c_d", "..", "../canary", "a/../../canary", "/etc", `..\canary`, "a\x00", "%2e%2e", "%2e%2e%2fcanary", "tmp", "blobs", "con",
		"a/", "a//", ".", "", "\u202ecanary", "e\u0301", strings.Repeat("a", 64), strings.Repeat("../", 1365), "A",
	} {
		f.Add(project, describe([]byte("x")).Digest.String())
		f.Add("p", project)
	}
	top := f.TempDir()
	dir := filepath.Join(top, "store")
	b, err := filestore.New(dir, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = b.Close() })
	if err := os.WriteFile(filepath.Join(top, "canary"), []byte("alive"), 0o600); err != nil {
		f.Fatal(err)
	}
	s := storage.New(b, nil)
	f.Fuzz(func(t *testing.T, project, digest string) {
		data := []byte("some bytes")
		putErr := s.Put(t.Context(), project, describe(data), bytes.NewReader(data))
		if d, err := storage.ParseDigest(digest); err == nil {
			_, err := s.Stat(t.Context(), project, d)
			if r, openErr := s.Open(t.Context(), project, d, 0, -1); openErr == nil {
				_ = r.Close()
			} else if err == nil {
				t.Errorf("Stat succeeds, Open: %v", openErr)
			}
		}
		checkTree(t, dir)
		if err := s.Delete(t.Context(), project, describe(data).Digest); (err == nil) != (putErr == nil) {
			t.Errorf("Put: %v, Delete: %v", putErr, err)
		}
		if putErr == nil {
			if err := os.RemoveAll(filepath.Join(dir, "blobs", project)); err != nil {
				t.Error(err)
			}
		}
		want := map[string]string{"canary": "alive", "store": "d---------", "store/blobs": "d---------", "store/tmp": "d---------"}
		if got := tree(t, top); !maps.Equal(got, want) {
			t.Errorf("project %q, digest %q left %v", project, digest, got)
		}
	})
}
