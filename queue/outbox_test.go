package queue

import (
	"slices"
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

func TestUnsaid(t *testing.T) {
	head := func(class ClassID) Hint { return Hint{Heads: []Head{{Class: class, Rank: 1}}} }
	// tells checks which classes a hint names, and whether it is of everything.
	tells := func(t *testing.T, u *unsaid, everything bool, classes ...ClassID) {
		t.Helper()
		h := u.take()
		var told []ClassID
		for _, head := range h.Heads {
			told = append(told, head.Class)
		}
		slices.Sort(told)
		if h.Any != everything || h.Waiting != everything || !slices.Equal(told, classes) {
			t.Errorf("told of classes %v, everything %v; want %v, %v", told, h.Any, classes, everything)
		}
	}
	for name, test := range map[string]func(*testing.T, *unsaid){
		"Nothing": func(t *testing.T, u *unsaid) { tells(t, u, true) },
		"EachTellsOfAll": func(t *testing.T, u *unsaid) {
			u.add(head(1))
			u.add(head(2))
			tells(t, u, false, 1, 2)
			tells(t, u, false, 1, 2)
			tells(t, u, true)
		},
		"RolledBack": func(t *testing.T, u *unsaid) {
			u.add(head(1))
			<-time.After(2 * unsaidFor)
			u.add(head(2))
			tells(t, u, false, 2)
			tells(t, u, true)
		},
		"LongAfterAnotherToldOfIt": func(t *testing.T, u *unsaid) {
			u.add(head(1))
			u.add(head(2))
			tells(t, u, false, 1, 2)
			<-time.After(2 * unsaidAgain)
			tells(t, u, true)
		},
		"ManyRolledBack": func(t *testing.T, u *unsaid) {
			for range 10 * unsaidMost {
				u.add(head(1))
			}
			u.add(Hint{Changed: []ID{{1}}})
			if h := u.take(); !h.Any || !slices.Contains(h.Changed, ID{1}) {
				t.Errorf("told %+v, want everything, and the newest", h)
			}
			if len(u.changes) > unsaidMost || len(u.open) > 2*unsaidMost {
				t.Errorf("%d changes and %d times are remembered", len(u.changes), len(u.open))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { test(t, new(unsaid)) })
		})
	}
}
