package pack_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/slipway-build/slipway/examples/internal/pack"
)

// tree writes files below a new directory. A content that begins with "-> " makes a symbolic link.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	write(t, dir, files)
	return dir
}

func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		path := filepath.Join(dir, name)
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		if target, isLink := strings.CutPrefix(content, "-> "); isLink {
			err = errors.Join(err, os.Symlink(target, path))
		} else {
			err = errors.Join(err, os.WriteFile(path, []byte(content), 0o600))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func archive(t *testing.T, dir string, o *pack.Options) []byte {
	t.Helper()
	var b bytes.Buffer
	if _, err := pack.Write(t.Context(), &b, dir, o); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// entries reads an archive back, one line for each entry.
func entries(t *testing.T, packed []byte) []string {
	t.Helper()
	unzipped, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for r := tar.NewReader(unzipped); ; {
		h, err := r.Next()
		if err == io.EOF {
			return lines
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if h.Uid != 0 || h.Gid != 0 || h.Uname != "" || h.Gname != "" || h.ModTime.Unix() != 0 {
			t.Errorf("%s has an owner or a time: %+v", h.Name, h)
		}
		lines = append(lines, strings.TrimSpace(fmt.Sprintf("%o %s %s%s", h.Mode, h.Name, h.Linkname, content)))
	}
}

func expect(t *testing.T, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("packed\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

func TestWrite(t *testing.T) {
	dir := tree(t, map[string]string{
		"b.txt": "two", "a/deep/x": "one", "a/link": "-> ../b.txt", "run.sh": "#!/bin/sh", ".hidden": "h",
		".git/config": "no", "sub/.git/HEAD": "no", "sub/kept": "yes", "dangling": "-> ./nowhere//", "empty": "",
	})
	if err := os.Chmod(filepath.Join(dir, "run.sh"), 0o711); err != nil {
		t.Fatal(err)
	}
	packed := archive(t, dir, &pack.Options{Everything: true})
	expect(t, entries(t, packed), []string{
		"644 .hidden h",
		"755 a/",
		"755 a/deep/",
		"644 a/deep/x one",
		"777 a/link ../b.txt",
		"644 b.txt two",
		"777 dangling ./nowhere//",
		"644 empty",
		"755 run.sh #!/bin/sh",
		"755 sub/",
		"644 sub/kept yes",
	})
}

func TestWriteIsDeterministic(t *testing.T) {
	files := map[string]string{"z": "1", "a/b": "2", "a/c": "-> b", strings.Repeat("long/", 60) + "name": "3"}
	one, other := tree(t, files), tree(t, files)
	old := time.Unix(1_000_000_000, 0)
	if err := errors.Join(os.Chtimes(filepath.Join(other, "z"), old, old), os.Chmod(filepath.Join(other, "z"), 0o666)); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(other, filepath.Join(t.TempDir(), "link")); err != nil {
		t.Fatal(err)
	}
	a, b := sha256.Sum256(archive(t, one, nil)), sha256.Sum256(archive(t, other, nil))
	if a != b {
		t.Errorf("equal trees give different archives: %x and %x", a, b)
	}
}

func TestWriteThroughLink(t *testing.T) {
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(tree(t, map[string]string{"f": "1"}), link); err != nil {
		t.Fatal(err)
	}
	expect(t, entries(t, archive(t, link, nil)), []string{"644 f 1"})
}

func TestWriteLongNames(t *testing.T) {
	name := strings.Repeat("d/", 200) + strings.Repeat("ü", 120)
	got := entries(t, archive(t, tree(t, map[string]string{name: "x"}), nil))
	if last := got[len(got)-1]; last != "644 "+name+" x" || len(got) != 201 {
		t.Errorf("%d entries, the last is %q", len(got), last)
	}
}

func TestWriteRefuses(t *testing.T) {
	tests := []struct {
		name  string
		files map[string]string
		make  func() error
		want  string
	}{
		{"nothing", nil, nil, "nothing to pack"},
		{"absolute link", map[string]string{"l": "-> /etc/passwd"}, nil, `cannot pack "l": it is a symbolic link to "/etc/passwd"`},
		{"link out of the directory", map[string]string{"a/l": "-> ../../x"}, nil, `cannot pack "a/l": it is a symbolic link to "../../x"`},
		{"link that goes up in its middle", map[string]string{"a/l": "-> b/../c"}, nil, `cannot pack "a/l": it is a symbolic link to "b/../c"`},
		{"named pipe", nil, func() error {
			return syscall.Mkfifo("pipe", 0o600)
		}, `cannot pack "pipe": it is a named pipe`},
		{"socket", nil, func() error {
			l, err := net.ListenUnix("unix", &net.UnixAddr{Name: "s"})
			if err == nil {
				l.SetUnlinkOnClose(false)
				err = l.Close()
			}
			return err
		}, `cannot pack "s": it is a socket`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := tree(t, test.files)
			t.Chdir(dir) // the name of a socket must be short
			if test.make != nil {
				if err := test.make(); err != nil {
					t.Fatal(err)
				}
			}
			_, err := pack.Write(t.Context(), io.Discard, dir, &pack.Options{Everything: true})
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want an error that says %s", err, test.want)
			}
		})
	}
}

func TestWriteNoDirectory(t *testing.T) {
	_, err := pack.Write(t.Context(), io.Discard, filepath.Join(t.TempDir(), "none"), nil)
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	file := filepath.Join(tree(t, map[string]string{"f": ""}), "f")
	if _, err := pack.Write(t.Context(), io.Discard, file, nil); err == nil {
		t.Error("a file was packed like a directory")
	}
}

func TestWriteEnds(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("enough")
	cancel(stop)
	if _, err := pack.Write(ctx, io.Discard, tree(t, map[string]string{"f": ""}), nil); !errors.Is(err, stop) {
		t.Errorf("got %v", err)
	}
}

// git runs git without the settings of whoever runs the test.
func git(t *testing.T, dir string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "git", append([]string{"-C", dir, "-c", "user.name=t", "-c", "user.email=t@example.com"}, args...)...)
	cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL="+os.DevNull)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("git %s: %v\n%s", args, err, out)
	}
}

func TestWriteCheckout(t *testing.T) {
	dir := tree(t, map[string]string{
		".gitignore": "*.o\n/out/", "tracked": "1", "removed": "2", "forced.o": "3",
		"sub/a.txt": "4",
	})
	git(t, dir, "init", "-q")
	git(t, dir, "add", "-f", ".")
	write(t, dir, map[string]string{"new": "5", "x.o": "6", "out/y": "7", "name with\nbreak": "8", "inner/f": "9", "inner/f.tmp": "10", "inner/.gitignore": "*.tmp"})
	git(t, filepath.Join(dir, "inner"), "init", "-q")
	if err := os.Remove(filepath.Join(dir, "removed")); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"644 .gitignore *.o\n/out/",
		"644 forced.o 3",
		"755 inner/",
		"644 inner/.gitignore *.tmp",
		"644 inner/f 9",
		"644 name with\nbreak 8",
		"644 new 5",
		"755 sub/",
		"644 sub/a.txt 4",
		"644 tracked 1",
	}
	expect(t, entries(t, archive(t, dir, nil)), want)

	t.Run("directory of it", func(t *testing.T) {
		expect(t, entries(t, archive(t, filepath.Join(dir, "sub"), nil)), []string{"644 a.txt 4"})
	})
	t.Run("from a hook", func(t *testing.T) {
		t.Setenv("GIT_DIR", t.TempDir())
		expect(t, entries(t, archive(t, dir, nil)), want)
	})
	t.Run("without git", func(t *testing.T) {
		t.Setenv("PATH", t.TempDir())
		if got := entries(t, archive(t, dir, nil)); !slices.Contains(got, "644 x.o 6") {
			t.Errorf("what git would ignore is missing: %q", got)
		}
	})
	t.Run("everything", func(t *testing.T) {
		if got := entries(t, archive(t, dir, &pack.Options{Everything: true})); !slices.Contains(got, "644 out/y 7") {
			t.Errorf("what git ignores is missing: %q", got)
		}
	})
	t.Run("broken", func(t *testing.T) {
		write(t, dir, map[string]string{"broken/.git": "gitdir: /nowhere", "broken/f": ""})
		if _, err := pack.Write(t.Context(), io.Discard, filepath.Join(dir, "broken"), nil); !errors.Is(err, pack.ErrGit) || strings.Contains(err.Error(), "\n") {
			t.Errorf("got %v, want an error of one line", err)
		}
	})
}
