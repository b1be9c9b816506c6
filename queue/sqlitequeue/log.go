package sqlitequeue

import (
	"context"
	"strings"
	"time"

	"github.com/slipway-build/slipway/queue"
)

// growth is an element of the list that growSQL reads: a log and its new length.
type growth struct {
	Build  queue.ID `json:"id"`
	Epoch  int64    `json:"epoch"`
	Length int64    `json:"length"`
}

var (
	growSQL = statement(`
INSERT INTO {schema}log_head (build_id, epoch, length)
SELECT unhex(value->>'id', '-'), value->>'epoch', value->>'length' FROM json_each(?1) WHERE true
ON CONFLICT (build_id, epoch) DO UPDATE SET length = excluded.length`)

	chunkSQL = names.Expand(`INSERT INTO {schema}log_chunk (build_id, epoch, start, data) VALUES `)
)

// maxChunkRows bounds the rows of one INSERT, because SQLite bounds the parameters of a statement to 32,766.
const maxChunkRows = 1000

// AppendLogs implements [queue.Logs].
func (b *Backend) AppendLogs(
	ctx context.Context, chunks []queue.LogChunk, _ queue.LogLimit, now time.Time,
) (lengths []queue.LogLength, err error) {
	ids := make([]queue.AttemptID, len(chunks))
	byID := make(map[queue.AttemptID]queue.LogChunk, len(chunks))
	for i, chunk := range chunks {
		ids[i], byID[chunk.AttemptID] = chunk.AttemptID, chunk
	}
	err = b.change(ctx, now, func(ctx context.Context, c *change) error {
		held, err := c.fence(ctx, ids...)
		if err != nil {
			return err
		}
		var grown []growth
		var added []queue.LogChunk
		for _, l := range held {
			length := l.log
			if rest, ok := beyond(byID[l.AttemptID], length); ok {
				length += int64(len(rest.Data))
				added = append(added, rest)
				grown = append(grown, growth{Build: l.Build, Epoch: l.Epoch, Length: length})
			}
			lengths = append(lengths, queue.LogLength{AttemptID: l.AttemptID, Length: length})
		}
		return c.grow(ctx, grown, added)
	})
	if err != nil {
		return nil, err
	}
	return lengths, nil
}

// beyond returns the part of a chunk that follows a log of that length, false if there is none.
func beyond(chunk queue.LogChunk, length int64) (queue.LogChunk, bool) {
	known := length - chunk.Offset
	if known < 0 || known >= int64(len(chunk.Data)) {
		return queue.LogChunk{}, false
	}
	chunk.Offset, chunk.Data = length, chunk.Data[known:]
	return chunk, true
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
	ctx, cancel := context.WithTimeout(ctx, b.opts.Timeout)
	defer cancel()
	return b.reader.ReadLog(ctx, project, id, offset, limit)
}
