package queuetest

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/slipway-build/slipway/queue"
)

// calls are what a walk may do. Low numbers are drawn more often: what moves builds on comes first, so that walks get somewhere.
var calls = []func(*walk, gene) step{
	(*walk).runStep, (*walk).maintainStep, (*walk).acceptStep, (*walk).claimStep, (*walk).finishStep, (*walk).appendStep, (*walk).adoptStep,
	(*walk).submitStep, (*walk).openStep, (*walk).loseStep, (*walk).releaseStep, (*walk).cancelStep, (*walk).artifactStep,
}

var leased = []queue.State{queue.Running, queue.Cancelling}

// decode chooses the call and its arguments among what there is. While there is no build that may move, every step makes one.
func (w *walk) decode(g gene) step {
	if len(w.lasting()) == 0 {
		return w.submitStep(g)
	}
	return calls[g.Call](w, g)
}

// lasting returns the builds that have not ended.
func (w *walk) lasting() (builds []queue.NewBuild) {
	for _, b := range w.builds {
		if !w.seen[b.ID].build.State.Terminal() {
			builds = append(builds, b)
		}
	}
	return builds
}

func (w *walk) submitStep(g gene) step {
	if len(w.lasting()) > 2 {
		return w.maintainStep(g)
	}
	b := w.draft()
	b.Project, b.Pool, b.MaxAttempts = w.project, w.project, 1+g.Detail%3
	if g.Session%3 == 1 {
		b.QueueTimeout = time.Minute
	}
	return step{name: fmt.Sprintf("submit %v", b.ID), do: func() {
		w.submit(b)
		w.maintain(w.rules())
		w.builds = append(w.builds, b)
	}}
}

func (w *walk) maintainStep(g gene) step {
	d := g.delay()
	return step{name: fmt.Sprintf("maintain after %v", d), do: func() {
		if g.Build > 0 {
			w.stayFresh(d)
		} else {
			w.pass(d)
		}
		rules := w.rules()
		rules.Controller = w.sweeper
		w.moved(w.maintain(rules))
	}}
}

// stayFresh lets time pass, at the end of which the sweeper has been alive without a gap for as much of a grace as it lasts.
func (w *walk) stayFresh(d time.Duration) {
	w.Helper()
	w.pass(max(0, d-grace))
	w.beat(w.sweeper)
	for left := min(d, grace); left > 0; left -= ttl {
		w.pass(min(left, ttl))
		w.beat(w.sweeper)
	}
}

// moved notes what Maintain has made happen.
func (w *walk) moved(m queue.Maintained) {
	w.events[queue.EventQueueTimeout] += m.Expired
	w.events[queue.EventRelease] += m.Released
	w.events[queue.EventDeadline] += m.TimedOut
	w.events[queue.EventCancelDeadline] += m.Canceled
	w.events[queue.EventSessionLost] += m.Requeued + m.Lost
}

// happened notes an event that moved a build, if it did: it was in that state before.
func (w *walk) happened(e queue.Event, build queue.ID, before ...queue.State) {
	if slices.Contains(before, w.seen[build].build.State) {
		w.events[e]++
	}
}

func (w *walk) claimStep(g gene) step {
	session := w.session(g)
	return step{name: fmt.Sprintf("claim for session %d", session), do: func() {
		w.claimed(session)
	}}
}

// runStep claims with every session and accepts what was claimed.
func (w *walk) runStep(gene) step {
	return step{name: "claim and accept", do: func() {
		for _, session := range w.sessions[max(0, len(w.sessions)-4):] {
			for _, c := range w.claimed(session) {
				if w.accepts(acceptance(c.AttemptID, c.Session)) {
					w.events[queue.EventAccept]++
				}
			}
		}
	}}
}

// claimed claims one build for a session.
func (w *walk) claimed(session queue.SessionID) []queue.Claimed {
	w.Helper()
	claimed := w.claim(w.builds[0], session)
	for _, c := range claimed {
		event := queue.EventClaim
		if w.get(queue.NewBuild{Project: w.project, ID: c.Build}).State == queue.Running {
			event = queue.EventStart
		}
		w.events[event]++
	}
	w.claims = append(w.claims, claimed...)
	return claimed
}

