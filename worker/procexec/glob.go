package procexec

import (
	"errors"
	"fmt"
	"path"
	"strings"
)

// A glob is an artifact pattern, cut at its slashes. It never ends in **.
type glob []string

// parseGlob reads a pattern as [Spec.Artifacts] describes it. An error says what to change and reads on from the pattern.
func parseGlob(pattern string) (glob, error) {
	switch {
	case pattern == "":
		return nil, errors.New("is empty: name a file or a glob")
	case len(pattern) > MaxGlob:
		return nil, fmt.Errorf("has %d bytes: %d are allowed", len(pattern), MaxGlob)
	case pattern[0] == '/':
		return nil, errors.New("is absolute: write it relative to the source directory")
	}
	g := glob(strings.Split(pattern, "/"))
	for _, segment := range g {
		_, err := path.Match(segment, "")
		switch {
		case segment == "" || segment == "." || segment == "..":
			return nil, errors.New(`has an empty, "." or ".." segment: write it as a plain relative path`)
		case segment != "**" && strings.Contains(segment, "**"):
			return nil, errors.New("has ** beside other characters: let it be a segment of its own, as in a/**/b")
		case err != nil:
			return nil, errors.New("has an unclosed [ or an open \\: close or escape it")
		case strings.IndexByte(segment, 0) >= 0:
			return nil, errors.New("holds a NUL byte: remove it")
		}
	}
	if g[len(g)-1] == "**" {
		g = append(g, "*")
	}
	return g, nil
}

// match reports whether the glob names the file, a slash-separated relative path.
// Its time is at most the product of both lengths: a mismatch goes back to the last ** only.
func (g glob) match(name string) bool {
	names := strings.Split(name, "/")
	stars, resume := -1, 0
	i, n := 0, 0
	for n < len(names) {
		switch {
		case i < len(g) && g[i] == "**":
			stars, resume = i, n
			i++
		case i < len(g) && matchSegment(g[i], names[n]):
			i++
			n++
		case stars >= 0:
			resume++
			i, n = stars+1, resume
		default:
			return false
		}
	}
	return i == len(g)
}

// below reports whether the glob can name a file below the directory, so that other directories need not be read.
func (g glob) below(dir string) bool {
	if dir == "." {
		return true
	}
	for name := range strings.SplitSeq(dir, "/") {
		switch {
		case len(g) > 0 && g[0] == "**":
			return true
		case len(g) == 0 || !matchSegment(g[0], name):
			return false
		}
		g = g[1:]
	}
	return len(g) > 0
}

func matchSegment(pattern, name string) bool {
	ok, _ := path.Match(pattern, name)
	return ok
}
