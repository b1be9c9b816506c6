package queue

import (
	"context"
	"time"
)

// Stats tell how many builds came and how they ended.
type Stats struct {
	// Days are the days, in UTC, on which something happened, oldest first.
	Days []DayStats
	// Pending, Offered, Running and Cancelling are how many builds are in these states now, each counted to [MaxCount].
	Pending, Offered, Running, Cancelling int
}

// MaxCount is how far builds are counted that may be any number.
const MaxCount = 10_000

// A DayStats counts what happened on a day in UTC. Each change of a build counts on the day of the change, with the change itself: the
// numbers are exact, and stay when builds are deleted.
type DayStats struct {
	Day time.Time // its begin

	Submitted int64
	// How builds ended.
	Succeeded, Failed, Canceled, TimedOut, Expired, Lost int64
	// Attempts counts the attempts that ended, those included after which the build was attempted again.
	Attempts int64
	// Waited is how long the builds that ended had waited from their submit, or the time they were scheduled for, to the start of their
	// last attempt; Ran is how long the attempts that ended took. Sums.
	Waited, Ran time.Duration
}

// MaxStatsDays is the longest span of [Queue.Stats], in days.
const MaxStatsDays = 400

// Stats returns the numbers of a project, or of all if project is empty, of the days in UTC from the one in which from lies to the one in
// which to lies.
//
// Errors: [ErrInvalid].
func (q *Queue) Stats(ctx context.Context, project string, from, to time.Time) (Stats, error) {
	if project != "" {
		if err := CheckName("project", project); err != nil {
			return Stats{}, wrap("stats", ID{}, err)
		}
	}
	first, last := day(from), day(to)
	if first.IsZero() || last.Before(first) || last.Sub(first) >= MaxStatsDays*24*time.Hour {
		return Stats{}, wrap("stats", ID{}, invalid("days", "must be 1 to %d, the first not after the last", MaxStatsDays))
	}
	stats, err := q.backend.Stats(ctx, project, first, last)
	return stats, wrap("stats", ID{}, err)
}

// day returns the begin of the day in UTC in which t lies.
func day(t time.Time) time.Time { return t.UTC().Truncate(24 * time.Hour) }
