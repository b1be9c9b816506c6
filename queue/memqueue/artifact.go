package memqueue

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/slipway-build/slipway/queue"
)

// ReserveArtifact implements [queue.Artifacts].
func (b *Backend) ReserveArtifact(ctx context.Context, n queue.NewArtifact, now time.Time) (queue.Artifact, error) {
	unlock, err := b.lock(ctx)
	if err != nil {
		return queue.Artifact{}, err
	}
	defer unlock()
	bd := b.builds[n.Build]
	if !bd.leases(n.AttemptID) {
		return queue.Artifact{}, queue.ErrStaleLease
	}
	artifacts := bd.current().artifacts
	row := artifacts[n.Name]
	if row == nil {
		row = &queue.Artifact{
			AttemptID: n.AttemptID, Project: bd.Project, Name: n.Name, Digest: n.Digest, Size: n.Size, CreatedAt: present(now),
		}
		artifacts[n.Name] = row
	}
	if row.Digest != n.Digest || row.Size != n.Size {
		return queue.Artifact{}, fmt.Errorf("artifact %q has other content: %w", n.Name, queue.ErrConflict)
	}
	return *row, nil
}

// CommitArtifact implements [queue.Artifacts].
func (b *Backend) CommitArtifact(ctx context.Context, id queue.AttemptID, name string, _ time.Time) (queue.Artifact, error) {
	unlock, err := b.lock(ctx)
	if err != nil {
		return queue.Artifact{}, err
	}
	defer unlock()
	bd := b.builds[id.Build]
	if !bd.leases(id) {
		return queue.Artifact{}, queue.ErrStaleLease
	}
	row := bd.current().artifacts[name]
	if row == nil {
		return queue.Artifact{}, fmt.Errorf("artifact %q: %w", name, queue.ErrNotFound)
	}
	row.Committed = true
	return *row, nil
}

// ListArtifacts implements [queue.Artifacts].
func (b *Backend) ListArtifacts(ctx context.Context, project string, id queue.AttemptID) ([]queue.Artifact, error) {
	unlock, err := b.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	a, err := b.accepted(project, id)
	if err != nil {
		return nil, err
	}
	var rows []queue.Artifact
	for _, row := range a.artifacts {
		if row.Committed {
			rows = append(rows, *row)
		}
	}
	slices.SortFunc(rows, func(x, y queue.Artifact) int { return cmp.Compare(x.Name, y.Name) })
	return rows, nil
}
