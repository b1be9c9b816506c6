package pgqueue

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/slipway-build/slipway/queue"
)

// appendLogsSQL moves the heads of logs and stores what is new behind where they were.
//
// An open head is the fence: whatever ends an attempt closes its head in the same statement. Only an attempt that has no head yet
// is fenced by its build's row, locked so that no end can slip in before the head is there. Those rows are locked before
// any head, and both in order of id, like the statements that end attempts do it.
//
// The upsert compares with the newest head, whoever wrote it and whenever, and has it remember in tail where the new bytes
// belong, since it can return nothing else of the row as it was. For a log that has no head and would begin with a gap
// it proposes an empty one.
const appendLogsSQL = `
WITH chunk AS MATERIALIZED (
	SELECT i.build_id, i.epoch, i.start, i.data, octet_length(i.data) AS size,
		(SELECT h.epoch FROM {schema}log_head h WHERE h.build_id = i.build_id AND h.epoch = i.epoch) IS NOT NULL AS known
	FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bytea[]) AS i(build_id, epoch, start, data)
), begun AS MATERIALIZED (
	SELECT b.id, b.epoch
	FROM chunk c JOIN {schema}build b ON b.id = c.build_id AND b.epoch = c.epoch
	WHERE NOT c.known AND b.id = ANY(ARRAY(SELECT n.build_id FROM chunk n WHERE NOT n.known)) AND b.state IN ({running}, {cancelling})
	ORDER BY b.id FOR SHARE OF b
), head AS (
	INSERT INTO {schema}log_head AS h (build_id, epoch, length, tail)
	SELECT c.build_id, c.epoch, CASE WHEN p.stores THEN c.start + c.size ELSE 0 END, CASE WHEN p.stores THEN c.start ELSE -1 END
	FROM chunk c CROSS JOIN LATERAL (SELECT c.size > 0 AND (c.known OR c.start = 0) AS stores) p
	WHERE c.known OR (c.build_id, c.epoch) IN (SELECT id, epoch FROM begun)
	ORDER BY c.build_id, c.epoch
	ON CONFLICT (build_id, epoch) DO UPDATE SET
		length = CASE WHEN excluded.tail <= h.length THEN greatest(h.length, excluded.length) ELSE h.length END,
		tail = CASE WHEN excluded.tail <= h.length AND h.length < excluded.length THEN h.length ELSE -1 END
	WHERE NOT h.closed
	RETURNING h.build_id, h.epoch, h.length, h.tail
), stored AS (
	INSERT INTO {schema}log_chunk (build_id, epoch, start, data)
	SELECT h.build_id, h.epoch, h.tail, substring(c.data FROM (h.tail - c.start + 1)::int)
	FROM head h JOIN chunk c ON c.build_id = h.build_id AND c.epoch = h.epoch
	WHERE h.tail >= 0
)
SELECT build_id, epoch, length FROM head`

// AppendLogs implements [queue.Logs].
func (b *Backend) AppendLogs(ctx context.Context, chunks []queue.LogChunk, _ queue.LogLimit, _ time.Time) ([]queue.LogLength, error) {
	var c attempts
	starts, data := make([]int64, len(chunks)), make([][]byte, len(chunks))
	for i, chunk := range chunks {
		c.add(chunk.AttemptID)
		starts[i], data[i] = chunk.Offset, append([]byte{}, chunk.Data...)
	}
	return collect(ctx, b, func(row pgx.CollectableRow) (l queue.LogLength, err error) {
		err = row.Scan((*[16]byte)(&l.Build), &l.Epoch, &l.Length)
		return l, err
	}, b.sql.appendLogs, c.builds, c.epochs, starts, data)
}

// ReadLog implements [queue.Logs].
func (b *Backend) ReadLog(ctx context.Context, project string, id queue.AttemptID, offset int64, max int) (queue.LogPage, error) {
	ctx, cancel := b.bounded(ctx)
	defer cancel()
	page, err := b.reader.ReadLog(ctx, project, id, offset, max)
	return page, explain(err)
}
