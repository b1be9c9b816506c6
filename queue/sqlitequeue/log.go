package sqlitequeue

import (
	"context"
	"database/sql"
	"strings"
	"time"

	"github.com/slipway-build/slipway/internal/sqlqueue"
	"github.com/slipway-build/slipway/queue"
)

// growth is an element of the list that growSQL reads: a log and what is stored of it now.
type growth struct {
	Build  queue.ID `json:"id"`
	Epoch  int64    `json:"epoch"`
	Length int64    `json:"length"`
	Lines  int64    `json:"lines"`
	Cut    bool     `json:"cut"`
}

var (
	headsSQL = statement(`
SELECT f.id, f.epoch, coalesce(h.length, 0), coalesce(h.lines, 0), coalesce(h.cut, 0)
FROM (SELECT b.id, b.epoch ` + fence + `) AS f LEFT JOIN {schema}log_head AS h ON h.build_id = f.id AND h.epoch = f.epoch`)

	growSQL = statement(`
INSERT INTO {schema}log_head (build_id, epoch, length, lines, cut)
SELECT unhex(value->>'id', '-'), value->>'epoch', value->>'length', value->>'lines', value->>'cut' FROM json_each(?1) WHERE true
ON CONFLICT (build_id, epoch) DO UPDATE SET length = excluded.length, lines = excluded.lines, cut = excluded.cut`)

	chunkSQL = names.Expand(`INSERT INTO {schema}log_chunk (build_id, epoch, start, data) VALUES `)
)

// maxChunkRows bounds the rows of one INSERT, because SQLite bounds the parameters of a statement to 32,766.
const maxChunkRows = 1000

// AppendLogs implements [queue.Logs].
func (b *Backend) AppendLogs(
	ctx context.Context, chunks []queue.LogChunk, limit queue.LogLimit, now time.Time,
) (lengths []queue.LogLength, err error) {
	ids := make([]queue.AttemptID, len(chunks))
	byID := make(map[queue.AttemptID]queue.LogChunk, len(chunks))
	for i, chunk := range chunks {
		ids[i], byID[chunk.AttemptID] = chunk.AttemptID, chunk
	}
	err = b.change(ctx, now, func(ctx context.Context, c *change) error {
		heads, err := c.heads(ctx, ids)
		if err != nil {
			return err
		}
		var grown []growth
		var added []queue.LogChunk
		for _, id := range ids {
			head, leased := heads[id]
			if !leased {
				continue
			}
			if part, more := head.Next(byID[id], limit); more {
				head.Length += int64(len(part.Data))
				head.Lines += part.Newlines()
				head.Cut = part.Cut
				grown = append(grown, growth{Build: id.Build, Epoch: id.Epoch, Length: head.Length, Lines: head.Lines, Cut: head.Cut})
				if len(part.Data) > 0 {
					added = append(added, queue.LogChunk{AttemptID: id, Offset: part.Start, Data: part.Data})
				}
			}
			lengths = append(lengths, queue.LogLength{AttemptID: id, Length: head.Length, Cut: head.Cut})
		}
		return c.grow(ctx, grown, added)
	})
	return alone(lengths, err)
}

// heads returns what is stored of the logs of those of the attempts that are leased.
func (c *change) heads(ctx context.Context, ids []queue.AttemptID) (map[queue.AttemptID]sqlqueue.LogHead, error) {
	arg, err := list(ids)
	if err != nil {
		return nil, err
	}
	heads := make(map[queue.AttemptID]sqlqueue.LogHead, len(ids))
	err = c.each(ctx, func(rows *sql.Rows) error {
		var id queue.AttemptID
		var head sqlqueue.LogHead
		err := rows.Scan(scanID(&id.Build), &id.Epoch, &head.Length, &head.Lines, &head.Cut)
		heads[id] = head
		return err
	}, headsSQL, arg)
	return heads, err
}

// grow stores new ends of logs.
func (c *change) grow(ctx context.Context, grown []growth, added []queue.LogChunk) error {
	if len(grown) == 0 {
		return nil
	}
	arg, err := list(grown)
	if err != nil {
		return err
	}
	if _, err := c.exec(ctx, growSQL, arg); err != nil {
		return err
	}
	for len(added) > 0 {
		n := min(len(added), maxChunkRows)
		args := make([]any, 0, 4*n)
		for _, chunk := range added[:n] {
			args = append(args, chunk.Build[:], chunk.Epoch, chunk.Offset, chunk.Data)
		}
		if _, err := c.exec(ctx, chunkSQL+strings.Repeat("(?, ?, ?, ?), ", n-1)+"(?, ?, ?, ?)", args...); err != nil {
			return err
		}
		added = added[n:]
	}
	return nil
}

// ReadLog implements [queue.Logs].
func (b *Backend) ReadLog(
	ctx context.Context, project string, id queue.AttemptID, offset int64, limit int,
) (queue.LogPage, error) {
	return ask(ctx, b, func(ctx context.Context) (queue.LogPage, error) {
		return b.reader.ReadLog(ctx, project, id, offset, limit)
	})
}
