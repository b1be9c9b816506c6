package faultcalls

import (
	"fmt"
	"slices"
)

// States as they are stored.
const (
	offered    = 2
	running    = 3
	cancelling = 4
	ended      = 5 // and above
)

// holds reports whether a column is true: databases without a type for that have the number 1.
func (r Row) holds(column string) bool { return r[column] == true || r[column] == int64(1) }

func leased(build Row) bool {
	return build.number("state") >= offered && build.number("state") <= cancelling
}

// insane returns what cannot be true of rows, beyond what the constraints of their tables exclude: of a build in two places.
func (all Rows) insane() string {
	builds := make(map[string]Row)
	for _, b := range all.tables["build"] {
		builds[b.text("id")] = b
	}
	for _, a := range all.tables["attempt"] {
		if b := builds[a.text("build_id")]; a.number("epoch") == b.number("epoch") && leased(b) {
			return fmt.Sprintf("attempt %v has ended, and is leased: %v", a, b)
		}
	}
	for _, b := range builds {
		if over := b.number("state") >= ended && b.number("attempts_used") == b.number("epoch") && b.number("epoch") > 0; over &&
			!slices.ContainsFunc(all.tables["attempt"], func(a Row) bool {
				return a.text("build_id") == b.text("id") && a.number("epoch") == b.number("epoch")
			}) {
			return fmt.Sprintf("build %v has ended without its attempt", b)
		}
	}
	for _, h := range all.tables["log_head"] {
		b := builds[h.text("build_id")]
		open := h.number("epoch") == b.number("epoch") && leased(b) && b.number("state") != offered
		if h.holds("closed") == open {
			return fmt.Sprintf("log %v is closed, or open, against its build: %v", h, b)
		}
		var length int64
		for _, c := range all.tables["log_chunk"] {
			if c.text("build_id") == h.text("build_id") && c.text("epoch") == h.text("epoch") {
				length += int64(len(c.text("data"))) / 2
			}
		}
		if !h.holds("archived") && length != h.number("length") {
			return fmt.Sprintf("log %v has %d bytes", h, length)
		}
	}
	return ""
}

// regress returns what must not become of rows: an epoch that falls, a build or an attempt that has ended and changes.
func (all Rows) regress(later Rows) string {
	for _, b := range all.tables["build"] {
		now := later.find("build", b, "id")
		switch {
		case now == nil && b.number("state") >= ended: // for good
		case now == nil:
			return fmt.Sprintf("build %v is gone", b)
		case now.number("epoch") < b.number("epoch"):
			return fmt.Sprintf("the epoch of build %v falls: %v", b, now)
		case b.number("state") >= ended && fmt.Sprint(now) != fmt.Sprint(b):
			return fmt.Sprintf("build %v has ended, and becomes %v", b, now)
		}
	}
	for _, a := range all.tables["attempt"] {
		if now := later.find("attempt", a, "build_id", "epoch"); now != nil && fmt.Sprint(now) != fmt.Sprint(a) {
			return fmt.Sprintf("attempt %v has ended, and becomes %v", a, now)
		}
	}
	return ""
}

// find returns the row of a table that has the same key.
func (all Rows) find(table string, row Row, key ...string) Row {
	i := slices.IndexFunc(all.tables[table], func(r Row) bool {
		return !slices.ContainsFunc(key, func(column string) bool { return r.text(column) != row.text(column) })
	})
	if i < 0 {
		return nil
	}
	return all.tables[table][i]
}
