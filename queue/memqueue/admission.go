package memqueue

import (
	"context"
	"errors"
	"time"

	"github.com/slipway-build/slipway/queue"
)

// Admit implements [queue.Admission].
func (b *Backend) Admit(context.Context, queue.Lane, int, time.Time) (queue.Admitted, error) {
	return queue.Admitted{}, errors.ErrUnsupported
}

// ChangePool implements [queue.Admission].
func (b *Backend) ChangePool(context.Context, string, queue.PoolChange) error {
	return errors.ErrUnsupported
}

// Pools implements [queue.Admission].
func (b *Backend) Pools(context.Context) ([]queue.Pool, error) { return nil, errors.ErrUnsupported }

// ChangeProject implements [queue.Admission].
func (b *Backend) ChangeProject(context.Context, string, queue.ProjectChange) error {
	return errors.ErrUnsupported
}

// Projects implements [queue.Admission].
func (b *Backend) Projects(context.Context, string, int) ([]queue.Project, error) {
	return nil, errors.ErrUnsupported
}

// SetLimit implements [queue.Admission].
func (b *Backend) SetLimit(context.Context, queue.Limit) error { return errors.ErrUnsupported }

// Limits implements [queue.Admission].
func (b *Backend) Limits(context.Context, string, string, int) ([]queue.Limit, error) {
	return nil, errors.ErrUnsupported
}

// Serve implements [queue.Sessions].
func (b *Backend) Serve(context.Context, []queue.ClassID, time.Duration, time.Time) error {
	return errors.ErrUnsupported
}

// ClosedLogs implements [queue.Logs].
func (b *Backend) ClosedLogs(context.Context, int, time.Duration, time.Time) ([]queue.ClosedLog, error) {
	return nil, errors.ErrUnsupported
}

// ArchiveLog implements [queue.Logs].
func (b *Backend) ArchiveLog(context.Context, queue.AttemptID) error { return errors.ErrUnsupported }

// ReleaseArtifact implements [queue.Artifacts].
func (b *Backend) ReleaseArtifact(context.Context, queue.AttemptID, string, time.Time) error {
	return errors.ErrUnsupported
}

// Stats implements [queue.Records].
func (b *Backend) Stats(context.Context, string, time.Time, time.Time) (queue.Stats, error) {
	return queue.Stats{}, errors.ErrUnsupported
}

// Explain implements [queue.Records].
func (b *Backend) Explain(context.Context, string, queue.ID, time.Time) (queue.Circumstances, error) {
	return queue.Circumstances{}, errors.ErrUnsupported
}
