package together_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/slipway-build/slipway/internal/together"
)

const (
	calls = 2
	most  = 50
	bytes = 1000
)

var errRefused = errors.New("refused")

// An item is a thing to be stored.
type item struct{ number, size int }

// A depot stores items when it is told to, and as it is told. The result of each is its number.
type depot struct {
	*together.Group[item, int]
	calls  chan call
	mu     sync.Mutex
	stored map[int]int
}

// A call is one that waits for its answer.
type call struct {
	items  []item
	answer chan error
}

func newDepot(gather time.Duration) *depot {
	d := &depot{calls: make(chan call, 1000), stored: make(map[int]int)}
	d.Group = together.NewGroup(d.store, together.Limits[item]{
		Calls: calls, Most: most, Size: func(i item) int { return i.size }, Bytes: bytes, Gather: gather,
	})
	return d
}

func (d *depot) store(ctx context.Context, items []item) ([]int, error) {
	c := call{items, make(chan error, 1)}
	d.calls <- c
	select {
	case err := <-c.answer:
		if err != nil {
			return nil, err
		}
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	numbers := make([]int, len(items))
	for i, it := range items {
		d.stored[it.number]++
		numbers[i] = it.number
	}
	return numbers, nil
}

// answerAll answers each call until none is under way.
func (d *depot) answerAll() {
	for len(d.calls) > 0 {
		(<-d.calls).answer <- nil
		synctest.Wait()
	}
}

// crowd has items stored at once, and returns when all of them are on their way or wait.
func (d *depot) crowd(ctx context.Context, items ...item) []*error {
	results := make([]*error, len(items))
	for i, it := range items {
		results[i] = new(errors.New("not over"))
		go func() {
			number, err := d.Do(ctx, it)
			if err == nil && number != it.number {
				err = fmt.Errorf("the result is %d's", number)
			}
			*results[i] = err
		}()
		synctest.Wait() // so they come in this order
	}
	return results
}

// idle checks that a group is as if nobody had ever come: as many as may go at once do.
func (d *depot) idle(t *testing.T) {
	t.Helper()
	d.crowd(t.Context(), items(calls+1)...)
	if len(d.calls) != calls {
		t.Errorf("afterwards %d calls begin at once, want %d", len(d.calls), calls)
	}
	d.answerAll()
}

func items(n int) []item {
	items := make([]item, n)
	for i := range items {
		items[i].number = i + 1
	}
	return items
}

func TestTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDepot(0)
		all := items(10)
		results := d.crowd(t.Context(), all...)
		if len(d.calls) != calls {
			t.Fatalf("%d calls are under way, want %d", len(d.calls), calls)
		}
		for range calls {
			if c := <-d.calls; len(c.items) != 1 {
				t.Errorf("%d items went first, want each alone", len(c.items))
			} else {
				c.answer <- nil
			}
			synctest.Wait()
		}
		c := <-d.calls
		if len(c.items) != len(all)-calls || len(d.calls) > 0 {
			t.Errorf("then %d went together, and %d more calls; want all at once", len(c.items), len(d.calls))
		}
		c.answer <- nil
		synctest.Wait()
		for i, it := range all {
			if *results[i] != nil || d.stored[it.number] != 1 {
				t.Errorf("item %d: %v, stored %d times", i, *results[i], d.stored[it.number])
			}
		}
		d.idle(t)
	})
}

func TestErrorIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDepot(0)
		results := d.crowd(t.Context(), items(6)...)
		for i := range 3 {
			c := <-d.calls
			c.answer <- map[bool]error{true: errRefused}[i == 2]
			synctest.Wait()
		}
		for i, err := range results {
			if got, want := errors.Is(*err, errRefused), i >= calls; got != want {
				t.Errorf("item %d: %v", i, *err)
			}
		}
	})
}

func TestGiveUpWhileWaiting(t *testing.T) {
	for _, gather := range []time.Duration{0, time.Second} {
		synctest.Test(t, func(t *testing.T) {
			d := newDepot(gather)
			all := items(5)
			first := d.crowd(t.Context(), all[:2]...)
			ctx, cancel := context.WithCancel(t.Context())
			impatient := d.crowd(ctx, all[2])
			rest := d.crowd(t.Context(), all[3:]...)
			cancel()
			synctest.Wait()
			if !errors.Is(*impatient[0], context.Canceled) {
				t.Errorf("who gave up got %v", *impatient[0])
			}
			for range 3 {
				(<-d.calls).answer <- nil
				synctest.Wait()
			}
			for _, err := range slices.Concat(first, rest) {
				if *err != nil {
					t.Error(*err)
				}
			}
			if d.stored[all[2].number] != 0 || len(d.stored) != 4 {
				t.Errorf("%d are stored, %d of them of who gave up", len(d.stored), d.stored[all[2].number])
			}
			<-time.After(gather)
			synctest.Wait()
			d.idle(t)
		})
	}
}

