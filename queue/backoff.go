package queue

import "time"

// A Backoff says how long a build waits before it is attempted again: Base after the first attempt, twice as long after each further
// one, at most Max.
type Backoff struct {
	Base time.Duration
	Max  time.Duration
}

// Delay returns the wait after the given number of used attempts.
func (b Backoff) Delay(used int) time.Duration {
	d := b.Base
	for range used - 1 {
		if d >= b.Max-d {
			return b.Max
		}
		d *= 2
	}
	return min(d, b.Max)
}

// or fills in what b leaves open. A maximum that nobody asked for never is below the base.
func (b Backoff) or(rest Backoff) Backoff {
	if b.Base == 0 {
		b.Base = rest.Base
		if b.Max > 0 {
			b.Base = min(b.Base, b.Max)
		}
	}
	if b.Max == 0 {
		b.Max = max(b.Base, rest.Max)
	}
	return b
}
