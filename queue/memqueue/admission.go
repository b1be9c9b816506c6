package memqueue

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/slipway-build/slipway/queue"
)

// A lane is builds that wait to be admitted, in the order in which they are.
type lane struct {
	queue.Lane
	pool    *pool
	project *project
	waiting []*build
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
	for i, l := range b.lanes(after) {
		if i == max || i > 0 && a.left == 0 {
			return a.done, nil
		}
		a.admit(l)
		a.done.Next = l.Lane
	}
	a.done.Next = queue.Lane{}
	return a.done, nil
}

// lanes returns the lanes that come after one.
func (b *Backend) lanes(after queue.Lane) []*lane {
	var lanes []*lane
	found := make(map[queue.Lane]*lane)
	for _, bd := range b.builds {
		name := bd.lane()
		if !bd.gated || inOrder(name, after) <= 0 {
			continue
		}
		if found[name] == nil {
			found[name] = &lane{Lane: name, pool: bd.pool, project: bd.project}
			lanes = append(lanes, found[name])
		}
		found[name].waiting = append(found[name].waiting, bd)
	}
	slices.SortFunc(lanes, func(x, y *lane) int { return inOrder(x.Lane, y.Lane) })
	for _, l := range lanes {
		slices.SortFunc(l.waiting, byOwnRank)
	}
	return lanes
}

func inOrder(x, y queue.Lane) int {
	return cmp.Or(cmp.Compare(x.Pool, y.Pool), cmp.Compare(x.Project, y.Project), cmp.Compare(x.Key, y.Key))
}

func byOwnRank(x, y *build) int {
	return cmp.Or(cmp.Compare(x.ownRank(), y.ownRank()), bytes.Compare(x.ID[:], y.ID[:]))
}

// admit queues what it may of a lane.
func (a *admission) admit(l *lane) {
	if l.project.Paused {
		return
	}
	a.holdAll(func(bd *build) bool { return l.shares(bd, a.now) })
	room, time := a.room(l), a.virtualTime(l.pool)
	for _, bd := range l.waiting {
		if room == 0 {
			return
		}
		if l.asleep(bd, a.now) {
			continue
		}
		bd.rank, bd.virtual, bd.admitted = bd.ownRank(), l.pool.Fair, true
		if l.pool.Fair {
			bd.rank = l.pool.next(l.Project, time)
		}
		bd.class.add(bd)
		a.done.Heads = lower(a.done.Heads, bd)
		a.done.Queued++
		a.left--
		room--
	}
}

// shares reports whether a build takes up the room in which the lane's builds wait for theirs, and nobody can claim it.
func (l *lane) shares(bd *build, now time.Time) bool {
	if bd.project != l.project {
		return false
	}
	unserved := !bd.class.served(now)
	return l.Key != "" && bd.ConcurrencyKey == l.Key && (unserved || bd.pool.Paused) || l.pool.Fair && bd.pool == l.pool && unserved
}

// asleep reports whether a build of the lane would take up room, and nobody could claim it.
func (l *lane) asleep(bd *build, now time.Time) bool {
	unserved := !bd.class.served(now)
	return l.Key != "" && (unserved || l.pool.Paused) || l.pool.Fair && unserved
}

// room returns how many builds of a lane may be queued.
func (a *admission) room(l *lane) int {
	room := a.left
	if limit := l.project.limits[l.Key]; limit > 0 {
		room = min(room, limit-a.used(l.project, l.Key))
	}
	if l.pool.Fair {
		window := queue.FairWindow
		for _, bd := range a.builds {
			if bd.queued && bd.pool == l.pool && bd.project == l.project {
				window--
			}
		}
		room = min(room, window)
	}
	return max(room, 0)
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
