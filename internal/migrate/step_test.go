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
		"README.md", "not a migration",
	))
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 2 || all[0].Version != 1 || all[0].MinCompatible != 1 || all[1].Version != 2 || all[1].MinCompatible != 2 {
		t.Fatalf("loaded %+v", all)
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
		"an unfinished statement": files("0001_a.sql", "-- min_compatible: 1\nSELECT 1\n"),
	} {
		if all, err := migrate.Load(fsys); err == nil {
			t.Errorf("%s: loaded %+v", name, all)
		}
	}
}
