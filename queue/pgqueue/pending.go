package pgqueue

import (
	"context"
	"errors"
	"time"

	"github.com/slipway-build/slipway/queue"
)

func (b *Backend) Admit(context.Context, queue.Lane, int, time.Time) (queue.Admitted, error) {
	return queue.Admitted{}, errors.ErrUnsupported
}

func (b *Backend) ChangePool(context.Context, string, queue.PoolChange) error {
	return errors.ErrUnsupported
}

func (b *Backend) Pools(context.Context) ([]queue.Pool, error) { return nil, errors.ErrUnsupported }

func (b *Backend) ChangeProject(context.Context, string, queue.ProjectChange) error {
	return errors.ErrUnsupported
}

func (b *Backend) Projects(context.Context, string, int) ([]queue.Project, error) {
	return nil, errors.ErrUnsupported
}

func (b *Backend) SetLimit(context.Context, queue.Limit) error { return errors.ErrUnsupported }

func (b *Backend) Limits(context.Context, string, string, int) ([]queue.Limit, error) {
	return nil, errors.ErrUnsupported
}

func (b *Backend) Serve(context.Context, []queue.ClassID, time.Duration, time.Time) error {
	return errors.ErrUnsupported
}

func (b *Backend) ClosedLogs(context.Context, int, time.Duration, time.Time) ([]queue.ClosedLog, error) {
	return nil, errors.ErrUnsupported
}

func (b *Backend) ArchiveLog(context.Context, queue.AttemptID) error { return errors.ErrUnsupported }

func (b *Backend) ReleaseArtifact(context.Context, queue.AttemptID, string, time.Time) error {
	return errors.ErrUnsupported
}

func (b *Backend) Stats(context.Context, string, time.Time, time.Time) (queue.Stats, error) {
	return queue.Stats{}, errors.ErrUnsupported
}

func (b *Backend) Explain(context.Context, string, queue.ID, time.Time) (queue.Circumstances, error) {
	return queue.Circumstances{}, errors.ErrUnsupported
}
