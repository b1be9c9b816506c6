package queue

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// Idle says how many builds more a session of this process would take.
type Idle struct {
	Session SessionID
	Slots   int
}

// Claim gives queued builds to idle sessions of this process, at most [MaxClaim] of them, and returns them whole. Within a class the
// order is that of ranks, and classes take their turns in the order of their first builds. Builds that no session serves cost nothing.
//
// When Claim returns an error together with offers, those offers were claimed and count.
func (q *Queue) Claim(ctx context.Context, idle []Idle) ([]Offer, error) {
	if len(idle) == 0 {
		return nil, nil
	}
	if err := q.fleet.learn(ctx, q.backend); err != nil {
		return nil, wrap("claim", ID{}, err)
	}
	claimed, err := q.claim(ctx, q.fleet.plan(idle))
	offers, specErr := q.offers(ctx, claimed)
	return offers, wrap("claim", ID{}, cmp.Or(err, specErr))
}

// claim follows a plan, round by round: what is left is probed, asked for and taken, until the slots are filled or nobody is left
// to ask.
func (q *Queue) claim(ctx context.Context, plan *plan) ([]Claimed, error) {
	var claimed []Claimed
	for len(claimed) < MaxClaim && plan.open() {
		limit := min(plan.slots(), MaxClaim-len(claimed))
		var reaches []Reach
		for _, class := range plan.classes() {
			reaches = append(reaches, Reach{Class: class, Floor: NoFloor})
		}
		heads, err := q.backend.Probe(ctx, reaches, limit)
		if err != nil || len(heads) == 0 {
			return claimed, err
		}
		demand := plan.demand(heads, limit)
		if len(demand) == 0 {
			break
		}
		got, err := q.backend.Claim(ctx, demand, q.opts.OfferTimeout, time.Time{})
		claimed = append(claimed, got...)
		if err != nil {
			return claimed, err
		}
		plan.take(demand, got)
	}
	return claimed, nil
}

// specPage bounds how many of the larger specs are read at once.
const specPage = 16

// offers completes claims with the specs that were too large to come along. A claim whose spec cannot be had is given back.
func (q *Queue) offers(ctx context.Context, claimed []Claimed) ([]Offer, error) {
	var large []ID
	for _, c := range claimed {
		if len(c.Spec) != c.SpecSize {
			large = append(large, c.Build)
		}
	}
	specs := make(map[ID][]byte, len(large))
	var err error
	for page := range slices.Chunk(large, specPage) {
		var found map[ID][]byte
		if found, err = q.backend.Specs(ctx, page); err != nil {
			break
		}
		maps.Copy(specs, found)
	}
	offers := make([]Offer, 0, len(claimed))
	var bare []Claimed
	for _, c := range claimed {
		if len(c.Spec) != c.SpecSize {
			c.Spec = specs[c.Build]
		}
		if len(c.Spec) != c.SpecSize {
			bare = append(bare, c)
			continue
		}
		offers = append(offers, Offer{Claimed: c, Expires: q.opts.OfferTimeout})
	}
	if len(bare) > 0 {
		q.giveBack(ctx, bare)
		err = cmp.Or(err, fmt.Errorf("spec of build %v: %w", bare[0].Build, ErrNotFound))
	}
	return offers, err
}

// giveBack undoes claims as well as it can, also when the end of ctx was the reason. Where it cannot, offers run out, and the runs of
// direct sessions time out.
func (q *Queue) giveBack(ctx context.Context, claimed []Claimed) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	ids, ends := make([]AttemptID, len(claimed)), make([]Completion, len(claimed))
	for i, c := range claimed {
		ids[i] = c.AttemptID
		ends[i] = Completion{AttemptID: c.AttemptID, Outcome: Lost, Reason: "its spec could not be read"}
	}
	_, _ = q.backend.Release(ctx, ids, 0, time.Time{})
	_, _ = q.backend.Finish(ctx, ends, q.opts.Avoid, time.Time{}) // those of direct sessions
}

// A fleet knows the sessions of this process and the classes there are, to tell which session serves which class.
// Both are hints: the backend gives nothing to a session that has ended, and classes never change.
type fleet struct {
	mu       sync.Mutex
	sessions map[SessionID]*member
	classes  []Class // in order of id
}

type member struct {
	facts  NewSession
	seen   int       // how many of fleet.classes were looked at
	serves []ClassID // those of them that fit
}

func (f *fleet) join(id SessionID, s NewSession) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.sessions == nil {
		f.sessions = make(map[SessionID]*member)
	}
	f.sessions[id] = &member{facts: s.clone()}
}

