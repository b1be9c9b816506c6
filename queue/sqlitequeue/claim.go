package sqlitequeue

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"slices"
	"time"

	"github.com/slipway-build/slipway/internal/sqlqueue"
	"github.com/slipway-build/slipway/queue"
)

// probeSQL returns classes that have no builds as well.
var probeSQL = statement(`
SELECT c.id, (SELECT json_group_array(rank) FROM (
	SELECT q.rank FROM {schema}build AS q WHERE q.state = {queued} AND q.class_id = r.class AND q.rank >= r.floor
	ORDER BY q.rank, q.id LIMIT +?2))
FROM (SELECT value->>'Class' AS class, value->>'Floor' AS floor FROM json_each(?1)) AS r
CROSS JOIN {schema}class AS c ON c.id = r.class
LEFT JOIN {schema}pool AS p ON p.name = c.pool
WHERE p.paused IS NOT 1`)

// Probe implements [queue.Transitions].
func (b *Backend) Probe(ctx context.Context, reaches []queue.Reach, limit int) ([]queue.Front, error) {
	arg, err := list(reaches)
	if err != nil {
		return nil, err
	}
	var fronts []queue.Front
	err = b.read(ctx, func(rows *sql.Rows) error {
		var f queue.Front
		var ranks []byte
		if err := rows.Scan(&f.Class, &ranks); err != nil {
			return err
		}
		err := json.Unmarshal(ranks, &f.Ranks)
		if len(f.Ranks) > 0 {
			fronts = append(fronts, f)
		}
		return err
	}, probeSQL, arg, limit)
	slices.SortFunc(fronts, func(x, y queue.Front) int {
		return cmp.Or(cmp.Compare(x.Ranks[0], y.Ranks[0]), cmp.Compare(x.Class, y.Class))
	})
	return alone(fronts, err)
}

// Claim implements [queue.Transitions].
func (b *Backend) Claim(
	ctx context.Context, demand []queue.Demand, offer time.Duration, now time.Time,
) (claimed []queue.Claimed, err error) {
	err = b.change(ctx, now, func(ctx context.Context, c *change) error {
		members, err := c.members(ctx, demand)
		if err != nil {
			return err
		}
		var picks []pick
		taken := make(map[queue.ID]bool)
		for _, d := range demand {
			found, err := c.pick(ctx, d, members, taken)
			if err != nil {
				return err
			}
			picks = append(picks, found...)
		}
		for i := range picks {
			picks[i].Offer = offer.Microseconds()
		}
		claimed, err = c.claim(ctx, picks)
		return err
	})
	return alone(claimed, err)
}

// A member is a live session that takes part in a claim.
type member struct {
	worker string
	direct bool
}

// members returns the sessions of a demand that have not ended.
func (c *change) members(ctx context.Context, demand []queue.Demand) (map[queue.SessionID]member, error) {
	var ids []queue.SessionID
	for _, d := range demand {
		ids = append(ids, d.Slots...)
	}
	slices.Sort(ids)
	arg, err := list(slices.Compact(ids))
	if err != nil {
		return nil, err
	}
	members := make(map[queue.SessionID]member)
	err = c.each(ctx, func(rows *sql.Rows) error {
		var id queue.SessionID
		var m member
		err := rows.Scan(&id, &m.worker, &m.direct)
		members[id] = m
		return err
	}, membersSQL, arg)
	return members, err
}

var membersSQL = statement(`
SELECT s.id, s.worker, s.direct FROM json_each(?) AS i CROSS JOIN {schema}session AS s ON s.id = i.value WHERE s.ended_at IS NULL`)

// A pick is a queued build and the session that shall have it.
type pick struct {
	Build   queue.ID        `json:"id"`
	Session queue.SessionID `json:"session"`
	Worker  string          `json:"worker"`
	Direct  bool            `json:"direct"`
	Offer   int64           `json:"offer"` // how long it is the session's: see [queue.Transitions] Claim; in microseconds
}

// If a single worker asks, builds that avoid it are passed over before the limit, lest they stand in the way of all that follow.
var pickSQL = statement(`
SELECT q.id, CASE WHEN q.avoid_until > ?2 THEN q.avoid_worker ELSE '' END FROM {schema}build AS q
WHERE q.state = {queued} AND q.class_id = ?1 AND q.rank >= ?5 AND (q.avoid_worker IS NOT ?3 OR q.avoid_until <= ?2)
	AND q.project NOT IN (SELECT r.name FROM {schema}project AS r WHERE r.paused = 1)
	AND NOT EXISTS (
		SELECT 1 FROM {schema}class AS c CROSS JOIN {schema}pool AS p ON p.name = c.pool WHERE c.id = ?1 AND p.paused = 1)
ORDER BY q.rank, q.id LIMIT +?4`)

