package storage_test

import (
	"errors"
	"path"
	"strings"
	"testing"

	"github.com/slipway-build/slipway/storage"
)

var (
	longest = strings.Repeat("x", 63)

	validProjects = []string{"a", "0", "a.b", "a-b_c.d", "a.", "a-", "con", longest}

	invalidProjects = []string{
		".", "..", "a..b", "a..", ".a", "-a", "_a", "A", "aB", "a b", "a/b", "/a", "a/", `a\b`, "a\x00", "\x00",
		"a\n", "a%2e", "%2e%2e", "é", "e\u0301", "\u202ea", "a:", "~", "*", longest + "x", strings.Repeat("a", 4096), "\xff",
	}
)

func TestNewKey(t *testing.T) {
	d := describe([]byte("x")).Digest
	for _, project := range validProjects {
		key, err := storage.NewKey(project, d)
		if err != nil || key.Project() != project || key.Digest() != d {
			t.Errorf("NewKey(%q) = %v, %v", project, key, err)
		}
		if back, err := storage.ParseKey(key.String()); err != nil || back != key {
			t.Errorf("ParseKey(%q) = %v, %v", key, back, err)
		}
	}
	for _, project := range append(invalidProjects, "") {
		if key, err := storage.NewKey(project, d); !errors.Is(err, storage.ErrInvalid) || key != (storage.Key{}) {
			t.Errorf("NewKey(%q) = %v, %v; want ErrInvalid", project, key, err)
		}
	}
}

func TestKeyCompare(t *testing.T) {
	d := describe([]byte("x")).Digest
	a, _ := storage.NewKey("a", d)
	dash, _ := storage.NewKey("a-b", d)
	if a.Compare(dash) <= 0 || dash.Compare(a) >= 0 || a.Compare(a) != 0 {
		t.Errorf("%v and %v are not in the order of their strings", a, dash)
	}
	if (storage.Key{}).Compare(dash) >= 0 || (storage.Key{}).String() != "" {
		t.Error("the zero Key is not the first, or not empty")
	}
}

func FuzzParseDigest(f *testing.F) {
	valid := describe([]byte("x")).Digest.String()
	for _, s := range []string{valid, strings.ToUpper(valid), valid[1:], valid + "0", "", "0x" + valid[2:], valid[:63] + "g", valid[:62] + "é", valid + "\n", " " + valid[1:]} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := storage.ParseDigest(s)
		if err != nil {
			if !errors.Is(err, storage.ErrInvalid) || d != (storage.Digest{}) {
				t.Errorf("ParseDigest(%q) = %v, %v; want ErrInvalid", s, d, err)
			}
			return
		}
		if d.String() != s {
			t.Errorf("ParseDigest(%q) is written %q", s, d)
		}
	})
}

func FuzzNewKey(f *testing.F) {
	for _, s := range append(validProjects, invalidProjects...) {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, project string) {
		key, err := storage.NewKey(project, storage.Digest{})
		if err != nil {
			if !errors.Is(err, storage.ErrInvalid) || key != (storage.Key{}) {
				t.Errorf("NewKey(%q) = %v, %v; want ErrInvalid", project, key, err)
			}
			return
		}
		checkPath(t, key)
		if back, err := storage.ParseKey(key.String()); err != nil || back != key {
			t.Errorf("ParseKey(%q) = %v, %v", key, back, err)
		}
	})
}

func FuzzParseKey(f *testing.F) {
	digest := describe([]byte("x")).Digest.String()
	shard := digest[:2]
	for _, project := range append(validProjects, invalidProjects...) {
		f.Add(project + "/" + shard + "/" + digest)
	}
	for _, s := range []string{"", "/", "//", "a//" + digest, "a/00/" + digest, "a/" + digest, "a/" + shard + "/" + digest + "/", "/a/" + shard + "/" + digest, "a/" + shard + "/" + digest[:2], "a/../" + digest} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		key, err := storage.ParseKey(s)
		if err != nil {
			if !errors.Is(err, storage.ErrInvalid) || key != (storage.Key{}) {
				t.Errorf("ParseKey(%q) = %v, %v; want ErrInvalid", s, key, err)
			}
			return
		}
		checkPath(t, key)
		if key.String() != s {
			t.Errorf("ParseKey(%q) is written %q", s, key)
		}
	})
}

// checkPath checks that a key is a clean relative path of three plain names.
func checkPath(t *testing.T, key storage.Key) {
	t.Helper()
	s := key.String()
	parts := strings.Split(s, "/")
	if len(parts) != 3 || path.Clean(s) != s || path.IsAbs(s) || strings.Contains(s, "..") ||
		strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789._-/") != "" || len(parts[0]) > 63 {
		t.Errorf("key %q is not a safe path", s)
	}
}
