package pgqueue

import (
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/slipway-build/slipway/internal/sqlqueue"
	"github.com/slipway-build/slipway/queue"
)

// overSQL follows on the relation "ending": leased builds that are locked, and how the attempt of each ended. It says what becomes of them.
const overSQL = `, over AS MATERIALIZED (
	SELECT e.*, d.delay, CASE
		WHEN e.attempts_used >= e.max_attempts OR NOT (e.outcome = {lost} OR e.outcome = {failed} AND e.retry_failed) THEN e.outcome
		WHEN d.delay > 0 THEN {held}
		ELSE {queued} END AS state
	FROM ending e CROSS JOIN LATERAL (SELECT least(e.backoff_max, e.backoff_base * power(2, e.attempts_used - 1))::bigint AS delay) d
)`

// endSQL ends attempts that nobody has reported the end of: it follows on the relation "ending". Its first parameters are those of [ending].
//
// The heads of logs are closed by an insert that finds them there, not by an update: an append that was first, and for which
// this statement had to wait, may have made a head that the statement's snapshot does not show. The insert sees it.
const endSQL = overSQL + `, head AS (
	INSERT INTO {schema}log_head AS h (build_id, epoch, length, closed)
	SELECT o.id, o.epoch, 0, true FROM over o ORDER BY o.id
	ON CONFLICT (build_id, epoch) DO UPDATE SET closed = true
), history AS (
	INSERT INTO {schema}attempt (build_id, epoch, worker, started_at, ended_at, outcome, reason, signal, log_complete)
	SELECT o.id, o.epoch, o.worker, o.started_at, {now}, o.outcome, o.reason, '', false FROM over o
)` + movedSQL + `b.id = ANY(ARRAY(SELECT id FROM over)) AND b.id = o.id` + movedColumns

// movedSQL moves builds to where overSQL says, and counts them. What follows on it says where builds are found: see finishSQL and endSQL.
const movedSQL = `, counted AS (
	INSERT INTO {schema}stat_delta (project, day, succeeded, failed, canceled, timed_out, lost, attempts, waited, ran)
	SELECT o.project, ({now} AT TIME ZONE 'UTC')::date,
		count(*) FILTER (WHERE o.state = {succeeded}), count(*) FILTER (WHERE o.state = {failed}),
		count(*) FILTER (WHERE o.state = {canceled}), count(*) FILTER (WHERE o.state = {timed_out}),
		count(*) FILTER (WHERE o.state = {lost}), count(*),
		coalesce(extract(epoch FROM sum(o.started_at - o.wanted_at) FILTER (WHERE o.state >= {succeeded})), 0) * 1000000,
		extract(epoch FROM sum({now} - o.started_at)) * 1000000
	FROM over o GROUP BY o.project
)
UPDATE {schema}build b SET
	state = o.state,
	session_id = NULL,
	deadline = NULL,
	token_hash = NULL,
	not_before = CASE WHEN o.state = {held} THEN {now} + o.delay * interval '1 microsecond' END,
	expires_at = CASE WHEN o.state < {offered} THEN {now} + b.queue_timeout * interval '1 microsecond' ELSE b.expires_at END,
	avoid_worker = CASE WHEN o.state < {offered} THEN b.worker ELSE b.avoid_worker END,
	avoid_until = CASE WHEN o.state < {offered} THEN {now} + $2::bigint * interval '1 microsecond' ELSE b.avoid_until END,
	finished_at = CASE WHEN o.state >= {succeeded} THEN {now} END,
	reason = CASE WHEN o.state < {offered} OR b.state = {cancelling} AND o.state = {canceled} THEN b.reason ELSE o.reason END,
	exit_code = CASE WHEN o.state >= {succeeded} THEN o.exit_code ELSE b.exit_code END,
	signal = CASE WHEN o.state >= {succeeded} THEN o.signal ELSE b.signal END
FROM over o
WHERE `

const movedColumns = `
RETURNING b.id, b.epoch, b.state, b.admitted, b.class_id, b.rank`

