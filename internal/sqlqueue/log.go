package sqlqueue

import (
	"context"
	"database/sql"
	"errors"

	"github.com/uptrace/bun"

	"github.com/slipway-build/slipway/queue"
)

type chunkRow struct {
	bun.BaseModel `bun:"alias:c"`

	Start int64  `bun:"start"`
	Data  []byte `bun:"data"`
}

// ReadLog returns at most limit bytes of an attempt's log, or queue.ErrNotFound. It reads up to the length that the head had, so that a
// page never shows more than its Length says.
func (r *Reader) ReadLog(ctx context.Context, project string, id queue.AttemptID, offset int64, limit int) (queue.LogPage, error) {
	id, lasts, err := r.resolve(ctx, project, id)
	if err != nil {
		return queue.LogPage{}, err
	}
	length, closed, err := r.head(ctx, id)
	if err != nil {
		return queue.LogPage{}, err
	}
	page := queue.LogPage{AttemptID: id, Offset: offset, Length: length, Closed: closed || !lasts}
	if offset >= length {
		return page, nil
	}
	end := offset + min(int64(limit), length-offset)
	chunks := r.names.Table("log_chunk")
	var rows []chunkRow
	err = r.db.NewSelect().Model(&rows).ModelTableExpr("? AS c", chunks).
		Where("c.build_id = ?", ID(r.db, id.Build)).Where("c.epoch = ?", id.Epoch).
		Where("c.start >= (SELECT MAX(f.start) FROM ? AS f WHERE f.build_id = ? AND f.epoch = ? AND f.start <= ?)",
			chunks, ID(r.db, id.Build), id.Epoch, offset).
		Where("c.start < ?", end).OrderExpr("c.start").Scan(ctx)
	if err != nil {
		return queue.LogPage{}, err
	}
	page.Data = make([]byte, 0, end-offset)
	for _, row := range rows {
		from := max(offset-row.Start, 0)
		to := min(int64(len(row.Data)), end-row.Start)
		if from < to {
			page.Data = append(page.Data, row.Data[from:to]...)
		}
	}
	return page, nil
}

// head returns the length of an attempt's log and whether it is closed. A log that was never written to has no head and is empty.
func (r *Reader) head(ctx context.Context, id queue.AttemptID) (length int64, closed bool, err error) {
	err = r.db.NewSelect().TableExpr("? AS h", r.names.Table("log_head")).Column("h.length", "h.closed").
		Where("h.build_id = ?", ID(r.db, id.Build)).Where("h.epoch = ?", id.Epoch).Scan(ctx, &length, &closed)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, false, nil
	}
	return length, closed, err
}
