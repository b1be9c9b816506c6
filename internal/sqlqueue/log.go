package sqlqueue

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"math"

	"github.com/slipway-build/slipway/queue"
)

// A headRow is what is known of a log, with a chunk of it where one was asked for.
type headRow struct {
	Length                int64
	Closed, Cut, Archived bool
	Start                 *int64
	Data                  []byte
}

// ReadLog returns at most limit bytes of an attempt's log, or queue.ErrNotFound. It reads up to the length that the head has, so that a
// page never shows more than its Length says, and what it reads is of one moment: the chunks may go to the archive in the next.
func (r *Reader) ReadLog(ctx context.Context, project string, id queue.AttemptID, offset int64, limit int) (queue.LogPage, error) {
	id, lasts, err := r.resolve(ctx, project, id)
	if err != nil {
		return queue.LogPage{}, err
	}
	end := offset + min(int64(limit), math.MaxInt64-offset)
	var rows []headRow
	err = r.db.NewRaw(`
SELECT h.length, h.closed, h.cut, h.archived, c.start, c.data
FROM ?0 AS h LEFT JOIN ?1 AS c ON c.build_id = h.build_id AND c.epoch = h.epoch AND h.length > ?4 AND c.start < ?5
	AND c.start >= (SELECT MAX(f.start) FROM ?1 AS f WHERE f.build_id = ?2 AND f.epoch = ?3 AND f.start <= ?4)
WHERE h.build_id = ?2 AND h.epoch = ?3 ORDER BY c.start`,
		r.names.Table("log_head"), r.names.Table("log_chunk"), ID(r.db, id.Build), id.Epoch, offset, end).Scan(ctx, &rows)
	if err != nil {
		return queue.LogPage{}, err
	}
	page := queue.LogPage{AttemptID: id, Offset: offset, Closed: !lasts}
	if len(rows) == 0 {
		return page, nil // nothing was ever written to it
	}
	page.Length, page.Closed, page.Cut, page.Archived = rows[0].Length, rows[0].Closed || !lasts, rows[0].Cut, rows[0].Archived
	if offset >= page.Length || page.Archived {
		return page, nil
	}
	end = min(end, page.Length)
	page.Data = make([]byte, 0, end-offset)
	for _, row := range rows {
		if row.Start == nil {
			break
		}
		from := max(offset-*row.Start, 0)
		to := min(int64(len(row.Data)), end-*row.Start)
		if from < to {
			page.Data = append(page.Data, row.Data[from:to]...)
		}
	}
	return page, nil
}

// head returns the length of an attempt's log and whether it is cut. A log that was never written to has no head and is empty.
func (r *Reader) head(ctx context.Context, id queue.AttemptID) (length int64, cut bool, err error) {
	err = r.db.NewSelect().TableExpr("? AS h", r.names.Table("log_head")).Column("h.length", "h.cut").
		Where("h.build_id = ?", ID(r.db, id.Build)).Where("h.epoch = ?", id.Epoch).Scan(ctx, &length, &cut)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, false, nil
	}
	return length, cut, err
}

// A LogHead is how much of a log is stored.
type LogHead struct {
	Length int64
	Lines  int64 // newlines
	Cut    bool
}

// A LogPart is a piece of a log that is stored as it is.
type LogPart struct {
	Start int64
	Data  []byte // may be empty if Cut
	// Cut says that nothing comes after it.
	Cut bool
}

var newline = []byte{'\n'}

// Newlines returns how many newlines the part has.
func (p *LogPart) Newlines() int64 { return int64(bytes.Count(p.Data, newline)) }

// Begun returns how many lines the part is of, the last one included if it has no end.
func (p *LogPart) Begun() int64 {
	n := p.Newlines()
	if len(p.Data) > 0 && p.Data[len(p.Data)-1] != '\n' {
		n++
	}
	return n
}

// Next returns the part of a chunk that is to be stored at the end of the log, false if there is none: it is stored already, or begins
// after the end, or the log is cut. Of what is beyond the limit it keeps nothing, to the byte, and then it cuts the log.
func (h LogHead) Next(chunk queue.LogChunk, limit queue.LogLimit) (LogPart, bool) {
	known := h.Length - chunk.Offset
	if h.Cut || known < 0 || known >= int64(len(chunk.Data)) {
		return LogPart{}, false
	}
	rest := chunk.Data[known:]
	fits := rest[:max(0, min(int64(len(rest)), limit.Bytes-h.Length))]
	fits = fits[:firstLines(fits, limit.Lines-h.Lines)]
	return LogPart{Start: h.Length, Data: fits, Cut: len(fits) < len(rest)}, true
}

// firstLines returns how many of the bytes come up to the n-th newline, which are all if there are fewer.
func firstLines(data []byte, n int64) int {
	var end int
	for ; n > 0; n-- {
		i := bytes.IndexByte(data[end:], '\n')
		if i < 0 {
			return len(data)
		}
		end += i + 1
	}
	return end
}
