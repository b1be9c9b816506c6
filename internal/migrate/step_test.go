package migrate_test

import (
	"slices"
	"testing"
	"testing/fstest"

	"github.com/slipway-build/slipway/internal/migrate"
)

func files(nameAndText ...string) fstest.MapFS {
	fsys := make(fstest.MapFS)
	for pair := range slices.Chunk(nameAndText, 2) {
		fsys[pair[0]] = &fstest.MapFile{Data: []byte(pair[1])}
	}
	return fsys
}

func TestLoad(t *testing.T) {
	all, err := migrate.Load(files(
		"0001_init.sql", "-- min_compatible: 1\n\n-- A comment; with an end;\nCREATE TABLE {schema}a (\n\tb int, -- why\n\tc int\n);\n\nCREATE INDEX d ON a (b);\n",
		"0002_more.sql", "-- min_compatible: 2\nDROP TABLE a;",
		"0003_most.sql", "-- min_compatible: 1, of new tables: 3\nDROP TABLE b;",
		"README.md", "not a migration",
	))
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 3 {
		t.Fatalf("loaded %+v", all)
	}
	for i, want := range []migrate.Step{
		{Version: 1, MinCompatible: 1, MinCompatibleNew: 1},
		{Version: 2, MinCompatible: 2, MinCompatibleNew: 2},
		{Version: 3, MinCompatible: 1, MinCompatibleNew: 3},
	} {
		got := all[i]
		if got.Version != want.Version || got.MinCompatible != want.MinCompatible || got.MinCompatibleNew != want.MinCompatibleNew {
			t.Errorf("loaded %+v, want %+v", got, want)
		}
	}
	want := []string{"CREATE TABLE {schema}a (\n\tb int, -- why\n\tc int\n);\n", "CREATE INDEX d ON a (b);\n"}
	if !slices.Equal(all[0].Statements, want) {
		t.Errorf("statements are %q, want %q", all[0].Statements, want)
	}
}

func TestLoadRefuses(t *testing.T) {
	const good = "-- min_compatible: 1\nSELECT 1;\n"
	for name, fsys := range map[string]fstest.MapFS{
		"a gap":                   files("0001_a.sql", good, "0003_c.sql", good),
		"a version twice":         files("0001_a.sql", good, "0001_b.sql", good),
		"no first version":        files("0002_b.sql", good),
		"no number":               files("init.sql", good),
		"no compatibility":        files("0001_a.sql", "SELECT 1;\n"),
		"an empty file":           files("0001_a.sql", ""),
		"compatibility to come":   files("0001_a.sql", "-- min_compatible: 2\nSELECT 1;\n"),
		"no version as the least": files("0001_a.sql", "-- min_compatible: 0\nSELECT 1;\n"),
		"new tables to come":      files("0001_a.sql", "-- min_compatible: 1, of new tables: 2\nSELECT 1;\n"),
		"less of new tables":      files("0001_a.sql", good, "0002_b.sql", "-- min_compatible: 2, of new tables: 1\nSELECT 1;\n"),
		"nothing of new tables":   files("0001_a.sql", "-- min_compatible: 1, of new tables:\nSELECT 1;\n"),
		"an unfinished statement": files("0001_a.sql", "-- min_compatible: 1\nSELECT 1\n"),
	} {
		if all, err := migrate.Load(fsys); err == nil {
			t.Errorf("%s: loaded %+v", name, all)
		}
	}
}
