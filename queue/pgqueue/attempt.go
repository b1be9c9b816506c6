package pgqueue

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/slipway-build/slipway/queue"
)

// acceptSQL, like every statement that changes several builds, locks them in the order of their ids first, which is that of its arguments,
// and then goes by the rows as they were locked. Each is looked up on its own: for a join the planner, who expects a single row, might
// compare each build with each argument. That the session is compared as it is keeps it from the indexes of leases: a walk over all of
// them looks cheap to it when there are few. What is locked stays where it is in the table, and is found again by that: a join by ids may be a
// walk over the whole table, in a plan that was made when that was empty. But the update finds only what its snapshot shows: not a row that
// another transaction has written anew since, of an offer that is still good. So for what does not come back the statement is run again.
const acceptSQL = `
WITH offered AS MATERIALIZED (
	SELECT b.place, i.token_hash, i.slack
	FROM unnest($2::uuid[], $3::bigint[], $4::bigint[], $5::bytea[], $6::bigint[]) AS i(id, epoch, session_id, token_hash, slack)
	CROSS JOIN LATERAL (
		SELECT b.ctid AS place FROM {schema}build b
		WHERE b.id = i.id AND b.epoch = i.epoch AND b.session_id IS NOT DISTINCT FROM i.session_id AND b.state = {offered}
		FOR NO KEY UPDATE) b
)
UPDATE {schema}build b SET
	state = {running},
	attempts_used = b.attempts_used + 1,
	started_at = {now},
	deadline = {now} + (b.run_timeout + o.slack) * interval '1 microsecond',
	token_hash = o.token_hash
FROM offered o
WHERE b.ctid = o.place
RETURNING b.id, b.epoch`

// acceptedSQL finds attempts that were accepted before in the same way.
const acceptedSQL = `
SELECT b.id, b.epoch
FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bytea[]) AS i(id, epoch, session_id, token_hash)
CROSS JOIN LATERAL (
	SELECT * FROM {schema}build b
	WHERE b.id = i.id AND b.epoch = i.epoch AND b.session_id IS NOT DISTINCT FROM i.session_id AND b.token_hash = i.token_hash
		AND b.state IN ({running}, {cancelling})
	OFFSET 0) b`

// Accept implements [queue.Transitions].
func (b *Backend) Accept(ctx context.Context, accepts []queue.Acceptance, now time.Time) ([]queue.AttemptID, error) {
	ctx, cancel := b.bounded(ctx)
	defer cancel()
	var done []queue.AttemptID
	for range 2 { // the second time with a snapshot in which is what the first has waited for
		c := acceptColumns(accepts, done)
		accepted, err := collect(ctx, b, scanAttemptID, b.sql.accept, present(now), c.builds, c.epochs, c.sessions, c.hashes, c.slacks)
		if err != nil {
			return nil, err
		}
		done = append(done, accepted...)
		if len(done) == len(accepts) {
			return done, nil
		}
	}
	// What is left is stale, or was accepted before: by a statement that has committed, since this one waited for its lock.
	c := acceptColumns(accepts, done)
	again, err := collect(ctx, b, scanAttemptID, b.sql.accepted, c.builds, c.epochs, c.sessions, c.hashes)
	if err != nil {
		return nil, err
	}
	return append(done, again...), nil
}

type acceptances struct {
	attempts
	sessions, slacks []int64
	hashes           [][]byte
}

// acceptColumns returns accepts as arguments, without those that are done.
func acceptColumns(accepts []queue.Acceptance, done []queue.AttemptID) (c acceptances) {
	accepted := make(map[queue.AttemptID]bool, len(done))
	for _, id := range done {
		accepted[id] = true
	}
	accepts = slices.SortedFunc(slices.Values(accepts), func(x, y queue.Acceptance) int { return byAttempt(x.AttemptID, y.AttemptID) })
	for _, a := range accepts {
		if accepted[a.AttemptID] {
			continue
		}
		c.add(a.AttemptID)
		c.sessions = append(c.sessions, int64(a.Session))
		c.slacks = append(c.slacks, a.Slack.Microseconds())
		c.hashes = append(c.hashes, a.TokenHash[:])
	}
	return c
}

const releaseSQL = `
WITH offered AS MATERIALIZED (
	SELECT b.id
	FROM unnest($2::uuid[], $3::bigint[]) AS i(id, epoch)
	CROSS JOIN LATERAL (
		SELECT b.id FROM {schema}build b WHERE b.id = i.id AND b.epoch = i.epoch AND b.state = {offered} FOR NO KEY UPDATE) b
)
UPDATE {schema}build b SET
	state = {queued}, session_id = NULL, deadline = NULL,
	avoid_worker = b.worker, avoid_until = {now} + $4::bigint * interval '1 microsecond'
WHERE b.id = ANY(ARRAY(SELECT id FROM offered))
RETURNING b.id, b.epoch`

// Release implements [queue.Transitions].
func (b *Backend) Release(ctx context.Context, ids []queue.AttemptID, avoid time.Duration, now time.Time) ([]queue.AttemptID, error) {
	var c attempts
	for _, id := range slices.SortedFunc(slices.Values(ids), byAttempt) {
		c.add(id)
	}
	return collect(ctx, b, scanAttemptID, b.sql.release, present(now), c.builds, c.epochs, avoid.Microseconds())
}

// attempts are ids of attempts as arguments.
type attempts struct {
	builds []pgtype.UUID
	epochs []int64
}

func (a *attempts) add(id queue.AttemptID) {
	a.builds = append(a.builds, uuid(id.Build))
	a.epochs = append(a.epochs, id.Epoch)
}

// byAttempt orders attempts by build, then epoch.
func byAttempt(x, y queue.AttemptID) int {
	return cmp.Or(bytes.Compare(x.Build[:], y.Build[:]), cmp.Compare(x.Epoch, y.Epoch))
}
