package pgqueue

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/slipway-build/slipway/internal/sqlqueue"
	"github.com/slipway-build/slipway/queue"
)

// appendLogsSQL stores parts of logs that begin where the logs end and do not take them beyond the limit, or that were made for them as
// they are and cut them. It returns every log that may be written to, as it is then, and whether its part was stored.
//
// An open head is the fence: whatever ends an attempt closes its head in the same statement. Only an attempt that has no head yet
// is fenced by its build's row, locked so that no end can slip in before the head is there. Those rows are locked before
// any head, and both in order of id, like the statements that end attempts do it. If another made the head meanwhile, the log is left out.
//
// Whatever version of this package another program has, it compares with the length: tail is of version 1, and not used any more.
const appendLogsSQL = `
WITH part AS MATERIALIZED (
	SELECT i.*, octet_length(i.data) AS size,
		(SELECT h.epoch FROM {schema}log_head h WHERE h.build_id = i.build_id AND h.epoch = i.epoch) IS NOT NULL AS known
	FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bytea[], $5::bigint[], $6::bigint[], $7::boolean[])
		AS i(build_id, epoch, start, data, newlines, begun, cut)
), fresh AS MATERIALIZED (
	SELECT b.id, b.epoch
	FROM part p JOIN {schema}build b ON b.id = p.build_id AND b.epoch = p.epoch
	WHERE NOT p.known AND b.id = ANY(ARRAY(SELECT n.build_id FROM part n WHERE NOT n.known)) AND b.state IN ({running}, {cancelling})
	ORDER BY b.id FOR SHARE OF b
), head AS MATERIALIZED (
	SELECT h.build_id, h.epoch, h.length, h.lines, h.cut
	FROM part p JOIN {schema}log_head h ON h.build_id = p.build_id AND h.epoch = p.epoch
	WHERE h.build_id = ANY($1::uuid[]) AND NOT h.closed AND (SELECT count(*) FROM fresh) >= 0
	ORDER BY h.build_id, h.epoch FOR NO KEY UPDATE OF h
), log AS MATERIALIZED (
	SELECT l.*, p.known, p.start, p.data, p.size, p.newlines, p.cut AS cuts, p.start = l.length AND NOT l.cut
		AND (p.cut OR p.size > 0 AND l.length + p.size <= $8::bigint AND l.lines + p.begun <= $9::bigint) AS stores
	FROM (SELECT * FROM head UNION ALL SELECT f.id, f.epoch, 0, 0, false FROM fresh f) l
	JOIN part p ON p.build_id = l.build_id AND p.epoch = l.epoch
), moved AS (
	UPDATE {schema}log_head h SET length = l.length + l.size, lines = l.lines + l.newlines, cut = l.cuts
	FROM log l
	WHERE l.known AND l.stores AND h.build_id = l.build_id AND h.epoch = l.epoch AND h.build_id = ANY($1::uuid[])
	RETURNING h.build_id, h.epoch, h.length, h.lines, h.cut
), made AS (
	INSERT INTO {schema}log_head AS h (build_id, epoch, length, lines, cut)
	SELECT l.build_id, l.epoch, CASE WHEN l.stores THEN l.size ELSE 0 END, CASE WHEN l.stores THEN l.newlines ELSE 0 END, l.stores AND l.cuts
	FROM log l WHERE NOT l.known ORDER BY l.build_id, l.epoch
	ON CONFLICT (build_id, epoch) DO NOTHING
	RETURNING h.build_id, h.epoch, h.length, h.lines, h.cut
), done AS (
	SELECT * FROM moved UNION ALL SELECT * FROM made
), stored AS (
	INSERT INTO {schema}log_chunk (build_id, epoch, start, data)
	SELECT l.build_id, l.epoch, l.start, l.data
	FROM log l JOIN done d ON d.build_id = l.build_id AND d.epoch = l.epoch
	WHERE l.stores AND l.size > 0
)
SELECT d.build_id, d.epoch, d.length, d.lines, d.cut, l.stores FROM done d JOIN log l ON l.build_id = d.build_id AND l.epoch = d.epoch
UNION ALL
SELECT l.build_id, l.epoch, l.length, l.lines, l.cut, false FROM log l WHERE l.known AND NOT l.stores`

// AppendLogs implements [queue.Logs]. Chunks that begin where their logs end, which is the rule, take one statement for all of them. The
// others take another, once it is known where the logs end; so does what seems to be stale, because its log may just have begun.
func (b *Backend) AppendLogs(ctx context.Context, chunks []queue.LogChunk, limit queue.LogLimit, _ time.Time) ([]queue.LogLength, error) {
	ctx, cancel := b.bounded(ctx)
	defer cancel()
	parts := make(map[queue.AttemptID]sqlqueue.LogPart, len(chunks))
	for _, c := range chunks {
		parts[c.AttemptID] = sqlqueue.LogPart{Start: c.Offset, Data: c.Data}
	}
	lengths := make([]queue.LogLength, 0, len(chunks))
	for first := true; len(parts) > 0; first = false {
		logs, err := b.appendParts(ctx, parts, limit)
		if err != nil {
			return nil, err
		}
		again := make(map[queue.AttemptID]sqlqueue.LogPart)
		for _, c := range chunks {
			part, asked := parts[c.AttemptID]
			log, known := logs[c.AttemptID]
			switch {
			case !asked:
			case !known && first:
				again[c.AttemptID] = part
			case known && !log.stored:
				if part, more := log.Next(c, limit); more {
					again[c.AttemptID] = part
					continue
				}
				fallthrough
			case known:
				lengths = append(lengths, queue.LogLength{AttemptID: c.AttemptID, Length: log.Length, Cut: log.Cut})
			}
		}
		parts = again
	}
	return lengths, nil
}

// An appended is a log after its part was to be stored, and whether that was done.
type appended struct {
	sqlqueue.LogHead
	stored bool
}

func (b *Backend) appendParts(
	ctx context.Context, parts map[queue.AttemptID]sqlqueue.LogPart, limit queue.LogLimit,
) (map[queue.AttemptID]appended, error) {
	var ids attempts
	var starts, newlines, begun []int64
	var data [][]byte
	var cuts []bool
	for id, p := range parts {
		ids.add(id)
		starts, newlines, begun = append(starts, p.Start), append(newlines, p.Newlines()), append(begun, p.Begun())
		if p.Data == nil {
			p.Data = []byte{} // null it would be
		}
		data, cuts = append(data, p.Data), append(cuts, p.Cut)
	}
	logs := make(map[queue.AttemptID]appended, len(parts))
	_, err := collect(ctx, b, func(row pgx.CollectableRow) (_ struct{}, err error) {
		var id queue.AttemptID
		var log appended
		err = row.Scan((*[16]byte)(&id.Build), &id.Epoch, &log.Length, &log.Lines, &log.Cut, &log.stored)
		logs[id] = log
		return struct{}{}, err
	}, b.sql.appendLogs, ids.builds, ids.epochs, starts, data, newlines, begun, cuts, limit.Bytes, limit.Lines)
	return logs, err
}

// ReadLog implements [queue.Logs].
func (b *Backend) ReadLog(ctx context.Context, project string, id queue.AttemptID, offset int64, max int) (queue.LogPage, error) {
	ctx, cancel := b.bounded(ctx)
	defer cancel()
	page, err := b.reader.ReadLog(ctx, project, id, offset, max)
	return page, explain(err)
}
