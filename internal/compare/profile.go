package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime/pprof"
	"strings"
)

// countingSettings make the server count what each statement costs.
var countingSettings = map[string]string{
	"shared_preload_libraries": "pg_stat_statements",
	"pg_stat_statements.track": "all",
	"track_io_timing":          "on",
}

const statementsSQL = `
SELECT s.calls, s.rows, s.total_exec_time::float8, (s.total_exec_time / s.calls)::float8, s.shared_blks_hit, s.shared_blks_dirtied,
	s.wal_bytes::float8, regexp_replace(s.query, '\s+', ' ', 'g')
FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid
WHERE d.datname LIKE 'compare\_%' ORDER BY s.total_exec_time DESC LIMIT 20`

// profile begins a profile of a turn, if profiles are wanted, and returns the function that ends and writes it: where this
// process spent its time, and where the server did.
func (b *bench) profile(ctx context.Context, family, contender string) (stop func() error, err error) {
	if b.profiles == "" {
		return func() error { return nil }, nil
	}
	if _, err := b.server.admin.Exec(ctx, `SELECT pg_stat_statements_reset()`); err != nil {
		return nil, err
	}
	base := filepath.Join(b.profiles, family+"."+contender)
	cpu, err := os.Create(base + ".pprof")
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(cpu); err != nil {
		return nil, err
	}
	return func() error {
		pprof.StopCPUProfile()
		if err := cpu.Close(); err != nil {
			return err
		}
		return b.statements(ctx, base+".statements.tsv")
	}, nil
}

// statements writes down which statements took the server how long.
func (b *bench) statements(ctx context.Context, path string) error {
	rows, err := b.server.admin.Query(ctx, statementsSQL)
	if err != nil {
		return err
	}
	defer rows.Close()
	var text strings.Builder
	text.WriteString("calls\trows\ttotal ms\tms each\thit\tdirtied\twal bytes\tstatement\n")
	for rows.Next() {
		row, err := rows.Values()
		if err != nil {
			return err
		}
		for i, value := range row {
			if f, ok := value.(float64); ok {
				value = number(f)
			}
			if i > 0 {
				text.WriteByte('\t')
			}
			fmt.Fprint(&text, value)
		}
		text.WriteByte('\n')
	}
	if err := rows.Err(); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(text.String()), 0o600)
}
