package memqueue

import (
	"cmp"
	"context"
	"fmt"
	"math"
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
		if err := bd.project.take(n.Size); err != nil {
			return queue.Artifact{}, err
		}
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

// take makes room for an artifact, if the quota has it.
func (p *project) take(size int64) error {
	most := p.ArtifactQuota
	if most == 0 {
		most = math.MaxInt64
	}
	if size > most-p.ArtifactBytes {
		return fmt.Errorf("project %q has %d bytes of artifacts and may have %d: %w", p.Name, p.ArtifactBytes, most, queue.ErrQuota)
	}
	p.known = true
	p.ArtifactBytes += size
	return nil
}

// ReleaseArtifact implements [queue.Artifacts].
func (b *Backend) ReleaseArtifact(ctx context.Context, id queue.AttemptID, name string, _ time.Time) error {
	unlock, err := b.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	bd := b.builds[id.Build]
	if !bd.leases(id) {
		return queue.ErrStaleLease
	}
	if row := bd.current().artifacts[name]; row != nil && !row.Committed {
		bd.drop(bd.current(), row)
	}
	return nil
}

// drop deletes the row of an artifact.
func (bd *build) drop(a *attempt, row *queue.Artifact) {
	delete(a.artifacts, row.Name)
	bd.project.ArtifactBytes -= row.Size
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