// leasedColumns are what endSQL wants to know of a leased build b.
const leasedColumns = `b.id, b.epoch, b.project, b.worker, b.attempts_used, b.max_attempts, b.retry_failed AND b.state = {running} AS retry_failed,
	b.backoff_base, b.backoff_max, b.started_at, greatest(b.created_at, b.scheduled_at) AS wanted_at`

// endingColumns are those and what goes for an attempt that nobody reported the end of; the outcome and reason come first.
const endingColumns = leasedColumns + `, NULL::bigint AS exit_code, ''::text AS signal`

// waited is how long a build b that ends has waited, in microseconds: nothing, for statistics, if it never started.
const waited = `coalesce((extract(epoch FROM b.started_at - greatest(b.created_at, b.scheduled_at)) * 1000000)::bigint, 0)`

// An end is an attempt that has ended, and the state that its build is in now.
type end struct {
	queue.AttemptID
	state    sqlqueue.State
	admitted bool
	class    queue.ClassID
	rank     int64
}

// ending returns the first arguments of a statement that ends with endSQL, before those of its own.
func ending(now time.Time, avoid time.Duration, rest ...any) []any {
	return append([]any{present(now), avoid.Microseconds()}, rest...)
}

func scanEnd(row pgx.CollectableRow) (e end, err error) {
	err = row.Scan((*[16]byte)(&e.Build), &e.Epoch, (*int16)(&e.state), &e.admitted, &e.class, &e.rank)
	return e, err
}

// lockEndingSQL locks the builds that finishSQL may change, whatever their states. After it, in a snapshot of its own, that sees every head
// of a log there is: no first append can follow. So an attempt that has no log needs no head to be closed. And what it finds stays where it
// is in the table.
const lockEndingSQL = `
SELECT count(*)
FROM unnest($1::uuid[]) AS i(id)
CROSS JOIN LATERAL (
	SELECT FROM {schema}build b WHERE b.id = i.id FOR NO KEY UPDATE) b`

// finishSQL is fenced by epoch and state, and by the session of a completion that names one. What does not come back was stale, or
// finished before.
//
// An append to a head that is there is waited for, and the length that its update returns is what is stored for good. It is looked up by
// bisection, since the planner, who expects a single row, would compare each build with each head.
const finishSQL = `
WITH ending AS MATERIALIZED (
	SELECT b.place, ` + leasedColumns + `,
		CASE WHEN b.state = {cancelling} AND i.outcome = {lost} THEN {canceled} ELSE i.outcome END AS outcome,
		i.reason, nullif(i.exit_code, -1099511627776) AS exit_code, i.signal, nullif(i.log_length, -1099511627776) AS log_length, i.log_sha256
	FROM unnest($3::uuid[], $4::bigint[], $5::bigint[], $6::smallint[], $7::text[], $8::bigint[], $9::text[], $10::bigint[], $11::bytea[])
		AS i(id, epoch, session_id, outcome, reason, exit_code, signal, log_length, log_sha256)
	CROSS JOIN LATERAL (
		SELECT b.ctid AS place, b.* FROM {schema}build b
		WHERE b.id = i.id AND b.epoch = i.epoch AND (i.session_id = 0 OR b.session_id = i.session_id) AND b.state IN ({running}, {cancelling})
		OFFSET 0) b
)` + overSQL + `, closed AS (
	UPDATE {schema}log_head h SET closed = true FROM over o WHERE h.build_id = o.id AND h.epoch = o.epoch
	RETURNING h.build_id, h.length
), heads AS MATERIALIZED (
	SELECT coalesce(array_agg(build_id ORDER BY build_id), '{}') AS ids, array_agg(length ORDER BY build_id) AS lengths FROM closed
), history AS (
	INSERT INTO {schema}attempt (build_id, epoch, worker, started_at, ended_at, outcome, result, reason, exit_code, signal,
		log_sha256, log_complete)
	SELECT o.id, o.epoch, o.worker, o.started_at, {now}, o.outcome, o.state, o.reason, o.exit_code, o.signal, o.log_sha256,
		coalesce(o.log_length = CASE WHEN h.ids[p.place] = o.id THEN h.lengths[p.place] ELSE 0 END, false)
	FROM over o CROSS JOIN heads h CROSS JOIN LATERAL (SELECT width_bucket(o.id, h.ids) AS place) p
)` + movedSQL + `b.ctid = o.place` + movedColumns

