package memqueue

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"github.com/slipway-build/slipway/queue"
)

// build returns a build of a project. A build of another project does not exist.
func (b *Backend) build(project string, id queue.ID) (*build, error) {
	bd := b.builds[id]
	if bd == nil || bd.Project != project {
		return nil, fmt.Errorf("build %v: %w", id, queue.ErrNotFound)
	}
	return bd, nil
}

// Get implements [queue.Records].
func (b *Backend) Get(ctx context.Context, project string, id queue.ID) (queue.Build, error) {
	unlock, err := b.lock(ctx)
	if err != nil {
		return queue.Build{}, err
	}
	defer unlock()
	bd, err := b.build(project, id)
	if err != nil {
		return queue.Build{}, err
	}
	public := bd.public()
	public.Spec = slices.Clone(bd.Spec)
	return public, nil
}

// List implements [queue.Records].
func (b *Backend) List(ctx context.Context, filter queue.Filter) ([]queue.Build, error) {
	unlock, err := b.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	var found []*build
	for _, bd := range b.builds {
		if bd.passes(filter) {
			found = append(found, bd)
		}
	}
	slices.SortFunc(found, func(x, y *build) int { return bytes.Compare(y.ID[:], x.ID[:]) })
	var page []queue.Build
	for _, bd := range found[:min(filter.Limit, len(found))] {
		page = append(page, bd.public())
	}
	return page, nil
}

func (bd *build) passes(f queue.Filter) bool {
	return (f.AllProjects || bd.Project == f.Project) &&
		(f.Pool == "" || bd.Pool == f.Pool) &&
		(f.Worker == "" || bd.worker == f.Worker) &&
		(len(f.States) == 0 || slices.Contains(f.States, bd.state)) &&
		(f.Before.IsZero() || bytes.Compare(bd.ID[:], f.Before[:]) < 0) &&
		bytes.Compare(bd.ID[:], f.Since[:]) >= 0
}

// Attempts implements [queue.Records].
func (b *Backend) Attempts(ctx context.Context, project string, id queue.ID) ([]queue.Attempt, error) {
	unlock, err := b.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	bd, err := b.build(project, id)
	if err != nil {
		return nil, err
	}
	var rows []queue.Attempt
	for _, a := range bd.attempts {
		row := a.Attempt
		row.ExitCode, row.LogLength = clonePointer(a.ExitCode), a.log.length
		row.LogCut = a.log.cut
		rows = append(rows, row)
	}
	return rows, nil
}

// Specs implements [queue.Records].
func (b *Backend) Specs(ctx context.Context, ids []queue.ID) (map[queue.ID][]byte, error) {
	unlock, err := b.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	specs := make(map[queue.ID][]byte, len(ids))
	for _, id := range ids {
		if bd := b.builds[id]; bd != nil {
			specs[id] = slices.Clone(bd.Spec)
		}
	}
	return specs, nil
}
