package sqlitequeue

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/slipway-build/slipway/queue"
)

const artifactColumns = `build_id, epoch, project, name, digest, size, committed, created_at`

var (
	reserveSQL = statement(`
INSERT INTO {schema}artifact (build_id, epoch, project, name, digest, size, created_at) VALUES (?1, ?2, ?4, ?3, ?5, ?6, ?7)
RETURNING ` + artifactColumns)

	artifactSQL = statement(`
SELECT ` + artifactColumns + ` FROM {schema}artifact WHERE build_id = ?1 AND epoch = ?2 AND name = ?3`)

	roomSQL = statement(`SELECT artifact_quota, artifact_bytes FROM {schema}project WHERE name = ?1`)

	commitArtifactSQL = statement(`
UPDATE {schema}artifact SET committed = 1 WHERE build_id = ?1 AND epoch = ?2 AND name = ?3
RETURNING ` + artifactColumns)

	releaseArtifactSQL = statement(`
DELETE FROM {schema}artifact WHERE build_id = ?1 AND epoch = ?2 AND name = ?3 AND committed = 0`)
)

// ReserveArtifact implements [queue.Artifacts]. What the artifacts of a project take of its quota is kept by triggers: see the migrations.
func (b *Backend) ReserveArtifact(ctx context.Context, n queue.NewArtifact, now time.Time) (a queue.Artifact, err error) {
	err = b.change(ctx, now, func(ctx context.Context, c *change) error {
		l, err := c.leased(ctx, n.AttemptID)
		if err != nil {
			return err
		}
		a, err = c.artifact(ctx, artifactSQL, n.Build[:], n.Epoch, n.Name)
		switch {
		case errors.Is(err, queue.ErrNotFound):
			if err = c.room(ctx, l.project, n.Size); err == nil {
				a, err = c.artifact(ctx, reserveSQL, n.Build[:], n.Epoch, n.Name, l.project, n.Digest[:], n.Size, c.now)
			}
		case err == nil && (a.Digest != n.Digest || a.Size != n.Size):
			err = fmt.Errorf("artifact %q has other content: %w", n.Name, queue.ErrConflict)
		}
		return err
	})
	return alone(a, err)
}

// room returns an error that wraps queue.ErrQuota if a project has no room for an artifact of that size.
func (c *change) room(ctx context.Context, project string, size int64) error {
	var quota, used int64
	err := c.tx.QueryRowContext(ctx, roomSQL, project).Scan(&quota, &used)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	if quota == 0 {
		quota = math.MaxInt64
	}
	if size > quota-used {
		return fmt.Errorf("project %q has %d bytes of artifacts and may have %d: %w", project, used, quota, queue.ErrQuota)
	}
	return nil
}

// CommitArtifact implements [queue.Artifacts].
func (b *Backend) CommitArtifact(
	ctx context.Context, id queue.AttemptID, name string, now time.Time,
) (a queue.Artifact, err error) {
	err = b.change(ctx, now, func(ctx context.Context, c *change) error {
		if _, err := c.leased(ctx, id); err != nil {
			return err
		}
		a, err = c.artifact(ctx, commitArtifactSQL, id.Build[:], id.Epoch, name)
		return err
	})
	return alone(a, err)
}

// ReleaseArtifact implements [queue.Artifacts].
func (b *Backend) ReleaseArtifact(ctx context.Context, id queue.AttemptID, name string, now time.Time) error {
	return b.change(ctx, now, func(ctx context.Context, c *change) error {
		if _, err := c.leased(ctx, id); err != nil {
			return err
		}
		_, err := c.exec(ctx, releaseArtifactSQL, id.Build[:], id.Epoch, name)
		return err
	})
}

// leased returns the lease of an attempt, or an error that wraps queue.ErrStaleLease.
func (c *change) leased(ctx context.Context, id queue.AttemptID) (lease, error) {
	held, err := c.fence(ctx, id)
	if err != nil {
		return lease{}, err
	}
	if len(held) == 0 {
		return lease{}, fmt.Errorf("attempt %d of build %v: %w", id.Epoch, id.Build, queue.ErrStaleLease)
	}
	return held[0], nil
}

// artifact runs a statement that returns one artifact. queue.ErrNotFound if it returns none.
func (c *change) artifact(ctx context.Context, query string, args ...any) (queue.Artifact, error) {
	var a queue.Artifact
	var sum []byte
	var created int64
	err := c.tx.QueryRowContext(ctx, query, args...).
		Scan(scanID(&a.Build), &a.Epoch, &a.Project, &a.Name, &sum, &a.Size, &a.Committed, &created)
	if errors.Is(err, sql.ErrNoRows) {
		err = fmt.Errorf("artifact: %w", queue.ErrNotFound)
	}
	if err != nil {
		return queue.Artifact{}, err
	}
	a.Digest, a.CreatedAt = digest(sum), time.UnixMicro(created).UTC()
	return a, nil
}

// ListArtifacts implements [queue.Artifacts].
func (b *Backend) ListArtifacts(ctx context.Context, project string, id queue.AttemptID) ([]queue.Artifact, error) {
	return ask(ctx, b, func(ctx context.Context) ([]queue.Artifact, error) { return b.reader.ListArtifacts(ctx, project, id) })
}
