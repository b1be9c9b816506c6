package sqlitequeue

import (
	"context"
	"errors"
	"time"

	"github.com/slipway-build/slipway/queue"
)

func (*Backend) ClosedLogs(context.Context, int, time.Duration, time.Time) ([]queue.ClosedLog, error) {
	return nil, errors.ErrUnsupported
}

func (*Backend) ArchiveLog(context.Context, queue.AttemptID) error { return errors.ErrUnsupported }

// project.artifact_bytes follows the rows of artifacts by triggers, and stat follows builds and attempts: see the migrations.
func (*Backend) ReleaseArtifact(context.Context, queue.AttemptID, string, time.Time) error {
	return errors.ErrUnsupported
}
