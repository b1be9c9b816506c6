package main

import (
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/agnivade/levenshtein"
)

// mostConfig is how many bytes a config file may have.
const mostConfig = 1 << 20

// An origin is where a setting was made.
type origin struct {
	name string // what the setting is called there: a flag, a variable, or a key with file and line
	file bool
}

// readConfig takes settings that were made nowhere else from a file of lines "key = value". Keys are the names of flags. Empty lines, and
// those that begin with #, are passed over. Only a key whose value is a list may be repeated.
func (s *settings) readConfig(f *flag.FlagSet, path string) error {
	file, err := os.Open(path)
	if err != nil {
		return unusable("%s: %w", s.called("config"), err)
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, mostConfig+1))
	if err != nil {
		return unusable("%s: %w", s.called("config"), err)
	}
	if len(text) > mostConfig {
		return unusable("%s: %s is longer than %d bytes", s.called("config"), path, mostConfig)
	}
	elsewhere := maps.Clone(s.origin)
	number := 0
	for line := range strings.Lines(string(text)) {
		number++
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if !ok {
			return unusable("%s:%d: a line must have the form key = value", path, number)
		}
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		if variables[key] == "" || key == "config" {
			return unusable("%s:%d: there is no setting %.40q: did you mean %s?", path, number, key, nearest(key))
		}
		fl := f.Lookup(key)
		if _, isList := fl.Value.(*list); !isList && s.origin[key].file {
			return unusable("%s:%d: %s is set a second time", path, number, key)
		}
		if _, ok := elsewhere[key]; ok {
			continue // by what prevails
		}
		if err := fl.Value.Set(value); err != nil {
			return unusable("%s:%d: %s: %w; see -%s in agent -help", path, number, key, err, key)
		}
		s.origin[key] = origin{name: fmt.Sprintf("%s:%d: %s", path, number, key), file: true}
	}
	return nil
}

// nearest returns the setting whose name takes the fewest changes to become key.
func nearest(key string) string {
	names := slices.Sorted(maps.Keys(variables))
	names = slices.DeleteFunc(names, func(name string) bool { return name == "config" })
	return slices.MinFunc(names, func(a, b string) int {
		return levenshtein.ComputeDistance(a, key) - levenshtein.ComputeDistance(b, key)
	})
}
