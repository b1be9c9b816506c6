package memqueue

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/slipway-build/slipway/queue"
)

// A class holds its queued builds in the order in which they are claimed.
type class struct {
	queue.Class
	pool        *pool
	queued      []*build
	servedUntil time.Time // by live sessions, as far as is known
}

// find returns the class of a pool and labels, nil if there is none yet.
func (b *Backend) find(pool string, labels queue.Labels) *class {
	text := labels.String()
	for _, c := range b.classes {
		if c.Pool == pool && c.Labels.String() == text {
			return c
		}
	}
	return nil
}

// intern makes a class.
func (b *Backend) intern(pool string, labels queue.Labels) *class {
	c := &class{Class: queue.Class{ID: queue.ClassID(len(b.classes) + 1), Pool: pool, Labels: labels}, pool: b.pool(pool)}
	b.classes = append(b.classes, c)
	return c
}

// byID returns a class, nil if there is none with that id.
func (b *Backend) byID(id queue.ClassID) *class {
	if id < 1 || int(id) > len(b.classes) {
		return nil
	}
	return b.classes[id-1]
}

// add queues a build at its place.
func (c *class) add(bd *build) {
	at, _ := slices.BinarySearchFunc(c.queued, bd, byRank)
	c.queued = slices.Insert(c.queued, at, bd)
	bd.queued, bd.gated, bd.notBefore = true, false, noTime
}

// remove takes a build out of the queue.
func (c *class) remove(bd *build) {
	if at, found := slices.BinarySearchFunc(c.queued, bd, byRank); found {
		c.queued = slices.Delete(c.queued, at, at+1)
	}
	bd.queued = false
}

// from returns the queued builds at or above a rank.
func (c *class) from(floor int64) []*build {
	at, _ := slices.BinarySearchFunc(c.queued, floor, func(bd *build, floor int64) int { return cmp.Compare(bd.rank, floor) })
	return c.queued[at:]
}

func byRank(x, y *build) int {
	return cmp.Or(cmp.Compare(x.rank, y.rank), bytes.Compare(x.ID[:], y.ID[:]))
}

func (c *class) served(now time.Time) bool { return c.servedUntil.After(now) }

// Serve implements [queue.Sessions].
func (b *Backend) Serve(ctx context.Context, classes []queue.ClassID, ttl time.Duration, now time.Time) error {
	unlock, err := b.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	for _, id := range classes {
		if c := b.byID(id); c != nil {
			c.servedUntil = later(c.servedUntil, present(now).Add(ttl))
		}
	}
	return nil
}

// Classes implements [queue.Records].
func (b *Backend) Classes(ctx context.Context, after queue.ClassID, max int) ([]queue.Class, error) {
	unlock, err := b.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	var found []queue.Class
	for _, c := range b.classes {
		if c.ID > after && len(found) < max {
			found = append(found, queue.Class{ID: c.ID, Pool: c.Pool, Labels: cloneLabels(c.Labels)})
		}
	}
	return found, nil
}

// Probe implements [queue.Transitions].
func (b *Backend) Probe(ctx context.Context, reaches []queue.Reach, max int) ([]queue.Front, error) {
	unlock, err := b.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	var fronts []queue.Front
	for _, r := range reaches {
		if c := b.byID(r.Class); c != nil && !c.pool.Paused {
			f := queue.Front{Class: r.Class}
			found := c.from(r.Floor)
			for _, bd := range found[:min(len(found), max)] {
				f.Ranks = append(f.Ranks, bd.rank)
			}
			if len(f.Ranks) > 0 {
				fronts = append(fronts, f)
			}
		}
	}
	slices.SortFunc(fronts, func(x, y queue.Front) int {
		return cmp.Or(cmp.Compare(x.Ranks[0], y.Ranks[0]), cmp.Compare(x.Class, y.Class))
	})
	return fronts, nil
}
