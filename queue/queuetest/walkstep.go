package queuetest

import (
	"errors"
	"fmt"
	"time"

	"github.com/slipway-build/slipway/queue"
)

// calls are what a walk may do. Low numbers are drawn more often: what moves builds on comes first, so that walks get somewhere.
var calls = []func(*walk, gene) step{
	(*walk).acceptStep, (*walk).claimStep, (*walk).maintainStep, (*walk).finishStep, (*walk).appendStep, (*walk).adoptStep,
	(*walk).submitStep, (*walk).openStep, (*walk).loseStep, (*walk).releaseStep, (*walk).cancelStep, (*walk).artifactStep,
}

var leased = []queue.State{queue.Running, queue.Cancelling}

// decode chooses the call and its arguments among what there is. While there is no build, every step makes one.
func (w *walk) decode(g gene) step {
	if len(w.builds) == 0 {
		return w.submitStep(g)
	}
	return calls[g.Call](w, g)
}

func (w *walk) submitStep(g gene) step {
	if len(w.builds) > 2 {
		return w.maintainStep(g)
	}
	b := w.draft()
	b.Project, b.Pool, b.MaxAttempts = w.project, w.project, 1+g.Detail%3
	if g.Session == 7 {
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
		w.pass(d)
		if g.Build > 0 {
			w.beat(w.sweeper)
		}
		rules := w.rules()
		rules.Controller = w.sweeper
		w.maintain(rules)
	}}
}

func (w *walk) claimStep(g gene) step {
	session := w.session(g)
	return step{name: fmt.Sprintf("claim for session %d", session), do: func() {
		w.claims = append(w.claims, w.claim(w.builds[0], session)...)
	}}
}

func (w *walk) acceptStep(g gene) step {
	c, there := w.attempt(g)
	if !there {
		return w.claimStep(g)
	}
	return step{
		name: fmt.Sprintf("accept %v for session %d", c.AttemptID, c.Session), fence: c.AttemptID,
		needs: []queue.State{queue.Offered, queue.Running, queue.Cancelling},
		do:    func() { w.accepts(acceptance(c.AttemptID, c.Session)) },
	}
}

func (w *walk) releaseStep(g gene) step {
	c, there := w.attempt(g)
	if !there {
		return w.claimStep(g)
	}
	return step{name: fmt.Sprintf("release %v", c.AttemptID), fence: c.AttemptID, needs: []queue.State{queue.Offered}, do: func() {
		w.releases(c.AttemptID)
	}}
}

func (w *walk) finishStep(g gene) step {
	c, there := w.attempt(g)
	if !there {
		return w.claimStep(g)
	}
	outcome := pick([]queue.State{queue.Lost, queue.Succeeded, queue.Lost, queue.Failed, queue.Canceled, queue.TimedOut}, g.Detail)
	return step{name: fmt.Sprintf("finish %v as %v", c.AttemptID, outcome), fence: c.AttemptID, needs: leased, do: func() {
		w.finish(report(c.AttemptID, outcome))
	}}
}

func (w *walk) cancelStep(g gene) step {
	b := pick(w.builds, g.Build)
	return step{name: fmt.Sprintf("cancel %v", b.ID), do: func() {
		if _, err := w.Cancel(w.ctx, b.Project, b.ID, "not wanted", force, w.now); !errors.Is(err, queue.ErrFinished) {
			w.must(err)
		}
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
