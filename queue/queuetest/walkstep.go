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
	(*walk).admitStep, (*walk).limitStep, (*walk).resubmitStep, (*walk).pauseStep, (*walk).archiveStep,
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
	b.Priority, b.RetryFailed = g.Attempt-2, g.Attempt%3 == 0
	switch g.Build {
	case 1:
		b.ConcurrencyKey = walkKeys[g.Detail%2]
	case 2:
		b = w.at(b, backoff.Base)
	case 3:
		b.IdempotencyKey, b.IdempotencyHash = b.ID.String(), queue.Digest{1}
		b.Backoff = queue.Backoff{}
	}
	if g.Session%4 > 0 {
		b.Slot = queue.Slot{Session: w.sessions[g.Session/4%len(w.sessions)], Floor: queue.NoFloor, Slack: slack}
	}
	name := fmt.Sprintf("submit %v with key %q, not before %s, attempts %d", b.ID, b.ConcurrencyKey, stamp(b.NotBefore), b.MaxAttempts)
	return step{name: name, do: func() {
		if w.submit(b)[0].Started {
			w.met["started"]++
			w.claims = append(w.claims, queue.Claimed{AttemptID: queue.AttemptID{Build: b.ID, Epoch: 1}, Session: b.Slot.Session})
		}
		w.maintain(w.walkRules())
		w.builds = append(w.builds, b)
	}}
}

// walkKeys are the concurrency keys of a walk's builds.
var walkKeys = []string{"key", "another"}

// walkRules are rules by which keys are not forgotten: what has ended stays as it is.
func (w *walk) walkRules() queue.Rules {
	rules := w.rules()
	rules.KeepKeys = 10 * long
	return rules
}

// resubmitStep submits a build again whose idempotency key is known.
func (w *walk) resubmitStep(g gene) step {
	i := slices.IndexFunc(w.builds, func(b queue.NewBuild) bool { return b.IdempotencyKey != "" })
	if i < 0 {
		return w.submitStep(g)
	}
	b := w.builds[i]
	first := b.ID
	b.ID = queue.NewID()
	return step{name: fmt.Sprintf("submit %v again", first), do: func() {
		if done := w.submit(b)[0]; done.ID != first {
			w.Fatalf("Submit returned %+v, want the id %v", done, first)
		}
	}}
}

// admitStep lets in what may be, now and then with a limit of steps.
func (w *walk) admitStep(g gene) step {
	return step{name: "admit", do: func() { w.letIn(1 + g.Detail) }}
}

// letIn says that the class is served and admits.
func (w *walk) letIn(most int) {
	w.Helper()
	if class := w.class(w.project, w.labels()); class != 0 {
		w.must(w.Serve(w.ctx, []queue.ClassID{class}, time.Minute, w.now))
	}
	done := w.admitInSteps(most)
	w.met["admitted"] += done.Queued
	w.met["held again"] += done.Held
}

func (w *walk) limitStep(g gene) step {
	key, most := walkKeys[g.Build%2], g.Detail%3
	return step{name: fmt.Sprintf("limit %q to %d", key, most), do: func() { w.setLimit(key, most) }}
}

func (w *walk) setLimit(key string, most int) {
	w.Helper()
	w.must(w.SetLimit(w.ctx, queue.Limit{Project: w.project, Key: key, Max: most}))
	if w.limits[key] = most; most == 0 {
		delete(w.limits, key)
	}
}

// pauseStep pauses the pool or the project, until the next runStep, or changes whether the pool is fair.
func (w *walk) pauseStep(g gene) step {
	switch g.Detail % 3 {
	case 0:
		return step{name: "pause the pool", do: func() { w.paused = true; w.pausePool(w.project, true) }}
	case 1:
		return step{name: "pause the project", do: func() { w.paused = true; w.pauseProject(w.project, true); w.letIn(100) }}
	default:
		return step{name: fmt.Sprintf("make the pool fair: %t", !w.fair), do: func() { w.fair = !w.fair; w.makeFair(w.project, w.fair) }}
	}
}

