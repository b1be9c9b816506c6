package sqlitequeue

import (
	"context"
	"database/sql"
	"slices"

	"github.com/slipway-build/slipway/internal/sqlqueue"
	"github.com/slipway-build/slipway/queue"
)

// An adoption collects what shall become of the leases of a worker that is back.
type adoption struct {
	session  queue.SessionID
	moved    []queue.ID // to the session
	released []queue.ID
}

// sort decides on one lease of the worker. One that it holds is added to found.
func (a *adoption) sort(l *lease, held []queue.AttemptID, now int64, found map[queue.AttemptID]queue.Lease) {
	switch {
	case slices.Contains(held, l.AttemptID):
		if l.session != a.session {
			l.session = a.session
			a.moved = append(a.moved, l.Build)
		}
		found[l.AttemptID] = l.public(now)
	case l.state == sqlqueue.Offered && l.session != a.session:
		a.released = append(a.released, l.Build)
	}
}

var (
	moveSQL = statement(`
UPDATE {schema}build SET session_id = ?2 WHERE id IN (SELECT unhex(value, '-') FROM json_each(?1))`)

	takeBackSQL = statement(`
UPDATE {schema}build AS b SET ` + comeBack + `, session_id = NULL, deadline = NULL
WHERE b.id IN (SELECT unhex(value, '-') FROM json_each(?1))`)
)

func (a *adoption) carryOut(ctx context.Context, c *change) error {
	moved, err := list(a.moved)
	if err != nil {
		return err
	}
	if _, err := c.exec(ctx, moveSQL, moved, a.session); err != nil {
		return err
	}
	released, err := list(a.released)
	if err != nil {
		return err
	}
	_, err = c.exec(ctx, takeBackSQL, released)
	return err
}

var endedSQL = statement(`
SELECT a.build_id, a.epoch, a.outcome, a.reason, b.project,
	coalesce((SELECT h.length FROM {schema}log_head AS h WHERE h.build_id = a.build_id AND h.epoch = a.epoch), 0)
FROM ` + attemptIDs + ` AS i
CROSS JOIN {schema}attempt AS a ON a.build_id = i.id AND a.epoch = i.epoch
CROSS JOIN {schema}build AS b ON b.id = a.build_id
WHERE a.worker = ? AND a.result IS NOT NULL`)

// ended adds to found those attempts of the worker that Finish has ended.
func (c *change) ended(ctx context.Context, worker string, held []queue.AttemptID, found map[queue.AttemptID]queue.Lease) error {
	arg, err := list(held)
	if err != nil {
		return err
	}
	return c.each(ctx, func(rows *sql.Rows) error {
		l := queue.Lease{Worker: worker}
		var outcome sqlqueue.State
		err := rows.Scan(scanID(&l.Build), &l.Epoch, &outcome, &l.Reason, &l.Project, &l.LogLength)
		l.State = outcome.Public()
		found[l.AttemptID] = l
		return err
	}, endedSQL, arg, worker)
}
