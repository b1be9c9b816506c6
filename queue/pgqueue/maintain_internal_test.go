package pgqueue

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/slipway-build/slipway/internal/pgxdb"
	"github.com/slipway-build/slipway/internal/testenv"
	"github.com/slipway-build/slipway/queue"
)

// dueSetSQL leaves something to be done for every step of Maintain. Session 1 ended an hour ago, session 2 just now, session 3 lasts.
const dueSetSQL = `
TRUNCATE {schema}build, {schema}class, {schema}session, {schema}controller, {schema}attempt, {schema}log_head, {schema}artifact,
	{schema}stat, {schema}stat_delta RESTART IDENTITY;
INSERT INTO {schema}class (pool, labels) VALUES ('pool', '');
INSERT INTO {schema}controller (id, alive_until, fresh_since) VALUES
	(repeat('1', 32)::uuid, now() + interval '1 hour', now() - interval '1 hour'),
	(repeat('2', 32)::uuid, now() - interval '1 hour', now() - interval '2 hours');
INSERT INTO {schema}session (controller_id, worker, instance, labels, pools, slots, direct, opened_at, ended_at)
SELECT repeat('1', 32)::uuid, 'w' || n, '', '', 'pool', 1, false, now() - interval '2 hours',
	CASE n WHEN 1 THEN now() - interval '1 hour' WHEN 2 THEN now() WHEN 4 THEN now() - interval '1 hour' END
FROM generate_series(1, 4) n;
INSERT INTO {schema}build (id, rank, run_timeout, created_at, max_attempts, state, project, pool, labels, class_id, epoch, attempts_used, worker,
	started_at, session_id, deadline, finished_at, not_before, queue_timeout, expires_at, idem_key, idem_hash)
SELECT overlay(gen_random_uuid()::text placing '7' from 15)::uuid, n, 1, now() - interval '3 hours', 1, state, 'p', pool, '', class,
	(state > 1)::int, (state > 2)::int, CASE WHEN state > 1 THEN 'w' ELSE '' END, CASE WHEN state > 2 THEN now() - interval '2 hours' END,
	session, now() + deadline, now() + finished, now() + due, CASE WHEN expires IS NOT NULL THEN 1 END, now() + expires,
	key, CASE WHEN key IS NOT NULL THEN repeat('x', 32)::bytea END
FROM (VALUES
	(1, 1, 'pool', 1, NULL::int, NULL::interval, NULL::interval, NULL::interval, interval '-1 minute', NULL),
	(2, 2, 'pool', 1, 3, interval '-1 minute', NULL, NULL, NULL, NULL),
	(3, 2, 'pool', 1, 2, interval '1 minute', NULL, NULL, NULL, NULL),
	(4, 3, 'pool', 1, 3, interval '-1 minute', NULL, NULL, NULL, NULL),
	(5, 4, 'pool', 1, 3, interval '-1 minute', NULL, NULL, NULL, NULL),
	(6, 3, 'pool', 1, 1, interval '1 minute', NULL, NULL, NULL, NULL),
	(7, 0, 'new', NULL, NULL, NULL, NULL, NULL, NULL, NULL),
	(8, 0, 'pool', 1, NULL, NULL, NULL, interval '-1 minute', NULL, NULL),
	(9, 1, 'pool', 0, NULL, NULL, NULL, NULL, NULL, NULL),
	(10, 5, 'pool', 1, NULL, NULL, interval '-90 minutes', NULL, NULL, NULL),
	(11, 5, 'pool', 1, NULL, NULL, interval '-30 minutes', NULL, NULL, 'key')
) AS b(n, state, pool, class, session, deadline, finished, due, expires, key);
INSERT INTO {schema}artifact (build_id, epoch, size, created_at, project, name, digest)
SELECT id, 1, 1, now(), 'p', 'a', repeat('x', 32)::bytea FROM {schema}build WHERE idem_key = 'key'`

