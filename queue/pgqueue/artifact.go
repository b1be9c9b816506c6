package pgqueue

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/slipway-build/slipway/queue"
)

// reserveSQL returns no row if the attempt is not leased, and a row of nulls if there is no room for the artifact.
//
// The row of the project is locked until the transaction ends, so that whoever comes next counts this artifact. That of the build makes
// those who change artifacts of one attempt take turns. It does not keep two from finding that there is no such artifact, since the
// snapshot is older than the lock; but then one of them fails to insert it, and has changed nothing.
const reserveSQL = `
WITH held AS MATERIALIZED (
	SELECT b.id, b.epoch, b.project FROM {schema}build b
	WHERE b.id = $2 AND b.epoch = $3 AND b.state IN ({running}, {cancelling}) FOR NO KEY UPDATE
), present AS MATERIALIZED (
	SELECT a.digest, a.size, a.committed, a.created_at
	FROM held h JOIN {schema}artifact a ON a.build_id = h.id AND a.epoch = h.epoch WHERE a.build_id = $2 AND a.name = $4
), charged AS (
	INSERT INTO {schema}project AS p (name, artifact_bytes)
	SELECT h.project, $6::bigint FROM held h WHERE NOT EXISTS (SELECT FROM present)
	ON CONFLICT (name) DO UPDATE SET artifact_bytes = p.artifact_bytes + excluded.artifact_bytes
	WHERE excluded.artifact_bytes <= coalesce(nullif(p.artifact_quota, 0), $7::bigint) - p.artifact_bytes
	RETURNING name
), added AS (
	INSERT INTO {schema}artifact (build_id, epoch, project, name, digest, size, created_at, charged)
	SELECT h.id, h.epoch, c.name, $4, $5, $6, {now}, true FROM held h CROSS JOIN charged c
	RETURNING digest, size, committed, created_at
)
SELECT h.project, a.digest, a.size, a.committed, a.created_at
FROM held h LEFT JOIN (SELECT * FROM present UNION ALL SELECT * FROM added) a ON true`

// ReserveArtifact implements [queue.Artifacts].
func (b *Backend) ReserveArtifact(ctx context.Context, n queue.NewArtifact, now time.Time) (queue.Artifact, error) {
	ctx, cancel := b.bounded(ctx)
	defer cancel()
	for {
		row, err := b.reserve(ctx, n, now)
		if reply, ok := errors.AsType[*pgconn.PgError](err); ok && reply.ConstraintName == "artifact_pkey" && ctx.Err() == nil {
			continue // another reserved it at the same time
		}
		return row, err
	}
}

func (b *Backend) reserve(ctx context.Context, n queue.NewArtifact, now time.Time) (queue.Artifact, error) {
	rows, err := collect(ctx, b, scanArtifact(n.AttemptID, n.Name), b.sql.reserve,
		present(now), uuid(n.Build), n.Epoch, n.Name, n.Digest[:], n.Size, int64(math.MaxInt64))
	switch {
	case err != nil:
		return queue.Artifact{}, err
	case len(rows) == 0:
		return queue.Artifact{}, queue.ErrStaleLease
	case rows[0] == nil:
		return queue.Artifact{}, fmt.Errorf("artifact %q of %d bytes: %w", n.Name, n.Size, queue.ErrQuota)
	case rows[0].Digest != n.Digest || rows[0].Size != n.Size:
		return queue.Artifact{}, fmt.Errorf("artifact %q has other content: %w", n.Name, queue.ErrConflict)
	default:
		return *rows[0], nil
	}
}

// scanArtifact reads an artifact's project and its digest, size, state and time: nil if these are null.
func scanArtifact(id queue.AttemptID, name string) pgx.RowToFunc[*queue.Artifact] {
	return func(row pgx.CollectableRow) (*queue.Artifact, error) {
		a := queue.Artifact{AttemptID: id, Name: name}
		var sum []byte
		var size *int64
		var committed *bool
		var created *time.Time
		if err := row.Scan(&a.Project, &sum, &size, &committed, &created); err != nil || size == nil {
			return nil, err
		}
		a.Digest, a.Size, a.Committed, a.CreatedAt = digest(sum), *size, *committed, created.UTC()
		return &a, nil
	}
}

// commitSQL returns a row of nulls, but for the project, if the attempt is leased and has no such artifact.
const commitSQL = `
WITH held AS MATERIALIZED (
	SELECT b.id, b.project FROM {schema}build b
	WHERE b.id = $1 AND b.epoch = $2 AND b.state IN ({running}, {cancelling}) FOR SHARE
), shown AS (
	UPDATE {schema}artifact a SET committed = true
	FROM held WHERE a.build_id = $1 AND a.epoch = $2 AND a.name = $3
	RETURNING a.digest, a.size, a.committed, a.created_at
)
SELECT h.project, s.digest, s.size, s.committed, s.created_at FROM held h LEFT JOIN shown s ON true`

// CommitArtifact implements [queue.Artifacts].
func (b *Backend) CommitArtifact(ctx context.Context, id queue.AttemptID, name string, _ time.Time) (queue.Artifact, error) {
	rows, err := collect(ctx, b, scanArtifact(id, name), b.sql.commit, uuid(id.Build), id.Epoch, name)
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

const releaseArtifactSQL = `
WITH held AS MATERIALIZED (
	SELECT b.id FROM {schema}build b
	WHERE b.id = $1 AND b.epoch = $2 AND b.state IN ({running}, {cancelling}) FOR NO KEY UPDATE
), gone AS (
	DELETE FROM {schema}artifact a USING held
	WHERE a.build_id = $1 AND a.epoch = $2 AND a.name = $3 AND NOT a.committed
	RETURNING a.project, a.size, a.charged
)` + refund + `
SELECT count(*) FROM held`

// ReleaseArtifact implements [queue.Artifacts].
func (b *Backend) ReleaseArtifact(ctx context.Context, id queue.AttemptID, name string, _ time.Time) error {
	held, err := collect(ctx, b, pgx.RowTo[int], b.sql.releaseArtifact, uuid(id.Build), id.Epoch, name)
	if err == nil && held[0] == 0 {
		err = queue.ErrStaleLease
	}
	return err
}

// ListArtifacts implements [queue.Artifacts].
func (b *Backend) ListArtifacts(ctx context.Context, project string, id queue.AttemptID) ([]queue.Artifact, error) {
	ctx, cancel := b.bounded(ctx)
	defer cancel()
	rows, err := b.reader.ListArtifacts(ctx, project, id)
	return rows, explain(err)
}
