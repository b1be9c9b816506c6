package migrate

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
)

// A Step leads from one version of the tables to the next.
type Step struct {
	// Version is that of the tables afterwards.
	Version int
	// MinCompatible is the lowest version of code that can work with them afterwards.
	MinCompatible int
	// MinCompatibleNew is that of tables which no older code has ever worked with, since this step is run together with the first.
	MinCompatibleNew int
	// Statements are run one by one.
	Statements []string
}

// Load reads the files *.sql of fsys. A file's name begins with its version, "0001_", its first line is "-- min_compatible: N", or
// "-- min_compatible: N, of new tables: M" if what it does for older code it does only where there may be any, and a statement ends with a
// semicolon at the end of a line. Versions count from 1 without gaps.
func Load(fsys fs.FS) ([]Step, error) {
	names, err := fs.Glob(fsys, "*.sql")
	if err != nil {
		return nil, err
	}
	steps := make([]Step, 0, len(names))
	for _, name := range names {
		text, err := fs.ReadFile(fsys, name)
		if err != nil {
			return nil, err
		}
		step, err := parse(name, text)
		if err != nil {
			return nil, fmt.Errorf("migration %s: %w", name, err)
		}
		if step.Version != len(steps)+1 {
			return nil, fmt.Errorf("migration %s: version %d is missing", name, len(steps)+1)
		}
		steps = append(steps, step)
	}
	return steps, nil
}

func parse(name string, text []byte) (Step, error) {
	number, _, _ := strings.Cut(name, "_")
	version, err := strconv.Atoi(number)
	if err != nil {
		return Step{}, errors.New("its name must begin with a number and an underscore")
	}
	header, body, _ := strings.Cut(string(text), "\n")
	least, leastNew, ok := compatible(header, version)
	if !ok {
		return Step{}, errors.New(`its first line must be "-- min_compatible: N" or "-- min_compatible: N, of new tables: M", N <= M <= its version`)
	}
	step := Step{Version: version, MinCompatible: least, MinCompatibleNew: leastNew}
	var statement strings.Builder
	for line := range strings.Lines(body) {
		content := strings.TrimSpace(line)
		if statement.Len() == 0 && (content == "" || strings.HasPrefix(content, "--")) {
			continue
		}
		statement.WriteString(line)
		if strings.HasSuffix(content, ";") {
			step.Statements = append(step.Statements, statement.String())
			statement.Reset()
		}
	}
	if statement.Len() > 0 {
		return Step{}, errors.New("its last statement has no end")
	}
	return step, nil
}

// compatible reads the first line of the step to a version.
func compatible(header string, version int) (least, leastNew int, ok bool) {
	header, ok = strings.CutPrefix(header, "-- min_compatible: ")
	value, valueNew, differ := strings.Cut(header, ", of new tables: ")
	if !differ {
		valueNew = value
	}
	least, err := strconv.Atoi(value)
	leastNew, errNew := strconv.Atoi(valueNew)
	return least, leastNew, ok && err == nil && errNew == nil && 1 <= least && least <= leastNew && leastNew <= version
}
