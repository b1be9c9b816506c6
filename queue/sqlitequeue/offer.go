package sqlitequeue

import (
	"context"
	"database/sql"
	"time"

	"github.com/slipway-build/slipway/queue"
)

// acceptance is an element of the list that Accept's statements read.
type acceptance struct {
	Build   queue.ID        `json:"id"`
	Epoch   int64           `json:"epoch"`
	Session queue.SessionID `json:"session"`
	Hash    queue.Digest    `json:"hash"`
	Slack   int64           `json:"slack"`
}

const acceptances = `(
	SELECT key AS n, unhex(value->>'id', '-') AS id, value->>'epoch' AS epoch, value->>'session' AS session,
		unhex(value->>'hash') AS hash, value->>'slack' AS slack
	FROM json_each(?1)
)`

// The + keeps SQLite from searching by session, which holds many builds.
var acceptSQL = statement(`
UPDATE {schema}build AS b SET
	state = {running}, attempts_used = b.attempts_used + 1, token_hash = a.hash, started_at = ?2, deadline = ?2 + b.run_timeout + a.slack
FROM ` + acceptances + ` AS a
WHERE b.id = a.id AND b.epoch = a.epoch AND +b.session_id = a.session AND b.state = {offered}`)

// What was accepted now is told together with what had been before.
var acceptedSQL = statement(`
SELECT b.id, b.epoch FROM ` + acceptances + ` AS a CROSS JOIN {schema}build AS b
ON b.id = a.id AND b.epoch = a.epoch AND +b.session_id = a.session AND b.token_hash = a.hash AND b.state IN ({running}, {cancelling})
ORDER BY a.n`)

// Accept implements [queue.Transitions].
func (b *Backend) Accept(ctx context.Context, accepts []queue.Acceptance, now time.Time) (accepted []queue.AttemptID, err error) {
	items := make([]acceptance, len(accepts))
	for i, a := range accepts {
		items[i] = acceptance{
			Build: a.Build, Epoch: a.Epoch, Session: a.Session, Hash: a.TokenHash, Slack: a.Slack.Microseconds(),
		}
	}
	arg, err := list(items)
	if err != nil {
		return nil, err
	}
	err = b.change(ctx, now, func(ctx context.Context, c *change) error {
		if _, err := c.exec(ctx, acceptSQL, arg, c.now); err != nil {
			return err
		}
		accepted, err = c.attempts(ctx, acceptedSQL, arg)
		return err
	})
	return alone(accepted, err)
}

// comeBack queues a claimed build b again, at its place. In a pool that became fair meanwhile it has none and is held, so that Admit ranks
// it anew; of one that ceased to be fair it takes nothing along.
const comeBack = `state = CASE WHEN b.rank = ` + ownRank + ` AND ` + inFairPool + ` THEN {held} ELSE {queued} END,
	rank = CASE WHEN ` + inFairPool + ` THEN b.rank ELSE ` + ownRank + ` END`

var releaseSQL = statement(`
UPDATE {schema}build AS b SET
	` + comeBack + `, session_id = NULL, deadline = NULL, avoid_worker = b.worker, avoid_until = ?
FROM ` + attemptIDs + ` AS i
WHERE b.id = i.id AND b.epoch = i.epoch AND b.state = {offered}
RETURNING id, epoch`)

// Release implements [queue.Transitions].
func (b *Backend) Release(
	ctx context.Context, ids []queue.AttemptID, avoid time.Duration, now time.Time,
) (released []queue.AttemptID, err error) {
	arg, err := list(ids)
	if err != nil {
		return nil, err
	}
	err = b.change(ctx, now, func(ctx context.Context, c *change) error {
		released, err = c.attempts(ctx, releaseSQL, c.now+avoid.Microseconds(), arg)
		return err
	})
	return alone(released, err)
}

// attemptIDs is the set that a list of queue.AttemptID carries, as one argument.
const attemptIDs = `(SELECT key AS n, unhex(value->>'Build', '-') AS id, value->>'Epoch' AS epoch FROM json_each(?))`

// attempts runs a statement that returns attempts.
func (c *change) attempts(ctx context.Context, query string, args ...any) ([]queue.AttemptID, error) {
	var ids []queue.AttemptID
	err := c.each(ctx, func(rows *sql.Rows) error {
		var id queue.AttemptID
		err := rows.Scan(scanID(&id.Build), &id.Epoch)
		ids = append(ids, id)
		return err
	}, query, args...)
	return ids, err
}
