package worker

import (
	"testing"
	"testing/synctest"
	"time"
)

// later returns m as it is after the two clocks have moved.
func (m moment) later(monotonic, wall time.Duration) moment {
	return moment{monotonic: m.monotonic.Add(monotonic), wall: m.wall.Add(wall)}
}

func TestLeaseLeft(t *testing.T) {
	const length = 30 * time.Second
	begin := thisMoment()
	for name, test := range map[string]struct{ monotonic, wall, left time.Duration }{
		"at once":                       {0, 0, length},
		"both clocks agree":             {10 * time.Second, 10 * time.Second, 20 * time.Second},
		"at the end":                    {length, length, 0},
		"the machine slept":             {time.Second, time.Hour, length - time.Hour},
		"the wall clock was set back":   {10 * time.Second, -time.Hour, 20 * time.Second},
		"the wall clock was set ahead":  {10 * time.Second, 12 * time.Second, 18 * time.Second},
		"set back, and then over":       {31 * time.Second, -time.Hour, -time.Second},
		"slept with the wall clock off": {0, 31 * time.Second, -time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			var l lease
			l.renew(begin, length)
			if left := l.left(begin.later(test.monotonic, test.wall)); left != test.left {
				t.Errorf("left %v, want %v", left, test.left)
			}
		})
	}
}

func TestLeaseRenew(t *testing.T) {
	begin := thisMoment()
	var l lease
	if l.left(begin) > 0 {
		t.Error("a lease that was never granted is not over")
	}
	l.renew(begin.later(10*time.Second, 10*time.Second), 30*time.Second)
	l.renew(begin, 30*time.Second) // the answer to an older message, come late
	if left := l.left(begin.later(10*time.Second, 10*time.Second)); left != 30*time.Second {
		t.Errorf("an older answer left %v", left)
	}
	l.renew(begin.later(20*time.Second, 20*time.Second), 25*time.Second)
	if left := l.left(begin.later(20*time.Second, 20*time.Second)); left != 25*time.Second {
		t.Errorf("a newer answer left %v", left)
	}
}

// TestLeaseTime lets time pass, and a machine sleep, without waiting for either.
func TestLeaseTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l lease
		l.renew(thisMoment(), 30*time.Second)
		<-time.After(29 * time.Second)
		if left := l.left(thisMoment()); left != time.Second {
			t.Errorf("left %v after 29 s", left)
		}
		<-time.After(time.Second)
		if left := l.left(thisMoment()); left > 0 {
			t.Errorf("left %v after 30 s", left)
		}
		l.renew(thisMoment(), 30*time.Second)
		woken := thisMoment().later(0, time.Hour) // what stands still in sleep, and what does not
		if left := l.left(woken); left > 0 {
			t.Errorf("left %v after an hour of sleep", left)
		}
	})
}

// TestAttemptStops looks when an attempt is told that its lease is over, and when it is killed.
func TestAttemptStops(t *testing.T) {
	const length, killTime = 30 * time.Second, 10 * time.Second
	for name, test := range map[string]struct {
		quiet        bool
		stage        string
		passed       time.Duration
		stop, killed bool
	}{
		"in time":                  {passed: length - 1},
		"over":                     {passed: length, stop: true},
		"over for a while":         {passed: length + killTime/2 - 1, stop: true},
		"over for half of the way": {passed: length + killTime/2, stop: true, killed: true},
		"after a long sleep":       {passed: time.Hour, stop: true, killed: true},
		"ended by itself":          {passed: time.Hour, quiet: true},
		"not started":              {passed: time.Hour, stage: "accepted"},
	} {
		t.Run(name, func(t *testing.T) {
			begin := thisMoment()
			a := newTestAttempt(t)
			a.killTime, a.quiet, a.stage = killTime, test.quiet, "running"
			if test.stage != "" {
				a.stage = "accepted"
			}
			a.renew(begin, length)
			a.checkLease(begin.later(test.passed, 0))
			if stopped := a.ctx.Err() != nil; stopped != test.stop {
				t.Errorf("told to stop: %t, want %t", stopped, test.stop)
			}
			select {
			case <-a.kill:
				if !test.killed {
					t.Error("killed too early")
				}
			default:
				if test.killed {
					t.Error("not killed")
				}
			}
		})
	}
}
