package pgqueue

import (
	"context"
	"errors"
	"time"

	"github.com/slipway-build/slipway/queue"
)

func (b *Backend) ClosedLogs(context.Context, int, time.Duration, time.Time) ([]queue.ClosedLog, error) {
	return nil, errors.ErrUnsupported
}

func (b *Backend) ArchiveLog(context.Context, queue.AttemptID) error { return errors.ErrUnsupported }

func (b *Backend) ReleaseArtifact(context.Context, queue.AttemptID, string, time.Time) error {
	return errors.ErrUnsupported
}
