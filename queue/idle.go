package queue

import (
	"context"
	"math/rand/v2"
	"slices"
)

// An IdleSet is the sessions of this process that would take builds, for whoever claims for many of them again and again: what a claim
// costs depends on the builds that are there, not on how many sessions wait for some. One goroutine uses it.
type IdleSet struct {
	queue    *Queue
	sessions map[SessionID]*vacancy
	byClass  map[ClassID][]*vacancy // who serves what, in no order; none is empty
	slots    int                    // of all sessions
	classes  int                    // how many of the fleet's they were held against
}

// A vacancy is a session with idle slots.
type vacancy struct {
	session SessionID
	member  *member
	slots   int
	places  []int // where it is in the lists of the classes that it serves
}

// NewIdleSet returns a set without sessions.
func (q *Queue) NewIdleSet() *IdleSet {
	return &IdleSet{queue: q, sessions: make(map[SessionID]*vacancy), byClass: make(map[ClassID][]*vacancy)}
}

// Set says how many builds more a session would take: none if slots is not positive.
func (s *IdleSet) Set(session SessionID, slots int) {
	f := &s.queue.fleet
	f.mu.Lock()
	defer f.mu.Unlock()
	m := f.sessions[session]
	if v := s.sessions[session]; v != nil {
		if m != nil && slots > 0 {
			s.change(v, min(slots, MaxSlots)-v.slots)
		} else {
			s.remove(v)
		}
		return
	}
	if m == nil || slots < 1 {
		return
	}
	v := &vacancy{session: session, member: m}
	s.sessions[session] = v
	s.change(v, min(slots, MaxSlots))
	s.list(v)
}

// Claim is [Queue.Claim] for the sessions of the set. Slots that are filled are no longer in it.
func (s *IdleSet) Claim(ctx context.Context) ([]Offer, error) {
	if len(s.sessions) == 0 {
		return nil, nil
	}
	if err := s.queue.learn(ctx); err != nil {
		return nil, err
	}
	s.match()
	return s.queue.claimFor(ctx, s)
}

func (s *IdleSet) has(session SessionID) bool { return s.sessions[session] != nil }

// match lists the sessions under classes that are new.
func (s *IdleSet) match() {
	f := &s.queue.fleet
	f.mu.Lock()
	defer f.mu.Unlock()
	if s.classes == len(f.classes) {
		return
	}
	s.classes = len(f.classes)
	for _, v := range s.sessions {
		s.list(v)
	}
}

// The methods below are called while the lock of the fleet is held.

// list enters v under the classes that it serves and is not listed under.
func (s *IdleSet) list(v *vacancy) {
	for _, class := range v.member.serves[len(v.places):] {
		v.places = append(v.places, len(s.byClass[class]))
		s.byClass[class] = append(s.byClass[class], v)
	}
}

// remove takes v out of the set.
func (s *IdleSet) remove(v *vacancy) {
	s.slots -= v.slots
	delete(s.sessions, v.session)
	for i, place := range v.places {
		class := v.member.serves[i]
		last := len(s.byClass[class]) - 1
		s.swap(class, place, last)
		s.byClass[class][last] = nil
		if s.byClass[class] = s.byClass[class][:last]; last == 0 {
			delete(s.byClass, class)
		}
	}
	v.slots, v.places = 0, nil
}

// swap has two sessions change places in the list of a class.
func (s *IdleSet) swap(class ClassID, i, j int) {
	if i == j {
		return
	}
	all := s.byClass[class]
	all[i], all[j] = all[j], all[i]
	for _, k := range []int{i, j} {
		at, _ := slices.BinarySearch(all[k].member.serves, class) // classes are matched in order of id
		all[k].places[at] = k
	}
}

// change adds to the slots of v, and takes it out of the set with the last.
func (s *IdleSet) change(v *vacancy, by int) {
	v.slots += by
	s.slots += by
	if v.slots < 1 {
		s.remove(v)
	}
}

// A plan distributes builds over a set. One goroutine uses it.
type plan struct {
	set    *IdleSet
	passed map[ClassID]map[*vacancy]bool // who is not asked again
	short  bool                          // a class had less than was asked for
}

// classes returns the classes that a session serves which can be asked for them.
func (p *plan) classes() []ClassID {
	all := make([]ClassID, 0, len(p.set.byClass))
	for class, sessions := range p.set.byClass {
		asked := len(sessions)
		for v := range p.passed[class] {
			if v.slots > 0 {
				asked--
			}
		}
		if asked > 0 {
			all = append(all, class)
		}
	}
	slices.Sort(all)
	return all
}

// demand asks for builds of the classes that have some, best rank first, with at most limit slots in all.
func (p *plan) demand(stocks []stock, limit int) []Demand {
	f := &p.set.queue.fleet
	f.mu.Lock()
	defer f.mu.Unlock()
	asked := make(map[*vacancy]int)
	var all []Demand
	for _, s := range stocks {
		d := Demand{Reach: Reach{Class: s.class}, Slots: p.pick(s.class, min(s.count, limit), asked)}
		if len(d.Slots) > 0 {
			all = append(all, d)
			limit -= len(d.Slots)
		}
	}
	return all
}

// pick chooses slots for builds of a class. Its sessions take turns in random order, one slot each, so that builds spread over machines and
// no session is always first. What was asked of each so far is added to.
func (p *plan) pick(class ClassID, want int, asked map[*vacancy]int) (picked []SessionID) {
	var turn []*vacancy
	for i := 0; i < len(p.set.byClass[class]) && len(picked) < want; i++ {
		all := p.set.byClass[class]
		p.set.swap(class, i, i+rand.IntN(len(all)-i))
		v := all[i]
		switch {
		case p.set.queue.fleet.sessions[v.session] != v.member: // it has ended
			p.set.remove(v)
			i--
		case !p.passed[class][v] && asked[v] < v.slots:
			asked[v]++
			picked, turn = append(picked, v.session), append(turn, v)
		}
	}
	for before := -1; len(picked) < want && len(picked) > before; {
		before = len(picked)
		for _, v := range turn {
			if asked[v] < v.slots && len(picked) < want {
				asked[v]++
				picked = append(picked, v.session)
			}
		}
	}
	return picked
}

// take notes which slots were filled. A session that got less of a class than was asked for it is not asked again for that class: what
// is left of it avoids the session's worker, or others were faster. Else the head of one class could keep it from all others.
func (p *plan) take(asked []Demand, got []Claimed) {
	f := &p.set.queue.fleet
	f.mu.Lock()
	defer f.mu.Unlock()
	type pair struct {
		class   ClassID
		session SessionID
	}
	filled := make(map[pair]int)
	for _, c := range got {
		filled[pair{c.Class, c.Session}]++
		if v := p.set.sessions[c.Session]; v != nil {
			p.set.change(v, -1)
		}
	}
	p.short = p.short || len(got) < slots(asked)
	for _, d := range asked {
		for _, session := range d.Slots {
			this := pair{d.Class, session}
			if filled[this]--; filled[this] < 0 {
				p.pass(d.Class, p.set.sessions[session])
			}
		}
	}
}

// pass notes that a session is not asked again for a class, if it is still in the set.
func (p *plan) pass(class ClassID, v *vacancy) {
	if v == nil {
		return
	}
	if p.passed[class] == nil {
		p.passed[class] = make(map[*vacancy]bool)
	}
	p.passed[class][v] = true
}
