package storagetest_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/slipway-build/slipway/storage"
	"github.com/slipway-build/slipway/storage/memstore"
	"github.com/slipway-build/slipway/storage/storagetest"
)

const defectVar = "STORAGETEST_DEFECT"

// TestDefects runs the suite, each time in a process of its own, on a backend
// with one defect. The suite must fail and say what was broken.
func TestDefects(t *testing.T) {
	if name := os.Getenv(defectVar); name != "" {
		storagetest.Run(t, func(*testing.T) storage.Backend { return defects[name].make(memstore.New()) })
		return
	}
	for name, defect := range defects {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestDefects$", "-test.timeout=50s")
			cmd.Env = append(os.Environ(), defectVar+"="+name)
			out, err := cmd.CombinedOutput()
			exit, ok := errors.AsType[*exec.ExitError](err)
			if defect.caught == "" {
				if err != nil {
					t.Errorf("a sound backend: %v\n%s", err, out)
				}
				return
			}
			if !ok || exit.ExitCode() != 1 || bytes.Contains(out, []byte("panic:")) {
				t.Fatalf("the suite ended with %v, want failed tests\n%s", err, out)
			}
			if want := "contract: " + defect.caught; !bytes.Contains(out, []byte(want)) {
				t.Errorf("no test printed %q\n%s", want, out)
			}
		})
	}
}

// A broken backend keeps what is nil here from the Backend it embeds.
type broken struct {
	storage.Backend

	put    func(ctx context.Context, key storage.Key, size int64, r io.Reader) error
	open   func(ctx context.Context, key storage.Key, offset, length int64) (io.ReadCloser, error)
	stat   func(ctx context.Context, key storage.Key) (storage.Info, error)
	list   func(ctx context.Context, page storage.Page) ([]storage.Info, error)
	remove func(ctx context.Context, key storage.Key) error
}

func (b broken) Put(ctx context.Context, key storage.Key, size int64, r io.Reader) error {
	if b.put != nil {
		return b.put(ctx, key, size, r)
	}
	return b.Backend.Put(ctx, key, size, r)
}

func (b broken) Open(ctx context.Context, key storage.Key, offset, length int64) (io.ReadCloser, error) {
	if b.open != nil {
		return b.open(ctx, key, offset, length)
	}
	return b.Backend.Open(ctx, key, offset, length)
}

func (b broken) Stat(ctx context.Context, key storage.Key) (storage.Info, error) {
	if b.stat != nil {
		return b.stat(ctx, key)
	}
	return b.Backend.Stat(ctx, key)
}

func (b broken) List(ctx context.Context, page storage.Page) ([]storage.Info, error) {
	if b.list != nil {
		return b.list(ctx, page)
	}
	return b.Backend.List(ctx, page)
}

func (b broken) Delete(ctx context.Context, key storage.Key) error {
	if b.remove != nil {
		return b.remove(ctx, key)
	}
	return b.Backend.Delete(ctx, key)
}

type unpingable struct{ storage.Backend }

func (unpingable) Ping(context.Context) error { return errors.New("down") }

var errVague = errors.New("something is wrong")

