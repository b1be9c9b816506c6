package memqueue

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/slipway-build/slipway/queue"
)

// A dropped is the log of a deleted build that the archive may have.
type dropped struct {
	queue.DroppedLog
	takenUntil time.Time // until when somebody has it to remove it
}

// archiving reports whether somebody is archiving the log.
func (l *stream) archiving(now time.Time) bool { return !l.archived && l.archivingUntil.After(now) }

// mayBeArchived reports whether the archive has the log, or may have it because somebody was about to put it there.
func (l *stream) mayBeArchived() bool { return l.archived || !l.archivingUntil.IsZero() }

// ClosedLogs implements [queue.Logs].
func (b *Backend) ClosedLogs(ctx context.Context, max int, hold time.Duration, now time.Time) ([]queue.ClosedLog, error) {
	unlock, err := b.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	now = present(now)
	var ended []*attempt
	for _, bd := range b.builds {
		for _, a := range bd.attempts {
			if !a.EndedAt.IsZero() && a.log.length > 0 && !a.log.archived && !a.log.archiving(now) && b.dropped[a.AttemptID] == nil {
				ended = append(ended, a)
			}
		}
	}
	slices.SortFunc(ended, func(x, y *attempt) int { return byAttempt(x.AttemptID, y.AttemptID) })
	var logs []queue.ClosedLog
	for _, a := range ended[:min(max, len(ended))] {
		a.log.archivingUntil = now.Add(hold)
		logs = append(logs, queue.ClosedLog{AttemptID: a.AttemptID, Project: b.builds[a.Build].Project, Length: a.log.length})
	}
	return logs, nil
}

func byAttempt(x, y queue.AttemptID) int {
	return cmp.Or(bytes.Compare(x.Build[:], y.Build[:]), cmp.Compare(x.Epoch, y.Epoch))
}

// ArchiveLog implements [queue.Logs].
func (b *Backend) ArchiveLog(ctx context.Context, id queue.AttemptID) error {
	unlock, err := b.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	bd := b.builds[id.Build]
	if bd == nil || id.Epoch < 1 || bd.attempt(id.Epoch) == nil || bd.attempt(id.Epoch).EndedAt.IsZero() {
		return fmt.Errorf("closed log of attempt %d of build %v: %w", id.Epoch, id.Build, queue.ErrNotFound)
	}
	if log := &bd.attempt(id.Epoch).log; log.length > 0 {
		log.data, log.archived = nil, true
	}
	return nil
}

// DroppedLogs implements [queue.Logs].
func (b *Backend) DroppedLogs(ctx context.Context, max int, hold time.Duration, now time.Time) ([]queue.DroppedLog, error) {
	unlock, err := b.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	now = present(now)
	var free []*dropped
	for _, d := range b.dropped {
		if !d.takenUntil.After(now) {
			free = append(free, d)
		}
	}
	slices.SortFunc(free, func(x, y *dropped) int {
		return cmp.Or(x.takenUntil.Compare(y.takenUntil), byAttempt(x.AttemptID, y.AttemptID))
	})
	var logs []queue.DroppedLog
	for _, d := range free[:min(max, len(free))] {
		d.takenUntil = now.Add(hold)
		logs = append(logs, d.DroppedLog)
	}
	return logs, nil
}

// ForgetLogs implements [queue.Logs].
func (b *Backend) ForgetLogs(ctx context.Context, ids []queue.AttemptID) error {
	unlock, err := b.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	for _, id := range ids {
		delete(b.dropped, id)
	}
	return nil
}
