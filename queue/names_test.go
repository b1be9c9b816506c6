package queue_test

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/slipway-build/slipway/queue"
)

func TestCheckName(t *testing.T) {
	for _, name := range []string{"a", "0", "site", "a.b", "a-b_c.d", "9lives", strings.Repeat("x", queue.MaxName)} {
		if err := queue.CheckName("project", name); err != nil {
			t.Errorf("CheckName(%q): %v", name, err)
		}
	}
	for _, name := range []string{
		"", ".", "..", "a..b", ".a", "-a", "_a", "A", "a b", "a/b", `a\b`, "a\x00", "ä", "a\n", "a%2e", "a:b", "a*", strings.Repeat("x", queue.MaxName+1),
	} {
		err := queue.CheckName("project", name)
		wantInvalid(t, name, err)
		if err != nil && !strings.Contains(err.Error(), "project") {
			t.Errorf("CheckName(%q) does not name the argument: %v", name, err)
		}
	}
}

func FuzzCheckName(f *testing.F) {
	for _, s := range []string{"a", "a.b", "..", "a/../b", "A", "a\x00b", "é", strings.Repeat("a", 64), "-", "con", "a..b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if err := queue.CheckName("pool", s); err != nil {
			wantInvalid(t, s, err)
			return
		}
		if s == "" || len(s) > queue.MaxName || path.Base(s) != s || path.Clean(s) != s || strings.ToLower(s) != s || strings.ContainsAny(s, " ,=%\\:") {
			t.Errorf("CheckName accepts %q", s)
		}
	})
}

func TestParseLabels(t *testing.T) {
	labels, err := queue.ParseLabels("os=linux", "arch=arm64", "gpu=", "example.com/tier=A_1.b-c")
	if err != nil || labels.String() != "arch=arm64,example.com/tier=A_1.b-c,gpu=,os=linux" {
		t.Errorf("ParseLabels = %v, %v", labels, err)
	}
	if labels, err := queue.ParseLabels(); err != nil || labels.String() != "" || len(labels) != 0 {
		t.Errorf("ParseLabels() = %v, %v", labels, err)
	}
	for _, pairs := range [][]string{
		{"os"},
		{""},
		{"=x"},
		{"os=linux", "os=linux"},
		{"os=a", "os=b"},
		{"OS=linux"},
		{"os=a b"},
		{"os=a=b"},
		{"os=a,b=c"},
		{"o s=a"},
		{"-a=b"},
		{"/a=b"},
		{"ä=b"},
		{"a=ä"},
		{"a=b\x00"},
		{strings.Repeat("k", queue.MaxLabelKey+1) + "=v"},
		{"k=" + strings.Repeat("v", queue.MaxLabelValue+1)},
	} {
		labels, err := queue.ParseLabels(pairs...)
		wantInvalid(t, fmt.Sprint(pairs), err)
		if labels != nil {
			t.Errorf("ParseLabels(%q) = %v with an error", pairs, labels)
		}
	}
	var many []string
	for i := range queue.MaxLabels + 1 {
		many = append(many, fmt.Sprintf("k%d=v", i))
	}
	if _, err := queue.ParseLabels(many[1:]...); err != nil {
		t.Errorf("%d labels: %v", queue.MaxLabels, err)
	}
	_, err = queue.ParseLabels(many...)
	wantInvalid(t, "too many labels", err)
}

// What a label error repeats of its input is bounded and printable.
func TestLabelErrorsAreShort(t *testing.T) {
	long := strings.Repeat("k\x1b[2J", 10_000)
	for _, pairs := range [][]string{{long}, {long + "=v"}, {long + "=v", long + "=v"}, {"k=" + long}} {
		_, err := queue.ParseLabels(pairs...)
		wantInvalid(t, "long label", err)
		if len(err.Error()) > 500 || strings.ContainsFunc(err.Error(), unicode.IsControl) {
			t.Errorf("error is %d bytes long: %.200q", len(err.Error()), err)
		}
	}
}

