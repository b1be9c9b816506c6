package sqlitequeue

import (
	"context"
	"time"

	"github.com/slipway-build/slipway/internal/sqlqueue"
	"github.com/slipway-build/slipway/queue"
)

// An ending is the end of a running attempt, and what becomes of its build.
type ending struct {
	Build    queue.ID        `json:"id"`
	Outcome  sqlqueue.State  `json:"outcome"` // of the attempt
	Reason   string          `json:"reason"`
	ExitCode *int            `json:"exit"`
	Signal   string          `json:"signal"`
	Result   *sqlqueue.State `json:"result"` // only if a worker reported the end: the next state
	Log      *queue.Digest   `json:"log"`
	Complete bool            `json:"complete"`

	Next        sqlqueue.State `json:"next"` // of the build
	BuildReason string         `json:"build_reason"`
	NotBefore   *int64         `json:"not_before"`
	AvoidUntil  *int64         `json:"avoid_until"` // set if the build is attempted again

	logged bool // there is a log to be closed
}

// report returns the ending that a worker reports.
func (l *lease) report(r *queue.Completion, avoid time.Duration, now int64) ending {
	outcome := sqlqueue.Stored(r.Outcome)
	var e ending
	switch canceled := l.state == sqlqueue.Cancelling; {
	case canceled && r.Outcome == queue.Lost:
		e = l.ending(sqlqueue.Canceled, r.Reason)
	case !canceled && (r.Outcome == queue.Lost || r.Outcome == queue.Failed && l.retryFailed):
		e = l.again(outcome, r.Reason, avoid, now)
	default:
		e = l.ending(outcome, r.Reason)
	}
	e.ExitCode, e.Signal = r.ExitCode, r.Signal
	e.Result = new(e.Next)
	e.Log, e.Complete = &r.LogSHA256, !r.LogPartial && r.LogLength == l.log
	return e
}

// ending returns an ending of both the attempt and the build. A build that was canceled keeps the reason of its cancel.
func (l *lease) ending(outcome sqlqueue.State, reason string) ending {
	e := ending{Build: l.Build, Outcome: outcome, Reason: reason, Next: outcome, BuildReason: reason, logged: l.log > 0}
	if l.state == sqlqueue.Cancelling && outcome == sqlqueue.Canceled {
		e.BuildReason = l.reason
	}
	return e
}

// again returns the ending of an attempt after which the build is attempted again while it may be. A build that waits until then has
// given up the room it had, if it had to be admitted.
func (l *lease) again(outcome sqlqueue.State, reason string, avoid time.Duration, now int64) ending {
	e := l.ending(outcome, reason)
	if l.used >= l.most {
		return e
	}
	e.Next, e.BuildReason = sqlqueue.Queued, l.reason
	e.AvoidUntil = new(now + avoid.Microseconds())
	if delay := l.backoff.Delay(l.used); delay > 0 {
		e.Next, e.NotBefore = sqlqueue.Held, new(now+delay.Microseconds())
	}
	return e
}

// endings makes e the set that a list of ending carries, with the time; two arguments.
const endings = `
WITH e AS MATERIALIZED (SELECT ? AS now, unhex(value->>'id', '-') AS id, value AS v FROM json_each(?))`

var (
	endAttemptSQL = statement(endings + `
INSERT INTO {schema}attempt (
	build_id, epoch, worker, started_at, ended_at, outcome, result, reason, exit_code, signal, log_sha256, log_complete)
SELECT b.id, b.epoch, b.worker, b.started_at, e.now,
	e.v->>'outcome', e.v->>'result', e.v->>'reason', e.v->>'exit', e.v->>'signal', unhex(e.v->>'log'), e.v->>'complete'
FROM e CROSS JOIN {schema}build AS b ON b.id = e.id`)

	closeLogSQL = statement(endings + `
UPDATE {schema}log_head AS h SET closed = 1
FROM e CROSS JOIN {schema}build AS b ON b.id = e.id
WHERE h.build_id = b.id AND h.epoch = b.epoch`)

	endBuildSQL = statement(endings + `
UPDATE {schema}build AS b SET
	state = CASE WHEN e.v->>'next' = {queued} AND b.rank = ` + ownRank + ` AND ` + inFairPool + ` THEN {held} ELSE e.v->>'next' END,
	session_id = NULL, deadline = NULL, token_hash = NULL,
	finished_at = CASE WHEN e.v->>'next' >= {succeeded} THEN e.now END,
	not_before = e.v->>'not_before',
	avoid_worker = CASE WHEN e.v->>'avoid_until' IS NULL THEN b.avoid_worker ELSE b.worker END,
	avoid_until = coalesce(e.v->>'avoid_until', b.avoid_until),
	expires_at = CASE WHEN e.v->>'next' <= {queued} THEN e.now + b.queue_timeout ELSE b.expires_at END,
	reason = e.v->>'build_reason',
	exit_code = CASE WHEN e.v->>'next' >= {succeeded} THEN e.v->>'exit' END,
	signal = CASE WHEN e.v->>'next' >= {succeeded} THEN e.v->>'signal' ELSE '' END
FROM e
WHERE b.id = e.id`)
)

// end carries out endings of attempts that this change has found leased.
func (c *change) end(ctx context.Context, all []ending) error {
	if len(all) == 0 {
		return nil
	}
	arg, err := list(all)
	if err != nil {
		return err
	}
	if _, err := c.exec(ctx, endAttemptSQL, c.now, arg); err != nil {
		return err
	}
	for _, e := range all {
		if e.logged {
			if _, err := c.exec(ctx, closeLogSQL, c.now, arg); err != nil {
				return err
			}
			break
		}
	}
	_, err = c.exec(ctx, endBuildSQL, c.now, arg)
	return err
}