// Each defect names a sentence of the contract that it breaks.
var defects = map[string]struct {
	caught string
	make   func(m *memstore.Backend) storage.Backend
}{
	"none": {"", func(m *memstore.Backend) storage.Backend { return broken{Backend: m} }},

	"Put stores nothing": {"a nil error from Put means that the blob is visible", func(m *memstore.Backend) storage.Backend {
		return broken{Backend: m, put: func(_ context.Context, _ storage.Key, _ int64, r io.Reader) error {
			_, err := io.Copy(io.Discard, r)
			return err
		}}
	}},
	"Put stops at the size": {"Put reads r until io.EOF", func(m *memstore.Backend) storage.Backend {
		return broken{Backend: m, put: func(ctx context.Context, key storage.Key, size int64, r io.Reader) error {
			return m.Put(ctx, key, size, io.LimitReader(r, size))
		}}
	}},
	"Put reads what is there": {"if a blob of that size is already there, Put returns nil and does not touch r", func(m *memstore.Backend) storage.Backend {
		return broken{Backend: m, put: func(ctx context.Context, key storage.Key, size int64, r io.Reader) error {
			data, err := io.ReadAll(r)
			return errors.Join(err, m.Put(ctx, key, size, bytes.NewReader(data)))
		}}
	}},
	"Put replaces": {"if a blob of another size is already there", func(m *memstore.Backend) storage.Backend {
		return broken{Backend: m, put: func(ctx context.Context, key storage.Key, size int64, r io.Reader) error {
			if info, err := m.Stat(ctx, key); err == nil && info.Size != size {
				_ = m.Delete(ctx, key)
			}
			return m.Put(ctx, key, size, r)
		}}
	}},
	"Put publishes a part": {"if r fails, Put publishes nothing", func(m *memstore.Backend) storage.Backend {
		return broken{Backend: m, put: func(ctx context.Context, key storage.Key, size int64, r io.Reader) error {
			if _, err := m.Stat(ctx, key); err == nil {
				return m.Put(ctx, key, size, r)
			}
			data, err := io.ReadAll(r)
			return errors.Join(err, m.Put(ctx, key, size, bytes.NewReader(data)))
		}}
	}},
	"Put hides the cause": {"if r fails, Put publishes nothing and returns an error that wraps", func(m *memstore.Backend) storage.Backend {
		return broken{Backend: m, put: func(ctx context.Context, key storage.Key, size int64, r io.Reader) error {
			err := m.Put(ctx, key, size, r)
			if err != nil && !errors.Is(err, storage.ErrDigest) {
				return errVague
			}
			return err
		}}
	}},
	"Put is visible too early": {"a blob is visible whole or not at all", func(m *memstore.Backend) storage.Backend {
		return broken{Backend: m, put: func(ctx context.Context, key storage.Key, size int64, r io.Reader) error {
			if _, err := m.Stat(ctx, key); err == nil {
				return m.Put(ctx, key, size, r)
			}
			first := make([]byte, 1)
			n, err := r.Read(first)
			_ = m.Put(ctx, key, size, bytes.NewReader(first[:n]))
			rest, restErr := io.ReadAll(r)
			_ = m.Delete(ctx, key)
			if err = errors.Join(err, restErr); err != nil && !errors.Is(err, io.EOF) {
				return err
			}
			return m.Put(ctx, key, size, bytes.NewReader(append(first[:n], rest...)))
		}}
	}},
	"Put fails when overtaken": {"if another Put of the key published first, that is success", func(m *memstore.Backend) storage.Backend {
		return broken{Backend: m, put: func(ctx context.Context, key storage.Key, size int64, r io.Reader) error {
			if _, err := m.Stat(ctx, key); err == nil {
				return m.Put(ctx, key, size, r)
			}
			data, err := io.ReadAll(r)
			if err != nil {
				return err
			}
			if _, err := m.Stat(ctx, key); err == nil {
				return os.ErrExist
			}
			return m.Put(ctx, key, size, bytes.NewReader(data))
		}}
	}},
	"Put cleans up too much": {"a Put that fails leaves alone what another Put", func(m *memstore.Backend) storage.Backend {
		return broken{Backend: m, put: func(ctx context.Context, key storage.Key, size int64, r io.Reader) error {
			err := m.Put(ctx, key, size, r)
			if err != nil && !errors.Is(err, storage.ErrDigest) {
				_ = m.Delete(ctx, key)
			}
			return err
		}}
	}},
	"projects are one": {"a blob belongs to one project", func(m *memstore.Backend) storage.Backend {
		one := func(key storage.Key) storage.Key {
			if key.Project() == "two" {
				key, _ = storage.NewKey("one", key.Digest())
			}
			return key
		}
		return broken{
			Backend: m,
			stat: func(ctx context.Context, key storage.Key) (storage.Info, error) {
				info, err := m.Stat(ctx, one(key))
				info.Key = key
				return info, err
			},
			remove: func(ctx context.Context, key storage.Key) error { return m.Delete(ctx, one(key)) },
		}
	}},
	"Modified is not set": {"Modified is when the blob was put", func(m *memstore.Backend) storage.Backend {
		return broken{Backend: m, stat: func(ctx context.Context, key storage.Key) (storage.Info, error) {
			info, err := m.Stat(ctx, key)
			info.Modified = time.Time{}
			return info, err
		}}
	}},

	"Open ignores the offset": {"Open delivers length bytes from offset on", func(m *memstore.Backend) storage.Backend {
		return broken{Backend: m, open: func(ctx context.Context, key storage.Key, _, length int64) (io.ReadCloser, error) {
			return m.Open(ctx, key, 0, length)
		}}
	}},
	"Open ignores the length": {"Open delivers length bytes from offset on", func(m *memstore.Backend) storage.Backend {
		return broken{Backend: m, open: func(ctx context.Context, key storage.Key, offset, _ int64) (io.ReadCloser, error) {
			info, err := m.Stat(ctx, key)
			if err != nil {
				return nil, err
			}
			return m.Open(ctx, key, offset, info.Size-offset)
		}}
	}},
	"Open of what is absent is vague": {"an absent blob is ErrNotFound", func(m *memstore.Backend) storage.Backend {
		return broken{Backend: m, open: func(ctx context.Context, key storage.Key, offset, length int64) (io.ReadCloser, error) {
			r, err := m.Open(ctx, key, offset, length)
			if err != nil {
				return nil, errVague
			}
			return r, nil
		}}
	}},
	"readers share a position": {"readers of one blob are independent", func(m *memstore.Backend) storage.Backend {
		shared := make(map[storage.Key]io.ReadCloser)
		var mu sync.Mutex
		return broken{Backend: m, open: func(ctx context.Context, key storage.Key, offset, length int64) (io.ReadCloser, error) {
			mu.Lock()
			defer mu.Unlock()
			if r := shared[key]; r != nil {
				return r, nil
			}
			r, err := m.Open(ctx, key, offset, length)
			shared[key] = r
			return r, err
		}}
	}},
	"readers follow the name": {"a reader of a blob that is deleted goes on or fails", func(m *memstore.Backend) storage.Backend {
		return broken{Backend: m, open: func(ctx context.Context, key storage.Key, offset, length int64) (io.ReadCloser, error) {
			r, err := m.Open(ctx, key, offset, length)
			if err != nil {
				return nil, err
			}
			return &following{ReadCloser: r, m: m, key: key}, nil
		}}
	}},

	"Stat is wrong": {"a nil error from Put means that the blob is visible", func(m *memstore.Backend) storage.Backend {
		return broken{Backend: m, stat: func(ctx context.Context, key storage.Key) (storage.Info, error) {
			info, err := m.Stat(ctx, key)
			info.Size = max(info.Size-1, 0)
			return info, err
		}}
	}},
	"Stat of what is absent is vague": {"an absent blob is ErrNotFound", func(m *memstore.Backend) storage.Backend {
		return broken{Backend: m, stat: func(ctx context.Context, key storage.Key) (storage.Info, error) {
			info, err := m.Stat(ctx, key)
			if err != nil {
				err = errVague
			}
			return info, err
		}}
	}},

	"List is not in order": {"List returns the blobs of a page in the order of Key.Compare", func(m *memstore.Backend) storage.Backend {
		return broken{Backend: m, list: func(ctx context.Context, page storage.Page) ([]storage.Info, error) {
			infos, err := m.List(ctx, page)
			slices.SortFunc(infos, func(a, b storage.Info) int {
				if c := strings.Compare(a.Key.Project(), b.Key.Project()); c != 0 {
					return c
				}
				return a.Key.Compare(b.Key)
			})
			return infos, err
		}}
	}},
	"List ignores After": {"a result shorter than the limit is the last", func(m *memstore.Backend) storage.Backend {
		return broken{Backend: m, list: func(ctx context.Context, page storage.Page) ([]storage.Info, error) {
			page.After = storage.Key{}
			return m.List(ctx, page)
		}}
	}},
	"List includes After": {"a result shorter than the limit is the last; every blob is in a listing exactly once", func(m *memstore.Backend) storage.Backend {
		return broken{Backend: m, list: func(ctx context.Context, page storage.Page) ([]storage.Info, error) {
			infos, err := m.List(ctx, page)
			if info, statErr := m.Stat(ctx, page.After); statErr == nil && len(infos) > 0 {
				infos = slices.Insert(infos, 0, info)[:min(page.Limit, len(infos)+1)]
			}
			return infos, err
		}}
	}},
	"List ignores the limit": {"a result shorter than the limit is the last", func(m *memstore.Backend) storage.Backend {
		return broken{Backend: m, list: func(ctx context.Context, page storage.Page) ([]storage.Info, error) {
			page.Limit++
			return m.List(ctx, page)
		}}
	}},
	"List ends early": {"a result shorter than the limit is the last", func(m *memstore.Backend) storage.Backend {
		return broken{Backend: m, list: func(ctx context.Context, page storage.Page) ([]storage.Info, error) {
			page.Limit = max(page.Limit-1, 1)
			return m.List(ctx, page)
		}}
	}},
	"List counts pages": {"blobs that are neither put nor deleted while a listing goes on", func(m *memstore.Backend) storage.Backend {
		var skip int
		return broken{Backend: m, list: func(ctx context.Context, page storage.Page) ([]storage.Info, error) {
			if page.After == (storage.Key{}) {
				skip = 0
			}
			infos, err := m.List(ctx, storage.Page{Project: page.Project, Limit: skip + page.Limit})
			infos = infos[min(skip, len(infos)):]
			skip += len(infos)
			return infos, err
		}}
	}},
	"List ignores the project": {"a listing of nothing is empty", func(m *memstore.Backend) storage.Backend {
		return broken{Backend: m, list: func(ctx context.Context, page storage.Page) ([]storage.Info, error) {
			page.Project = ""
			return m.List(ctx, page)
		}}
	}},
	"List of nothing fails": {"a listing of nothing is empty, and no error", func(m *memstore.Backend) storage.Backend {
		return broken{Backend: m, list: func(ctx context.Context, page storage.Page) ([]storage.Info, error) {
			infos, err := m.List(ctx, page)
			if len(infos) == 0 {
				err = storage.ErrNotFound
			}
			return infos, err
		}}
	}},

	"Delete does nothing": {"Delete removes a blob", func(m *memstore.Backend) storage.Backend {
		return broken{Backend: m, remove: func(context.Context, storage.Key) error { return nil }}
	}},
	"Delete of what is absent fails": {"Delete removes a blob; that it was not there is no error", func(m *memstore.Backend) storage.Backend {
		return broken{Backend: m, remove: func(ctx context.Context, key storage.Key) error {
			if _, err := m.Stat(ctx, key); err != nil {
				return err
			}
			return m.Delete(ctx, key)
		}}
	}},
	"Ping fails": {"Ping returns nil if reading and writing would work", func(m *memstore.Backend) storage.Backend {
		return unpingable{m}
	}},
}

// following delivers zeros once the blob is gone.
type following struct {
	io.ReadCloser

	m   *memstore.Backend
	key storage.Key
}

func (f *following) Read(p []byte) (int, error) {
	n, err := f.ReadCloser.Read(p)
	if _, statErr := f.m.Stat(context.Background(), f.key); statErr != nil {
		clear(p[:n])
	}
	return n, err
}
