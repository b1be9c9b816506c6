package worker

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var generous = UnpackLimits{Bytes: 1 << 20, Entries: 1000, Ratio: 200, Depth: 20}

// tarFile, tarDir and tarLink make entries.
func tarFile(name, content string) tarEntry {
	return tarEntry{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(content))}, content}
}

func tarDir(name string) tarEntry {
	return tarEntry{Header: tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755}}
}

func tarLink(kind byte, name, target string) tarEntry {
	return tarEntry{Header: tar.Header{Typeflag: kind, Name: name, Linkname: target, Mode: 0o777}}
}

// A tarEntry is a header with its content.
type tarEntry struct {
	tar.Header
	content string
}

func tarball(t testing.TB, entries ...tarEntry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		if err := w.WriteHeader(&e.Header); err != nil {
			t.Fatalf("%s: %v", e.Name, err)
		}
		if _, err := io.WriteString(w, e.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func gzipped(t testing.TB, content []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// A cage is a directory to unpack into, with a canary beside it.
type cage struct {
	dir  string // to unpack into
	root *os.Root
}

func newCage(t testing.TB) *cage {
	t.Helper()
	outer := t.TempDir()
	c := &cage{dir: filepath.Join(outer, "tree")}
	if err := os.Mkdir(c.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(outer, "canary"), []byte("alive"), 0o644); err != nil {
		t.Fatal(err)
	}
	var err error
	if c.root, err = os.OpenRoot(c.dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.root.Close() })
	return c
}

// check fails if anything outside has changed, or if anything inside leads out.
func (c *cage) check(t testing.TB) {
	t.Helper()
	outer := filepath.Dir(c.dir)
	if content, err := os.ReadFile(filepath.Join(outer, "canary")); err != nil || string(content) != "alive" {
		t.Errorf("the canary is %q, %v", content, err)
	}
	if entries, err := os.ReadDir(outer); err != nil || len(entries) != 2 {
		t.Errorf("%d entries beside the tree, %v; want the canary only", len(entries)-1, err)
	}
	err := filepath.WalkDir(c.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if kind := d.Type(); kind&^(fs.ModeDir|fs.ModeSymlink) != 0 {
			return fmt.Errorf("%s is of type %v", path, kind)
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if info.Mode()&(fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky) != 0 {
			return fmt.Errorf("%s has mode %v", path, info.Mode())
		}
		if d.Type() != fs.ModeSymlink {
			return nil
		}
		target, err := filepath.EvalSymlinks(path)
		if err == nil && target != c.dir && !strings.HasPrefix(target, c.dir+"/") {
			return fmt.Errorf("%s leads to %s", path, target)
		}
		return nil // one that leads nowhere, or round in circles, does no harm
	})
	if err != nil {
		t.Error(err)
	}
}

// contents returns what is in the tree, one line each.
func (c *cage) contents(t testing.TB) string {
	t.Helper()
	var lines []string
	err := filepath.WalkDir(c.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == c.dir {
			return err
		}
		name, err := filepath.Rel(c.dir, path)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		switch {
		case d.IsDir():
			lines = append(lines, fmt.Sprintf("%s/ %o", name, info.Mode().Perm()))
		case d.Type() == fs.ModeSymlink:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			lines = append(lines, name+" -> "+target)
		default:
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			lines = append(lines, fmt.Sprintf("%s %o %s", name, info.Mode().Perm(), content))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(lines, "\n")
}

func TestUnpack(t *testing.T) {
	script := tarFile("bin/run", "#!")
	script.Mode = 0o4755
	shared := tarDir("shared")
	shared.Mode = 0o1777
	closed := tarDir("closed/")
	closed.Mode = 0
	archive := tarball(t,
		tarEntry{Header: tar.Header{Typeflag: tar.TypeXGlobalHeader, Name: "pax_global_header", PAXRecords: map[string]string{"comment": "c"}}},
		tarDir("./"), tarFile("./README", "hello"), script, shared, closed, tarFile("closed/in", "x"), tarFile("a/b/c/deep", "d"),
		tarDir("a"), tarLink(tar.TypeLink, "a/hard", "README"), tarLink(tar.TypeSymlink, "a/b/up", "../../README"),
		tarLink(tar.TypeSymlink, "dir", "a/b/"), tarLink(tar.TypeSymlink, "here", "."), tarLink(tar.TypeSymlink, "dangling", "nowhere"),
		tarFile(`odd\name`, "o"), tarFile(strings.Repeat("long/", 15)+strings.Repeat("n", 200), "l"),
	)
	want := strings.Join([]string{
		"README 644 hello", "a/ 755", "a/b/ 755", "a/b/c/ 755", "a/b/c/deep 644 d", "a/b/up -> ../../README", "a/hard 644 hello",
		"bin/ 755", "bin/run 755 #!", "closed/ 700", "closed/in 644 x", "dangling -> nowhere", "dir -> a/b/", "here -> .",
	}, "\n")
	for name, content := range map[string][]byte{"tar": archive, "tar.gz": gzipped(t, archive)} {
		t.Run(name, func(t *testing.T) {
			c := newCage(t)
			if err := unpack(t.Context(), c.root, bytes.NewReader(content), int64(len(content)), generous); err != nil {
				t.Fatal(err)
			}
			c.check(t)
			if got := c.contents(t); !strings.HasPrefix(got, want) || !strings.Contains(got, `odd\name 644 o`) ||
				!strings.Contains(got, "shared/ 777") {
				t.Errorf("unpacked:\n%s\nwant:\n%s", got, want)
			}
		})
	}
	t.Run("nothing", func(t *testing.T) {
		c := newCage(t)
		if err := unpack(t.Context(), c.root, bytes.NewReader(nil), 0, generous); err != nil || c.contents(t) != "" {
			t.Errorf("%v, %q", err, c.contents(t))
		}
	})
}

// evil are archives that must be refused.
func evil(t testing.TB) map[string][]byte {
	t.Helper()
	device := func(kind byte) tarEntry {
		return tarEntry{Header: tar.Header{Typeflag: kind, Name: "dev", Devmajor: 1, Devminor: 3}}
	}
	deep := strings.Repeat("d/", 20) + "f"
	archives := map[string][]byte{
		"parent":                    tarball(t, tarFile("../canary", "dead")),
		"parent further on":         tarball(t, tarFile("a/../../canary", "dead")),
		"parent that comes back":    tarball(t, tarFile("a/../b", "x")),
		"absolute":                  tarball(t, tarFile("/tmp/canary", "dead")),
		"empty part":                tarball(t, tarFile("a//b", "x")),
		"dot inside":                tarball(t, tarFile("a/./b", "x")),
		"parent as a directory":     tarball(t, tarDir("../new/")),
		"only parents":              tarball(t, tarDir("../")),
		"too deep":                  tarball(t, tarFile(deep, "x")),
		"name too long":             tarball(t, tarFile(strings.Repeat("n", 300), "x")),
		"the root as a file":        tarball(t, tarFile(".", "x")),
		"file twice":                tarball(t, tarFile("a", "1"), tarFile("a", "2")),
		"file over a directory":     tarball(t, tarDir("a"), tarFile("a", "2")),
		"file below a file":         tarball(t, tarFile("a", "1"), tarFile("a/b", "2")),
		"directory over a file":     tarball(t, tarFile("a", "1"), tarDir("a")),
		"link over a file":          tarball(t, tarFile("a", "1"), tarLink(tar.TypeSymlink, "a", "b")),
		"link twice":                tarball(t, tarLink(tar.TypeSymlink, "a", "b"), tarLink(tar.TypeSymlink, "a", "c")),
		"file over a link":          tarball(t, tarLink(tar.TypeSymlink, "a", "b"), tarFile("a", "2")),
		"file through a link":       tarball(t, tarDir("d"), tarLink(tar.TypeSymlink, "a", "d"), tarFile("a/f", "2")),
		"link below a link":         tarball(t, tarDir("d"), tarLink(tar.TypeSymlink, "a", "d"), tarLink(tar.TypeSymlink, "a/l", "x")),
		"link out":                  tarball(t, tarLink(tar.TypeSymlink, "a", "../canary"), tarFile("b", "x")),
		"link to the parent":        tarball(t, tarLink(tar.TypeSymlink, "a", "..")),
		"absolute link":             tarball(t, tarLink(tar.TypeSymlink, "a", "/etc/passwd")),
		"empty link":                tarball(t, tarLink(tar.TypeSymlink, "a", "")),
		"link up through a link":    tarball(t, tarLink(tar.TypeSymlink, "x/y/s", "../.."), tarLink(tar.TypeSymlink, "t", "x/y/s/../..")),
		"link down and up":          tarball(t, tarLink(tar.TypeSymlink, "a", "b/../c")),
		"hard link out":             tarball(t, tarLink(tar.TypeLink, "a", "../canary")),
		"absolute hard link":        tarball(t, tarLink(tar.TypeLink, "a", "/etc/passwd")),
		"hard link to a link":       tarball(t, tarLink(tar.TypeSymlink, "s", "a"), tarLink(tar.TypeLink, "h", "s")),
		"hard link to a directory":  tarball(t, tarDir("d"), tarLink(tar.TypeLink, "h", "d")),
		"hard link to nothing":      tarball(t, tarLink(tar.TypeLink, "h", "later"), tarFile("later", "x")),
		"hard link over a file":     tarball(t, tarFile("a", "1"), tarFile("b", "2"), tarLink(tar.TypeLink, "b", "a")),
		"character device":          tarball(t, device(tar.TypeChar)),
		"block device":              tarball(t, device(tar.TypeBlock)),
		"pipe":                      tarball(t, device(tar.TypeFifo)),
		"too many bytes":            tarball(t, tarFile("a", strings.Repeat("x", 1<<20)), tarFile("b", "x")),
		"no archive":                []byte("hello"),
		"cut off":                   tarball(t, tarFile("a", strings.Repeat("x", 2000)))[:1500],
		"cut off in the gzip":       gzipped(t, tarball(t, tarFile("a", strings.Repeat("x", 2000))))[:60],
		"gzip of nothing":           {0x1f, 0x8b},
		"many entries":              tarball(t, slices.Repeat([]tarEntry{tarDir("d")}, 1001)...),
		"damaged header":            bytes.Replace(tarball(t, tarFile("a", "x")), []byte("ustar"), []byte("ustor"), 1),
		"zeros that unpack to much": gzipped(t, make([]byte, 4<<20)),
	}
	return archives
}

func TestUnpackEvil(t *testing.T) {
	for name, content := range evil(t) {
		t.Run(name, func(t *testing.T) {
			c := newCage(t)
			err := unpack(t.Context(), c.root, bytes.NewReader(content), int64(len(content)), generous)
			c.check(t)
			if name == "zeros that unpack to much" { // two blocks of zeros end an archive: nothing behind them is read
				if err != nil {
					t.Error(err)
				}
				return
			}
			if !errors.Is(err, errBadSource) {
				t.Errorf("error %v, want one of a bad source", err)
			}
		})
	}
}

// TestUnpackBomb has a small archive that unpacks to a lot. The limit on the ratio stops it long before the limit on bytes does.
func TestUnpackBomb(t *testing.T) {
	t.Parallel()
	zeros := tarEntry{Header: tar.Header{Typeflag: tar.TypeReg, Name: "zeros", Mode: 0o644, Size: ratioFloor + 1<<20}}
	var header bytes.Buffer
	if err := tar.NewWriter(&header).WriteHeader(&zeros.Header); err != nil {
		t.Fatal(err)
	}
	// Members of a gzip file may follow one another.
	b := bytes.NewBuffer(gzipped(t, header.Bytes()))
	megabyte := gzipped(t, make([]byte, 1<<20))
	for range ratioFloor>>20 + 1 {
		b.Write(megabyte)
	}
	limits := generous
	limits.Bytes = 1 << 40
	c := newCage(t)
	if err := unpack(t.Context(), c.root, b, int64(b.Len()), limits); !errors.Is(err, errTooMuch) {
		t.Errorf("error %v, want %v", err, errTooMuch)
	}
	c.check(t)
}

func TestUnpackStops(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(ErrCanceled)
	content := tarball(t, tarFile("a", "x"))
	if err := unpack(ctx, newCage(t).root, bytes.NewReader(content), int64(len(content)), generous); !errors.Is(err, ErrCanceled) {
		t.Errorf("error %v, want the reason to stop", err)
	}
}

func FuzzUnpack(f *testing.F) {
	for _, content := range evil(f) {
		if len(content) < 64<<10 {
			f.Add(content)
		}
	}
	f.Add(tarball(f, tarDir("d"), tarFile("d/f", "x"), tarLink(tar.TypeSymlink, "d/l", "../d/f"), tarLink(tar.TypeLink, "h", "d/f")))
	f.Fuzz(func(t *testing.T, content []byte) {
		c := newCage(t)
		err := unpack(t.Context(), c.root, bytes.NewReader(content), int64(len(content)), generous)
		c.check(t)
		if err == nil {
			c.contents(t)
		}
	})
}

// Directories that no entry stands for count as well.
func TestUnpackCountsImpliedDirectories(t *testing.T) {
	var archive bytes.Buffer
	out := tar.NewWriter(&archive)
	for i := range 10 {
		name := fmt.Sprintf("%d/%sf", i, strings.Repeat("d/", 10))
		if err := out.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o600}); err != nil {
			t.Fatal(err)
		}
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	made := 10 * (1 + 11) // files and the directories above them
	for limit, want := range map[int]error{made: nil, made - 1: errBadSource} {
		root, err := os.OpenRoot(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		limits := generous
		limits.Entries = limit
		err = unpack(t.Context(), root, bytes.NewReader(archive.Bytes()), int64(archive.Len()), limits)
		if !errors.Is(err, want) {
			t.Errorf("with a limit of %d: %v, want %v", limit, err, want)
		}
	}
}
