package faultcalls

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// A Row is a row of a table by column. Bytes are kept as hexadecimal text, integers as int64.
type Row map[string]any

func (r Row) text(column string) string { return fmt.Sprint(r[column]) }

func (r Row) number(column string) int64 {
	n, _ := r[column].(int64)
	return n
}

// Rows are all that a database holds.
type Rows struct {
	tables map[string][]Row
	lines  []string // a line for each row, in order
}

// ReadRows reads tables, each named by prefix and its key in the result. Numbers by which the database names rows are replaced by their
// order, since those of transactions that were rolled back are missing.
func ReadRows(ctx context.Context, db *sql.DB, prefix string, tables []string) (Rows, error) {
	all := Rows{tables: make(map[string][]Row)}
	for _, table := range tables {
		rows, err := readTable(ctx, db, prefix+table)
		if err != nil {
			return Rows{}, fmt.Errorf("%s: %w", table, err)
		}
		all.tables[table] = rows
	}
	all.renumber()
	all.write()
	return all, nil
}

func readTable(ctx context.Context, db *sql.DB, name string) ([]Row, error) {
	found, err := db.QueryContext(ctx, "SELECT * FROM "+name)
	if err != nil {
		return nil, err
	}
	defer found.Close()
	columns, err := found.Columns()
	if err != nil {
		return nil, err
	}
	var rows []Row
	for found.Next() {
		values, into := make([]any, len(columns)), make([]any, len(columns))
		for i := range values {
			into[i] = &values[i]
		}
		if err := found.Scan(into...); err != nil {
			return nil, err
		}
		r := make(Row)
		for i, column := range columns {
			if b, ok := values[i].([]byte); ok {
				values[i] = fmt.Sprintf("%x", b)
			}
			r[column] = values[i]
		}
		delete(r, "tail") // of a log: a note of its newest write to itself
		rows = append(rows, r)
	}
	return rows, found.Err()
}

// renumber replaces the numbers that name rows by their order.
func (all Rows) renumber() {
	for table := range all.tables {
		var numbers []int64
		for _, r := range all.tables[table] {
			if n, ok := r["id"].(int64); ok {
				numbers = append(numbers, n)
			}
		}
		slices.Sort(numbers)
		for name := range all.tables {
			column := table + "_id"
			if name == table {
				column = "id"
			}
			for _, r := range all.tables[name] {
				if n, ok := r[column].(int64); ok {
					i, _ := slices.BinarySearch(numbers, n)
					r[column] = int64(i + 1)
				}
			}
		}
	}
}

// write writes the lines.
func (all *Rows) write() {
	for table, rows := range all.tables {
		for _, r := range rows {
			var w strings.Builder
			w.WriteString(table)
			for _, column := range slices.Sorted(maps.Keys(r)) {
				fmt.Fprintf(&w, " %s=%v", column, r[column])
			}
			all.lines = append(all.lines, w.String())
		}
	}
	slices.Sort(all.lines)
}

func (all Rows) equal(other Rows) bool { return slices.Equal(all.lines, other.lines) }

// diff returns what is in one of two and not in the other.
func diff(want, got Rows) string {
	var w strings.Builder
	for _, line := range want.lines {
		if !slices.Contains(got.lines, line) {
			w.WriteString("- " + line + "\n")
		}
	}
	for _, line := range got.lines {
		if !slices.Contains(want.lines, line) {
			w.WriteString("+ " + line + "\n")
		}
	}
	return w.String()
}