// A batch is nobody's own: who gives up on the way takes nobody along.
func TestGiveUpOnTheWay(t *testing.T) {
	for place := range 3 {
		t.Run(fmt.Sprintf("the %d. of the batch", place+1), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDepot(0)
				all := items(5)
				d.crowd(t.Context(), all[:2]...)
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				var results []*error
				for i, it := range all[2:] {
					own := t.Context()
					if i == place {
						own = ctx
					}
					results = append(results, d.crowd(own, it)...)
				}
				(<-d.calls).answer <- nil
				synctest.Wait()
				c := <-d.calls // of the other, and then of the three
				if len(c.items) == 1 {
					c.answer <- nil
					c = <-d.calls
				}
				if len(c.items) != 3 {
					t.Fatalf("%d go together, want 3", len(c.items))
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
					t.Errorf("%d items are stored, want all", len(d.stored))
				}
				d.idle(t)
			})
		})
	}
}

func TestBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDepot(0)
		all := items(calls + 2*most + 10)
		for i := range all[:10] {
			all[i].size = bytes / 3
		}
		all[calls].size = 2 * bytes
		d.crowd(t.Context(), all...)
		for left := len(all); left > 0; {
			c := <-d.calls
			size := 0
			for _, it := range c.items {
				size += it.size
			}
			if len(c.items) > most || size > bytes && len(c.items) > 1 {
				t.Errorf("%d items of %d bytes go together", len(c.items), size)
			}
			left -= len(c.items)
			c.answer <- nil
			synctest.Wait()
		}
	})
}

// Calls that are over at once do not go more often than others.
func TestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		called := 0
		g := together.NewGroup(func(_ context.Context, items []int) ([]int, error) {
			called++
			return items, nil
		}, together.Limits[int]{Calls: 1, Most: most, Gather: time.Second})
		for begun := time.Now(); time.Since(begun) < time.Minute; {
			if _, err := g.Do(t.Context(), 1); err != nil {
				t.Fatal(err)
			}
		}
		if called > 61 {
			t.Errorf("%d calls in a minute, want no more than one a second", called)
		}
	})
}

// Those who come soon after others wait for more to come, whoever comes alone does not.
func TestGather(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDepot(time.Second)
		begun := time.Now()
		for range 10 {
			alone := d.crowd(t.Context(), item{number: 1})
			d.answerAll()
			if *alone[0] != nil {
				t.Error(*alone[0])
			}
			<-time.After(time.Second)
			synctest.Wait()
		}
		if waited := time.Since(begun); waited != 10*time.Second {
			t.Errorf("who came alone waited %v", waited-10*time.Second)
		}
		results := d.crowd(t.Context(), items(4)...)
		d.answerAll()
		more := d.crowd(t.Context(), items(3)...)
		if len(d.calls) != 0 {
			t.Fatalf("%d calls began before the time was over", len(d.calls))
		}
		<-time.After(time.Second)
		synctest.Wait()
		c := <-d.calls
		if len(c.items) != 5 || len(d.calls) != 0 {
			t.Errorf("%d went together, want all 5 who came meanwhile", len(c.items))
		}
		c.answer <- nil
		synctest.Wait()
		for i, err := range slices.Concat(results, more) {
			if *err != nil {
				t.Errorf("%d: %v", i, *err)
			}
		}
		<-time.After(time.Second)
		synctest.Wait()
		d.idle(t)
	})
}

// A panic, or the end of the goroutine, of a call for several is told to each of them, and neither ends the process nor leaves any waiting.
func TestNoReturn(t *testing.T) {
	for name, end := range map[string]func(){"panic": func() { panic("of the call") }, "exit": runtime.Goexit} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				first := make(chan struct{})
				g := together.NewGroup(func(_ context.Context, items []int) ([]int, error) {
					if items[0] == 0 {
						<-first
						return items, nil
					}
					end()
					return items, nil
				}, together.Limits[int]{Calls: 1, Most: 10})
				told := make(chan any, 3)
				try := func(n int) {
					defer func() {
						if cause := recover(); cause != nil {
							told <- cause
						}
					}()
					_, err := g.Do(t.Context(), n)
					told <- err
				}
				for n := range 3 {
					go try(n)
					synctest.Wait()
				}
				close(first)
				if err := <-told; err != nil {
					t.Errorf("the first: %v", err)
				}
				for range 2 {
					want := map[string]string{"panic": "of the call", "exit": "never returned"}[name]
					if got := fmt.Sprint(<-told); !strings.Contains(got, want) {
						t.Errorf("told %q, want %q", got, want)
					}
				}
				synctest.Wait()
				go try(0)
				if err := <-told; err != nil {
					t.Errorf("afterwards: %v", err)
				}
			})
		})
	}
}

func TestTooFewResults(t *testing.T) {
	g := together.NewGroup(func(context.Context, []int) ([]int, error) { return nil, nil }, together.Limits[int]{Calls: 1, Most: 1})
	if _, err := g.Do(t.Context(), 1); err == nil {
		t.Error("an item without a result is done")
	}
}
