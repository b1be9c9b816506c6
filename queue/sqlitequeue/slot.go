package sqlitequeue

import (
	"context"
	"database/sql"

	"github.com/slipway-build/slipway/queue"
)

// takersSQL returns those of the builds in ?1, which were inserted just now, together with those in ?2, that start in their slots.
var takersSQL = statement(`
SELECT q.id, s.id, s.worker, g.value->>'offer'
FROM json_each(?1) AS g CROSS JOIN {schema}build AS q ON q.id = unhex(g.value->>'id', '-')
CROSS JOIN {schema}session AS s ON s.id = g.value->>'session'
LEFT JOIN {schema}pool AS p ON p.name = q.pool
WHERE q.state = {queued} AND s.direct AND s.ended_at IS NULL AND p.paused IS NOT 1 AND NOT EXISTS (
	SELECT 1 FROM {schema}build AS o WHERE o.state = {queued} AND o.class_id = q.class_id
		AND o.rank >= g.value->>'floor' AND o.rank < q.rank AND o.id NOT IN (SELECT unhex(value, '-') FROM json_each(?2)))`)

// A slotted is an element of the list of takersSQL.
type slotted struct {
	ID      queue.ID        `json:"id"`
	Session queue.SessionID `json:"session"`
	Floor   int64           `json:"floor"`
	Offer   int64           `json:"offer"`
}

// startInSlots gives builds that were submitted just now to the sessions in whose slots they may start, and notes that in done.
func (c *change) startInSlots(ctx context.Context, builds []queue.NewBuild, done []queue.Submitted) error {
	var given []slotted
	ids := make([]queue.ID, len(builds))
	for i, b := range builds {
		ids[i] = b.ID
		if b.IdempotencyKey != "" {
			return nil
		}
		if b.Slot.Session != 0 {
			given = append(given, slotted{b.ID, b.Slot.Session, b.Slot.Floor, b.Slot.Slack.Microseconds()})
		}
	}
	if len(given) == 0 {
		return nil
	}
	slots, err := list(given)
	if err != nil {
		return err
	}
	together, err := list(ids)
	if err != nil {
		return err
	}
	var picks []pick
	err = c.each(ctx, func(rows *sql.Rows) error {
		p := pick{Direct: true}
		err := rows.Scan(scanID(&p.Build), &p.Session, &p.Worker, &p.Offer)
		picks = append(picks, p)
		return err
	}, takersSQL, slots, together)
	if err != nil {
		return err
	}
	claimed, err := c.claim(ctx, picks)
	started := make(map[queue.ID]bool, len(claimed))
	for _, c := range claimed {
		started[c.Build] = true
	}
	for i := range done {
		done[i].Started = started[done[i].ID]
	}
	return err
}
