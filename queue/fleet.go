package queue

import (
	"context"
	"slices"
	"sync"
	"time"
)

// learnEvery is how often the classes are read when nothing hints at new ones.
const learnEvery = time.Second

// A fleet knows the sessions of this process and the classes there are, to tell which session serves which class.
// Both are hints: the backend gives nothing to a session that has ended, and classes never change.
type fleet struct {
	mu       sync.Mutex
	sessions map[SessionID]*member
	classes  []Class // in order of id
	byKind   map[string]ClassID
	serving  map[ClassID]int
	learned  time.Time // when the classes were last read
	stale    bool      // there are classes that were not read yet
}

type member struct {
	facts  NewSession
	serves []ClassID // the classes that fit
	clean  bool      // no offer of an earlier session of the worker was left when this one began
}

func (m *member) fits(c Class) bool {
	return slices.Contains(m.facts.Pools, c.Pool) && m.facts.Labels.Satisfies(c.Labels)
}

func (f *fleet) join(o Opened, s NewSession) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.sessions == nil {
		f.sessions = make(map[SessionID]*member)
	}
	m := &member{facts: s.clone(), clean: !o.Offers}
	f.sessions[o.Session] = m
	for _, c := range f.classes {
		f.match(m, c)
	}
}

// clean reports whether a session is of this process and nothing was left of its worker's earlier ones.
func (f *fleet) clean(id SessionID) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	m := f.sessions[id]
	return m != nil && m.clean
}

// match notes that m serves c, if it does. The caller holds f.mu.
func (f *fleet) match(m *member, c Class) {
	if !m.fits(c) {
		return
	}
	if f.serving == nil {
		f.serving = make(map[ClassID]int)
	}
	m.serves = append(m.serves, c.ID)
	f.serving[c.ID]++
}

func (f *fleet) leave(ids []SessionID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, id := range ids {
		m := f.sessions[id]
		if m == nil {
			continue
		}
		delete(f.sessions, id)
		for _, class := range m.serves {
			if f.serving[class]--; f.serving[class] == 0 {
				delete(f.serving, class)
			}
		}
	}
}

// concerns reports whether some session may serve one of the classes, and whether one of them is not known yet, which it remembers.
func (f *fleet) concerns(heads []Head) (serves, unknown bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, h := range heads {
		if h.Class > f.last() {
			unknown, f.stale = true, true
			serves = serves || len(f.sessions) > 0
		}
		serves = serves || f.serving[h.Class] > 0
	}
	return serves, unknown
}

// expect has the classes read again before they are gone by.
func (f *fleet) expect() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stale = true
}

// last returns the greatest id of a class that is known. The caller holds f.mu.
func (f *fleet) last() ClassID {
	if n := len(f.classes); n > 0 {
		return f.classes[n-1].ID
	}
	return 0
}

// due reports whether the classes are to be read: there are new ones, or nobody has looked for a while.
func (f *fleet) due(every time.Duration) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.stale || f.learned.IsZero() || time.Since(f.learned) >= every
}

// learn reads the classes that were made since it was last called, and reports whether some session serves one of them.
func (f *fleet) learn(ctx context.Context, b Backend) (grown bool, err error) {
	const page = 1000
	begun := time.Now()
	f.mu.Lock()
	f.stale = false
	f.mu.Unlock()
	for {
		f.mu.Lock()
		last := f.last()
		f.mu.Unlock()
		found, err := b.Classes(ctx, last, page)
		if err != nil {
			f.expect()
			return grown, err
		}
		f.mu.Lock()
		if f.byKind == nil {
			f.byKind = make(map[string]ClassID)
		}
		before := len(f.serving)
		for _, c := range found {
			if f.last() < c.ID { // another call may have been faster
				f.classes = append(f.classes, c)
				f.byKind[kindOf(c.Pool, c.Labels)] = c.ID
				for _, m := range f.sessions {
					f.match(m, c)
				}
			}
		}
		f.learned = begun
		grown = grown || len(f.serving) > before
		f.mu.Unlock()
		if len(found) < page {
			return grown, nil
		}
	}
}

// class returns the class of builds, zero if it is not known yet.
func (f *fleet) class(pool string, labels Labels) ClassID {
	kind := kindOf(pool, labels)
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.byKind[kind]
}

// kindOf names what builds of a class have in common.
func kindOf(pool string, labels Labels) string { return pool + " " + labels.String() }

// serves reports whether a session serves a class.
func (f *fleet) serves(id SessionID, class ClassID) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	m := f.sessions[id]
	return m != nil && slices.Contains(m.serves, class)
}

// served returns the classes that the sessions serve.
func (f *fleet) served() []ClassID {
	f.mu.Lock()
	defer f.mu.Unlock()
	classes := make([]ClassID, 0, len(f.serving))
	for class := range f.serving {
		classes = append(classes, class)
	}
	slices.Sort(classes)
	return classes
}
