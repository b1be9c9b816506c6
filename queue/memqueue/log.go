package memqueue

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/slipway-build/slipway/queue"
)

// A stream is an attempt's log.
type stream struct {
	data           []byte // none if it is archived
	length         int64
	lines          int64
	cut            bool
	archived       bool
	archivingUntil time.Time // until when somebody has it to archive it
}

// AppendLogs implements [queue.Logs].
func (b *Backend) AppendLogs(ctx context.Context, chunks []queue.LogChunk, limit queue.LogLimit, _ time.Time) ([]queue.LogLength, error) {
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
		log := &bd.current().log
		log.append(c.Offset, c.Data, limit)
		lengths = append(lengths, queue.LogLength{AttemptID: c.AttemptID, Length: log.length, Cut: log.cut})
	}
	return lengths, nil
}

// append stores what is new of the data and fits; nothing if there is a gap before it.
func (l *stream) append(offset int64, data []byte, limit queue.LogLimit) {
	known := l.length - offset
	if l.cut || known < 0 || known >= int64(len(data)) {
		return
	}
	data = data[known:]
	fits := fitting(data, limit.Bytes-l.length, limit.Lines-l.lines)
	l.cut = len(fits) < len(data)
	l.data = append(l.data, fits...)
	l.length += int64(len(fits))
	l.lines += int64(bytes.Count(fits, newline))
}

var newline = []byte("\n")

// fitting returns what of the data comes within so many bytes, and up to the last of so many newlines.
func fitting(data []byte, size, lines int64) []byte {
	data = data[:max(0, min(size, int64(len(data))))]
	var end int
	for ; lines > 0; lines-- {
		i := bytes.IndexByte(data[end:], '\n')
		if i < 0 {
			return data
		}
		end += i + 1
	}
	return data[:end]
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
	rest := a.log.data[min(offset, int64(len(a.log.data))):]
	return queue.LogPage{
		AttemptID: a.AttemptID,
		Offset:    offset,
		Data:      slices.Clone(rest[:min(max, len(rest))]),
		Length:    a.log.length,
		Closed:    !a.EndedAt.IsZero(),
		Cut:       a.log.cut,
		Archived:  a.log.archived,
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
