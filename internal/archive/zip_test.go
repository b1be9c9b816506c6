package archive

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A zipped is an entry of a zip: what its headers say, and its packed bytes.
type zipped struct {
	zip.FileHeader
	packed []byte
}

// stored, deflated, zipDir and zipLink make entries that are true.
func stored(name, content string) zipped {
	return packed(name, 0o644, zip.Store, content, []byte(content))
}

func deflated(t testing.TB, name string, mode fs.FileMode, content string) zipped {
	t.Helper()
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(content)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return packed(name, mode, zip.Deflate, content, b.Bytes())
}

func packed(name string, mode fs.FileMode, method uint16, content string, bytes []byte) zipped {
	z := zipped{zip.FileHeader{
		Name: name, Method: method, CRC32: crc32.ChecksumIEEE([]byte(content)),
		UncompressedSize64: uint64(len(content)), CompressedSize64: uint64(len(bytes)),
	}, bytes}
	z.SetMode(mode)
	return z
}

// zeroed is a file of so many zeros, a multiple of 1 MiB, deflated.
func zeroed(t testing.TB, name string, size int) zipped {
	t.Helper()
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	content := append(bytes.Repeat(b.Bytes(), size>>20), "\x03\x00"...) // an empty block, the last
	z := packed(name, 0o644, zip.Deflate, "", content)
	z.CRC32, z.UncompressedSize64 = crc32.ChecksumIEEE(make([]byte, size)), uint64(size)
	return z
}

func zipDir(name string, mode fs.FileMode) zipped {
	return packed(name, mode|fs.ModeDir, zip.Store, "", nil)
}

func zipLink(name, target string) zipped {
	return packed(name, 0o777|fs.ModeSymlink, zip.Store, target, []byte(target))
}

// changed is an entry about which something else is said.
func changed(z zipped, change func(h *zip.FileHeader)) zipped {
	change(&z.FileHeader)
	return z
}

