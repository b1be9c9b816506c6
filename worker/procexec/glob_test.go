package procexec

import (
	"path"
	"strings"
	"testing"
)

func TestGlobMatch(t *testing.T) {
	tests := []struct {
		glob string
		yes  []string
		no   []string
	}{
		{"a.txt", []string{"a.txt"}, []string{"b/a.txt", "a_txt", "a.txt/b"}},
		{"*.txt", []string{"a.txt", ".txt"}, []string{"b/a.txt", "a.txt.gz"}},
		{"dist/*", []string{"dist/a", "dist/.hidden"}, []string{"dist", "dist/a/b", "other/a"}},
		{"dist/**", []string{"dist/a", "dist/a/b/c"}, []string{"dist", "distance/a", "x/dist/a"}},
		{"**", []string{"a", "a/b", "a/b/c"}, nil},
		{"**/*.xml", []string{"a.xml", "a/b.xml", "a/b/c.xml"}, []string{"a.xm", "a.xml/b"}},
		{"a/**/b", []string{"a/b", "a/x/b", "a/x/y/b", "a/b/b"}, []string{"a", "b", "a/b/c", "x/a/b"}},
		{"a/**/**/b", []string{"a/b", "a/x/b"}, []string{"a/x"}},
		{"**/a/**/b/c", []string{"a/b/c", "x/a/b/b/c", "a/a/b/c"}, []string{"a/b/x/c", "b/c"}},
		{"[a-c]?/x\\*", []string{"b1/x*"}, []string{"d1/x*", "b1/xy"}},
		{"[^a]", []string{"b"}, []string{"a", "bb"}},
	}
	for _, test := range tests {
		g, err := parseGlob(test.glob)
		if err != nil {
			t.Errorf("%s: %v", test.glob, err)
			continue
		}
		for _, name := range test.yes {
			if !g.match(name) {
				t.Errorf("%s does not match %s", test.glob, name)
			}
		}
		for _, name := range test.no {
			if g.match(name) {
				t.Errorf("%s matches %s", test.glob, name)
			}
		}
	}
}

func TestParseGlobRefuses(t *testing.T) {
	for _, pattern := range []string{
		"", "/", "/a", "a/", "a//b", ".", "./a", "..", "../a", "a/..", "a/./b", "a**", "**b", "a/b**c", "***", "[", "[]", "a/[b", "a\\", "a\x00b",
		strings.Repeat("a", MaxGlob+1),
	} {
		if g, err := parseGlob(pattern); err == nil {
			t.Errorf("%.40q is read as %q", pattern, g)
		}
	}
}

// matchSlowly defines what a glob means.
func matchSlowly(g, names []string) bool {
	switch {
	case len(g) == 0:
		return len(names) == 0
	case g[0] == "**":
		return matchSlowly(g[1:], names) || len(names) > 0 && matchSlowly(g, names[1:])
	}
	return len(names) > 0 && matchSegment(g[0], names[0]) && matchSlowly(g[1:], names[1:])
}

func FuzzGlob(f *testing.F) {
	f.Add("a/**/b", "a/x/y/b")
	f.Add("**/a/**/a/**", "a/a/a/a/a/b")
	f.Add("*/[a-z]?/\\*", "x/ab/*")
	f.Fuzz(func(t *testing.T, pattern, name string) {
		g, err := parseGlob(pattern)
		if err != nil || name == "" || strings.Count(pattern, "**") > 6 || strings.Count(name, "/") > 12 {
			return
		}
		want := matchSlowly(g, strings.Split(name, "/"))
		if got := g.match(name); got != want {
			t.Fatalf("%q matches %q: %t, want %t", pattern, name, got, want)
		}
		if !want || path.Clean(name) != name || name[0] == '/' {
			return
		}
		for dir := path.Dir(name); ; dir = path.Dir(dir) {
			if !g.below(dir) {
				t.Fatalf("%q matches %q but is not searched for below %q", pattern, name, dir)
			}
			if dir == "." {
				return
			}
		}
	})
}
