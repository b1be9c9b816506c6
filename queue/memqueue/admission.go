package memqueue

import (
	"bytes"
	"cmp"
	"context"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/slipway-build/slipway/queue"
)

// A group is lanes that share what is left: those of a project in a fair pool, or else a single one.
type group struct {
	pool    *pool
	project *project
	lanes   []queue.Lane
	waiting []*build // in the order in which they are admitted
	torn    bool     // there are more lanes than the call looks at
}

// An admission is one call of Admit.
type admission struct {
	*Backend
	now  time.Time
	left int // builds that it may still move
	done queue.Admitted
}

// Admit implements [queue.Admission].
func (b *Backend) Admit(ctx context.Context, after queue.Lane, max int, now time.Time) (queue.Admitted, error) {
	unlock, err := b.lock(ctx)
	if err != nil {
		return queue.Admitted{}, err
	}
	defer unlock()
	a := &admission{Backend: b, now: present(now), left: max}
	a.holdAll(func(bd *build) bool { return bd.project.Paused })
	groups, more := b.groups(after, max)
	for i, g := range groups {
		if i > 0 && a.left == 0 {
			return a.done, nil
		}
		a.admit(g)
		a.done.Next = g.lanes[len(g.lanes)-1]
	}
	if !more {
		a.done.Next = queue.Lane{}
	}
	return a.done, nil
}

// groups returns the first lanes that come after one, and whether there are more. What shares a window is looked at in one call: if not all
// of it is within max, it is left for the next, unless it comes first.
func (b *Backend) groups(after queue.Lane, max int) (groups []*group, more bool) {
	lanes := b.lanes(after)
	for i, l := range slices.SortedFunc(maps.Keys(lanes), inOrder) {
		first := lanes[l][0]
		last := len(groups) - 1
		joins := last >= 0 && first.pool.Fair && first.pool == groups[last].pool && first.project == groups[last].project
		switch {
		case i == max && joins && last > 0:
			return groups[:last], true
		case i == max:
			if joins {
				groups[last].torn = true
			}
			return groups, true
		case !joins:
			groups = append(groups, &group{pool: first.pool, project: first.project})
			last++
		}
		groups[last].lanes = append(groups[last].lanes, l)
		groups[last].waiting = append(groups[last].waiting, lanes[l]...)
	}
	return groups, false
}

// lanes returns the builds that wait in lanes after one.
func (b *Backend) lanes(after queue.Lane) map[queue.Lane][]*build {
	lanes := make(map[queue.Lane][]*build)
	for _, bd := range b.builds {
		if l := bd.lane(); bd.gated && inOrder(l, after) > 0 {
			lanes[l] = append(lanes[l], bd)
		}
	}
	return lanes
}

func inOrder(x, y queue.Lane) int {
	return cmp.Or(cmp.Compare(x.Pool, y.Pool), cmp.Compare(x.Project, y.Project), cmp.Compare(x.Key, y.Key))
}

func byOwnRank(x, y *build) int {
	return cmp.Or(cmp.Compare(x.ownRank(), y.ownRank()), bytes.Compare(x.ID[:], y.ID[:]))
}

// admit queues what it may of a group.
func (a *admission) admit(g *group) {
	if g.project.Paused {
		return
	}
	a.holdAll(func(bd *build) bool { return g.keeps(bd, a.now) })
	room, rooms, time := a.room(g), a.rooms(g), a.virtualTime(g.pool)
	slices.SortFunc(g.waiting, byOwnRank)
	for _, bd := range g.waiting {
		if room == 0 {
			return
		}
		if bd.asleep(a.now) || rooms[bd.ConcurrencyKey] <= 0 {
			continue
		}
		bd.rank, bd.virtual, bd.admitted = bd.ownRank(), g.pool.Fair, true
		if g.pool.Fair {
			bd.rank = g.pool.next(bd.Project, time)
		}
		bd.class.add(bd)
		a.done.Heads = lower(a.done.Heads, bd)
		a.done.Queued++
		a.left--
		room--
		rooms[bd.ConcurrencyKey]--
	}
}

// asleep reports whether nobody could claim a build if it were queued, and others could that need its room.
func (bd *build) asleep(now time.Time) bool {
	keyed, unserved := bd.ConcurrencyKey != "", !bd.class.served(now)
	return keyed && (unserved || bd.pool.Paused) || bd.pool.Fair && unserved
}

// keeps reports whether a queued build keeps room in which builds of the group wait for theirs, and nobody can claim it.
func (g *group) keeps(bd *build, now time.Time) bool {
	if bd.project != g.project {
		return false
	}
	unserved := !bd.class.served(now)
	keyed := bd.ConcurrencyKey != "" && slices.ContainsFunc(g.lanes, func(l queue.Lane) bool { return l.Key == bd.ConcurrencyKey })
	return keyed && (unserved || bd.pool.Paused) || g.pool.Fair && bd.pool == g.pool && unserved
}

// room returns how many builds of a group may be queued, if their keys have room. Of a group that is torn most of it is left to the lanes
// that come after these, so that all have their turn.
func (a *admission) room(g *group) int {
	if !g.pool.Fair {
		return a.left
	}
	window := queue.FairWindow
	for _, bd := range a.builds {
		if bd.queued && bd.pool == g.pool && bd.project == g.project {
			window--
		}
	}
	if g.torn {
		window = (max(window, 0) + rand.IntN(4)) / 4
	}
	return max(min(window, a.left), 0)
}

// rooms returns how many builds of each key of a group may be queued.
func (a *admission) rooms(g *group) map[string]int {
	rooms := make(map[string]int)
	for _, l := range g.lanes {
		rooms[l.Key] = a.left
		if limit := g.project.limits[l.Key]; limit > 0 {
			rooms[l.Key] = limit - a.used(g.project, l.Key)
		}
	}
	return rooms
}

// virtualTime returns how far a fair pool has come.
func (a *admission) virtualTime(p *pool) int64 {
	var first *build
	for _, c := range a.classes {
		if c.Pool == p.Name && c.served(a.now) && len(c.queued) > 0 && (first == nil || c.queued[0].rank < first.rank) {
			first = c.queued[0]
		}
	}
	if first == nil {
		return p.end
	}
	return first.rank
}

// next gives a place to the next build of a project.
func (p *pool) next(project string, time int64) int64 {
	begin := max(time, p.ends[project])
	p.ends[project] = begin + queue.FairStep/p.weight(project)
	p.end = max(p.end, p.ends[project])
	return begin
}

// holdAll holds queued builds again.
func (a *admission) holdAll(which func(*build) bool) {
	for _, c := range a.classes {
		for _, bd := range slices.Clone(c.queued) {
			if a.left > 0 && which(bd) {
				bd.hold()
				a.done.Held++
				a.left--
			}
		}
	}
}

// lower returns heads with that of a build that was queued.
func lower(heads []queue.Head, bd *build) []queue.Head {
	i := slices.IndexFunc(heads, func(h queue.Head) bool { return h.Class == bd.class.ID })
	if i < 0 {
		return append(heads, queue.Head{Class: bd.class.ID, Rank: bd.rank, Count: 1})
	}
	heads[i].Rank = min(heads[i].Rank, bd.rank)
	heads[i].Count++
	return heads
}
