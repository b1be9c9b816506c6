package sqlitequeue

import (
	"context"
	"database/sql"
	"time"

	"github.com/slipway-build/slipway/queue"
)

// Get implements [queue.Records].
func (b *Backend) Get(ctx context.Context, project string, id queue.ID) (queue.Build, error) {
	return ask(ctx, b, func(ctx context.Context) (queue.Build, error) { return b.reader.Get(ctx, project, id) })
}

// List implements [queue.Records].
func (b *Backend) List(ctx context.Context, filter queue.Filter) ([]queue.Build, error) {
	return ask(ctx, b, func(ctx context.Context) ([]queue.Build, error) { return b.reader.List(ctx, filter) })
}

// Attempts implements [queue.Records].
func (b *Backend) Attempts(ctx context.Context, project string, id queue.ID) ([]queue.Attempt, error) {
	return ask(ctx, b, func(ctx context.Context) ([]queue.Attempt, error) { return b.reader.Attempts(ctx, project, id) })
}

// Classes implements [queue.Records].
func (b *Backend) Classes(ctx context.Context, after queue.ClassID, limit int) ([]queue.Class, error) {
	return ask(ctx, b, func(ctx context.Context) ([]queue.Class, error) { return b.reader.Classes(ctx, after, limit) })
}

// Specs implements [queue.Records].
func (b *Backend) Specs(ctx context.Context, ids []queue.ID) (map[queue.ID][]byte, error) {
	return ask(ctx, b, func(ctx context.Context) (map[queue.ID][]byte, error) { return b.reader.Specs(ctx, ids) })
}

// Stats implements [queue.Records].
func (b *Backend) Stats(ctx context.Context, project string, first, last time.Time) (queue.Stats, error) {
	return ask(ctx, b, func(ctx context.Context) (queue.Stats, error) { return b.reader.Stats(ctx, project, first, last) })
}

// Explain implements [queue.Records].
func (b *Backend) Explain(ctx context.Context, project string, id queue.ID, now time.Time) (queue.Circumstances, error) {
	return ask(ctx, b, func(ctx context.Context) (queue.Circumstances, error) { return b.reader.Explain(ctx, project, id, now) })
}

// ask asks the reader something, within the backend's timeout.
func ask[T any](ctx context.Context, b *Backend, question func(context.Context) (T, error)) (T, error) {
	ctx, cancel := b.bounded(ctx)
	defer cancel()
	answer, err := question(ctx)
	return alone(answer, explain(err))
}

// read runs a query outside of any change and calls scan for each row.
func (b *Backend) read(ctx context.Context, scan func(*sql.Rows) error, query string, args ...any) error {
	ctx, cancel := b.bounded(ctx)
	defer cancel()
	rows, err := b.db.DB.QueryContext(ctx, query, args...)
	if err == nil {
		err = each(rows, scan)
	}
	return explain(err)
}
