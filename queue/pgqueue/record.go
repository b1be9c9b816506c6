package pgqueue

import (
	"context"
	"time"

	"github.com/slipway-build/slipway/queue"
)

// Get implements [queue.Records].
func (b *Backend) Get(ctx context.Context, project string, id queue.ID) (queue.Build, error) {
	ctx, cancel := b.bounded(ctx)
	defer cancel()
	build, err := b.reader.Get(ctx, project, id)
	return build, explain(err)
}

// List implements [queue.Records].
func (b *Backend) List(ctx context.Context, filter queue.Filter) ([]queue.Build, error) {
	ctx, cancel := b.bounded(ctx)
	defer cancel()
	builds, err := b.reader.List(ctx, filter)
	return builds, explain(err)
}

// Attempts implements [queue.Records].
func (b *Backend) Attempts(ctx context.Context, project string, id queue.ID) ([]queue.Attempt, error) {
	ctx, cancel := b.bounded(ctx)
	defer cancel()
	attempts, err := b.reader.Attempts(ctx, project, id)
	return attempts, explain(err)
}

// Classes implements [queue.Records].
func (b *Backend) Classes(ctx context.Context, after queue.ClassID, max int) ([]queue.Class, error) {
	ctx, cancel := b.bounded(ctx)
	defer cancel()
	classes, err := b.reader.Classes(ctx, after, max)
	return classes, explain(err)
}

// Specs implements [queue.Records].
func (b *Backend) Specs(ctx context.Context, ids []queue.ID) (map[queue.ID][]byte, error) {
	ctx, cancel := b.bounded(ctx)
	defer cancel()
	specs, err := b.reader.Specs(ctx, ids)
	return specs, explain(err)
}

// Stats implements [queue.Records].
func (b *Backend) Stats(ctx context.Context, project string, first, last time.Time) (queue.Stats, error) {
	ctx, cancel := b.bounded(ctx)
	defer cancel()
	stats, err := b.reader.Stats(ctx, project, first, last)
	return stats, explain(err)
}

// Explain implements [queue.Records].
func (b *Backend) Explain(ctx context.Context, project string, id queue.ID, now time.Time) (queue.Circumstances, error) {
	ctx, cancel := b.bounded(ctx)
	defer cancel()
	facts, err := b.reader.Explain(ctx, project, id, now)
	return facts, explain(err)
}
