package examples_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"testing"
)

// TestSecurityNamesTests holds docs/security.md against the tests: all that it names exist, and all points of its list are there.
func TestSecurityNamesTests(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "docs", "security.md"))
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`([a-z/]+)\\.((?:Test|Fuzz)\\w+)`").FindAllSubmatch(text, -1)
	if len(named) < 100 {
		t.Errorf("%d tests are named", len(named))
	}
	for _, name := range named {
		pkg, test := string(name[1]), string(name[2])
		files, err := filepath.Glob(filepath.Join("..", filepath.FromSlash(pkg), "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		declared := regexp.MustCompile(`(?m)^func ` + test + `\(`)
		if !slices.ContainsFunc(files, func(file string) bool {
			content, err := os.ReadFile(file)
			return err == nil && declared.Match(content)
		}) {
			t.Errorf("there is no %s in %s", test, pkg)
		}
	}
	var points []int
	for _, point := range regexp.MustCompile(`(?m)^\*\*[^*]+\*\* \((\d+)\)`).FindAllSubmatch(text, -1) {
		n, err := strconv.Atoi(string(point[1]))
		if err != nil {
			t.Fatal(err)
		}
		points = append(points, n)
	}
	slices.Sort(points)
	for i := range 33 {
		if i >= len(points) || points[i] != i+1 {
			t.Fatalf("the points are %v, want each from 1 to 33", points)
		}
	}
}