func zipball(t testing.TB, entries ...zipped) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, e := range entries {
		body, err := w.CreateRaw(&e.FileHeader)
		if err != nil {
			t.Fatalf("%s: %v", e.Name, err)
		}
		if _, err := body.Write(e.packed); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestZip(t *testing.T) {
	noMode := changed(stored("dos", "d"), func(h *zip.FileHeader) { h.CreatorVersion, h.ExternalAttrs = 0, 0 })
	dosDir := changed(zipDir("dosdir/", 0), func(h *zip.FileHeader) { h.CreatorVersion, h.ExternalAttrs = 0, 0x10 })
	content := zipball(t,
		zipDir("./", 0o755), stored("./README", "hello"), deflated(t, "bin/run", 0o755|fs.ModeSetuid|fs.ModeSetgid, "#!"),
		zipDir("shared/", 0o777|fs.ModeSticky), zipDir("closed/", 0), stored("closed/in", "x"), stored("a/b/c/deep", "d"),
		zipDir("a/", 0o755), zipLink("a/b/up", "../../README"), zipLink("dangling", "nowhere"), noMode, dosDir,
		deflated(t, "empty", 0o600, ""), stored("nothing", ""), deflated(t, "large", 0o600, strings.Repeat("x", 200<<10)),
		stored("Case", "1"), stored("case", "2"), // which are two here
	)
	c := newCage(t)
	if err := Extract(t.Context(), c.root, bytes.NewReader(content), int64(len(content)), generous); err != nil {
		t.Fatal(err)
	}
	c.check(t)
	want := strings.Join([]string{
		"Case 644 1", "README 644 hello", "a/ 755", "a/b/ 755", "a/b/c/ 755", "a/b/c/deep 644 d", "a/b/up -> ../../README", "bin/ 755",
		"bin/run 755 #!", "case 644 2", "closed/ 700", "closed/in 644 x", "dangling -> nowhere", "dos 644 d", "dosdir/ 755",
		"empty 600 ", "large 600 " + strings.Repeat("x", 200<<10), "nothing 644 ", "shared/ 777",
	}, "\n")
	if got := c.contents(t); got != want {
		t.Errorf("unpacked:\n%.2000s\nwant:\n%.2000s", got, want)
	}
}

// TestZipOfWriter unpacks what the standard library's writer makes when it streams, and a comment behind it.
func TestZipOfWriter(t *testing.T) {
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for name, content := range map[string]string{"a/b": "one", "c": strings.Repeat("two", 1000)} {
		f, err := w.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.SetComment("PK\x05\x06 is how an end begins"); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	c := newCage(t)
	if err := Extract(t.Context(), c.root, bytes.NewReader(b.Bytes()), int64(b.Len()), generous); err != nil {
		t.Fatal(err)
	}
	if got, want := c.contents(t), "a/ 755\na/b 644 one\nc 644 "+strings.Repeat("two", 1000); got != want {
		t.Errorf("unpacked:\n%s\nwant:\n%s", got, want)
	}
}

// TestZip64 has more entries than the short record can count.
func TestZip64(t *testing.T) {
	content := zipball(t, zip65k()...)
	limits := generous
	limits.Entries = math.MaxUint16 + 10
	c := newCage(t)
	if err := Extract(t.Context(), c.root, bytes.NewReader(content), int64(len(content)), limits); err != nil {
		t.Fatal(err)
	}
	limits.Entries = math.MaxUint16
	if err := Extract(t.Context(), newCage(t).root, bytes.NewReader(content), int64(len(content)), limits); !errors.Is(err, ErrInvalid) {
		t.Errorf("with a lower limit: %v, want %v", err, ErrInvalid)
	}
	// The numbers of an entry may be in its extra field.
	var extra []byte
	extra = binary.LittleEndian.AppendUint16(extra, 1)
	extra = binary.LittleEndian.AppendUint16(extra, 16)
	extra = binary.LittleEndian.AppendUint64(extra, 1)
	extra = binary.LittleEndian.AppendUint64(extra, 1)
	content = zipball(t, changed(stored("a", "x"), func(h *zip.FileHeader) { h.Extra = extra }))
	header := bytes.LastIndex(content, []byte("PK\x01\x02"))
	copy(content[header+20:], "\xff\xff\xff\xff\xff\xff\xff\xff")
	c = newCage(t)
	if err := Extract(t.Context(), c.root, bytes.NewReader(content), int64(len(content)), generous); err != nil || c.contents(t) != "a 644 x" {
		t.Errorf("large numbers: %v, %q", err, c.contents(t))
	}
}

// zip65k are as many directories, in one, as need a zip64 record, and one more entry.
func zip65k() []zipped {
	entries := make([]zipped, 0, math.MaxUint16+1)
	for range cap(entries) {
		entries = append(entries, zipDir("d/", 0o755))
	}
	return entries
}

// evilZips are zips that must be refused.
func evilZips(t testing.TB) map[string][]byte {
	t.Helper()
	device := func(mode fs.FileMode) zipped { return packed("dev", mode, zip.Store, "", nil) }
	raw := func(content []byte, sig string, at int, with ...byte) []byte {
		content = bytes.Clone(content)
		copy(content[bytes.LastIndex(content, []byte(sig))+at:], with)
		return content
	}
	const header, local, end = "PK\x01\x02", "PK\x03\x04", "PK\x05\x06"
	one := zipball(t, stored("a", "x"))
	two := zipball(t, stored("a", "x"), stored("b", "x"))
	archives := map[string][]byte{
		"parent":                       zipball(t, stored("../canary", "dead")),
		"parent further on":            zipball(t, stored("a/../../canary", "dead")),
		"parent that comes back":       zipball(t, stored("a/../b", "x")),
		"parent by backslash":          zipball(t, stored(`..\canary`, "dead")),
		"backslash":                    zipball(t, stored(`a\b`, "x")),
		"drive":                        zipball(t, stored(`C:\canary`, "dead")),
		"absolute":                     zipball(t, stored("/tmp/canary", "dead")),
		"absolute directory":           zipball(t, zipDir("/", 0o755)),
		"parent as a directory":        zipball(t, zipDir("../new/", 0o755)),
		"NUL":                          zipball(t, stored("a\x00b", "x")),
		"no name":                      zipball(t, stored("", "x")),
		"empty part":                   zipball(t, stored("a//b", "x")),
		"dot inside":                   zipball(t, stored("a/./b", "x")),
		"too deep":                     zipball(t, stored(strings.Repeat("d/", 20)+"f", "x")),
		"name too long":                zipball(t, stored(strings.Repeat("n", 300), "x")),
		"path too long":                zipball(t, stored(strings.Repeat(strings.Repeat("n", 250)+"/", 18)+"n", "x")),
		"file twice":                   zipball(t, stored("a", "1"), stored("a", "2")),
		"file twice, with a dot":       zipball(t, stored("a", "1"), stored("./a", "2")),
		"file over a directory":        zipball(t, zipDir("a/", 0o755), stored("a", "2")),
		"file below a file":            zipball(t, stored("a", "1"), stored("a/b", "2")),
		"directory over a file":        zipball(t, stored("a", "1"), zipDir("a/", 0o755)),
		"link over a file":             zipball(t, stored("a", "1"), zipLink("a", "b")),
		"file over a link":             zipball(t, zipLink("a", "b"), stored("a", "2")),
		"file through a link":          zipball(t, zipDir("d/", 0o755), zipLink("a", "d"), stored("a/f", "2")),
		"link out":                     zipball(t, zipLink("a", "../canary"), stored("b", "x")),
		"absolute link":                zipball(t, zipLink("a", "/etc/passwd")),
		"empty link":                   zipball(t, zipLink("a", "")),
		"NUL in a link":                zipball(t, zipLink("a", "b\x00c")),
		"link that is too long":        zipball(t, zipLink("a", strings.Repeat("b", maxPath+1))),
		"link down and up":             zipball(t, zipLink("a", "b/../c")),
		"device":                       zipball(t, device(fs.ModeDevice)),
		"character device":             zipball(t, device(fs.ModeDevice|fs.ModeCharDevice)),
		"pipe":                         zipball(t, device(fs.ModeNamedPipe)),
		"socket":                       zipball(t, device(fs.ModeSocket)),
		"encrypted":                    zipball(t, changed(stored("a", "x"), func(h *zip.FileHeader) { h.Flags |= 1 })),
		"unknown method":               zipball(t, changed(stored("a", "x"), func(h *zip.FileHeader) { h.Method = 12 })),
		"directory with content":       zipball(t, changed(stored("a", "x"), func(h *zip.FileHeader) { h.SetMode(fs.ModeDir | 0o755) })),
		"says less than it has":        zipball(t, changed(stored("a", "xyz"), func(h *zip.FileHeader) { h.UncompressedSize64 = 1 })),
		"deflated, says less":          zipball(t, changed(deflated(t, "a", 0o644, "xyz"), func(h *zip.FileHeader) { h.UncompressedSize64 = 1 })),
		"says nothing and has":         zipball(t, changed(deflated(t, "a", 0o644, "xyz"), func(h *zip.FileHeader) { h.UncompressedSize64 = 0 })),
		"says more than it has":        zipball(t, changed(stored("a", "x"), func(h *zip.FileHeader) { h.UncompressedSize64 = 2 })),
		"deflated, says more":          zipball(t, changed(deflated(t, "a", 0o644, "x"), func(h *zip.FileHeader) { h.UncompressedSize64 = 2 })),
		"says more than there can be":  zipball(t, changed(stored("a", "x"), func(h *zip.FileHeader) { h.UncompressedSize64 = math.MaxUint64 })),
		"packed more than there is":    zipball(t, changed(stored("a", "x"), func(h *zip.FileHeader) { h.CompressedSize64 = 1000 })),
		"packed more than can be":      zipball(t, changed(stored("a", "x"), func(h *zip.FileHeader) { h.CompressedSize64 = math.MaxUint64 })),
		"wrong checksum":               zipball(t, changed(stored("a", "x"), func(h *zip.FileHeader) { h.CRC32++ })),
		"deflate that is none":         zipball(t, packed("a", 0o644, zip.Deflate, "x", []byte("\xff\xff"))),
		"too many bytes":               zipball(t, stored("a", strings.Repeat("x", 1<<20)), stored("b", "x")),
		"many entries":                 zipball(t, slices.Repeat([]zipped{zipDir("d/", 0o755)}, 1001)...),
		"cut off":                      one[:len(one)-1],
		"cut off in the middle":        one[:40],
		"appended":                     append(slices.Clone(one), 0),
		"prefixed":                     append([]byte("PK\x03\x04"), one...),
		"no entries and a lie":         []byte("PK\x05\x06\x00\x00\x00\x00\x01\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"),
		"two names":                    raw(one, header, 46, 'b'),
		"entry that is elsewhere":      raw(two, header, 42, 1),
		"entry beyond the end":         raw(one, header, 42, 0xff, 0xff, 0xff, 0x7f),
		"entry in the directory":       raw(one, header, 42, byte(bytes.Index(one, []byte(header)))),
		"damaged header":               raw(one, header, 0, 'X'),
		"damaged local header":         raw(one, local, 1, 'X', 'X', 'X'),
		"two entries of the same byte": raw(zipball(t, stored("a", strings.Repeat("x", 300)), stored("a", strings.Repeat("x", 300))), header, 42, 0),
		"one of several parts":         raw(one, end, 4, 1),
		"fewer entries than there are": raw(two, end, 8, 1, 0, 1, 0),
		"more entries than there are":  raw(one, end, 8, 2, 0, 2, 0),
		"directory that is elsewhere":  raw(one, end, 16, 1),
		"directory beyond the end":     raw(one, end, 16, 0xff, 0xff, 0xff, 0x7f),
		"directory that is longer":     raw(one, end, 12, 0xff),
		"saturated, without zip64":     raw(one, end, 8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff),
	}
	large := zipball(t, zip65k()[:math.MaxUint16]...)
	archives["zip64 that is elsewhere"] = raw(large, "PK\x06\x07", 8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)
	archives["zip64 that is another"] = raw(large, "PK\x06\x07", 8, 0)
	return archives
}

func TestZipEvil(t *testing.T) {
	for name, content := range evilZips(t) {
		t.Run(name, func(t *testing.T) {
			c := newCage(t)
			err := Extract(t.Context(), c.root, bytes.NewReader(content), int64(len(content)), generous)
			c.check(t)
			if !errors.Is(err, ErrInvalid) {
				t.Errorf("error %v, want %v", err, ErrInvalid)
			}
		})
	}
}

// TestZipOverlap has entries that share their bytes, each under its own local header: far more would come of them than of the bytes.
func TestZipOverlap(t *testing.T) {
	// The first entry is stored, and what it stores is the local header of the second and its content.
	inner := zipball(t, stored("b", strings.Repeat("x", 1000)))
	inner = inner[:bytes.Index(inner, []byte("PK\x01\x02"))]
	content := zipball(t, stored("a", string(inner)), stored("b", strings.Repeat("x", 1000)))
	header := bytes.LastIndex(content, []byte("PK\x01\x02"))
	binary.LittleEndian.PutUint32(content[header+42:], 31) // behind the first local header
	// Without the second local header and its content the directory moves forward.
	dir := bytes.Index(content, []byte("PK\x01\x02"))
	content = append(content[:31+len(inner):31+len(inner)], content[dir:]...)
	end := bytes.LastIndex(content, []byte("PK\x05\x06"))
	binary.LittleEndian.PutUint32(content[end+16:], uint32(31+len(inner)))
	if _, err := zip.NewReader(bytes.NewReader(content), int64(len(content))); err != nil {
		t.Fatalf("the zip is not what it should be: %v", err)
	}
	c := newCage(t)
	err := Extract(t.Context(), c.root, bytes.NewReader(content), int64(len(content)), generous)
	if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "shares its bytes") {
		t.Errorf("error %v, want one of shared bytes", err)
	}
	if _, err := os.Lstat(filepath.Join(c.dir, "b")); err == nil {
		t.Error("the second entry was unpacked")
	}
}

func FuzzZip(f *testing.F) {
	seeds := evilZips(f)
	seeds["good"] = zipball(f, zipDir("d/", 0o755), stored("d/f", "x"), deflated(f, "g", 0o755, "yyyy"), zipLink("d/l", "../d/f"))
	for _, name := range slices.Sorted(maps.Keys(seeds)) {
		if len(seeds[name]) < 64<<10 {
			f.Add(seeds[name])
		}
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		if !bytes.HasPrefix(content, []byte("PK")) {
			content = append([]byte("PK\x03\x04"), content...)
		}
		fuzzed(t, content)
	})
}
