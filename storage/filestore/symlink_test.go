package filestore_test

import (
	"bytes"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/slipway-build/slipway/storage"
	"github.com/slipway-build/slipway/storage/filestore"
)

// Whatever part of a blob's path becomes a link, even to the very same bytes,
// the store does not go through it, and nothing behind it changes.
func TestSymlinks(t *testing.T) {
	data := []byte("some bytes")
	name := describe(data).Digest.String()
	for level, path := range map[string]string{
		"blobs":   "blobs",
		"project": "blobs/p",
		"shard":   "blobs/p/" + name[:2],
		"blob":    "blobs/p/" + name[:2] + "/" + name,
	} {
		for kind, plant := range planters {
			t.Run(level+"/"+kind, func(t *testing.T) {
				top := t.TempDir()
				dir := filepath.Join(top, "store")
				b := open(t, dir)
				s := storage.New(b, nil)
				key := mustPut(t, s, "p", data)
				plant(t, top, filepath.Join(dir, filepath.FromSlash(path)))
				before := tree(t, top)

				_, statErr := s.Stat(t.Context(), "p", key.Digest())
				_, openErr := s.Open(t.Context(), "p", key.Digest(), 0, -1)
				_, seekErr := s.OpenSeeker(t.Context(), "p", key.Digest())
				_, fileErr := b.OpenFile(t.Context(), key)
				for op, err := range map[string]error{
					"Put":  s.Put(t.Context(), "p", describe(data), bytes.NewReader(data)),
					"Open": openErr, "OpenSeeker": seekErr, "OpenFile": fileErr, "Stat": statErr,
					"Delete": s.Delete(t.Context(), "p", key.Digest()),
				} {
					if err == nil || errors.Is(err, storage.ErrNotFound) {
						t.Errorf("%s: %v, want an error of its own", op, err)
					}
				}
				if level != "blob" {
					other := otherInShard(t, name)
					if err := s.Put(t.Context(), "p", describe(other), bytes.NewReader(other)); err == nil {
						t.Error("Put of another blob behind the link succeeded")
					}
				}
				for _, project := range []string{"", "p"} {
					infos, err := b.List(t.Context(), storage.Page{Project: project, Limit: 10})
					if err != nil || len(infos) > 0 {
						t.Errorf("List of %q = %v, %v; want nothing", project, infos, err)
					}
				}
				if after := tree(t, top); !maps.Equal(before, after) {
					t.Errorf("files changed from\n%v\nto\n%v", before, after)
				}
				if level == "blobs" {
					if err := s.Ping(t.Context()); err == nil {
						t.Error("Ping succeeded")
					}
				}
			})
		}
	}
}

func TestSymlinkTemp(t *testing.T) {
	for kind, plant := range planters {
		t.Run(kind, func(t *testing.T) {
			top := t.TempDir()
			dir := filepath.Join(top, "store")
			s := storage.New(open(t, dir), nil)
			plant(t, top, filepath.Join(dir, "tmp"))
			before := tree(t, top)
			if err := s.Put(t.Context(), "p", describe([]byte("x")), strings.NewReader("x")); err == nil {
				t.Error("Put succeeded")
			}
			if err := s.Ping(t.Context()); err == nil {
				t.Error("Ping succeeded")
			}
			if b, err := filestore.New(dir, nil); err == nil {
				t.Error("New succeeded")
				_ = b.Close()
			}
			if after := tree(t, top); !maps.Equal(before, after) {
				t.Errorf("files changed from\n%v\nto\n%v", before, after)
			}
		})
	}
}

// The directory of the store itself is the operator's choice.
func TestSymlinkToStore(t *testing.T) {
	top := t.TempDir()
	link := filepath.Join(top, "link")
	if err := os.Mkdir(filepath.Join(top, "store"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("store", link); err != nil {
		t.Fatal(err)
	}
	mustPut(t, storage.New(open(t, link), nil), "p", []byte("x"))
	checkTree(t, filepath.Join(top, "store"))
}

// planters move what is at path elsewhere and plant a link to it there.
var planters = map[string]func(t *testing.T, top, path string){
	"absolute outside": func(t *testing.T, top, path string) {
		replace(t, path, filepath.Join(top, "outside"), filepath.Join(top, "outside"))
	},
	"relative outside": func(t *testing.T, top, path string) {
		replace(t, path, filepath.Join(top, "outside"), relative(t, path, filepath.Join(top, "outside")))
	},
	"absolute inside": func(t *testing.T, top, path string) {
		replace(t, path, filepath.Join(top, "store", "inside"), filepath.Join(top, "store", "inside"))
	},
	"relative inside": func(t *testing.T, top, path string) {
		replace(t, path, filepath.Join(top, "store", "inside"), relative(t, path, filepath.Join(top, "store", "inside")))
	},
	"beside": func(t *testing.T, _, path string) {
		replace(t, path, path+"~", filepath.Base(path)+"~")
	},
	"dangling": func(t *testing.T, top, path string) {
		replace(t, path, filepath.Join(top, "outside"), "nowhere")
	},
}

func replace(t *testing.T, path, moved, target string) {
	t.Helper()
	if err := os.Rename(path, moved); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, path); err != nil {
		t.Fatal(err)
	}
}

func relative(t *testing.T, from, to string) string {
	t.Helper()
	rel, err := filepath.Rel(filepath.Dir(from), to)
	if err != nil {
		t.Fatal(err)
	}
	return rel
}

// otherInShard returns bytes, unlike those of name, whose digest begins with
// the same two digits.
func otherInShard(t *testing.T, name string) []byte {
	t.Helper()
	for i := range 100_000 {
		data := []byte{byte(i), byte(i >> 8), byte(i >> 16)}
		if strings.HasPrefix(describe(data).Digest.String(), name[:2]) {
			return data
		}
	}
	t.Fatal("no such bytes")
	return nil
}