// finishedSQL finds attempts that Finish has ended.
const finishedSQL = `
SELECT a.build_id, a.epoch, a.result, b.admitted, 0, 0::bigint
FROM unnest($1::uuid[], $2::bigint[]) AS i(id, epoch)
CROSS JOIN LATERAL (SELECT * FROM {schema}attempt a WHERE a.build_id = i.id AND a.epoch = i.epoch AND a.result IS NOT NULL OFFSET 0) a
CROSS JOIN LATERAL (SELECT * FROM {schema}build b WHERE b.id = i.id OFFSET 0) b`

// Finish implements [queue.Transitions].
func (b *Backend) Finish(ctx context.Context, ends []queue.Completion, avoid time.Duration, now time.Time) ([]queue.Finished, error) {
	ctx, cancel := b.bounded(ctx)
	defer cancel()
	c := completionColumns(ends)
	var done []end
	err := b.sendAll(ctx, func(results pgx.BatchResults) error {
		rows, err := results.Query()
		if err != nil {
			return err
		}
		done, err = pgx.CollectRows(rows, scanEnd)
		return err
	}, command{b.sql.lockEnding, []any{c.builds}}, command{b.sql.finish, c.args(now, avoid)})
	if err != nil {
		return nil, err
	}
	if len(done) < len(c.builds) {
		rest := c.without(done)
		// By a statement that has committed, since this one waited for its lock.
		before, err := collect(ctx, b, scanEnd, b.sql.finished, rest.builds, rest.epochs)
		if err != nil {
			return nil, err
		}
		done = append(done, before...)
	}
	return finished(done), nil
}

func finished(ends []end) []queue.Finished {
	all := make([]queue.Finished, len(ends))
	for i, e := range ends {
		all[i] = queue.Finished{AttemptID: e.AttemptID, State: e.state.Public(), Admitted: e.admitted}
	}
	return all
}

// none stands for an exit code or a length that there is not, in finishSQL, too: not every driver takes arrays with nulls.
const none = -1 << 40 // -1099511627776

type completions struct {
	attempts
	sessions  []int64
	outcomes  []int16
	reasons   []string
	exitCodes []int64
	signals   []string
	lengths   []int64
	sums      [][]byte
}

// completionColumns returns ends as arguments, the first where an attempt comes twice. A partial log has no length to compare with.
func completionColumns(ends []queue.Completion) (c completions) {
	ends = slices.SortedStableFunc(slices.Values(ends), func(x, y queue.Completion) int { return byAttempt(x.AttemptID, y.AttemptID) })
	ends = slices.CompactFunc(ends, func(x, y queue.Completion) bool { return x.AttemptID == y.AttemptID })
	for _, e := range ends {
		c.add(e.AttemptID)
		c.sessions = append(c.sessions, int64(e.Session))
		c.outcomes = append(c.outcomes, int16(sqlqueue.Stored(e.Outcome)))
		c.reasons = append(c.reasons, e.Reason)
		exitCode, length := int64(none), int64(none)
		if e.ExitCode != nil {
			exitCode = int64(*e.ExitCode)
		}
		if !e.LogPartial {
			length = e.LogLength
		}
		c.exitCodes = append(c.exitCodes, exitCode)
		c.signals = append(c.signals, e.Signal)
		c.lengths = append(c.lengths, length)
		c.sums = append(c.sums, e.LogSHA256[:])
	}
	return c
}

// args returns the arguments of finishSQL.
func (c *completions) args(now time.Time, avoid time.Duration) []any {
	return ending(now, avoid, c.builds, c.epochs, c.sessions, c.outcomes, c.reasons, c.exitCodes, c.signals, c.lengths, c.sums)
}

// without returns the attempts that are not among those that have ended.
func (c *completions) without(done []end) (rest attempts) {
	ended := make(map[queue.AttemptID]bool, len(done))
	for _, e := range done {
		ended[e.AttemptID] = true
	}
	for i := range c.builds {
		if id := (queue.AttemptID{Build: c.builds[i].Bytes, Epoch: c.epochs[i]}); !ended[id] {
			rest.add(id)
		}
	}
	return rest
}