func (w *walk) resume() {
	w.Helper()
	if w.paused {
		w.pausePool(w.project, false)
		w.pauseProject(w.project, false)
		w.paused = false
	}
}

// archiveStep takes a few logs into the archive, whoever wrote them, and a few of deleted builds out of it.
func (w *walk) archiveStep(gene) step {
	return step{name: "archive logs", do: func() {
		for _, l := range w.closed(2) {
			w.must(w.ArchiveLog(w.ctx, l.AttemptID))
		}
		for _, l := range w.dropped(2) {
			_, err := w.Get(w.ctx, l.Project, l.Build)
			w.wantErr(err, queue.ErrNotFound)
			w.must(w.ForgetLogs(w.ctx, []queue.AttemptID{l.AttemptID}))
		}
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
		rules := w.walkRules()
		rules.Controller = w.sweeper
		if g.Session%2 == 1 {
			rules.Retention = soon
		}
		done := w.maintain(rules)
		w.moved(done)
		w.gone(done)
	}}
}

// soon is after how long a walk's builds are deleted, if any are.
const soon = time.Minute

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

// runStep ends a pause, admits, claims with every session and accepts what was claimed.
func (w *walk) runStep(gene) step {
	return step{name: "admit, claim and accept", do: func() {
		w.resume()
		w.letIn(100)
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
	claimed := w.claim(queue.NewBuild{Pool: w.project, Labels: w.labels()}, session)
	for _, c := range claimed {
		if old := w.seen[c.Build]; c.Epoch != old.build.Epoch+1 || w.paused {
			w.Fatalf("Claim gave %+v, paused %t, of a build that was %s", c, w.paused, old.text)
		}
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
	end := report(c.AttemptID, outcome)
	if g.Session%2 == 1 {
		end.Session = c.Session
	}
	name := fmt.Sprintf("finish %v as %v by session %d", c.AttemptID, outcome, end.Session)
	return step{name: name, fence: c.AttemptID, needs: leased, do: func() {
		lease, err := w.Lease(w.ctx, c.AttemptID)
		if err == nil && end.Session != 0 && end.Session != lease.Session {
			b := queue.NewBuild{Project: w.project, ID: c.Build, Pool: w.project, Labels: w.labels()}
			w.unchanged("a report of another session", func() { w.finish(end) }, b)
			return
		}
		if w.finish(end) != 0 {
			w.happened(queue.EventFinish, c.Build, leased...)
		}
	}}
}

func (w *walk) cancelStep(g gene) step {
	b := pick(w.builds, g.Build)
	if g.Detail == 9 {
		all := append(ids(w.builds), queue.NewID())
		return step{name: "cancel all", do: func() {
			done, err := w.Cancel(w.ctx, w.project, all, "not wanted", force, w.now)
			w.must(err)
			if len(done) != len(w.builds) {
				w.Fatalf("Cancel of %d builds returned %v", len(w.builds), done)
			}
		}}
	}
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
	from := g.Detail / 2
	return step{name: fmt.Sprintf("append to %v at %d", c.AttemptID, from), fence: c.AttemptID, needs: leased, do: func() {
		chunk := queue.LogChunk{AttemptID: c.AttemptID, Offset: int64(from), Data: []byte("01\n3456\n89")[from:]}
		limit := pick([]queue.LogLimit{{Bytes: 8, Lines: 5}, roomy, {Bytes: 20, Lines: 1}}, g.Build)
		_, err := w.AppendLogs(w.ctx, []queue.LogChunk{chunk}, limit, w.now)
		w.must(err)
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
		adopted, err := w.Adopt(w.ctx, session, held, w.now)
		if !errors.Is(err, queue.ErrNotFound) {
			w.must(err)
		}
		for _, l := range adopted.Leases {
			for i := range w.claims {
				if w.claims[i].AttemptID == l.AttemptID {
					w.claims[i].Session = session
				}
			}
		}
	}}
}
