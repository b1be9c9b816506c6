package queue

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"
)

// Idle says how many builds more a session of this process would take.
type Idle struct {
	Session SessionID
	Slots   int
}

// Claim gives queued builds to idle sessions of this process, at most [MaxClaim] of them, and returns them whole. Within a class the
// order is that of ranks, and classes take their turns in the order of their first builds. Builds that no session serves cost nothing.
// Classes that others made a moment ago may be left out, for a second at the most.
//
// What the turns go by is remembered between calls, for a quarter of a second at the most. So a class that other processes claim as well
// may come before its turn, with one call after each look; and a build that no hint tells of, or that the worker avoids which was given the
// one behind it, may come so long after its turn. But a call that leaves slots idle has looked at all that their sessions serve.
//
// When Claim returns an error together with offers, those offers were claimed and count.
func (q *Queue) Claim(ctx context.Context, idle []Idle) ([]Offer, error) {
	if len(idle) == 0 {
		return nil, nil
	}
	if err := q.learn(ctx); err != nil {
		return nil, err
	}
	set := q.NewIdleSet()
	for _, i := range idle {
		if !set.has(i.Session) {
			set.Set(i.Session, i.Slots)
		}
	}
	return q.claimFor(ctx, set)
}

// learn reads the classes, if that is due.
func (q *Queue) learn(ctx context.Context) error {
	if !q.fleet.due(learnEvery) {
		return nil
	}
	if _, err := q.fleet.learn(ctx, q.backend); err != nil {
		return wrap("claim", ID{}, err)
	}
	q.bells.serve.ring()
	return nil
}

func (q *Queue) claimFor(ctx context.Context, set *IdleSet) ([]Offer, error) {
	claimed, err := q.claim(ctx, &plan{set: set, passed: make(map[ClassID]map[*vacancy]bool)})
	q.floors.took(claimed)
	q.watchers.ringClaimed(claimed)
	if slices.ContainsFunc(claimed, func(c Claimed) bool { return c.Admitted }) {
		q.bells.admit.ring()
	}
	offers, specErr := q.offers(ctx, claimed)
	return offers, wrap("claim", ID{}, cmp.Or(err, specErr))
}

// claim follows a plan, round by round: what is there is asked for and taken, until the slots are filled, nobody is left to ask, or nothing
// was left at a look since the plan was made.
func (q *Queue) claim(ctx context.Context, plan *plan) ([]Claimed, error) {
	var claimed []Claimed
	before := q.fronts.last()
	for len(claimed) < MaxClaim {
		classes := plan.classes()
		if len(classes) == 0 {
			break
		}
		limit := min(plan.set.slots, MaxClaim-len(claimed))
		stocks, err := q.stocks(ctx, classes, plan.short, limit, before)
		if err != nil || len(stocks) == 0 {
			return claimed, err
		}
		demand := plan.demand(stocks, limit)
		if len(demand) == 0 {
			break
		}
		for i := range demand {
			demand[i].Reach = q.floors.of(demand[i].Class)
		}
		got, err := q.backend.Claim(ctx, demand, q.opts.OfferTimeout, time.Time{})
		if err != nil {
			return claimed, err // what a backend returns beside an error was perhaps never claimed
		}
		q.appetite.learn(slots(demand), len(got))
		q.fronts.took(demand, got)
		claimed = append(claimed, got...)
		plan.take(demand, got)
	}
	return claimed, nil
}

// stocks returns which classes have builds, in order, short if one had less than was asked for. It looks at those of which too little is remembered,
// and where nothing is left at all those that the claim has not looked at: before is the last look that began before it. Of a single class it
// need not know anything at first: there is no order to keep, and the claim itself will tell.
func (q *Queue) stocks(ctx context.Context, classes []ClassID, short bool, limit, before int) ([]stock, error) {
	if len(classes) == 1 && !short {
		return []stock{{class: classes[0], count: min(limit, q.appetite.next())}}, nil
	}
	known, unknown := q.fronts.of(classes, limit, before)
	if len(unknown) == 0 {
		return merge(known, nil, limit), nil
	}
	reaches := make([]Reach, len(unknown))
	for i, class := range unknown {
		reaches[i] = q.floors.of(class)
	}
	far := max(limit, farsight)
	look := q.fronts.begin()
	seen, err := q.backend.Probe(ctx, reaches, far)
	if err != nil {
		unknown = nil
	}
	q.fronts.end(look, unknown, seen, far)
	return merge(known, seen, limit), err
}

// An appetite is how many builds are asked for that may not be there: twice what was had when there were fewer than that the last time, or
// when there was enough. So little is spent on finding nothing, and a long queue is soon claimed in large batches.
type appetite struct{ had atomic.Int64 }

func (a *appetite) next() int { return int(max(16, 2*a.had.Load())) }

// learn notes how many there were of those that were asked for.
func (a *appetite) learn(asked, got int) {
	if got < asked || int64(got) > a.had.Load() {
		a.had.Store(int64(got))
	}
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
		ends[i] = Completion{AttemptID: c.AttemptID, Session: c.Session, Outcome: Lost, Reason: "its spec could not be read"}
	}
	_, _ = q.backend.Release(ctx, ids, 0, time.Time{})
	_, _ = q.backend.Finish(ctx, ends, q.opts.Avoid, time.Time{}) // those of direct sessions
}

func slots(demand []Demand) (n int) {
	for _, d := range demand {
		n += len(d.Slots)
	}
	return n
}

func cloneLabels(l Labels) Labels {
	if l == nil {
		return Labels{}
	}
	return maps.Clone(l)
}