// A step of Maintain that fails, whatever the reason, keeps no other from being carried out.
func TestMaintainGoesOn(t *testing.T) {
	db := testenv.Postgres(t)
	b, err := newBackend(db.Pool, pgxdb.Open(db.Pool), Options{Schema: db.Schema})
	must(t, err)
	must(t, b.Migrate(t.Context()))
	rules := queue.Rules{
		Controller: queue.ID([]byte(strings.Repeat("\x11", 16))), Grace: 30 * time.Minute, KeepKeys: 20 * time.Minute, Retention: time.Hour, Limit: 10,
	}
	maintain := func(b *Backend) (queue.Maintained, error) {
		t.Helper()
		_, err := db.Pool.Exec(t.Context(), strings.ReplaceAll(dueSetSQL, "{schema}", `"`+db.Schema+`".`))
		must(t, err)
		done, err := b.Maintain(t.Context(), rules, time.Time{})
		done.Heads = nil
		return done, err
	}
	all, err := maintain(b)
	must(t, err)
	want := queue.Maintained{
		Interned: 1, Queued: 2, Expired: 1, Released: 2, TimedOut: 1, Canceled: 1, Lost: 1, Deleted: 1, Forgotten: 5, Folded: 4, More: true,
	}
	if fmt.Sprint(all) != fmt.Sprint(want) {
		t.Fatalf("Maintain did %+v, want %+v", all, want)
	}
	for name, step := range map[string]struct {
		sql  func(*statements) *string
		less queue.Maintained
	}{
		"expire":    {func(s *statements) *string { return &s.expire }, queue.Maintained{Expired: 1, Folded: 1}},
		"takeBack":  {func(s *statements) *string { return &s.takeBack }, queue.Maintained{Released: 1}},
		"orphans":   {func(s *statements) *string { return &s.orphans }, queue.Maintained{Released: 1}},
		"timeOut":   {func(s *statements) *string { return &s.timeOut }, queue.Maintained{TimedOut: 1, Folded: 1}},
		"force":     {func(s *statements) *string { return &s.force }, queue.Maintained{Canceled: 1, Folded: 1}},
		"sweep":     {func(s *statements) *string { return &s.sweep }, queue.Maintained{Lost: 1, Forgotten: 1, Folded: 1}}, // whose session is kept
		"unclassed": {func(s *statements) *string { return &s.unclassed }, queue.Maintained{Interned: 1, Queued: 1}},
		"intern":    {func(s *statements) *string { return &s.intern }, queue.Maintained{Interned: 1, Queued: 1}},
		"classify":  {func(s *statements) *string { return &s.classify }, queue.Maintained{Queued: 1}},
		"due":       {func(s *statements) *string { return &s.due }, queue.Maintained{Queued: 1}},
		"settle":    {func(s *statements) *string { return &s.settle }, queue.Maintained{More: true}},
		"retire":    {func(s *statements) *string { return &s.retire }, queue.Maintained{Deleted: 1}},
		"unreserve": {func(s *statements) *string { return &s.unreserve }, queue.Maintained{Forgotten: 1}},
		"sessions":  {func(s *statements) *string { return &s.forgetSessions }, queue.Maintained{Forgotten: 2}},
		"keys":      {func(s *statements) *string { return &s.forgetKeys }, queue.Maintained{Forgotten: 1}},
		"fold":      {func(s *statements) *string { return &s.fold }, queue.Maintained{Folded: 4}},
	} {
		t.Run(name, func(t *testing.T) {
			broken := *b
			sql := step.sql(&broken.sql)
			*sql = "BREAK " + *sql
			done, err := maintain(&broken)
			if _, ok := errors.AsType[*pgconn.PgError](err); !ok {
				t.Errorf("Maintain returned %v, want the server's error", err)
			}
			if want := without(want, step.less); fmt.Sprint(done) != fmt.Sprint(want) {
				t.Errorf("Maintain did %+v, want %+v", done, want)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if done, err := b.Maintain(ctx, rules, time.Time{}); !errors.Is(err, context.Canceled) || strings.Count(err.Error(), "\n") > 0 {
		t.Errorf("Maintain of a canceled caller did %+v, %v; want one error", done, err)
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
	all.Folded -= less.Folded
	all.More = all.More && !less.More
	return all
}
