package archive

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

var errStop = errors.New("stop")

var generous = Limits{Bytes: 1 << 20, Entries: 1000, Ratio: 200, Depth: 20}

// tarFile, tarDir and tarLink make entries.
func tarFile(name, content string) member {
	return member{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(content))}, content}
}

func tarDir(name string) member {
	return member{Header: tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755}}
}

func tarLink(kind byte, name, target string) member {
	return member{Header: tar.Header{Typeflag: kind, Name: name, Linkname: target, Mode: 0o777}}
}

// A member is a header with its content.
type member struct {
	tar.Header
	content string
}

func tarball(t testing.TB, entries ...member) []byte {
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

func TestExtract(t *testing.T) {
	script := tarFile("bin/run", "#!")
	script.Mode = 0o4755
	shared := tarDir("shared")
	shared.Mode = 0o1777
	closed := tarDir("closed/")
	closed.Mode = 0
	archive := tarball(t,
		member{Header: tar.Header{Typeflag: tar.TypeXGlobalHeader, Name: "pax_global_header", PAXRecords: map[string]string{"comment": "c"}}},
		tarDir("./"), tarFile("./README", "hello"), script, shared, closed, tarFile("closed/in", "x"), tarFile("a/b/c/deep", "d"),
		tarDir("a"), tarLink(tar.TypeLink, "a/hard", "README"), tarLink(tar.TypeSymlink, "a/b/up", "../../README"),
		tarLink(tar.TypeSymlink, "dir", "a/b/"), tarLink(tar.TypeSymlink, "here", "."), tarLink(tar.TypeSymlink, "dangling", "nowhere"),
		tarFile(`odd\name`, "o"), tarFile(strings.Repeat("long/", 15)+strings.Repeat("n", 200), "l"),
	)
	want := strings.Join([]string{
		"README 644 hello", "a/ 755", "a/b/ 755", "a/b/c/ 755", "a/b/c/deep 644 d", "a/b/up -> ../../README", "a/hard 644 hello",
		"bin/ 755", "bin/run 755 #!", "closed/ 700", "closed/in 644 x", "dangling -> nowhere", "dir -> a/b/", "here -> .",
	}, "\n")
	for name, content := range map[string][]byte{"tar": archive, "tar.gz": gzipped(t, archive), "tar.zst": zstandard(t, archive)} {
		t.Run(name, func(t *testing.T) {
			c := newCage(t)
			if err := Extract(t.Context(), c.root, bytes.NewReader(content), int64(len(content)), generous); err != nil {
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
		if err := Extract(t.Context(), c.root, bytes.NewReader(nil), 0, generous); err != nil || c.contents(t) != "" {
			t.Errorf("%v, %q", err, c.contents(t))
		}
	})
}

// evil are archives that must be refused.
func evil(t testing.TB) map[string][]byte {
	t.Helper()
	device := func(kind byte) member {
		return member{Header: tar.Header{Typeflag: kind, Name: "dev", Devmajor: 1, Devminor: 3}}
	}
	deep := strings.Repeat("d/", 20) + "f"
	archives := map[string][]byte{
		"parent":                   tarball(t, tarFile("../canary", "dead")),
		"parent further on":        tarball(t, tarFile("a/../../canary", "dead")),
		"parent that comes back":   tarball(t, tarFile("a/../b", "x")),
		"absolute":                 tarball(t, tarFile("/tmp/canary", "dead")),
		"empty part":               tarball(t, tarFile("a//b", "x")),
		"dot inside":               tarball(t, tarFile("a/./b", "x")),
		"parent as a directory":    tarball(t, tarDir("../new/")),
		"only parents":             tarball(t, tarDir("../")),
		"too deep":                 tarball(t, tarFile(deep, "x")),
		"name too long":            tarball(t, tarFile(strings.Repeat("n", 300), "x")),
		"the root as a file":       tarball(t, tarFile(".", "x")),
		"file twice":               tarball(t, tarFile("a", "1"), tarFile("a", "2")),
		"file over a directory":    tarball(t, tarDir("a"), tarFile("a", "2")),
		"file below a file":        tarball(t, tarFile("a", "1"), tarFile("a/b", "2")),
		"directory over a file":    tarball(t, tarFile("a", "1"), tarDir("a")),
		"link over a file":         tarball(t, tarFile("a", "1"), tarLink(tar.TypeSymlink, "a", "b")),
		"link twice":               tarball(t, tarLink(tar.TypeSymlink, "a", "b"), tarLink(tar.TypeSymlink, "a", "c")),
		"file over a link":         tarball(t, tarLink(tar.TypeSymlink, "a", "b"), tarFile("a", "2")),
		"file through a link":      tarball(t, tarDir("d"), tarLink(tar.TypeSymlink, "a", "d"), tarFile("a/f", "2")),
		"link below a link":        tarball(t, tarDir("d"), tarLink(tar.TypeSymlink, "a", "d"), tarLink(tar.TypeSymlink, "a/l", "x")),
		"link out":                 tarball(t, tarLink(tar.TypeSymlink, "a", "../canary"), tarFile("b", "x")),
		"link to the parent":       tarball(t, tarLink(tar.TypeSymlink, "a", "..")),
		"absolute link":            tarball(t, tarLink(tar.TypeSymlink, "a", "/etc/passwd")),
		"empty link":               tarball(t, tarLink(tar.TypeSymlink, "a", "")),
		"link up through a link":   tarball(t, tarLink(tar.TypeSymlink, "x/y/s", "../.."), tarLink(tar.TypeSymlink, "t", "x/y/s/../..")),
		"link down and up":         tarball(t, tarLink(tar.TypeSymlink, "a", "b/../c")),
		"hard link out":            tarball(t, tarLink(tar.TypeLink, "a", "../canary")),
		"absolute hard link":       tarball(t, tarLink(tar.TypeLink, "a", "/etc/passwd")),
		"hard link to a link":      tarball(t, tarLink(tar.TypeSymlink, "s", "a"), tarLink(tar.TypeLink, "h", "s")),
		"hard link to a directory": tarball(t, tarDir("d"), tarLink(tar.TypeLink, "h", "d")),
		"hard link to nothing":     tarball(t, tarLink(tar.TypeLink, "h", "later"), tarFile("later", "x")),
		"hard link over a file":    tarball(t, tarFile("a", "1"), tarFile("b", "2"), tarLink(tar.TypeLink, "b", "a")),
		"character device":         tarball(t, device(tar.TypeChar)),
		"block device":             tarball(t, device(tar.TypeBlock)),
		"pipe":                     tarball(t, device(tar.TypeFifo)),
		"too many bytes":           tarball(t, tarFile("a", strings.Repeat("x", 1<<20)), tarFile("b", "x")),
		"no archive":               []byte("hello"),
		"cut off":                  tarball(t, tarFile("a", strings.Repeat("x", 2000)))[:1500],
		"cut off in the gzip":      gzipped(t, tarball(t, tarFile("a", strings.Repeat("x", 2000))))[:60],
		"gzip of nothing":          {0x1f, 0x8b},
		"many entries":             tarball(t, slices.Repeat([]member{tarDir("d")}, 1001)...),
		"damaged header":           bytes.Replace(tarball(t, tarFile("a", "x")), []byte("ustar"), []byte("ustor"), 1),
	}
	return archives
}

// compressions are what a tar may come in.
var compressions = map[string]func(t testing.TB, content []byte) []byte{
	"tar":     func(_ testing.TB, content []byte) []byte { return content },
	"tar.gz":  gzipped,
	"tar.zst": zstandard,
}

func zstandard(t testing.TB, content []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	return w.EncodeAll(content, nil)
}

func TestExtractEvil(t *testing.T) {
	for format, compress := range compressions {
		for name, content := range evil(t) {
			if format != "tar" {
				content = compress(t, content)
			}
			t.Run(format+"/"+name, func(t *testing.T) {
				c := newCage(t)
				err := Extract(t.Context(), c.root, bytes.NewReader(content), int64(len(content)), generous)
				c.check(t)
				if !errors.Is(err, ErrInvalid) {
					t.Errorf("error %v, want %v", err, ErrInvalid)
				}
			})
		}
	}
}

// Two blocks of zeros end a tar: nothing behind them is read.
func TestExtractZeros(t *testing.T) {
	for format, compress := range compressions {
		content := compress(t, make([]byte, 4<<20))
		c := newCage(t)
		if err := Extract(t.Context(), c.root, bytes.NewReader(content), int64(len(content)), generous); err != nil || c.contents(t) != "" {
			t.Errorf("%s: %v, %q", format, err, c.contents(t))
		}
	}
}

// TestExtractBomb has small archives that unpack to a lot. The limit on the ratio stops them long before the limit on bytes does,
// and they take no more memory than others.
func TestExtractBomb(t *testing.T) {
	const size = ratioFloor + 1<<20
	zeros := member{Header: tar.Header{Typeflag: tar.TypeReg, Name: "zeros", Mode: 0o644, Size: size}}
	var header bytes.Buffer
	if err := tar.NewWriter(&header).WriteHeader(&zeros.Header); err != nil {
		t.Fatal(err)
	}
	// Members of a gzip file may follow one another, and frames of Zstandard.
	repeated := func(compress func(t testing.TB, content []byte) []byte) []byte {
		megabyte := compress(t, make([]byte, 1<<20))
		return append(compress(t, header.Bytes()), bytes.Repeat(megabyte, size>>20)...)
	}
	lie := zeroed(t, "zeros", size)
	lie.UncompressedSize64 = ratioFloor
	for name, content := range map[string][]byte{
		"tar.gz":                   repeated(gzipped),
		"tar.zst":                  repeated(zstandard),
		"zip":                      zipball(t, zeroed(t, "zeros", size)),
		"zip of many":              zipball(t, zeroed(t, "a", 33<<20), zeroed(t, "b", 33<<20)),
		"zip that lies":            zipball(t, lie),
		"sparse tar":               sparse(t, size),
		"tar.gz of what is no tar": repeated(gzipped)[100:],
	} {
		t.Run(name, func(t *testing.T) {
			limits := generous
			limits.Bytes = 1 << 40
			c := newCage(t)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			err := Extract(t.Context(), c.root, bytes.NewReader(content), int64(len(content)), limits)
			runtime.ReadMemStats(&after)
			if !errors.Is(err, ErrInvalid) {
				t.Errorf("error %v, want %v", err, ErrInvalid)
			}
			if got := after.TotalAlloc - before.TotalAlloc; got > 8<<20 {
				t.Errorf("it took %d bytes of memory", got)
			}
			c.check(t)
		})
	}
}

// sparse returns a tar with a file that is one hole, in GNU's old format, which [tar.Writer] does not write.
func sparse(t testing.TB, size int64) []byte {
	t.Helper()
	content := tarball(t, tarFile("zeros", ""))
	header := content[:512]
	header[156] = tar.TypeGNUSparse
	copy(header[257:], "ustar  \x00")
	copy(header[386:], fmt.Sprintf("%011o\x00%011o\x00", size, 0)) // the one piece: nothing, at the end
	copy(header[483:], fmt.Sprintf("%011o\x00", size))
	copy(header[148:], "        ")
	sum := 0
	for _, b := range header {
		sum += int(b)
	}
	copy(header[148:], fmt.Sprintf("%06o\x00 ", sum))
	return content
}

// zstdRaw returns a frame whose blocks have the content as it is.
func zstdRaw(content []byte) []byte {
	frame := []byte("\x28\xb5\x2f\xfd\x00\x58") // no checksum, no size, a window of 2 MiB
	for len(content) > 0 {
		n := min(len(content), 64<<10)
		header := uint32(n) << 3
		if n == len(content) {
			header |= 1
		}
		frame = append(frame, byte(header), byte(header>>8), byte(header>>16))
		frame, content = append(frame, content[:n]...), content[n:]
	}
	return frame
}

// A Zstandard frame says how much memory it takes to decode it.
func TestZstdWindow(t *testing.T) {
	frame := func(exponent byte) []byte { // a window of 1 KiB << exponent
		content := zstdRaw(tarball(t, tarFile("a", "x")))
		content[5] = exponent << 3
		return content
	}
	for exponent, want := range map[byte]error{1: nil, 13: nil, 17: nil, 18: ErrInvalid, 21: ErrInvalid, 31: ErrInvalid} {
		content := frame(exponent)
		err := Extract(t.Context(), newCage(t).root, bytes.NewReader(content), int64(len(content)), generous)
		if !errors.Is(err, want) {
			t.Errorf("a window of 2^%d bytes: %v, want %v", exponent+10, err, want)
		}
	}
}

// What pzstd makes begins with a frame to skip, and has many.
func TestZstdFrames(t *testing.T) {
	archive := tarball(t, tarFile("a", "x"))
	content := []byte("\x50\x2a\x4d\x18\x04\x00\x00\x00skip")
	content = append(content, zstandard(t, archive[:512])...)
	content = append(content, zstandard(t, archive[512:])...)
	c := newCage(t)
	if err := Extract(t.Context(), c.root, bytes.NewReader(content), int64(len(content)), generous); err != nil || c.contents(t) != "a 644 x" {
		t.Errorf("%v, %q", err, c.contents(t))
	}
}

func TestUnsupported(t *testing.T) {
	for name, content := range map[string]string{
		"bzip2": "BZh91AY&SY\x00", "xz": "\xfd7zXZ\x00\x00", "7z": "7z\xbc\xaf\x27\x1c\x00", "rar": "Rar!\x1a\x07\x00",
		"lz4": "\x04\x22\x4d\x18\x00", "lzip": "LZIP\x01", "compress": "\x1f\x9d\x00", "text": strings.Repeat("hello ", 200),
		"text in gzip": string(gzipped(t, []byte(strings.Repeat("hello ", 200)))),
	} {
		err := Extract(t.Context(), newCage(t).root, strings.NewReader(content), int64(len(content)), generous)
		if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "zip, tar, tar.gz and tar.zst are supported") {
			t.Errorf("%s: error %v, want one that names the formats", name, err)
		}
	}
}

// A disk that fails is not the archive's fault: another attempt may succeed.
func TestExtractFromBadDisk(t *testing.T) {
	archive := tarball(t, tarFile("a", strings.Repeat("x", 100<<10)))
	zips := zipball(t, stored("a", strings.Repeat("x", 100<<10)))
	for name, content := range map[string][]byte{"tar": archive, "tar.gz": gzipped(t, archive), "tar.zst": zstandard(t, archive), "zip": zips} {
		for good := range int64(4) {
			disk := &badDisk{Reader: bytes.NewReader(content), good: good}
			err := Extract(t.Context(), newCage(t).root, disk, int64(len(content)), generous)
			if disk.failed && (!errors.Is(err, errStop) || errors.Is(err, ErrInvalid)) {
				t.Errorf("%s: error %v after %d reads, want the disk's", name, err, good)
			}
		}
	}
}

// A badDisk fails after some reads.
type badDisk struct {
	*bytes.Reader
	good   int64
	failed bool
}

func (d *badDisk) ReadAt(p []byte, off int64) (int, error) {
	if d.good--; d.good < 0 {
		d.failed = true
		return 0, errStop
	}
	return d.Reader.ReadAt(p, off)
}

func TestExtractStops(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errStop)
	content := tarball(t, tarFile("a", "x"))
	if err := Extract(ctx, newCage(t).root, bytes.NewReader(content), int64(len(content)), generous); !errors.Is(err, errStop) {
		t.Errorf("error %v, want the reason to stop", err)
	}
}

// fuzzed unpacks whatever came up: nothing of it may get out.
func fuzzed(t *testing.T, content []byte) {
	c := newCage(t)
	err := Extract(t.Context(), c.root, bytes.NewReader(content), int64(len(content)), generous)
	c.check(t)
	if err != nil && !errors.Is(err, ErrInvalid) {
		t.Errorf("error %v, want %v", err, ErrInvalid)
	}
	if err == nil {
		c.contents(t)
	}
}

// seeds calls add with tars to begin with.
func seeds(f *testing.F, add func(content []byte)) {
	archives := evil(f)
	archives["good"] = tarball(f, tarDir("d"), tarFile("d/f", "x"), tarLink(tar.TypeSymlink, "d/l", "../d/f"), tarLink(tar.TypeLink, "h", "d/f"))
	for _, name := range slices.Sorted(maps.Keys(archives)) {
		if len(archives[name]) < 64<<10 {
			add(archives[name])
		}
	}
}

func FuzzTar(f *testing.F) {
	seeds(f, func(content []byte) { f.Add(content) })
	f.Fuzz(fuzzed)
}

// FuzzTarGzip has the bytes of tars in some seeds as they are, so that what is changed of them is still what gzip takes.
func FuzzTarGzip(f *testing.F) {
	seeds(f, func(content []byte) {
		f.Add(gzipped(f, content))
		var b bytes.Buffer
		w, err := gzip.NewWriterLevel(&b, gzip.NoCompression)
		if err != nil {
			f.Fatal(err)
		}
		if _, err := w.Write(content); err != nil {
			f.Fatal(err)
		}
		if err := w.Close(); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes())
	})
	f.Fuzz(func(t *testing.T, content []byte) {
		if !bytes.HasPrefix(content, []byte("\x1f\x8b")) {
			content = append([]byte("\x1f\x8b"), content...)
		}
		fuzzed(t, content)
	})
}

// FuzzTarZstd has frames of bytes as they are among its seeds, too.
func FuzzTarZstd(f *testing.F) {
	seeds(f, func(content []byte) {
		f.Add(zstandard(f, content))
		f.Add(zstdRaw(content))
	})
	f.Fuzz(func(t *testing.T, content []byte) {
		if !bytes.HasPrefix(content, []byte("\x28\xb5\x2f\xfd")) {
			content = append([]byte("\x28\xb5\x2f\xfd"), content...)
		}
		fuzzed(t, content)
	})
}

// Directories that no entry stands for count as well.
func TestExtractCountsImpliedDirectories(t *testing.T) {
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
	for limit, want := range map[int]error{made: nil, made - 1: ErrInvalid} {
		root, err := os.OpenRoot(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		limits := generous
		limits.Entries = limit
		err = Extract(t.Context(), root, bytes.NewReader(archive.Bytes()), int64(archive.Len()), limits)
		if !errors.Is(err, want) {
			t.Errorf("with a limit of %d: %v, want %v", limit, err, want)
		}
	}
}
