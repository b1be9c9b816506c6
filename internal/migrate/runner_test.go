package migrate_test

import (
	"database/sql"
	"errors"
	"strings"
	"testing"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/sqlitedialect"
	_ "modernc.org/sqlite"

	"github.com/slipway-build/slipway/internal/migrate"
	"github.com/slipway-build/slipway/internal/testenv"
)

const (
	first  = "-- min_compatible: 1\nCREATE TABLE {p}a (b int);\nINSERT INTO {p}a VALUES (1);\n"
	second = "-- min_compatible: 1\nINSERT INTO {p}a VALUES (2);\n"
	third  = "-- min_compatible: 3\nINSERT INTO {p}a VALUES (3);\n"
)

// program returns the runner of a program that knows these steps.
func program(t *testing.T, texts ...string) *migrate.Runner {
	t.Helper()
	var pairs []string
	for i, text := range texts {
		pairs = append(pairs, "000"+string(rune('1'+i))+"_x.sql", text)
	}
	steps, err := migrate.Load(files(pairs...))
	if err != nil {
		t.Fatal(err)
	}
	return migrate.New("p_version", steps, func(sql string) string { return strings.ReplaceAll(sql, "{p}", "p_") })
}

func openDB(t *testing.T) *bun.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+testenv.SQLite(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return bun.NewDB(db, sqlitedialect.New())
}

func rows(t *testing.T, db *bun.DB) (n int) {
	t.Helper()
	if err := db.QueryRowContext(t.Context(), "SELECT count(*) FROM p_a").Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestProgramsOfThreeVersions(t *testing.T) {
	db := openDB(t)
	one, two, three := program(t, first), program(t, first, second), program(t, first, second, third)
	for i, step := range []struct {
		apply              *migrate.Runner
		refused            error
		rows               int
		one, two, threeErr error // of Check
	}{
		{one, nil, 1, nil, migrate.ErrOutdated, migrate.ErrOutdated},
		{one, nil, 1, nil, migrate.ErrOutdated, migrate.ErrOutdated},
		{two, nil, 2, nil, nil, migrate.ErrOutdated},
		{one, nil, 2, nil, nil, migrate.ErrOutdated}, // an older program that still fits changes nothing
		{three, nil, 3, migrate.ErrTooNew, migrate.ErrTooNew, nil},
		{two, migrate.ErrTooNew, 3, migrate.ErrTooNew, migrate.ErrTooNew, nil},
	} {
		if err := step.apply.Apply(t.Context(), db); !errors.Is(err, step.refused) {
			t.Errorf("step %d: Apply: %v, want %v", i, err, step.refused)
		}
		if n := rows(t, db); n != step.rows {
			t.Errorf("step %d: there are %d rows, want %d", i, n, step.rows)
		}
		for v, want := range map[*migrate.Runner]error{one: step.one, two: step.two, three: step.threeErr} {
			if err := v.Check(t.Context(), db); !errors.Is(err, want) {
				t.Errorf("step %d: Check: %v, want %v", i, err, want)
			}
		}
	}
}

// A step that does something for older programs only where there may have been any refuses them where there were none, for good.
func TestOlderProgramsOfNewTables(t *testing.T) {
	const (
		second = "-- min_compatible: 1, of new tables: 2\nINSERT INTO {p}a VALUES (2);\n"
		third  = "-- min_compatible: 1\nINSERT INTO {p}a VALUES (3);\n"
	)
	one, two, three := program(t, first), program(t, first, second), program(t, first, second, third)
	for name, test := range map[string]struct {
		apply []*migrate.Runner
		want  error // of the first version
	}{
		"new":                  {[]*migrate.Runner{two}, migrate.ErrTooNew},
		"new, then upgraded":   {[]*migrate.Runner{two, three}, migrate.ErrTooNew},
		"new of the third":     {[]*migrate.Runner{three}, migrate.ErrTooNew},
		"upgraded":             {[]*migrate.Runner{one, two}, nil},
		"upgraded twice":       {[]*migrate.Runner{one, two, three}, nil},
		"upgraded to the last": {[]*migrate.Runner{one, three}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			db := openDB(t)
			for _, r := range test.apply {
				if err := r.Apply(t.Context(), db); err != nil {
					t.Fatal(err)
				}
			}
			if err := one.Check(t.Context(), db); !errors.Is(err, test.want) {
				t.Errorf("Check of the first version: %v, want %v", err, test.want)
			}
			if err := one.Apply(t.Context(), db); !errors.Is(err, test.want) {
				t.Errorf("Apply of the first version: %v, want %v", err, test.want)
			}
			if err := test.apply[len(test.apply)-1].Check(t.Context(), db); err != nil {
				t.Errorf("Check of the last: %v", err)
			}
		})
	}
}

func TestAllStepsAtOnce(t *testing.T) {
	db := openDB(t)
	if err := program(t, first, second, third).Apply(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	if n := rows(t, db); n != 3 {
		t.Errorf("there are %d rows, want 3", n)
	}
}

func TestFailureNamesTheStep(t *testing.T) {
	db := openDB(t)
	err := program(t, first, "-- min_compatible: 1\nCREATE TABLE {p}a (b int);\n").Apply(t.Context(), db)
	if err == nil || !strings.Contains(err.Error(), "migration 2: ") {
		t.Errorf("error is %v, want one that names migration 2", err)
	}
}
