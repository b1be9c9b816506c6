package pgqueue

import (
	"context"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/slipway-build/slipway/internal/pgxdb"
	"github.com/slipway-build/slipway/internal/testenv"
	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/queue/queuetest"
)

// brokenEnv makes the test binary run the suite on a backend that was broken on purpose: it holds the name of the variant.
const brokenEnv = "SLIPWAY_PGQUEUE_BROKEN"

// A variant is a backend one of whose statements is not what it must be.
type variant struct {
	statement func(*statements) *string
	edits     []edit
	// caught is the case of the suite that must fail, and spared one that does not, since otherwise the statement still works.
	caught, spared string
}

// An edit puts something in place of what a regular expression finds.
type edit struct{ find, put string }

var variants = map[string]variant{
	"finish without its fence": {
		func(s *statements) *string { return &s.finish }, []edit{{` AND b\.epoch = i\.epoch`, ""}}, "Finish/Stale", "Finish/Outcomes",
	},
	"accept without its fence": {
		func(s *statements) *string { return &s.accept }, []edit{{` AND b\.epoch = i\.epoch`, ""}}, "Accept/Stale", "Accept/Running",
	},
	"accept of another session's offer": {
		func(s *statements) *string { return &s.accept },
		[]edit{{` AND b\.session_id IS NOT DISTINCT FROM i\.session_id`, ""}},
		"Accept/OtherSession", "Accept/Running",
	},
	"sweep without fresh heartbeats": {
		func(s *statements) *string { return &s.sweep },
		[]edit{{`\s+AND c\.fresh_since <= .* interval '1 microsecond'`, ""}},
		"Sweep/OnlyWhenFresh", "Sweep/LostSession",
	},
	"claim without its lock": {
		func(s *statements) *string { return &s.claim },
		[]edit{{` FOR NO KEY UPDATE SKIP LOCKED`, ""}, {`q\.ctid`, "q.id"}, {`b\.ctid`, "b.id"}}, // a place in the table is as good as a lock
		"Concurrency/ClaimOnce", "Claim/Offered",
	},
	"claim for one session without its lock": {
		func(s *statements) *string { return &s.claimSole },
		[]edit{{` FOR NO KEY UPDATE SKIP LOCKED`, ""}, {`q\.ctid`, "q.id"}, {`b\.ctid`, "b.id"}},
		"Concurrency/ClaimOnce", "Claim/Offered",
	},
	"admit without its lock": {
		func(s *statements) *string { return &s.takeLock }, []edit{{`pg_advisory_xact_lock`, ""}}, "Limit/Turns", "Limit/Exact",
	},
	"admit without counting": {
		func(s *statements) *string { return &s.admit }, []edit{{`m\.max_running - u\.n`, "m.max_running"}}, "Limit/Exact", "Limit/NoLimit",
	},
	"admit what nobody serves": {
		func(s *statements) *string { return &s.admit },
		[]edit{{`FILTER \(WHERE c\.served_until > `, "FILTER (WHERE true OR c.served_until > "}},
		"Room/Unserved", "Limit/Exact",
	},
	"admit without a window": {
		func(s *statements) *string { return &s.admit }, []edit{{`\$6::bigint - u\.n`, "$$6::bigint"}}, "Fair/Window", "Fair/Rank",
	},
	"admit a project's lanes one after the other": {
		func(s *statements) *string { return &s.admit },
		[]edit{{`ORDER BY y\.rank, y\.id LIMIT l\.room`, "ORDER BY y.n, y.rank, y.id LIMIT l.room"}},
		"FairLane/ByRank", "Fair/Window",
	},
	"admit all of a window for some of the lanes": {
		func(s *statements) *string { return &s.admit }, []edit{{`t\.n FROM torn t\) = 1`, "t.n FROM torn t) = 0"}}, "FairLane/MoreThanACall", "FairLane/ByRank",
	},
	"release without its fence": {
		func(s *statements) *string { return &s.release }, []edit{{` AND b\.epoch = i\.epoch`, ""}}, "Release/Stale", "Release/KeepsItsRank",
	},
	"cancel in any project": {
		func(s *statements) *string { return &s.cancel },
		[]edit{{` AND b\.project IS NOT DISTINCT FROM \$3`, ""}},
		"Cancel/OfAnotherProject", "Cancel/Running",
	},
	"append to a closed log": {
		func(s *statements) *string { return &s.appendLogs }, []edit{{` AND NOT h\.closed`, ""}}, "Log/StaleWithLog", "Log/Append",
	},
}

// TestBrokenVariantsAreCaught breaks the backend in ways that a hasty change might, and wants the case of the suite that guards against
// it to fail. It runs the suite in child processes, whose failures can be looked at.
func TestBrokenVariantsAreCaught(t *testing.T) {
	if name := os.Getenv(brokenEnv); name != "" {
		queuetest.Run(t, func(t *testing.T) queue.Backend { return broken(t, name) })
		return
	}
	t.Parallel()
	for name, v := range variants {
		t.Run(name, func(t *testing.T) {
			const suite = "TestBrokenVariantsAreCaught/"
			// Some are caught by chance: goroutines have to meet. So there are a few tries.
			out := runSuite(t, name, v.caught, v.spared)
			for try := 1; try < 5 && !strings.Contains(out, "--- FAIL: "); try++ {
				out = runSuite(t, name, v.caught, v.spared)
			}
			if !strings.Contains(out, "--- FAIL: "+suite+v.caught+" ") {
				t.Errorf("%s did not notice:\n%s", v.caught, out)
			}
			if !strings.Contains(out, "--- PASS: "+suite+v.spared+" ") {
				t.Errorf("%s should not have noticed:\n%s", v.spared, out)
			}
		})
	}
}

// runSuite runs two cases of the suite on a variant in a child process, and returns what that printed.
func runSuite(t *testing.T, name string, cases ...string) string {
	t.Helper()
	var groups, names []string
	for _, c := range cases {
		group, name, _ := strings.Cut(c, "/")
		groups, names = append(groups, group), append(names, name)
	}
	run := "^TestBrokenVariantsAreCaught$/^(" + strings.Join(groups, "|") + ")$/^(" + strings.Join(names, "|") + ")$"
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run="+run, "-test.v")
	cmd.Env = append(os.Environ(), brokenEnv+"="+name, testenv.EnvDatabaseURL+"="+testenv.Postgres(t).DSN)
	out, _ := cmd.CombinedOutput() // that it fails is wanted, and where tells the output
	return string(out)
}

// broken returns a variant in a schema of its own.
func broken(t *testing.T, name string) *Backend {
	t.Helper()
	v, ok := variants[name]
	if !ok {
		t.Fatalf("there is no variant %q", name)
	}
	db := testenv.Postgres(t)
	b, err := newBackend(db.Pool, pgxdb.Open(db.Pool), Options{Schema: db.Schema})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	sql := v.statement(&b.sql)
	for _, e := range v.edits {
		before := *sql
		*sql = regexp.MustCompile(e.find).ReplaceAllString(before, e.put)
		if *sql == before {
			t.Fatalf("%q is not in\n%s", e.find, before)
		}
	}
	return b
}
