package sqlitequeue

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/slipway-build/slipway/queue"
)

const artifactColumns = `build_id, epoch, project, name, digest, size, committed, created_at`

var (
	reserveSQL = statement(`
INSERT INTO {schema}artifact (build_id, epoch, project, name, digest, size, created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
ON CONFLICT (build_id, epoch, name) DO NOTHING`)

	artifactSQL = statement(`
SELECT ` + artifactColumns + ` FROM {schema}artifact WHERE build_id = ?1 AND epoch = ?2 AND name = ?3`)

	commitArtifactSQL = statement(`
UPDATE {schema}artifact SET committed = 1 WHERE build_id = ?1 AND epoch = ?2 AND name = ?3
RETURNING ` + artifactColumns)
)

// ReserveArtifact implements [queue.Artifacts].
func (b *Backend) ReserveArtifact(ctx context.Context, n queue.NewArtifact, now time.Time) (a queue.Artifact, err error) {
	err = b.change(ctx, now, func(ctx context.Context, c *change) error {
		l, err := c.leased(ctx, n.AttemptID)
		if err != nil {
			return err
		}
		_, err = c.exec(ctx, reserveSQL, n.Build[:], n.Epoch, l.project, n.Name, n.Digest[:], n.Size, c.now)
		if err != nil {
			return err
		}
		if a, err = c.artifact(ctx, artifactSQL, n.AttemptID, n.Name); err != nil {
			return err
		}
		if a.Digest != n.Digest || a.Size != n.Size {
			return fmt.Errorf("artifact %q has other content: %w", n.Name, queue.ErrConflict)
		}
		return nil
	})
	if err != nil {
		return queue.Artifact{}, err
	}
	return a, nil
}

// CommitArtifact implements [queue.Artifacts].
func (b *Backend) CommitArtifact(
	ctx context.Context, id queue.AttemptID, name string, now time.Time,
) (a queue.Artifact, err error) {
	err = b.change(ctx, now, func(ctx context.Context, c *change) error {
		if _, err := c.leased(ctx, id); err != nil {
			return err
		}
		a, err = c.artifact(ctx, commitArtifactSQL, id, name)
		return err
	})
	return a, err
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

// artifact runs a statement that returns one artifact.
func (c *change) artifact(ctx context.Context, query string, id queue.AttemptID, name string) (queue.Artifact, error) {
	var a queue.Artifact
	var sum []byte
	var created int64
	err := c.conn.Conn.QueryRowContext(ctx, query, id.Build[:], id.Epoch, name).
		Scan(scanID(&a.Build), &a.Epoch, &a.Project, &a.Name, &sum, &a.Size, &a.Committed, &created)
	if errors.Is(err, sql.ErrNoRows) {
		err = fmt.Errorf("artifact %q: %w", name, queue.ErrNotFound)
	}
	if err != nil {
		return queue.Artifact{}, err
	}
	a.Digest, a.CreatedAt = digest(sum), time.UnixMicro(created).UTC()
	return a, nil
}

// ListArtifacts implements [queue.Artifacts].
func (b *Backend) ListArtifacts(ctx context.Context, project string, id queue.AttemptID) ([]queue.Artifact, error) {
	ctx, cancel := context.WithTimeout(ctx, b.opts.Timeout)
	defer cancel()
	return b.reader.ListArtifacts(ctx, project, id)
}
