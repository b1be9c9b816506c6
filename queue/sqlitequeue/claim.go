package sqlitequeue

import (
	"cmp"
	"context"
	"database/sql"
	"slices"
	"time"

	"github.com/slipway-build/slipway/queue"
)

var probeSQL = statement(`
SELECT c.value,
	(SELECT q.rank FROM {schema}build AS q WHERE q.state = {queued} AND q.class_id = c.value ORDER BY q.rank, q.id LIMIT 1) AS rank,
	(SELECT count(*) FROM (SELECT 1 FROM {schema}build AS q WHERE q.state = {queued} AND q.class_id = c.value LIMIT ?2))
FROM json_each(?1) AS c WHERE rank IS NOT NULL ORDER BY rank, c.value`)

// Probe implements [queue.Transitions].
func (b *Backend) Probe(ctx context.Context, reaches []queue.Reach, limit int) ([]queue.Head, error) {
	classes := make([]queue.ClassID, len(reaches))
	for i, r := range reaches {
		classes[i] = r.Class
	}
	arg, err := list(classes)
	if err != nil {
		return nil, err
	}
	var heads []queue.Head
	err = b.read(ctx, func(rows *sql.Rows) error {
		var h queue.Head
		err := rows.Scan(&h.Class, &h.Rank, &h.Count)
		heads = append(heads, h)
		return err
	}, probeSQL, arg, limit)
	return heads, err
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
		claimed, err = c.claim(ctx, picks, offer)
		return err
	})
	return claimed, err
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
}

// If a single worker asks, builds that avoid it are passed over before the limit, lest they stand in the way of all that follow.
var pickSQL = statement(`
SELECT q.id, CASE WHEN q.avoid_until > ?2 THEN q.avoid_worker ELSE '' END FROM {schema}build AS q
WHERE q.state = {queued} AND q.class_id = ?1 AND (q.avoid_worker IS NOT ?3 OR q.avoid_until <= ?2)
ORDER BY q.rank, q.id LIMIT ?4`)

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
	}, pickSQL, d.Class, c.now, only, len(slots)+len(taken))
	return picks, err
}

var claimSQL = statement(`
UPDATE {schema}build AS b SET
	epoch = b.epoch + 1, session_id = p.session, worker = p.worker,
	state = CASE WHEN p.direct THEN {running} ELSE {offered} END,
	deadline = CASE WHEN p.direct THEN ?2 + b.run_timeout ELSE ?2 + ?3 END,
	attempts_used = b.attempts_used + p.direct,
	started_at = CASE WHEN p.direct THEN ?2 ELSE b.started_at END
FROM (
	SELECT unhex(value->>'id', '-') AS id, value->>'session' AS session, value->>'worker' AS worker, value->>'direct' AS direct
	FROM json_each(?1)
) AS p
WHERE b.id = p.id AND b.state = {queued}
RETURNING id, epoch, session_id, class_id, project, pool, CASE WHEN length(spec) <= ?4 THEN spec END, coalesce(length(spec), 0),
	source_digest, source_size, run_timeout`)

// claim gives the picked builds to their sessions and returns them in the order of picks.
func (c *change) claim(ctx context.Context, picks []pick, offer time.Duration) ([]queue.Claimed, error) {
	if len(picks) == 0 {
		return nil, nil
	}
	arg, err := list(picks)
	if err != nil {
		return nil, err
	}
	claimed := make([]queue.Claimed, 0, len(picks))
	err = c.each(ctx, func(rows *sql.Rows) error {
		var q queue.Claimed
		var source sourceColumns
		var timeout int64
		err := rows.Scan(scanID(&q.Build), &q.Epoch, &q.Session, &q.Class, &q.Project, &q.Pool, &q.Spec, &q.SpecSize,
			&source.digest, &source.size, &timeout)
		q.Source, q.RunTimeout = source.source(), time.Duration(timeout)*time.Microsecond
		claimed = append(claimed, q)
		return err
	}, claimSQL, arg, c.now, offer.Microseconds(), queue.InlineSpec)
	order := make(map[queue.ID]int, len(picks))
	for i, p := range picks {
		order[p.Build] = i
	}
	slices.SortFunc(claimed, func(x, y queue.Claimed) int { return cmp.Compare(order[x.Build], order[y.Build]) })
	return claimed, err
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
