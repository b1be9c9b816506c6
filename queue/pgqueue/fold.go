package pgqueue

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// foldLimit is how many rows of stat_delta one call folds. They are no builds: a day's are folded into one row.
const foldLimit = 4096

// foldSQL adds up what was counted since it was last called. Readers see each row before or after, never both. Of rows that others are
// adding to it waits for the first, in an order that is the same for all.
const foldSQL = `
WITH gone AS (
	DELETE FROM {schema}stat_delta WHERE ctid = ANY(ARRAY(SELECT d.ctid FROM {schema}stat_delta d LIMIT 4096 FOR UPDATE SKIP LOCKED))
	RETURNING *
), folded AS (
	INSERT INTO {schema}stat AS s
		(project, day, submitted, succeeded, failed, canceled, timed_out, expired, lost, attempts, waited, ran)
	SELECT g.project, g.day, sum(g.submitted), sum(g.succeeded), sum(g.failed), sum(g.canceled), sum(g.timed_out), sum(g.expired),
		sum(g.lost), sum(g.attempts), sum(g.waited), sum(g.ran)
	FROM gone g
	GROUP BY g.project, g.day
	ORDER BY g.project, g.day
	ON CONFLICT (project, day) DO UPDATE SET
		submitted = s.submitted + excluded.submitted, succeeded = s.succeeded + excluded.succeeded, failed = s.failed + excluded.failed,
		canceled = s.canceled + excluded.canceled, timed_out = s.timed_out + excluded.timed_out, expired = s.expired + excluded.expired,
		lost = s.lost + excluded.lost, attempts = s.attempts + excluded.attempts,
		waited = s.waited + excluded.waited, ran = s.ran + excluded.ran
)
SELECT count(*) FROM gone`

// fold adds up statistics.
func (r *round) fold(ctx context.Context) error {
	folded, err := collect(ctx, r.Backend, pgx.RowTo[int], r.sql.fold)
	if err != nil {
		return err
	}
	r.done.Folded = folded[0]
	r.done.More = r.done.More || folded[0] == foldLimit
	return nil
}
