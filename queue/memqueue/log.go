package memqueue

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/slipway-build/slipway/queue"
)

// AppendLogs implements [queue.Logs].
func (b *Backend) AppendLogs(ctx context.Context, chunks []queue.LogChunk, _ queue.LogLimit, _ time.Time) ([]queue.LogLength, error) {
	unlock, err := b.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	var lengths []queue.LogLength
	for _, c := range chunks {
		bd := b.builds[c.Build]
		if !bd.leases(c.AttemptID) {
			continue
		}
		a := bd.current()
		a.append(c.Offset, c.Data)
		lengths = append(lengths, queue.LogLength{AttemptID: c.AttemptID, Length: int64(len(a.log))})
	}
	return lengths, nil
}

// append stores what is new of the data; nothing if there is a gap before it.
func (a *attempt) append(offset int64, data []byte) {
	known := int64(len(a.log)) - offset
	if known >= 0 && known < int64(len(data)) {
		a.log = append(a.log, data[known:]...)
	}
}

// ReadLog implements [queue.Logs].
func (b *Backend) ReadLog(ctx context.Context, project string, id queue.AttemptID, offset int64, max int) (queue.LogPage, error) {
	unlock, err := b.lock(ctx)
	if err != nil {
		return queue.LogPage{}, err
	}
	defer unlock()
	a, err := b.accepted(project, id)
	if err != nil {
		return queue.LogPage{}, err
	}
	rest := a.log[min(offset, int64(len(a.log))):]
	return queue.LogPage{
		AttemptID: a.AttemptID,
		Offset:    offset,
		Data:      slices.Clone(rest[:min(max, len(rest))]),
		Length:    int64(len(a.log)),
		Closed:    !a.EndedAt.IsZero(),
	}, nil
}

// accepted returns an accepted attempt of a build of the project. An epoch of zero stands for the newest.
func (b *Backend) accepted(project string, id queue.AttemptID) (*attempt, error) {
	bd, err := b.build(project, id.Build)
	if err != nil {
		return nil, err
	}
	a := bd.attempt(id.Epoch)
	if a == nil {
		return nil, fmt.Errorf("attempt %d of build %v: %w", id.Epoch, id.Build, queue.ErrNotFound)
	}
	return a, nil
}
