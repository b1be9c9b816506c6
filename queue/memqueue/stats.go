package memqueue

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/slipway-build/slipway/queue"
)

// day returns what is counted of the day in UTC in which a moment lies.
func (p *project) day(now time.Time) *queue.DayStats {
	begin := now.UTC().Truncate(24 * time.Hour)
	if p.days[begin] == nil {
		p.days[begin] = &queue.DayStats{Day: begin}
	}
	return p.days[begin]
}

// countAttempt counts an attempt that has just ended.
func (p *project) countAttempt(a *attempt) {
	day := p.day(a.EndedAt)
	day.Attempts++
	day.Ran += a.EndedAt.Sub(a.StartedAt)
}

// countEnd counts a build that has just ended.
func (p *project) countEnd(bd *build) {
	day := p.day(bd.finishedAt)
	if !bd.startedAt.IsZero() {
		day.Waited += bd.startedAt.Sub(later(bd.createdAt, bd.NotBefore))
	}
	switch bd.state {
	case queue.Succeeded:
		day.Succeeded++
	case queue.Failed:
		day.Failed++
	case queue.Canceled:
		day.Canceled++
	case queue.TimedOut:
		day.TimedOut++
	case queue.Expired:
		day.Expired++
	case queue.Lost:
		day.Lost++
	default: // not an end
	}
}

// Stats implements [queue.Records].
func (b *Backend) Stats(ctx context.Context, project string, first, last time.Time) (queue.Stats, error) {
	unlock, err := b.lock(ctx)
	if err != nil {
		return queue.Stats{}, err
	}
	defer unlock()
	days := make(map[time.Time]*queue.DayStats)
	for _, p := range b.projects {
		if project != "" && p.Name != project {
			continue
		}
		for begin, day := range p.days {
			if !begin.Before(first) && !begin.After(last) {
				days[begin] = sum(days[begin], day)
			}
		}
	}
	stats := b.counts(project)
	for _, begin := range slices.SortedFunc(maps.Keys(days), time.Time.Compare) {
		stats.Days = append(stats.Days, *days[begin])
	}
	return stats, nil
}

// sum adds up what two projects did on a day. A nil x is one that did nothing.
func sum(x, y *queue.DayStats) *queue.DayStats {
	if x == nil {
		return new(*y)
	}
	x.Submitted += y.Submitted
	x.Succeeded += y.Succeeded
	x.Failed += y.Failed
	x.Canceled += y.Canceled
	x.TimedOut += y.TimedOut
	x.Expired += y.Expired
	x.Lost += y.Lost
	x.Attempts += y.Attempts
	x.Waited += y.Waited
	x.Ran += y.Ran
	return x
}

// counts counts the builds that have not ended.
func (b *Backend) counts(project string) queue.Stats {
	var stats queue.Stats
	for _, bd := range b.builds {
		if project != "" && bd.Project != project {
			continue
		}
		switch bd.state {
		case queue.Pending:
			stats.Pending++
		case queue.Offered:
			stats.Offered++
		case queue.Running:
			stats.Running++
		case queue.Cancelling:
			stats.Cancelling++
		default: // it has ended
		}
	}
	for _, n := range []*int{&stats.Pending, &stats.Offered, &stats.Running, &stats.Cancelling} {
		*n = min(*n, queue.MaxCount)
	}
	return stats
}
