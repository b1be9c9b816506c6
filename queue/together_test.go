package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A depot stores builds when it is told to, and as it is told.
type depot struct {
	calls  chan call
	mu     sync.Mutex
	stored map[ID]int
}

// A call is one that waits for its answer.
type call struct {
	builds []NewBuild
	answer chan error
}

func newDepot() *depot { return &depot{calls: make(chan call, 1000), stored: make(map[ID]int)} }

func (d *depot) store(ctx context.Context, builds []NewBuild) ([]Submitted, error) {
	c := call{builds, make(chan error, 1)}
	d.calls <- c
	select {
	case err := <-c.answer:
		if err != nil {
			return nil, err
		}
		return nil, d.keep(builds)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// keep stores all or none.
func (d *depot) keep(builds []NewBuild) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, b := range builds {
		if d.stored[b.ID] > 0 {
			return ErrConflict
		}
	}
	for _, b := range builds {
		d.stored[b.ID]++
	}
	return nil
}

// crowd has builds submitted at once, and returns when all of them are on their way or wait.
func (d *depot) crowd(ctx context.Context, s *submits, builds ...NewBuild) []*error {
	results := make([]*error, len(builds))
	for i, b := range builds {
		results[i] = new(errors.New("not over"))
		go func() { *results[i] = s.submit(ctx, b) }()
		synctest.Wait() // so they come in this order
	}
	return results
}

func someBuilds(n int) []NewBuild {
	builds := make([]NewBuild, n)
	for i := range builds {
		builds[i] = NewBuild{ID: NewID()}
	}
	return builds
}

func TestSubmitsGoTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDepot()
		s := &submits{store: d.store}
		builds := someBuilds(10)
		results := d.crowd(t.Context(), s, builds...)
		if len(d.calls) != togetherCalls {
			t.Fatalf("%d calls are under way, want %d", len(d.calls), togetherCalls)
		}
		for range togetherCalls {
			if c := <-d.calls; len(c.builds) != 1 {
				t.Errorf("%d builds went first, want each alone", len(c.builds))
			} else {
				c.answer <- nil
			}
			synctest.Wait()
		}
		c := <-d.calls
		if len(c.builds) != len(builds)-togetherCalls || len(d.calls) > 0 {
			t.Errorf("then %d went together, and %d more calls; want all at once", len(c.builds), len(d.calls))
		}
		c.answer <- nil
		synctest.Wait()
		for i, b := range builds {
			if *results[i] != nil || d.stored[b.ID] != 1 {
				t.Errorf("build %d: %v, stored %d times", i, *results[i], d.stored[b.ID])
			}
		}
		if s.calls != 0 || len(s.waiting) != 0 {
			t.Errorf("%d calls and %d who wait are left", s.calls, len(s.waiting))
		}
	})
}

func TestSubmitsShareTheError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDepot()
		s := &submits{store: d.store}
		results := d.crowd(t.Context(), s, someBuilds(6)...)
		for i := range 3 {
			c := <-d.calls
			c.answer <- map[bool]error{true: ErrUnavailable}[i == 2]
			synctest.Wait()
		}
		for i, err := range results {
			if got, want := errors.Is(*err, ErrUnavailable), i >= togetherCalls; got != want {
				t.Errorf("build %d: %v", i, *err)
			}
		}
	})
}

func TestSubmitThatGivesUpWhileItWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDepot()
		s := &submits{store: d.store}
		builds := someBuilds(5)
		first := d.crowd(t.Context(), s, builds[:2]...)
		ctx, cancel := context.WithCancelCause(t.Context())
		impatient := d.crowd(ctx, s, builds[2])
		rest := d.crowd(t.Context(), s, builds[3:]...)
		cancel(nil)
		synctest.Wait()
		if !errors.Is(*impatient[0], context.Canceled) {
			t.Errorf("who gave up got %v", *impatient[0])
		}
		for range 3 {
			c := <-d.calls
			c.answer <- nil
			synctest.Wait()
		}
		for _, err := range slices.Concat(first, rest) {
			if *err != nil {
				t.Error(*err)
			}
		}
		if d.stored[builds[2].ID] != 0 || len(d.stored) != 4 {
			t.Errorf("%d are stored, %d of them of who gave up", len(d.stored), d.stored[builds[2].ID])
		}
	})
}

// A batch is nobody's own: who gives up on the way takes nobody along.
func TestSubmitThatGivesUpOnTheWay(t *testing.T) {
	for place := range 3 {
		t.Run(fmt.Sprintf("the %d. of the batch", place+1), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDepot()
				s := &submits{store: d.store}
				builds := someBuilds(5)
				d.crowd(t.Context(), s, builds[:2]...)
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				var results []*error
				for i, b := range builds[2:] {
					own := t.Context()
					if i == place {
						own = ctx
					}
					results = append(results, d.crowd(own, s, b)...)
				}
				(<-d.calls).answer <- nil
				synctest.Wait()
				c := <-d.calls // of the other, and then of the three
				if len(c.builds) == 1 {
					c.answer <- nil
					c = <-d.calls
				}
				if len(c.builds) != 3 {
					t.Fatalf("%d go together, want 3", len(c.builds))
				}
				<-time.After(time.Minute)
				synctest.Wait()
				if err := *results[place]; !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("who gave up got %v", err)
				}
				c.answer <- nil
				synctest.Wait()
				for i, err := range results {
					if i != place && *err != nil {
						t.Errorf("%d: %v", i, *err)
					}
				}
				if len(d.stored) != 5 {
					t.Errorf("%d builds are stored, want all", len(d.stored))
				}
				if s.calls != 0 || len(s.waiting) != 0 {
					t.Errorf("%d calls and %d who wait are left", s.calls, len(s.waiting))
				}
			})
		})
	}
}

func TestSubmitsAreBoundedByTheirSize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDepot()
		s := &submits{store: d.store}
		large := make([]byte, MaxSpec)
		builds := someBuilds(togetherCalls + togetherBuilds + 2*togetherBytes/MaxSpec)
		for i := range builds[:2*togetherBytes/MaxSpec] {
			builds[i].Spec = large
		}
		d.crowd(t.Context(), s, builds...)
		for left := len(builds); left > 0; {
			c := <-d.calls
			var size int
			for _, b := range c.builds {
				size += len(b.Spec)
			}
			if len(c.builds) > togetherBuilds || size > togetherBytes {
				t.Errorf("%d builds of %d bytes go together", len(c.builds), size)
			}
			left -= len(c.builds)
			c.answer <- nil
			synctest.Wait()
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
