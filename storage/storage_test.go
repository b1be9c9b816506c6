package storage_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/slipway-build/slipway/storage"
	"github.com/slipway-build/slipway/storage/memstore"
	"github.com/slipway-build/slipway/storage/storagetest"
)

func describe(data []byte) storage.Blob {
	return storage.Blob{Digest: sha256.Sum256(data), Size: int64(len(data))}
}

// counter counts the bytes read from an endless stream of zeros.
type counter struct{ n int64 }

func (c *counter) Read(p []byte) (int, error) {
	clear(p)
	c.n += int64(len(p))
	return len(p), nil
}

func TestPutLimit(t *testing.T) {
	const limit = 1000
	for _, size := range []int{limit - 1, limit, limit + 1} {
		data := make([]byte, size)
		s := storage.New(memstore.New(), &storage.Options{MaxBlobBytes: limit})
		r := bytes.NewReader(data)
		err := s.Put(t.Context(), "p", describe(data), r)
		if size <= limit {
			if err != nil {
				t.Errorf("Put of %d bytes: %v", size, err)
			}
			continue
		}
		if !errors.Is(err, storage.ErrTooLarge) {
			t.Errorf("Put of %d bytes: %v, want ErrTooLarge", size, err)
		}
		if r.Len() != size {
			t.Errorf("Put of a blob that is too large read %d bytes", size-r.Len())
		}
	}
}

func TestPutDefaultLimit(t *testing.T) {
	for _, o := range []*storage.Options{nil, {}, {MaxBlobBytes: -1}} {
		s := storage.New(memstore.New(), o)
		r := new(counter)
		err := s.Put(t.Context(), "p", storage.Blob{Size: 5<<30 + 1}, r)
		if !errors.Is(err, storage.ErrTooLarge) || r.n > 0 {
			t.Errorf("Put of 5 GiB and a byte = %v after %d bytes, want ErrTooLarge after none", err, r.n)
		}
	}
}

func TestPutReadsOneByteMore(t *testing.T) {
	for _, size := range []int64{1, 1000, 100_000} {
		s := storage.New(memstore.New(), nil)
		r := new(counter)
		blob := describe(make([]byte, size))
		if err := s.Put(t.Context(), "p", blob, r); !errors.Is(err, storage.ErrDigest) {
			t.Errorf("Put of an endless stream: %v, want ErrDigest", err)
		}
		if r.n > size+1 {
			t.Errorf("Put read %d bytes, %d are declared", r.n, size)
		}
		if _, err := s.Stat(t.Context(), "p", blob.Digest); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("Stat: %v, want ErrNotFound", err)
		}
	}
}

func TestPutReaders(t *testing.T) {
	data := bytes.Repeat([]byte("some bytes "), 1000)
	for name, wrap := range map[string]func(io.Reader) io.Reader{
		"EOF with data": iotest.DataErrReader,
		"one byte":      iotest.OneByteReader,
		"half":          iotest.HalfReader,
		"nothing twice": func(r io.Reader) io.Reader { return &lazy{r: r} },
	} {
		s := storage.New(memstore.New(), nil)
		if err := s.Put(t.Context(), "p", describe(data), wrap(bytes.NewReader(data))); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := s.Put(t.Context(), "p", describe(data[1:]), wrap(bytes.NewReader(data))); !errors.Is(err, storage.ErrDigest) {
			t.Errorf("%s, a byte more: %v, want ErrDigest", name, err)
		}
	}
}

// lazy returns nothing, and no error, from two of three Reads.
type lazy struct {
	r io.Reader
	n int
}

func (l *lazy) Read(p []byte) (int, error) {
	if l.n++; l.n%3 != 0 {
		return 0, nil
	}
	return l.r.Read(p)
}

// canceler cancels in its first Read and counts all of them.
type canceler struct {
	cancel context.CancelFunc
	reads  int
}

func (c *canceler) Read(p []byte) (int, error) {
	c.cancel()
	c.reads++
	return copy(p, "."), nil
}

func TestPutStopsReadingWhenCanceled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r := &canceler{cancel: cancel}
	s := storage.New(memstore.New(), nil)
	err := s.Put(ctx, "p", describe(make([]byte, 1000)), r)
	if !errors.Is(err, context.Canceled) || r.reads != 1 {
		t.Errorf("Put: %v after %d Reads, want context.Canceled after 1", err, r.reads)
	}
}

func TestPutDeclaration(t *testing.T) {
	s := storage.New(memstore.New(), nil)
	empty := describe(nil).Digest
	for _, c := range []struct {
		blob storage.Blob
		want error
	}{
		{storage.Blob{Digest: empty, Size: -1}, storage.ErrInvalid},
		{storage.Blob{Digest: empty, Size: 1}, storage.ErrDigest},
		{storage.Blob{Size: 0}, storage.ErrDigest},
		{storage.Blob{Digest: empty}, nil},
	} {
		if err := s.Put(t.Context(), "p", c.blob, strings.NewReader("")); !errors.Is(err, c.want) {
			t.Errorf("Put of %v with %d bytes: %v, want %v", c.blob.Digest, c.blob.Size, err, c.want)
		}
	}
}

