package sqlqueue

import (
	"strings"

	"github.com/uptrace/bun"
)

// Names turns the names of this package's tables into those of one database.
type Names struct {
	prefix string
}

// WithPrefix returns names that all begin with prefix, which goes into SQL as it is: `"slipway".` with quotes and dot for a
// schema of PostgreSQL, `slipway_` for SQLite. It must come from code, or have been quoted by the caller.
func WithPrefix(prefix string) Names { return Names{prefix: prefix} }

// Expand puts the prefix in the place of each {schema} in sql.
func (n Names) Expand(sql string) string { return strings.ReplaceAll(sql, "{schema}", n.prefix) }

// Table returns a table's full name, to be an argument of a bun query.
func (n Names) Table(name string) bun.Safe { return bun.Safe(n.prefix + name) }
