package sqlitequeue

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/slipway-build/slipway/internal/sqlqueue"
	"github.com/slipway-build/slipway/queue"
)

// Finish implements [queue.Transitions].
func (b *Backend) Finish(
	ctx context.Context, ends []queue.Completion, avoid time.Duration, now time.Time,
) (finished []queue.Finished, err error) {
	ids := make([]queue.AttemptID, len(ends))
	reports := make(map[queue.AttemptID]*queue.Completion, len(ends))
	for i := range ends {
		ids[i] = ends[i].AttemptID
		if reports[ids[i]] == nil {
			reports[ids[i]] = &ends[i]
		}
	}
	err = b.change(ctx, now, func(ctx context.Context, c *change) error {
		held, err := c.fence(ctx, ids...)
		if err != nil {
			return err
		}
		var endings []ending
		for i := range held {
			if report := reports[held[i].AttemptID]; report != nil {
				endings = append(endings, held[i].report(report, avoid, c.now))
				delete(reports, held[i].AttemptID)
			}
		}
		if err := c.end(ctx, endings); err != nil {
			return err
		}
		finished, err = c.finished(ctx, ids)
		return err
	})
	return finished, err
}

var finishedSQL = statement(`
SELECT a.build_id, a.epoch, a.result FROM ` + attemptIDs + ` AS i CROSS JOIN {schema}attempt AS a
ON a.build_id = i.id AND a.epoch = i.epoch AND a.result IS NOT NULL ORDER BY i.n`)

// finished returns those of the attempts that Finish ended, and what it led to.
func (c *change) finished(ctx context.Context, ids []queue.AttemptID) ([]queue.Finished, error) {
	arg, err := list(ids)
	if err != nil {
		return nil, err
	}
	var all []queue.Finished
	err = c.each(ctx, func(rows *sql.Rows) error {
		var f queue.Finished
		var result sqlqueue.State
		err := rows.Scan(scanID(&f.Build), &f.Epoch, &result)
		f.State = result.Public()
		all = append(all, f)
		return err
	}, finishedSQL, arg)
	return all, err
}

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
}

// report returns the ending that a worker reports.
func (l *lease) report(r *queue.Completion, avoid time.Duration, now int64) ending {
	var e ending
	switch {
	case r.Outcome != queue.Lost:
		e = l.ending(sqlqueue.Stored(r.Outcome), r.Reason)
	case l.state == sqlqueue.Cancelling:
		e = l.ending(sqlqueue.Canceled, r.Reason)
	default:
		e = l.lost(r.Reason, avoid, now)
	}
	e.ExitCode, e.Signal = r.ExitCode, r.Signal
	e.Result = new(e.Next)
	e.Log, e.Complete = &r.LogSHA256, !r.LogPartial && r.LogLength == l.log
	return e
}

// ending returns an ending of both the attempt and the build. A build that was canceled keeps the reason of its cancel.
func (l *lease) ending(outcome sqlqueue.State, reason string) ending {
	e := ending{Build: l.Build, Outcome: outcome, Reason: reason, Next: outcome, BuildReason: reason}
	if l.state == sqlqueue.Cancelling && outcome == sqlqueue.Canceled {
		e.BuildReason = l.reason
	}
	return e
}

// lost returns the ending of an attempt that no fault of the build ended: the build is attempted again while it may be.
func (l *lease) lost(reason string, avoid time.Duration, now int64) ending {
	e := l.ending(sqlqueue.Lost, reason)
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

const endings = `(SELECT unhex(value->>'id', '-') AS id, value AS v FROM json_each(?1))`

var (
	endAttemptSQL = statement(`
INSERT INTO {schema}attempt (
	build_id, epoch, worker, started_at, ended_at, outcome, result, reason, exit_code, signal, log_sha256, log_complete)
SELECT b.id, b.epoch, b.worker, b.started_at, ?2,
	e.v->>'outcome', e.v->>'result', e.v->>'reason', e.v->>'exit', e.v->>'signal', unhex(e.v->>'log'), e.v->>'complete'
FROM ` + endings + ` AS e CROSS JOIN {schema}build AS b ON b.id = e.id`)

	closeLogSQL = statement(`
UPDATE {schema}log_head AS h SET closed = 1
FROM ` + endings + ` AS e CROSS JOIN {schema}build AS b ON b.id = e.id
WHERE h.build_id = b.id AND h.epoch = b.epoch`)

	endBuildSQL = statement(`
UPDATE {schema}build AS b SET
	state = e.v->>'next', session_id = NULL, deadline = NULL, token_hash = NULL,
	finished_at = CASE WHEN e.v->>'next' >= {succeeded} THEN ?2 END,
	not_before = e.v->>'not_before',
	avoid_worker = CASE WHEN e.v->>'avoid_until' IS NULL THEN b.avoid_worker ELSE b.worker END,
	avoid_until = coalesce(e.v->>'avoid_until', b.avoid_until),
	expires_at = CASE WHEN e.v->>'next' <= {queued} THEN ?2 + b.queue_timeout ELSE b.expires_at END,
	reason = e.v->>'build_reason',
	exit_code = CASE WHEN e.v->>'next' >= {succeeded} THEN e.v->>'exit' END,
	signal = CASE WHEN e.v->>'next' >= {succeeded} THEN e.v->>'signal' ELSE '' END
FROM ` + endings + ` AS e
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
	if _, err := c.exec(ctx, endAttemptSQL, arg, c.now); err != nil {
		return err
	}
	if _, err := c.exec(ctx, closeLogSQL, arg); err != nil {
		return err
	}
	_, err = c.exec(ctx, endBuildSQL, arg, c.now)
	return err
}

var (
	cancelSQL = statement(`
UPDATE {schema}build SET
	state = CASE state WHEN {running} THEN {cancelling} ELSE {canceled} END,
	session_id = CASE state WHEN {running} THEN session_id END,
	deadline = CASE state WHEN {running} THEN ?3 + ?5 END,
	finished_at = CASE state WHEN {running} THEN NULL ELSE ?3 END,
	not_before = NULL, reason = ?4
WHERE id = ?1 AND project = ?2 AND state <= {running}
RETURNING state`)

	stateSQL = statement(`SELECT state FROM {schema}build WHERE id = ?1 AND project = ?2`)
)

// Cancel implements [queue.Transitions].
func (b *Backend) Cancel(
	ctx context.Context, project string, ids []queue.ID, reason string, force time.Duration, now time.Time,
) (canceled []queue.CanceledBuild, err error) {
	err = b.change(ctx, now, func(ctx context.Context, c *change) error {
		for _, id := range ids {
			var stored sqlqueue.State
			row := c.conn.Conn.QueryRowContext(ctx, cancelSQL, id[:], project, c.now, reason, force.Microseconds())
			err := row.Scan(&stored)
			if errors.Is(err, sql.ErrNoRows) {
				err = c.conn.Conn.QueryRowContext(ctx, stateSQL, id[:], project).Scan(&stored)
			}
			if errors.Is(err, sql.ErrNoRows) {
				continue
			}
			if err != nil {
				return err
			}
			canceled = append(canceled, queue.CanceledBuild{ID: id, State: stored.Public()})
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return canceled, nil
}
