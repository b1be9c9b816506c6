package procexec

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/slipway-build/slipway/worker"
)

// plant creates files below dir; a content that begins with -> is a symbolic link.
func plant(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if target, ok := strings.CutPrefix(content, "->"); ok {
			err = os.Symlink(target, file)
		} else {
			err = os.WriteFile(file, []byte(content), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func names(files []worker.File) []string {
	var list []string
	for _, f := range files {
		list = append(list, f.Name)
	}
	return list
}

func TestCollect(t *testing.T) {
	outside := t.TempDir()
	plant(t, outside, map[string]string{"canary": "secret", "dir/canary": "secret"})
	source := t.TempDir()
	plant(t, source, map[string]string{
		"a.txt": "", "b.log": "", "dist/z": "", "dist/a/one": "", "dist/a.d/two": "", "dist.txt": "", ".hidden/x": "", "deep/1/2/3/report.xml": "",
		"links/inside": "->../a.txt", "links/outside": "->" + filepath.Join(outside, "canary"), "links/dir": "->" + filepath.Join(outside, "dir"),
		"links/up": "->..", "new\nline": "",
	})
	tests := []struct {
		name     string
		patterns []string
		want     []string
		log      string
	}{
		{"nothing asked", nil, nil, ""},
		{"one", []string{"a.txt"}, []string{"a.txt"}, ""},
		{"sorted by name, each once", []string{"dist/**", "*.txt", "dist/z", "a.*"}, []string{"a.txt", "dist.txt", "dist/a.d/two", "dist/a/one", "dist/z"}, ""},
		{"any depth", []string{"**/*.xml"}, []string{"deep/1/2/3/report.xml"}, ""},
		{"hidden", []string{"*/x"}, []string{".hidden/x"}, ""},
		{"no match", []string{"nothing/*", "a.txt"}, []string{"a.txt"}, "slipway: artifact \"nothing/*\" matches no regular file\n"},
		{"directory", []string{"dist"}, nil, "slipway: artifact \"dist\" matches no regular file\n"},
		{
			"links",
			[]string{"links/**"},
			nil,
			"slipway: artifact \"links/dir\" is left out: it is not a regular file\n" +
				"slipway: artifact \"links/inside\" is left out: it is not a regular file\n" +
				"slipway: artifact \"links/outside\" is left out: it is not a regular file\n" +
				"slipway: artifact \"links/up\" is left out: it is not a regular file\n" +
				"slipway: artifact \"links/**\" matches no regular file\n",
		},
		{"through links", []string{"links/dir/canary", "links/up/a.txt"}, nil, "slipway: artifact \"links/dir/canary\" matches no regular file\n" +
			"slipway: artifact \"links/up/a.txt\" matches no regular file\n"},
		{"no forged lines", []string{"new*", "\n"}, []string{"new\nline"}, "slipway: artifact \"\\n\" matches no regular file\n"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var log bytes.Buffer
			files := collect(source, nil, test.patterns, &buildLog{w: &log}, nil)
			if got := names(files); !slices.Equal(got, test.want) {
				t.Errorf("collected %q, want %q", got, test.want)
			}
			if log.String() != test.log {
				t.Errorf("log\n%s, want\n%s", &log, test.log)
			}
			for _, f := range files {
				if want := filepath.Join(source, f.Name); f.Path != want {
					t.Errorf("%s lies at %s, want %s", f.Name, f.Path, want)
				}
			}
		})
	}
}

func TestCollectWithoutSource(t *testing.T) {
	var log bytes.Buffer
	files := collect(filepath.Join(t.TempDir(), "gone"), nil, []string{"*"}, &buildLog{w: &log, open: true}, nil)
	if len(files) != 0 || !strings.HasPrefix(log.String(), "\nslipway: no artifacts: ") {
		t.Errorf("collected %v, log %q", files, &log)
	}
}

func TestCollectStops(t *testing.T) {
	source := t.TempDir()
	plant(t, source, map[string]string{"a": ""})
	stop := make(chan struct{})
	close(stop)
	if files := collect(source, nil, []string{"*"}, &buildLog{w: &bytes.Buffer{}}, stop); len(files) != 0 {
		t.Errorf("collected %v after the stop", files)
	}
}
