package sqlitequeue

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"modernc.org/sqlite"

	"github.com/slipway-build/slipway/queue"
)

// dueSetSQL leaves something to be done for every step of Maintain at minute 1000: for each step a build, whose id ends with its number, or
// another row. Session 1 ended an hour ago, session 2 just now, session 3 lasts, session 4 ended an hour ago and had no leases.
const dueSetSQL = `
INSERT INTO {schema}class (id, pool, labels) VALUES (1, 'pool', '');
INSERT INTO {schema}controller (id, alive_until, fresh_since) VALUES
	(unhex('11111111111111111111111111111111'), 2000 * 60000000, 0), (zeroblob(16), 900 * 60000000, 0);
INSERT INTO {schema}session (id, controller_id, worker, instance, labels, pools, slots, direct, opened_at, ended_at)
SELECT value->>0, unhex('11111111111111111111111111111111'), 'w' || (value->>0), 'i', '', 'pool', 1, 0, 0, (value->>1) * 60000000
FROM json_each('[[1, 940], [2, 1000], [3, null], [4, 940]]');
INSERT INTO {schema}build (id, rank, run_timeout, created_at, max_attempts, state, project, pool, labels, class_id, epoch, attempts_used, worker,
	started_at, session_id, deadline, finished_at, not_before, queue_timeout, expires_at, idem_key, idem_hash)
SELECT unhex('000000000000700080000000000000' || format('%02x', b.n)), b.n, 1, 0, 1, b.state, 'p', b.pool, '', b.class, b.state > 1, b.state > 2,
	CASE WHEN b.state > 1 THEN 'w' ELSE '' END, CASE WHEN b.state > 2 THEN 0 END, b.session, b.deadline * 60000000, b.finished * 60000000,
	b.due * 60000000, CASE WHEN b.expires IS NOT NULL THEN 1 END, b.expires * 60000000, b.key, CASE WHEN b.key IS NOT NULL THEN zeroblob(32) END
FROM (
	SELECT value->>'n' AS n, value->>'state' AS state, coalesce(value->>'pool', 'pool') AS pool, value->>'class' AS class,
		value->>'session' AS session, value->>'deadline' AS deadline, value->>'finished' AS finished, value->>'due' AS due,
		value->>'expires' AS expires, value->>'key' AS key
	FROM json_each('[
		{"n": 1, "state": 1, "class": 1, "expires": 999},
		{"n": 2, "state": 2, "class": 1, "session": 3, "deadline": 999},
		{"n": 3, "state": 2, "class": 1, "session": 2, "deadline": 1001},
		{"n": 4, "state": 3, "class": 1, "session": 3, "deadline": 999},
		{"n": 5, "state": 4, "class": 1, "session": 3, "deadline": 999},
		{"n": 6, "state": 3, "class": 1, "session": 1, "deadline": 1001},
		{"n": 7, "state": 0, "pool": "new"},
		{"n": 8, "state": 0, "class": 1, "due": 999},
		{"n": 10, "state": 5, "class": 1, "finished": 900},
		{"n": 11, "state": 5, "class": 1, "finished": 970, "key": "key"}
	]')) AS b;
INSERT INTO {schema}artifact (build_id, epoch, size, created_at, project, name, digest)
SELECT id, 1, 1, 0, 'p', 'a', zeroblob(32) FROM {schema}build WHERE idem_key = 'key'`

