package pgqueue

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/slipway-build/slipway/queue"
)

// reserveSQL writes the digest of a row that is there over itself, so that the row comes back whoever inserted it.
const reserveSQL = `
WITH held AS MATERIALIZED (
	SELECT b.id, b.epoch, b.project FROM {schema}build b
	WHERE b.id = $2 AND b.epoch = $3 AND b.state IN ({running}, {cancelling}) FOR SHARE
)
INSERT INTO {schema}artifact AS a (build_id, epoch, project, name, digest, size, created_at)
SELECT h.id, h.epoch, h.project, $4, $5, $6, {now} FROM held h
ON CONFLICT (build_id, epoch, name) DO UPDATE SET digest = a.digest
RETURNING a.project, a.name, a.digest, a.size, a.committed, a.created_at`

// ReserveArtifact implements [queue.Artifacts].
func (b *Backend) ReserveArtifact(ctx context.Context, n queue.NewArtifact, now time.Time) (queue.Artifact, error) {
	rows, err := collect(ctx, b, func(row pgx.CollectableRow) (a queue.Artifact, err error) {
		var sum []byte
		a.AttemptID = n.AttemptID
		err = row.Scan(&a.Project, &a.Name, &sum, &a.Size, &a.Committed, &a.CreatedAt)
		a.Digest, a.CreatedAt = digest(sum), a.CreatedAt.UTC()
		return a, err
	}, b.sql.reserve, present(now), uuid(n.Build), n.Epoch, n.Name, n.Digest[:], n.Size)
	switch {
	case err != nil:
		return queue.Artifact{}, err
	case len(rows) == 0:
		return queue.Artifact{}, queue.ErrStaleLease
	case rows[0].Digest != n.Digest || rows[0].Size != n.Size:
		return queue.Artifact{}, fmt.Errorf("artifact %q has other content: %w", n.Name, queue.ErrConflict)
	default:
		return rows[0], nil
	}
}

// commitSQL returns a row of nulls if the attempt is leased and has no such artifact.
const commitSQL = `
WITH held AS MATERIALIZED (
	SELECT b.id FROM {schema}build b
	WHERE b.id = $1 AND b.epoch = $2 AND b.state IN ({running}, {cancelling}) FOR SHARE
), shown AS (
	UPDATE {schema}artifact a SET committed = true
	FROM held WHERE a.build_id = $1 AND a.epoch = $2 AND a.name = $3
	RETURNING a.project, a.digest, a.size, a.created_at
)
SELECT s.project, s.digest, s.size, s.created_at FROM held LEFT JOIN shown s ON true`

// CommitArtifact implements [queue.Artifacts].
func (b *Backend) CommitArtifact(ctx context.Context, id queue.AttemptID, name string, _ time.Time) (queue.Artifact, error) {
	rows, err := collect(ctx, b, func(row pgx.CollectableRow) (*queue.Artifact, error) {
		var project *string
		var sum []byte
		var size *int64
		var created *time.Time
		if err := row.Scan(&project, &sum, &size, &created); err != nil || project == nil {
			return nil, err
		}
		return &queue.Artifact{
			AttemptID: id, Project: *project, Name: name, Digest: digest(sum), Size: *size, Committed: true, CreatedAt: created.UTC(),
		}, nil
	}, b.sql.commit, uuid(id.Build), id.Epoch, name)
	switch {
	case err != nil:
		return queue.Artifact{}, err
	case len(rows) == 0:
		return queue.Artifact{}, queue.ErrStaleLease
	case rows[0] == nil:
		return queue.Artifact{}, fmt.Errorf("artifact %q: %w", name, queue.ErrNotFound)
	default:
		return *rows[0], nil
	}
}

// ListArtifacts implements [queue.Artifacts].
func (b *Backend) ListArtifacts(ctx context.Context, project string, id queue.AttemptID) ([]queue.Artifact, error) {
	ctx, cancel := b.bounded(ctx)
	defer cancel()
	rows, err := b.reader.ListArtifacts(ctx, project, id)
	return rows, explain(err)
}
