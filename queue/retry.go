package queue

import (
	"context"
	"fmt"
)

// Retry submits a new build like one that has ended: for the same pool and project, with the same spec, source, labels, limits, key and
// metadata, due at once. Its [Build].RetryOf names the old build, which stays as it is.
//
// Errors: [ErrNotFound]; [ErrConflict] if the build has not ended.
func (q *Queue) Retry(ctx context.Context, project string, id ID) (ID, error) {
	old, err := q.Get(ctx, project, id)
	if err != nil {
		return ID{}, err
	}
	if !old.State.Terminal() {
		return ID{}, wrap("retry", id, fmt.Errorf("%w: the build is still %v; cancel it or wait for its end", ErrConflict, old.State))
	}
	return q.Submit(ctx, Params{
		Project: old.Project, Pool: old.Pool, Labels: old.Labels, Spec: old.Spec, Source: old.Source,
		QueueTimeout: old.QueueTimeout, RunTimeout: old.RunTimeout, MaxAttempts: old.MaxAttempts, Backoff: old.Backoff,
		RetryFailed: old.RetryFailed, Priority: old.Priority, ConcurrencyKey: old.ConcurrencyKey, Metadata: old.Metadata,
		retryOf: old.ID,
	})
}
