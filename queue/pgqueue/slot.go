package pgqueue

import (
	"context"
	"slices"
	"time"

	"github.com/slipway-build/slipway/queue"
)

// submitSlots returns submitManySQL for builds without keys of which some come with slots, in which they start if they may. It returns
// those as well.
func submitSlots() string {
	return fill(submitManySQL, map[string]string{
		"count":         countAll,
		"start arrays":  `, $28::bigint[], $29::bigint[], $30::bigint[]`,
		"start names":   `, slot, floor, slack`,
		"start columns": `, epoch, session_id, worker, deadline, attempts_used, started_at`,
		"start state":   ` WHEN s.id IS NOT NULL THEN {running}`,
		"start values": `, (s.id IS NOT NULL)::int, s.id, coalesce(s.worker, ''),
		CASE WHEN s.id IS NOT NULL THEN {now} + (i.run_timeout + i.slack) * interval '1 microsecond' END, (s.id IS NOT NULL)::int,
		CASE WHEN s.id IS NOT NULL THEN {now} END`,
		"start session": `
	LEFT JOIN LATERAL (
		SELECT s.id, s.worker FROM {schema}session s
		WHERE s.id = i.slot AND s.direct AND s.ended_at IS NULL AND n.class_id > 0 AND NOT n.gated AND n.begin = g.now
			AND NOT EXISTS (SELECT FROM {schema}pool p WHERE p.name = i.pool AND p.paused)
			AND NOT EXISTS (
				SELECT FROM {schema}build q WHERE q.state = {queued} AND q.class_id = n.class_id AND q.rank >= i.floor
					AND q.rank < n.begin - coalesce(i.priority, 0)::bigint * {step})
		OFFSET 0) s ON true`,
		"new": `
	RETURNING id, state`,
		"id": `, NULL::text`,
		"rest": `
UNION ALL
SELECT 0, 0, false, 0, a.id::text FROM added a WHERE a.state = {running}`,
	})
}

// submitSlots inserts builds without keys, some with slots.
func (b *Backend) submitSlots(ctx context.Context, on runner, builds []queue.NewBuild, now time.Time) ([]queue.Submitted, error) {
	rows := rowsOf(builds)
	g := rows.gates()
	projects, counts := rows.perProject()
	started, err := g.insert(ctx, on, b.sql.submitSlots, append(rows.columns(now), projects, counts,
		column(rows.rows, func(r *newRow) int64 { return int64(r.Slot.Session) }),
		column(rows.rows, func(r *newRow) int64 { return r.Slot.Floor }),
		column(rows.rows, func(r *newRow) int64 { return r.Slot.Slack.Microseconds() })))
	if err != nil {
		return nil, err
	}
	rows.place(g)
	done := rows.submitted()
	for i := range done {
		done[i].Started = started[done[i].ID]
	}
	return done, nil
}

func anySlot(builds []queue.NewBuild) bool {
	return slices.ContainsFunc(builds, func(n queue.NewBuild) bool { return n.Slot.Session != 0 })
}
