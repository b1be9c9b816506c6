package sqlqueue

import (
	"strconv"
	"strings"

	"github.com/uptrace/bun"
)

// Names turns the names of this package's tables into those of one database.
type Names struct {
	prefix   string
	replacer *strings.Replacer
}

// WithPrefix returns names that all begin with prefix, which goes into SQL as it is: `"slipway".` with quotes and dot for a
// schema of PostgreSQL, `slipway_` for SQLite. It must come from code, or have been quoted by the caller.
func WithPrefix(prefix string) Names {
	pairs := []string{"{schema}", prefix}
	for s, name := range stateNames {
		pairs = append(pairs, "{"+name+"}", strconv.Itoa(s))
	}
	return Names{prefix: prefix, replacer: strings.NewReplacer(pairs...)}
}

// Expand puts the prefix in the place of each {schema} in sql, and the number of a stored state in the place of its name in
// braces: {held}, {queued}, {offered}, {running}, {cancelling}, {succeeded}, {failed}, {canceled}, {timed_out}, {expired}, {lost}.
// Expand each text once, not at each use.
func (n Names) Expand(sql string) string { return n.replacer.Replace(sql) }

// Table returns a table's full name, to be an argument of a bun query.
func (n Names) Table(name string) bun.Safe { return bun.Safe(n.prefix + name) }