// hasty reads no more than the declared size, and swallows errors.
type hasty struct{ storage.Backend }

func (h hasty) Put(ctx context.Context, key storage.Key, size int64, r io.Reader) error {
	data := make([]byte, size)
	if _, err := io.ReadFull(r, data); err != nil {
		return nil //nolint:nilerr // that is the point
	}
	return h.Backend.Put(ctx, key, size, bytes.NewReader(data))
}

func TestPutHastyBackend(t *testing.T) {
	data := []byte("declared")
	for _, sent := range []string{"", "declare", "declarer", "declared!", strings.Repeat("declared", 1000)} {
		s := storage.New(hasty{memstore.New()}, nil)
		if err := s.Put(t.Context(), "p", describe(data), strings.NewReader(sent)); !errors.Is(err, storage.ErrDigest) {
			t.Errorf("Put of %.10q: %v, want ErrDigest", sent, err)
		}
		if _, err := s.Stat(t.Context(), "p", describe(data).Digest); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("%.10q was published: %v", sent, err)
		}
	}
}

// damaged delivers what damage makes of the bytes.
type damaged struct {
	storage.Backend

	damage func([]byte) []byte
}

func (d damaged) Open(ctx context.Context, key storage.Key, offset, length int64) (io.ReadCloser, error) {
	r, err := d.Backend.Open(ctx, key, offset, length)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	return io.NopCloser(bytes.NewReader(d.damage(data))), err
}

