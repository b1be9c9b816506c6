package queue

import (
	"testing"
	"testing/synctest"
	"time"
)

// The more there is to tell, the longer a hint waits for more.
func TestHintsKeepPace(t *testing.T) {
	for _, c := range []struct {
		each  time.Duration // between two submits
		count int           // of builds
		gap   time.Duration
	}{
		{each: time.Second, count: 1, gap: time.Millisecond},
		{each: 2 * time.Millisecond, count: 1, gap: time.Millisecond},
		{each: time.Millisecond, count: 2, gap: 4 * time.Millisecond},
		{each: 100 * time.Microsecond, count: 1, gap: 10 * time.Millisecond},
		{each: time.Millisecond, count: 500, gap: 10 * time.Millisecond},
	} {
		synctest.Test(t, func(t *testing.T) {
			o := outbox{bell: newBell()}
			o.setOpen(true)
			o.take()
			for range 1000 {
				<-time.After(c.each)
				o.add(Hint{Heads: []Head{{Class: 1, Count: c.count}}})
				if time.Since(o.taken) >= max(10*c.each, 10*time.Millisecond) {
					o.take()
				}
			}
			if slow := o.rest(2 * time.Millisecond); slow < 8*time.Millisecond {
				t.Errorf("after a hint that took 2ms the next comes %v later", slow)
			}
			if gap := o.rest(0); gap < c.gap*9/10 || gap > c.gap*11/10 {
				t.Errorf("%d builds each %v: the gap between two hints is %v, want about %v", c.count, c.each, gap, c.gap)
			}
		})
	}
}

// One submit alone is told of at once, however long nothing was.
func TestHintAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := outbox{bell: newBell()}
		o.setOpen(true)
		<-time.After(time.Hour)
		o.add(Hint{Heads: []Head{{Class: 1, Count: 1}}})
		select {
		case <-o.bell:
		default:
			t.Error("nobody was called to send the hint")
		}
		if h := o.take(); len(h.Heads) != 1 || o.rest(0) != hintGap {
			t.Errorf("took %+v, and a gap of %v follows, want one head and %v", h, o.rest(0), hintGap)
		}
	})
}
