package pgqueue

import (
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/slipway-build/slipway/internal/sqlqueue"
	"github.com/slipway-build/slipway/queue"
)

// endSQL ends attempts: it follows on a first part that gives it, as the relation "ending", leased builds that are locked and how the
// attempt of each ended. Its first parameters are those of [Backend.ending].
//
// The heads of logs are closed by an insert that finds them there, not by an update: an append that was first, and for which
// this statement had to wait, may have made a head that the statement's snapshot does not show. The insert sees it, and the length
// it returns is what is stored for good.
const endSQL = `, over AS MATERIALIZED (
	SELECT e.*, d.delay, CASE
		WHEN e.outcome <> {lost} THEN e.outcome
		WHEN e.attempts_used >= e.max_attempts THEN {lost}
		WHEN d.delay > 0 THEN {held}
		ELSE {queued} END AS state
	FROM ending e CROSS JOIN LATERAL (SELECT least(e.backoff_max, e.backoff_base * power(2, e.attempts_used - 1))::bigint AS delay) d
), head AS (
	INSERT INTO {schema}log_head AS h (build_id, epoch, length, closed)
	SELECT o.id, o.epoch, 0, true FROM over o ORDER BY o.id
	ON CONFLICT (build_id, epoch) DO UPDATE SET closed = true
	RETURNING h.build_id, h.length
), history AS (
	INSERT INTO {schema}attempt (build_id, epoch, worker, started_at, ended_at, outcome, result, reason, exit_code, signal,
		log_sha256, log_complete)
	SELECT o.id, o.epoch, o.worker, o.started_at, {now}, o.outcome, CASE WHEN o.reported THEN o.state END, o.reason, o.exit_code, o.signal,
		o.log_sha256, coalesce(o.log_length = h.length, false)
	FROM over o JOIN head h ON h.build_id = o.id
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
WHERE b.id = o.id
RETURNING b.id, b.epoch, b.state, b.admitted`

// endingColumns are what endSQL wants to know of an attempt that nobody reported the end of; the outcome and reason come first.
const endingColumns = `b.id, b.epoch, b.worker, b.attempts_used, b.max_attempts, b.backoff_base, b.backoff_max, b.started_at, false AS reported,
	NULL::bigint AS exit_code, ''::text AS signal, NULL::bigint AS log_length, NULL::bytea AS log_sha256`

// An end is an attempt that has ended, and the state that its build is in now.
type end struct {
	queue.AttemptID
	state    sqlqueue.State
	admitted bool
}

// ending returns the first arguments of a statement that ends with endSQL, before those of its own.
func ending(now time.Time, avoid time.Duration, rest ...any) []any {
	return append([]any{present(now), avoid.Microseconds()}, rest...)
}

func scanEnd(row pgx.CollectableRow) (e end, err error) {
	err = row.Scan((*[16]byte)(&e.Build), &e.Epoch, (*int16)(&e.state), &e.admitted)
	return e, err
}

// finishSQL is fenced by epoch and state. What does not come back was stale, or finished before.
const finishSQL = `
WITH ending AS MATERIALIZED (
	SELECT b.id, b.epoch, b.worker, b.attempts_used, b.max_attempts, b.backoff_base, b.backoff_max, b.started_at, true AS reported,
		CASE WHEN b.state = {cancelling} AND i.outcome = {lost} THEN {canceled} ELSE i.outcome END AS outcome,
		i.reason, i.exit_code, i.signal, i.log_length, i.log_sha256
	FROM unnest($3::uuid[], $4::bigint[], $5::smallint[], $6::text[], $7::bigint[], $8::text[], $9::bigint[], $10::bytea[])
		AS i(id, epoch, outcome, reason, exit_code, signal, log_length, log_sha256)
	JOIN {schema}build b ON b.id = i.id AND b.epoch = i.epoch
	WHERE b.id = ANY($3::uuid[]) AND b.state IN ({running}, {cancelling})
	ORDER BY b.id FOR NO KEY UPDATE OF b
)` + endSQL

// finishedSQL finds attempts that Finish has ended.
const finishedSQL = `
SELECT a.build_id, a.epoch, a.result, false
FROM unnest($1::uuid[], $2::bigint[]) AS i(id, epoch)
JOIN {schema}attempt a ON a.build_id = i.id AND a.epoch = i.epoch
WHERE a.build_id = ANY($1::uuid[]) AND a.result IS NOT NULL`

// Finish implements [queue.Transitions].
func (b *Backend) Finish(ctx context.Context, ends []queue.Completion, avoid time.Duration, now time.Time) ([]queue.Finished, error) {
	ctx, cancel := b.bounded(ctx)
	defer cancel()
	c := completionColumns(ends)
	done, err := collect(ctx, b, scanEnd, b.sql.finish, ending(now, avoid,
		c.builds, c.epochs, c.outcomes, c.reasons, c.exitCodes, c.signals, c.lengths, c.sums)...)
	if err != nil {
		return nil, err
	}
	if len(done) < len(c.builds) {
		var rest attempts
		for _, e := range ends {
			if !slices.ContainsFunc(done, func(d end) bool { return d.AttemptID == e.AttemptID }) {
				rest.add(e.AttemptID)
			}
		}
		// By a statement that has committed, since this one waited for its lock.
		before, err := collect(ctx, b, scanEnd, b.sql.finished, rest.builds, rest.epochs)
		if err != nil {
			return nil, err
		}
		done = append(done, before...)
	}
	finished := make([]queue.Finished, len(done))
	for i, d := range done {
		finished[i] = queue.Finished{AttemptID: d.AttemptID, State: d.state.Public(), Admitted: d.admitted}
	}
	return finished, nil
}

type completions struct {
	attempts
	outcomes  []int16
	reasons   []string
	exitCodes []*int64
	signals   []string
	lengths   []*int64
	sums      [][]byte
}

// completionColumns returns ends as arguments, the first where an attempt comes twice. A partial log has no length to compare with.
func completionColumns(ends []queue.Completion) (c completions) {
	ends = slices.SortedStableFunc(slices.Values(ends), func(x, y queue.Completion) int { return byAttempt(x.AttemptID, y.AttemptID) })
	ends = slices.CompactFunc(ends, func(x, y queue.Completion) bool { return x.AttemptID == y.AttemptID })
	for _, e := range ends {
		c.add(e.AttemptID)
		c.outcomes = append(c.outcomes, int16(sqlqueue.Stored(e.Outcome)))
		c.reasons = append(c.reasons, e.Reason)
		var exitCode *int64
		if e.ExitCode != nil {
			exitCode = new(int64(*e.ExitCode))
		}
		c.exitCodes = append(c.exitCodes, exitCode)
		c.signals = append(c.signals, e.Signal)
		var length *int64
		if !e.LogPartial {
			length = new(e.LogLength)
		}
		c.lengths = append(c.lengths, length)
		c.sums = append(c.sums, e.LogSHA256[:])
	}
	return c
}