func (w *walk) acceptStep(g gene) step {
	c, there := w.attempt(g)
	if !there {
		return w.claimStep(g)
	}
	return step{
		name: fmt.Sprintf("accept %v for session %d", c.AttemptID, c.Session), fence: c.AttemptID,
		needs: []queue.State{queue.Offered, queue.Running, queue.Cancelling},
		do: func() {
			if w.accepts(acceptance(c.AttemptID, c.Session)) {
				w.happened(queue.EventAccept, c.Build, queue.Offered)
			}
		},
	}
}

func (w *walk) releaseStep(g gene) step {
	c, there := w.attempt(g)
	if !there {
		return w.claimStep(g)
	}
	return step{name: fmt.Sprintf("release %v", c.AttemptID), fence: c.AttemptID, needs: []queue.State{queue.Offered}, do: func() {
		if w.releases(c.AttemptID) {
			w.happened(queue.EventRelease, c.Build, queue.Offered)
		}
	}}
}

func (w *walk) finishStep(g gene) step {
	c, there := w.attempt(g)
	if !there {
		return w.claimStep(g)
	}
	outcome := pick([]queue.State{queue.Lost, queue.Succeeded, queue.Lost, queue.Failed, queue.Canceled, queue.TimedOut}, g.Detail)
	return step{name: fmt.Sprintf("finish %v as %v", c.AttemptID, outcome), fence: c.AttemptID, needs: leased, do: func() {
		if w.finish(report(c.AttemptID, outcome)) != 0 {
			w.happened(queue.EventFinish, c.Build, leased...)
		}
	}}
}

func (w *walk) cancelStep(g gene) step {
	b := pick(w.builds, g.Build)
	return step{name: fmt.Sprintf("cancel %v", b.ID), do: func() {
		w.cancels(b, "not wanted", force)
		w.happened(queue.EventCancel, b.ID, queue.Pending, queue.Offered, queue.Running)
	}}
}

func (w *walk) appendStep(g gene) step {
	c, there := w.attempt(g)
	if !there {
		return w.claimStep(g)
	}
	return step{name: fmt.Sprintf("append to %v at %d", c.AttemptID, g.Detail), fence: c.AttemptID, needs: leased, do: func() {
		w.appends(c.AttemptID, int64(g.Detail), "0123456789"[g.Detail:])
	}}
}

func (w *walk) artifactStep(g gene) step {
	c, there := w.attempt(g)
	if !there {
		return w.claimStep(g)
	}
	return step{name: fmt.Sprintf("artifact of %v", c.AttemptID), fence: c.AttemptID, needs: leased, do: func() {
		n := queue.NewArtifact{AttemptID: c.AttemptID, Name: fmt.Sprint(g.Detail % 2), Size: 1}
		if _, err := w.ReserveArtifact(w.ctx, n, w.now); !errors.Is(err, queue.ErrStaleLease) {
			w.must(err)
		}
		if _, err := w.CommitArtifact(w.ctx, n.AttemptID, n.Name, w.now); !errors.Is(err, queue.ErrStaleLease) {
			w.must(err)
		}
	}}
}

func (w *walk) openStep(g gene) step {
	facts := &w.workers[g.Build%len(w.workers)]
	if g.Detail%2 == 0 {
		facts.Instance = w.name("boot")
	}
	facts.Direct = g.Detail%4 == 3
	return step{name: fmt.Sprintf("open a session of %s", facts.Worker), do: func() {
		w.sessions = append(w.sessions, w.open(*facts))
	}}
}

func (w *walk) loseStep(g gene) step {
	session := w.session(g)
	return step{name: fmt.Sprintf("lose session %d", session), do: func() {
		w.must(w.LoseSessions(w.ctx, []queue.SessionID{session}, w.now))
	}}
}

func (w *walk) adoptStep(g gene) step {
	session := w.session(g)
	var held []queue.AttemptID
	for i, c := range w.claims {
		if (i+g.Detail)%2 == 0 {
			held = append(held, c.AttemptID)
		}
	}
	return step{name: fmt.Sprintf("adopt %v by session %d", held, session), do: func() {
		leases, err := w.Adopt(w.ctx, session, held, w.now)
		if !errors.Is(err, queue.ErrNotFound) {
			w.must(err)
		}
		for _, l := range leases {
			for i := range w.claims {
				if w.claims[i].AttemptID == l.AttemptID {
					w.claims[i].Session = session
				}
			}
		}
	}}
}
