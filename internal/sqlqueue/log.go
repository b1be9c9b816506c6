package sqlqueue

import (
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