func TestOpenDamaged(t *testing.T) {
	data := bytes.Repeat([]byte("some bytes "), 10_000)
	for name, damage := range map[string]func([]byte) []byte{
		"bit flipped": func(b []byte) []byte { b[500] ^= 1; return b },
		"truncated":   func(b []byte) []byte { return b[:len(b)-1] },
		"empty":       func([]byte) []byte { return nil },
		"extended":    func(b []byte) []byte { return append(b, 0) },
	} {
		s := storage.New(damaged{memstore.New(), damage}, nil)
		blob := describe(data)
		if err := s.Put(t.Context(), "p", blob, bytes.NewReader(data)); err != nil {
			t.Fatal(err)
		}
		r, err := s.Open(t.Context(), "p", blob.Digest, 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if !errors.Is(err, storage.ErrDigest) {
			t.Errorf("%s: %v, want ErrDigest", name, err)
		}
		if len(got) >= len(data) {
			t.Errorf("%s: all bytes were delivered", name)
		}
		if e, ok := errors.AsType[*storage.Error](err); !ok || e.Op != "read" {
			t.Errorf("%s: %#v, want an *Error of read", name, err)
		}
		if err := r.Close(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestErrors(t *testing.T) {
	s := storage.New(memstore.New(), nil)
	d := describe([]byte("absent")).Digest
	path := "p/" + d.String()[:2] + "/" + d.String()
	calls := map[string]func(ctx context.Context, project string) error{
		"put": func(ctx context.Context, project string) error {
			return s.Put(ctx, project, storage.Blob{Digest: d, Size: 6}, strings.NewReader("others"))
		},
		"open": func(ctx context.Context, project string) error {
			_, err := s.Open(ctx, project, d, 0, -1)
			return err
		},
		"stat": func(ctx context.Context, project string) error {
			_, err := s.Stat(ctx, project, d)
			return err
		},
	}
	wants := map[string]error{"put": storage.ErrDigest, "open": storage.ErrNotFound, "stat": storage.ErrNotFound}
	for op, call := range calls {
		check := func(err, want error, key string) {
			t.Helper()
			e, ok := err.(*storage.Error) //nolint:errorlint // wrapped exactly once
			if !ok || e.Op != op || e.Key != key || !errors.Is(err, want) {
				t.Errorf("%s: %#v, want an *Error of %q with key %q and %v", op, err, op, key, want)
				return
			}
			if _, twice := errors.AsType[*storage.Error](e.Err); twice {
				t.Errorf("%s: %v is wrapped twice", op, err)
			}
		}
		check(call(t.Context(), "p"), wants[op], path)
		check(call(t.Context(), "../p"), storage.ErrInvalid, "")
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		check(call(ctx, "p"), context.Canceled, path)
	}
	err := s.Put(t.Context(), "p", storage.Blob{Digest: d, Size: 9}, iotest.ErrReader(io.ErrClosedPipe))
	if want := "storage: put " + path + ": io: read/write on closed pipe"; err.Error() != want {
		t.Errorf("text %q, want %q", err, want)
	}
}

func TestInvalidProject(t *testing.T) {
	s := storage.New(memstore.New(), nil)
	d := describe(nil).Digest
	for _, project := range append(invalidProjects, "") {
		_, openErr := s.Open(t.Context(), project, d, 0, -1)
		_, seekErr := s.OpenSeeker(t.Context(), project, d)
		_, statErr := s.Stat(t.Context(), project, d)
		var listErr error
		for _, err := range s.List(t.Context(), project) {
			listErr = err
		}
		for op, err := range map[string]error{
			"Put":  s.Put(t.Context(), project, describe(nil), strings.NewReader("")),
			"Open": openErr, "OpenSeeker": seekErr, "Stat": statErr, "List": listErr,
			"Delete": s.Delete(t.Context(), project, d),
		} {
			if !errors.Is(err, storage.ErrInvalid) {
				t.Errorf("%s in %q: %v, want ErrInvalid", op, project, err)
			}
		}
	}
}

func TestListAcrossProjects(t *testing.T) {
	s := storage.New(memstore.New(), nil)
	for _, project := range []string{"b", "a", "a-b"} {
		if err := s.Put(t.Context(), project, describe(nil), strings.NewReader("")); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for info, err := range s.All(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, info.Key.Project())
	}
	if want := "a-b a b"; strings.Join(got, " ") != want {
		t.Errorf("All yields projects %q, want %q", got, want)
	}
	for range s.All(t.Context()) {
		break // must not go on
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for info, err := range s.All(ctx) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("All with a canceled context yields %v, %v", info, err)
		}
	}
}

// stuck returns the first page for ever, and has a Ping.
type stuck struct{ storage.Backend }

func (s stuck) List(ctx context.Context, page storage.Page) ([]storage.Info, error) {
	page.After = storage.Key{}
	infos, err := s.Backend.List(ctx, page)
	for len(infos) > 0 && len(infos) < page.Limit {
		infos = append(infos, infos[0])
	}
	return infos, err
}

func (stuck) Ping(context.Context) error { return io.ErrClosedPipe }

func TestListStuckBackend(t *testing.T) {
	s := storage.New(stuck{memstore.New()}, nil)
	if err := s.Put(t.Context(), "p", describe(nil), strings.NewReader("")); err != nil {
		t.Fatal(err)
	}
	var last error
	for _, err := range s.List(t.Context(), "p") {
		last = err
	}
	if last == nil {
		t.Error("a listing that does not advance ended without an error")
	}
}

func TestPing(t *testing.T) {
	if err := storage.New(memstore.New(), nil).Ping(t.Context()); err != nil {
		t.Errorf("Ping by List: %v", err)
	}
	if err := storage.New(stuck{memstore.New()}, nil).Ping(t.Context()); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("Ping = %v, want the error of the backend", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, b := range []storage.Backend{memstore.New(), stuck{memstore.New()}} {
		if err := storage.New(b, nil).Ping(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("Ping of a %T with a canceled context: %v", b, err)
		}
	}
}

func TestSeekerErrors(t *testing.T) {
	s := storage.New(memstore.New(), nil)
	data := []byte("some bytes")
	if err := s.Put(t.Context(), "p", describe(data), bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	r, err := s.OpenSeeker(t.Context(), "p", describe(data).Digest)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		offset int64
		whence int
	}{{-1, io.SeekStart}, {-11, io.SeekEnd}, {1<<63 - 1, io.SeekEnd}, {0, 3}} {
		if n, err := r.Seek(c.offset, c.whence); !errors.Is(err, storage.ErrInvalid) {
			t.Errorf("Seek(%d, %d) = %d, %v; want ErrInvalid", c.offset, c.whence, n, err)
		}
	}
	if err := s.Delete(t.Context(), "p", describe(data).Digest); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Read(make([]byte, 1)); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("Read of a deleted blob: %v, want ErrNotFound", err)
	}
	for range 2 {
		if err := r.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	if _, err := r.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("Read after Close: %v, want an error", err)
	}
	if _, err := r.Seek(0, io.SeekStart); err == nil {
		t.Error("Seek after Close succeeded")
	}
}

func TestDigestJSON(t *testing.T) {
	blob := describe([]byte("x"))
	text, err := json.Marshal(blob)
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"Digest":"` + blob.Digest.String() + `","Size":1}`; string(text) != want {
		t.Errorf("JSON %s, want %s", text, want)
	}
	var back storage.Blob
	if err := json.Unmarshal(text, &back); err != nil || back != blob {
		t.Errorf("back from JSON: %v, %v", back, err)
	}
	if err := json.Unmarshal(bytes.ToUpper(text), &back); !errors.Is(err, storage.ErrInvalid) {
		t.Errorf("upper case: %v, want ErrInvalid", err)
	}
	if back != blob {
		t.Error("a failed UnmarshalText changed the digest")
	}
}

// through passes everything on, and hides what else its Backend can do.
type through struct{ storage.Backend }

func TestDecorator(t *testing.T) {
	storagetest.Run(t, func(*testing.T) storage.Backend { return through{memstore.New()} })
}
