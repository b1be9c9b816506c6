package queue

import (
	"context"
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

// Claim gives queued builds to idle sessions of this process, at most [MaxClaim] of them, and returns them whole. The order is that
// of ranks over all the classes that the sessions serve; builds that no session serves cost nothing.
//
// When Claim returns an error together with offers, those offers were claimed and count.
func (q *Queue) Claim(ctx context.Context, idle []Idle) ([]Offer, error) {
	if err := q.fleet.learn(ctx, q.backend); err != nil {
		return nil, wrap("claim", ID{}, err)
	}
	plan := q.fleet.plan(idle)
	var claimed []Claimed
	var err error
	for len(claimed) < MaxClaim && plan.open() {
		var heads []Head
		if heads, err = q.backend.Probe(ctx, plan.classes(), MaxClaim); err != nil || len(heads) == 0 {
			break
		}
		var got []Claimed
		if got, err = q.backend.Claim(ctx, plan.demand(heads, MaxClaim-len(claimed)), q.opts.OfferTimeout, time.Time{}); err != nil {
			break
		}
		claimed = append(claimed, got...)
		if len(got) == 0 {
			break // others were faster, or all that is left avoids these workers
		}
		plan.take(got)
	}
	offers, specErr := q.offers(ctx, claimed)
	if err == nil {
		err = specErr
	}
	return offers, wrap("claim", ID{}, err)
}

// offers completes claims with the specs that were too large to come along. A claim whose spec cannot be had is left out: its
// offer runs out and the build is pending again.
func (q *Queue) offers(ctx context.Context, claimed []Claimed) ([]Offer, error) {
	offers := make([]Offer, 0, len(claimed))
	var err error
	for _, c := range claimed {
		if len(c.Spec) != c.SpecSize {
			var specs map[ID][]byte
			if specs, err = q.backend.Specs(ctx, []ID{c.Build}); err != nil {
				continue
			}
			c.Spec = specs[c.Build]
		}
		offers = append(offers, Offer{Claimed: c, Expires: q.opts.OfferTimeout})
	}
	return offers, err
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
		rand.Shuffle(len(sessions), func(i, j int) { sessions[i], sessions[j] = sessions[j], sessions[i] })
		d := Demand{Class: h.Class}
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

// take notes which slots were filled, and drops the classes that nobody idle serves any more.
func (p *plan) take(got []Claimed) {
	for _, c := range got {
		if p.free[c.Session]--; p.free[c.Session] < 1 {
			delete(p.free, c.Session)
		}
	}
	for class, sessions := range p.byClass {
		sessions = slices.DeleteFunc(sessions, func(s SessionID) bool { return p.free[s] < 1 })
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