// pick matches the first builds of a class with the slots in demand and notes them in taken.
func (c *change) pick(
	ctx context.Context, d queue.Demand, members map[queue.SessionID]member, taken map[queue.ID]bool,
) ([]pick, error) {
	var slots []pick
	for _, id := range d.Slots {
		if m, ok := members[id]; ok {
			slots = append(slots, pick{Session: id, Worker: m.worker, Direct: m.direct})
		}
	}
	if len(slots) == 0 {
		return nil, nil
	}
	only := slots[0].Worker
	if slices.ContainsFunc(slots, func(p pick) bool { return p.Worker != only }) {
		only = ""
	}
	var picks []pick
	err := c.each(ctx, func(rows *sql.Rows) error {
		var id queue.ID
		var avoid string
		if err := rows.Scan(scanID(&id), &avoid); err != nil || taken[id] {
			return err
		}
		i := slices.IndexFunc(slots, func(p pick) bool { return p.Worker != avoid })
		if i < 0 {
			return nil
		}
		p := slots[i]
		p.Build, taken[id] = id, true
		picks, slots = append(picks, p), slices.Delete(slots, i, i+1)
		return nil
	}, pickSQL, d.Class, c.now, only, len(slots)+len(taken), d.Floor)
	return picks, err
}

var claimSQL = statement(`
UPDATE {schema}build AS b SET
	epoch = b.epoch + 1, session_id = p.session, worker = p.worker,
	state = CASE WHEN p.direct THEN {running} ELSE {offered} END,
	deadline = ?2 + p.offer + CASE WHEN p.direct THEN b.run_timeout ELSE 0 END,
	attempts_used = b.attempts_used + p.direct,
	started_at = CASE WHEN p.direct THEN ?2 ELSE b.started_at END
FROM (
	SELECT unhex(value->>'id', '-') AS id, value->>'session' AS session, value->>'worker' AS worker, value->>'direct' AS direct,
		value->>'offer' AS offer
	FROM json_each(?1)
) AS p
WHERE b.id = p.id AND b.state = {queued}
RETURNING id, epoch, session_id, class_id, rank, project, pool, CASE WHEN length(spec) <= ?3 THEN spec END, coalesce(length(spec), 0),
	source_digest, source_size, run_timeout, attempts_used, coalesce(metadata, ''), admitted`)

// claim gives the picked builds to their sessions and returns them in the order of picks.
func (c *change) claim(ctx context.Context, picks []pick) ([]queue.Claimed, error) {
	if len(picks) == 0 {
		return nil, nil
	}
	arg, err := list(picks)
	if err != nil {
		return nil, err
	}
	claimed := make([]queue.Claimed, 0, len(picks))
	err = c.each(ctx, func(rows *sql.Rows) error {
		q, err := scanClaimed(rows)
		claimed = append(claimed, q)
		return err
	}, claimSQL, arg, c.now, queue.InlineSpec)
	order := make(map[queue.ID]int, len(picks))
	for i, p := range picks {
		order[p.Build] = i
	}
	slices.SortFunc(claimed, func(x, y queue.Claimed) int { return cmp.Compare(order[x.Build], order[y.Build]) })
	return claimed, err
}

func scanClaimed(rows *sql.Rows) (queue.Claimed, error) {
	var q queue.Claimed
	var source sourceColumns
	var timeout int64
	var metadata string
	err := rows.Scan(scanID(&q.Build), &q.Epoch, &q.Session, &q.Class, &q.Rank, &q.Project, &q.Pool, &q.Spec, &q.SpecSize,
		&source.digest, &source.size, &timeout, &q.Attempt, &metadata, &q.Admitted)
	if err != nil {
		return queue.Claimed{}, err
	}
	q.Source, q.RunTimeout = source.source(), sqlqueue.Duration(timeout)
	q.Metadata, err = sqlqueue.ParseMetadata(metadata)
	return q, err
}

// sourceColumns are the columns of a source, both null if there is none.
type sourceColumns struct {
	digest []byte
	size   sql.NullInt64
}

func (s *sourceColumns) source() *queue.Source {
	if !s.size.Valid {
		return nil
	}
	return &queue.Source{Digest: digest(s.digest), Size: s.size.Int64}
}

// digest returns a stored digest, the zero one for null. The schema sees to the length.
func digest(b []byte) (d queue.Digest) {
	copy(d[:], b)
	return d
}