// What cannot be done of all that is due, whatever the reason, is left as it was and keeps nothing else from being done.
func TestMaintainGoesOn(t *testing.T) {
	rules := queue.Rules{
		Controller: queue.ID([]byte(strings.Repeat("\x11", 16))), Grace: 30 * time.Minute, KeepKeys: 20 * time.Minute, Retention: time.Hour, Limit: 10,
	}
	now := time.UnixMicro(1000 * time.Minute.Microseconds())
	want := queue.Maintained{
		Interned: 1, Queued: 2, Expired: 1, Released: 2, TimedOut: 1, Canceled: 1, Lost: 1, Deleted: 1, Forgotten: 5,
	}
	for broken, less := range map[string]queue.Maintained{ // by triggers
		"": {},
		"AFTER UPDATE ON slipway_build WHEN hex(OLD.id) LIKE '%01'": {Expired: 1},
		"AFTER UPDATE ON slipway_build WHEN hex(OLD.id) LIKE '%02'": {Released: 1},
		"AFTER UPDATE ON slipway_build WHEN hex(OLD.id) LIKE '%03'": {Released: 1},
		"AFTER UPDATE ON slipway_build WHEN hex(OLD.id) LIKE '%04'": {TimedOut: 1},
		"AFTER UPDATE ON slipway_build WHEN hex(OLD.id) LIKE '%05'": {Canceled: 1},
		"AFTER UPDATE ON slipway_build WHEN hex(OLD.id) LIKE '%06'": {Lost: 1, Forgotten: 1}, // whose session is kept
		"AFTER INSERT ON slipway_class WHEN NEW.pool = 'new'":       {Interned: 1, Queued: 1},
		"AFTER UPDATE ON slipway_build WHEN hex(OLD.id) LIKE '%07'": {Queued: 1},
		"AFTER UPDATE ON slipway_build WHEN hex(OLD.id) LIKE '%08'": {Queued: 1},
		"AFTER DELETE ON slipway_build WHEN hex(OLD.id) LIKE '%0A'": {Deleted: 1},
		"AFTER UPDATE ON slipway_build WHEN hex(OLD.id) LIKE '%0B'": {Forgotten: 1},
		"AFTER DELETE ON slipway_session WHEN OLD.id = 4":           {Forgotten: 2}, // both of them
		"AFTER DELETE ON slipway_controller":                        {Forgotten: 1},
		"AFTER DELETE ON slipway_artifact":                          {Forgotten: 1},
	} {
		t.Run(broken, func(t *testing.T) {
			b := newBackend(t)
			exec := func(text string) {
				t.Helper()
				if _, err := b.db.DB.ExecContext(t.Context(), names.Expand(text)); err != nil {
					t.Fatal(err)
				}
			}
			exec(dueSetSQL)
			if broken != "" {
				exec("CREATE TRIGGER broken " + broken + " BEGIN SELECT RAISE(FAIL, 'broken'); END")
			}
			done, err := b.Maintain(t.Context(), rules, now)
			if _, ok := errors.AsType[*sqlite.Error](err); ok == (broken == "") {
				t.Errorf("Maintain returned %v", err)
			}
			done.Heads = nil
			if want := without(want, less); fmt.Sprint(done) != fmt.Sprint(want) {
				t.Errorf("Maintain did %+v, want %+v", done, want)
			}
			attempts := 0
			row := b.db.DB.QueryRowContext(t.Context(), "SELECT count(*) FROM slipway_attempt")
			if err := row.Scan(&attempts); err != nil || attempts != done.TimedOut+done.Canceled+done.Lost {
				t.Errorf("there are %d attempts, %v; want those that have ended", attempts, err)
			}
			if broken != "" {
				exec("DROP TRIGGER broken")
				if rest, err := b.Maintain(t.Context(), rules, now); err != nil || rest.Forgotten < less.Forgotten || rest.Queued != less.Queued {
					t.Errorf("Maintain did %+v, %v later; want what was left: %+v", rest, err, less)
				}
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if done, err := newBackend(t).Maintain(ctx, rules, now); !errors.Is(err, context.Canceled) {
		t.Errorf("Maintain of a canceled caller did %+v, %v", done, err)
	}
}

// without returns what is left of all that was done.
func without(all, less queue.Maintained) queue.Maintained {
	all.Interned -= less.Interned
	all.Queued -= less.Queued
	all.Expired -= less.Expired
	all.Released -= less.Released
	all.TimedOut -= less.TimedOut
	all.Canceled -= less.Canceled
	all.Lost -= less.Lost
	all.Deleted -= less.Deleted
	all.Forgotten -= less.Forgotten
	return all
}
