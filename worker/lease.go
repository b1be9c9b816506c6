package worker

import "time"

// A moment is a point in time by two clocks. The monotonic one cannot be set but may stand still while the machine sleeps; the
// wall clock goes on but may be set.
type moment struct {
	monotonic time.Time
	wall      time.Time
}

// thisMoment returns the present.
func thisMoment() moment {
	now := time.Now()
	return moment{monotonic: now, wall: now.Round(0)}
}

// since returns how much time has passed since an earlier moment, by whichever clock says more.
func (m moment) since(earlier moment) time.Duration {
	return max(m.monotonic.Sub(earlier.monotonic), m.wall.Sub(earlier.wall))
}

// A lease is a worker's right to run an attempt. It counts from when the worker sent what a controller has answered, which
// is before the controller granted anything. The zero lease is over.
type lease struct {
	sent   moment
	length time.Duration
}

// renew counts the lease from when a message was sent that has now been answered. The answer to an older message than the newest that
// was answered changes nothing.
func (l *lease) renew(sent moment, length time.Duration) {
	if l.length == 0 || !sent.monotonic.Add(length).Before(l.sent.monotonic.Add(l.length)) {
		l.sent, l.length = sent, length
	}
}

// left returns how much of the lease is left; it is not positive once the lease is over.
func (l *lease) left(now moment) time.Duration {
	if l.length == 0 {
		return 0
	}
	return l.length - now.since(l.sent)
}
