package sqlitequeue

import (
	"context"
	"errors"
	"time"

	"github.com/slipway-build/slipway/queue"
)

func (*Backend) Admit(context.Context, queue.Lane, int, time.Time) (queue.Admitted, error) {
	return queue.Admitted{}, errors.ErrUnsupported
}

func (*Backend) ChangePool(context.Context, string, queue.PoolChange) error {
	return errors.ErrUnsupported
}

func (*Backend) Pools(context.Context) ([]queue.Pool, error) { return nil, errors.ErrUnsupported }

func (*Backend) ChangeProject(context.Context, string, queue.ProjectChange) error {
	return errors.ErrUnsupported
}

func (*Backend) Projects(context.Context, string, int) ([]queue.Project, error) {
	return nil, errors.ErrUnsupported
}

func (*Backend) SetLimit(context.Context, queue.Limit) error { return errors.ErrUnsupported }

func (*Backend) Limits(context.Context, string, string, int) ([]queue.Limit, error) {
	return nil, errors.ErrUnsupported
}

func (*Backend) Serve(context.Context, []queue.ClassID, time.Duration, time.Time) error {
	return errors.ErrUnsupported
}
