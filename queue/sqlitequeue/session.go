package sqlitequeue

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/slipway-build/slipway/internal/sqlqueue"
	"github.com/slipway-build/slipway/queue"
)

var (
	beatSQL = statement(`
INSERT INTO {schema}controller AS c (id, alive_until, fresh_since) VALUES (?1, ?2 + ?3, ?2)
ON CONFLICT (id) DO UPDATE SET
	alive_until = excluded.alive_until,
	fresh_since = CASE WHEN c.alive_until < ?2 THEN ?2 ELSE c.fresh_since END
RETURNING fresh_since`)

	replacedSQL = statement(`SELECT s.id FROM {schema}session AS s WHERE s.controller_id = ?1 AND s.replaced = 1 ORDER BY s.id`)
)

// Beat implements [queue.Sessions].
func (b *Backend) Beat(ctx context.Context, controller queue.ID, ttl time.Duration, now time.Time) (beat queue.Beat, err error) {
	err = b.change(ctx, now, func(ctx context.Context, c *change) error {
		var since int64
		row := c.conn.Conn.QueryRowContext(ctx, beatSQL, controller[:], c.now, ttl.Microseconds())
		if err := row.Scan(&since); err != nil {
			return err
		}
		beat.Fresh = sqlqueue.Duration(c.now - since)
		return c.each(ctx, func(rows *sql.Rows) error {
			var id queue.SessionID
			err := rows.Scan(&id)
			beat.Ended = append(beat.Ended, id)
			return err
		}, replacedSQL, controller[:])
	})
	return alone(beat, err)
}

var (
	knowControllerSQL = statement(`
INSERT INTO {schema}controller (id, alive_until, fresh_since) VALUES (?1, ?2, ?2) ON CONFLICT (id) DO NOTHING`)

	replaceSQL = statement(`UPDATE {schema}session SET ended_at = ?2, replaced = 1 WHERE worker = ?1 AND ended_at IS NULL`)

	openSQL = statement(`
INSERT INTO {schema}session (controller_id, worker, instance, labels, pools, slots, direct, opened_at)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
RETURNING id, EXISTS (SELECT 1 FROM {schema}session AS w CROSS JOIN {schema}build AS b ON b.session_id = w.id
	WHERE w.worker = ?2 AND b.session_id IS NOT NULL AND b.state = {offered})`)
)

// OpenSessions implements [queue.Sessions].
func (b *Backend) OpenSessions(ctx context.Context, sessions []queue.NewSession, now time.Time) (opened []queue.Opened, err error) {
	err = b.change(ctx, now, func(ctx context.Context, c *change) error {
		opened = make([]queue.Opened, len(sessions))
		for i := range sessions {
			if err := c.open(ctx, &sessions[i], &opened[i]); err != nil {
				return err
			}
		}
		return nil
	})
	return alone(opened, err)
}

// open begins a session and ends the one that the worker has.
func (c *change) open(ctx context.Context, s *queue.NewSession, opened *queue.Opened) error {
	if _, err := c.exec(ctx, knowControllerSQL, s.Controller[:], c.now); err != nil {
		return err
	}
	if _, err := c.exec(ctx, replaceSQL, s.Worker, c.now); err != nil {
		return err
	}
	return c.conn.Conn.QueryRowContext(ctx, openSQL, s.Controller[:], s.Worker, s.Instance, s.Labels.String(),
		strings.Join(s.Pools, ","), s.Slots, s.Direct, c.now).Scan(&opened.Session, &opened.Offers)
}

var (
	loseSQL = statement(`
UPDATE {schema}session SET ended_at = ?2 WHERE id IN (SELECT value FROM json_each(?1)) AND ended_at IS NULL RETURNING id`)

	releaseLostSQL = statement(`
UPDATE {schema}build AS b SET ` + comeBack + `, session_id = NULL, deadline = NULL
FROM json_each(?1) AS s
WHERE b.session_id = s.value AND b.session_id IS NOT NULL AND b.state = {offered}`)
)

// LoseSessions implements [queue.Sessions].
func (b *Backend) LoseSessions(ctx context.Context, sessions []queue.SessionID, now time.Time) error {
	arg, err := list(sessions)
	if err != nil {
		return err
	}
	return b.change(ctx, now, func(ctx context.Context, c *change) error {
		var lost []queue.SessionID
		err := c.each(ctx, func(rows *sql.Rows) error {
			var id queue.SessionID
			err := rows.Scan(&id)
			lost = append(lost, id)
			return err
		}, loseSQL, arg, c.now)
		if err != nil {
			return err
		}
		arg, err := list(lost)
		if err != nil {
			return err
		}
		_, err = c.exec(ctx, releaseLostSQL, arg)
		return err
	})
}

var (
	sessionSQL = statement(`SELECT s.worker FROM {schema}session AS s WHERE s.id = ?1 AND s.ended_at IS NULL`)

	workerLeasesSQL = statement(leaseColumns + `FROM {schema}session AS w CROSS JOIN {schema}build AS b ON b.session_id = w.id
WHERE w.worker = ?1 AND b.session_id IS NOT NULL`)
)

// Adopt implements [queue.Sessions].
func (b *Backend) Adopt(
	ctx context.Context, session queue.SessionID, held []queue.AttemptID, now time.Time,
) (adopted queue.Adopted, err error) {
	err = b.change(ctx, now, func(ctx context.Context, c *change) error {
		var worker string
		err := c.conn.Conn.QueryRowContext(ctx, sessionSQL, session).Scan(&worker)
		if errors.Is(err, sql.ErrNoRows) {
			return fmt.Errorf("session %d: %w", session, queue.ErrNotFound)
		}
		if err != nil {
			return err
		}
		known, err := c.leases(ctx, workerLeasesSQL, worker)
		if err != nil {
			return err
		}
		found := make(map[queue.AttemptID]queue.Lease)
		a := adoption{session: session}
		for _, l := range known {
			a.sort(&l, held, c.now, found)
		}
		if err := a.carryOut(ctx, c); err != nil {
			return err
		}
		if err := c.ended(ctx, worker, held, found); err != nil {
			return err
		}
		adopted = queue.Adopted{Released: len(a.released)}
		for _, id := range held {
			if l, ok := found[id]; ok {
				adopted.Leases = append(adopted.Leases, l)
			}
		}
		return nil
	})
	return alone(adopted, err)
}