func TestSatisfies(t *testing.T) {
	worker := queue.Labels{"os": "linux", "arch": "arm64", "gpu": ""}
	for _, c := range []struct {
		required queue.Labels
		want     bool
	}{
		{nil, true},
		{queue.Labels{}, true},
		{queue.Labels{"os": "linux"}, true},
		{worker, true},
		{queue.Labels{"gpu": ""}, true},
		{queue.Labels{"os": "darwin"}, false},
		{queue.Labels{"ram": ""}, false},
		{queue.Labels{"os": "linux", "ram": "8"}, false},
	} {
		if got := worker.Satisfies(c.required); got != c.want {
			t.Errorf("%v satisfies %v: %t", worker, c.required, got)
		}
	}
	if queue.Labels(nil).Satisfies(worker) || !queue.Labels(nil).Satisfies(nil) {
		t.Error("a worker without labels satisfies what requires some, or not what requires none")
	}
}

func FuzzParseLabels(f *testing.F) {
	for _, s := range []string{"os=linux", "os=linux,arch=arm64", "=", "a=b,a=b", "a=b=c", "", "a=,b=", "A=B", "a/b.c_d-e=F", "a=\x00", ",", "k=ü"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		labels, err := queue.ParseLabels(strings.Split(s, ",")...)
		if err != nil {
			wantInvalid(t, s, err)
			return
		}
		if err := labels.Check(); err != nil {
			t.Errorf("ParseLabels(%q) is not in order: %v", s, err)
		}
		again, err := queue.ParseLabels(strings.Split(labels.String(), ",")...)
		if err != nil || again.String() != labels.String() || !again.Satisfies(labels) || !labels.Satisfies(again) {
			t.Errorf("%q reads back as %v, %v", labels, again, err)
		}
	})
}

func TestCheckArtifactName(t *testing.T) {
	for _, name := range []string{"a", "dir/a.tar.gz", "a b", "ä", "日本/語", "...", "a..b", "-rf", "%2e%2e", "a:b", "~", strings.Repeat("x", queue.MaxArtifactName)} {
		if err := queue.CheckArtifactName(name); err != nil {
			t.Errorf("CheckArtifactName(%q): %v", name, err)
		}
	}
	for _, name := range []string{
		"", "/", "/a", "a/", "a//b", ".", "..", "./a", "a/.", "a/../b", "../a", "a\\b", "a\x00", "a\nb", "a\x7f", "\xff", "a\u202eb", "a\u200bb", "\ufeffa",
		strings.Repeat("x", queue.MaxArtifactName+1),
	} {
		wantInvalid(t, name, queue.CheckArtifactName(name))
	}
}

func FuzzCheckArtifactName(f *testing.F) {
	for _, s := range []string{"a", "a/b", "../a", "a/./b", "/", "a\\b", "\x00", "\u202e", "a/", "ä", "\xff", strings.Repeat("a/", 200)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if err := queue.CheckArtifactName(s); err != nil {
			wantInvalid(t, s, err)
			return
		}
		if s == "" || len(s) > queue.MaxArtifactName || !utf8.ValidString(s) || path.IsAbs(s) || path.Clean(s) != s || path.Clean("/root/"+s) != "/root/"+s ||
			strings.ContainsRune(s, 0) || strings.Contains(s, `\`) || strings.ContainsFunc(s, unicode.IsControl) {
			t.Errorf("CheckArtifactName accepts %q", s)
		}
	})
}

// TestLabelsFitAnIndex submits labels each of which is as long as it may be.
func TestLabelsFitAnIndex(t *testing.T) {
	labels := make(queue.Labels)
	for i := range 15 {
		key := fmt.Sprintf("%02d", i)
		labels[key+strings.Repeat("k", queue.MaxLabelKey-len(key))] = strings.Repeat("v", queue.MaxLabelValue)
	}
	if n := len(labels.String()); n > queue.MaxLabelText || labels.Check() != nil {
		t.Errorf("labels of %d bytes: %v", n, labels.Check())
	}
	labels["one-more"] = strings.Repeat("v", queue.MaxLabelValue)
	labels["and-another"] = strings.Repeat("v", queue.MaxLabelValue)
	if err := labels.Check(); !errors.Is(err, queue.ErrInvalid) {
		t.Errorf("labels of %d bytes: got %v, want ErrInvalid", len(labels.String()), err)
	}
}
