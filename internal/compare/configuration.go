package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
)

// A fact is a line of what was measured with.
type fact struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// shownSettings are the server's settings that decide how fast it is.
var shownSettings = []string{
	"fsync", "synchronous_commit", "full_page_writes", "wal_sync_method", "wal_level", "wal_compression", "shared_buffers", "max_wal_size",
	"checkpoint_timeout", "autovacuum", "max_connections", "jit", "commit_delay", "shared_preload_libraries",
}

// configuration is what one has to know to understand the figures.
func (b *bench) configuration(ctx context.Context) ([]fact, error) {
	facts := []fact{
		{"commit", b.commit},
		{"go", runtime.Version() + " " + runtime.GOOS + "/" + runtime.GOARCH},
		{"cpus", fmt.Sprintf("%d (GOMAXPROCS %d), %s", runtime.NumCPU(), runtime.GOMAXPROCS(0), cpuModel())},
		{"river", moduleVersion("github.com/riverqueue/river")},
		{"pgx", moduleVersion("github.com/jackc/pgx/v5")},
		{"pool", fmt.Sprintf("%d connections for each side, in each process, over a Unix socket", b.pool)},
		{"order", fmt.Sprintf("%d bytes of JSON", orderSize)},
		{"runs", strconv.Itoa(b.runs)},
	}
	if b.quick {
		facts = append(facts, fact{"quick", "true: the figures mean nothing"})
	}
	var version string
	if err := b.server.admin.QueryRow(ctx, "SELECT version()").Scan(&version); err != nil {
		return nil, err
	}
	facts = append(facts, fact{"postgresql", version})
	for _, name := range shownSettings {
		var value string
		if err := b.server.admin.QueryRow(ctx, "SELECT current_setting($1)", name).Scan(&value); err != nil {
			return nil, err
		}
		facts = append(facts, fact{"postgresql " + name, value})
	}
	for _, c := range contenders() {
		facts = append(facts, fact{"settings of " + c.name, c.settings})
	}
	return facts, nil
}

// moduleVersion returns the version of a module in this program.
func moduleVersion(path string) string {
	info, ok := debug.ReadBuildInfo()
	if ok {
		for _, m := range info.Deps {
			if m.Path == path {
				return m.Version
			}
		}
	}
	return "unknown"
}

// cpuModel is what Linux calls the processors; elsewhere it is not known.
func cpuModel() string {
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "unknown"
	}
	for line := range strings.Lines(string(info)) {
		if name, value, found := strings.Cut(line, ":"); found && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}