func (f *fleet) leave(ids []SessionID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, id := range ids {
		delete(f.sessions, id)
	}
}

// learn reads the classes that were made since it was last called.
func (f *fleet) learn(ctx context.Context, b Backend) error {
	const page = 1000
	for {
		f.mu.Lock()
		var last ClassID
		if n := len(f.classes); n > 0 {
			last = f.classes[n-1].ID
		}
		f.mu.Unlock()
		found, err := b.Classes(ctx, last, page)
		if err != nil {
			return err
		}
		f.mu.Lock()
		for _, c := range found {
			if n := len(f.classes); n == 0 || f.classes[n-1].ID < c.ID {
				f.classes = append(f.classes, c)
			}
		}
		f.mu.Unlock()
		if len(found) < page {
			return nil
		}
	}
}

// served brings m up to date with the classes and returns those it serves. The caller holds f.mu.
func (f *fleet) served(m *member) []ClassID {
	for _, c := range f.classes[m.seen:] {
		if slices.Contains(m.facts.Pools, c.Pool) && m.facts.Labels.Satisfies(c.Labels) {
			m.serves = append(m.serves, c.ID)
		}
	}
	m.seen = len(f.classes)
	return m.serves
}

// plan starts a distribution of builds over idle sessions.
func (f *fleet) plan(idle []Idle) *plan {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := &plan{free: make(map[SessionID]int), byClass: make(map[ClassID][]SessionID)}
	for _, i := range idle {
		m := f.sessions[i.Session]
		if m == nil || i.Slots < 1 || p.free[i.Session] > 0 {
			continue
		}
		p.free[i.Session] = min(i.Slots, MaxSlots)
		for _, class := range f.served(m) {
			p.byClass[class] = append(p.byClass[class], i.Session)
		}
	}
	return p
}

// A plan distributes builds over idle sessions. One goroutine uses it.
type plan struct {
	free    map[SessionID]int       // idle slots left
	byClass map[ClassID][]SessionID // who serves what
}

func (p *plan) open() bool { return len(p.free) > 0 && len(p.byClass) > 0 }

// slots returns how many idle slots are left. No class can be asked for more builds than that.
func (p *plan) slots() int {
	var n int
	for _, free := range p.free {
		n += free
	}
	return n
}

// classes returns the classes that a session with an idle slot serves.
func (p *plan) classes() []ClassID {
	return slices.Sorted(maps.Keys(p.byClass))
}

// demand asks for builds of the classes that have some, best rank first, with at most limit slots in all. Sessions of a class take
// turns in random order, one slot each, so that builds spread over machines and no session is always first.
func (p *plan) demand(heads []Head, limit int) []Demand {
	left := maps.Clone(p.free)
	var all []Demand
	for _, h := range heads {
		sessions := slices.Clone(p.byClass[h.Class])
		rand.Shuffle(len(sessions), func(i, j int) {
			sessions[i], sessions[j] = sessions[j], sessions[i]
		})
		d := Demand{Reach: Reach{Class: h.Class, Floor: NoFloor}}
		want := min(h.Count, limit)
		for len(d.Slots) < want {
			before := len(d.Slots)
			for _, s := range sessions {
				if left[s] > 0 && len(d.Slots) < want {
					left[s]--
					d.Slots = append(d.Slots, s)
				}
			}
			if len(d.Slots) == before {
				break
			}
		}
		if len(d.Slots) > 0 {
			all = append(all, d)
			limit -= len(d.Slots)
		}
	}
	return all
}

// take notes which slots were filled. A session that got less of a class than was asked for it is not asked again for that class: what
// is left of it avoids the session's worker, or others were faster. Else the head of one class could keep it from all others.
func (p *plan) take(asked []Demand, got []Claimed) {
	type pair struct {
		class   ClassID
		session SessionID
	}
	unfilled := make(map[pair]int)
	for _, d := range asked {
		for _, s := range d.Slots {
			unfilled[pair{d.Class, s}]++
		}
	}
	for _, c := range got {
		unfilled[pair{c.Class, c.Session}]--
		if p.free[c.Session]--; p.free[c.Session] < 1 {
			delete(p.free, c.Session)
		}
	}
	for class, sessions := range p.byClass {
		sessions = slices.DeleteFunc(sessions, func(s SessionID) bool { return p.free[s] < 1 || unfilled[pair{class, s}] > 0 })
		if len(sessions) == 0 {
			delete(p.byClass, class)
		} else {
			p.byClass[class] = sessions
		}
	}
}

func cloneLabels(l Labels) Labels {
	if l == nil {
		return Labels{}
	}
	return maps.Clone(l)
}
