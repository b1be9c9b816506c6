package queuetest

import (
	"slices"

	"github.com/slipway-build/slipway/queue"
)

// checkPlaces checks that every build that lives is in exactly one place, by all that tells of places: the list, the statistics, the
// queue of the class, the leases and the limits.
func (w *walk) checkPlaces(builds []queue.Build) {
	w.Helper()
	var states [queue.Cancelling + 1]int
	var queued int
	used := make(map[string]int)
	for _, b := range builds {
		if b.State.Terminal() {
			continue
		}
		states[b.State]++
		inQueue := b.State == queue.Pending && w.explain(queue.NewBuild{Project: w.project, ID: b.ID}).Queued
		if inQueue {
			queued++
		}
		if inQueue || b.State != queue.Pending {
			used[b.ConcurrencyKey]++
		}
	}
	stats, err := w.Stats(w.ctx, w.project, today(w.now), today(w.now))
	w.must(err)
	counted := [...]int{queue.Pending: stats.Pending, queue.Offered: stats.Offered, queue.Running: stats.Running, queue.Cancelling: stats.Cancelling}
	if counted != states {
		w.Fatalf("stats count %v builds that live, the list has %v", counted, states)
	}
	if class := w.class(w.project, w.labels()); class != 0 && !w.paused {
		var count int
		for _, f := range w.probe(reach(class)) {
			count += len(f.Ranks)
		}
		if count != queued {
			w.Fatalf("%d builds are queued in the class, %d say so", count, queued)
		}
	}
	w.checkLeases()
	w.checkLimits(used)
}

// checkLeases checks that each lease is of one build that is where it says, and of no other.
func (w *walk) checkLeases() {
	w.Helper()
	seen := make(map[queue.ID]bool)
	for _, worker := range w.workers {
		leases, err := w.Leases(w.ctx, worker.Controller, false)
		w.must(err)
		for _, l := range leases {
			b := w.seen[l.Build]
			if b == nil || seen[l.Build] || b.build.State != l.State || b.build.Epoch != l.Epoch || b.build.Worker != l.Worker {
				w.Fatalf("lease is %+v, build is %+v", l, b)
			}
			seen[l.Build] = true
		}
	}
}

// checkLimits checks that no more builds of a key are queued or claimed than its limit admits. A limit that was lowered may be exceeded by
// those that were there, but they do not become more.
func (w *walk) checkLimits(used map[string]int) {
	w.Helper()
	limits, err := w.Limits(w.ctx, w.project, "", 100)
	w.must(err)
	if len(limits) != len(w.limits) {
		w.Fatalf("limits are %v, want %v", limits, w.limits)
	}
	for _, l := range limits {
		switch {
		case l.Max != w.limits[l.Key] || l.Used != used[l.Key]:
			w.Fatalf("limit is %+v, want %d, of which %d are used", l, w.limits[l.Key], used[l.Key])
		case l.Used == l.Max:
			w.met["limit reached"]++
		case l.Used > l.Max && l.Used > w.used[l.Key]:
			w.Fatalf("%d builds of key %q were queued or claimed, %d are, the limit is %d", w.used[l.Key], l.Key, l.Used, l.Max)
		}
	}
	w.used = used
}

// labels are those of all builds of a walk: they are of one class.
func (w *walk) labels() queue.Labels { return w.draft().Labels }

// gone removes from the walk's memory the builds that Maintain has deleted, which must have ended.
func (w *walk) gone(done queue.Maintained) {
	w.Helper()
	left := listed(w.list(queue.Filter{Project: w.project, Limit: queue.MaxPage}))
	missing := func(id queue.ID) bool { return !slices.Contains(left, id) }
	var n int
	for id, s := range w.seen {
		if missing(id) {
			if n++; !s.build.State.Terminal() || s.build.FinishedAt.After(w.now.Add(-soon)) {
				w.Fatalf("a build was deleted that was %s", s.text)
			}
			delete(w.seen, id)
		}
	}
	w.met["deleted"] += n
	if n > done.Deleted {
		w.Fatalf("%d builds are gone, Maintain says it deleted %d", n, done.Deleted)
	}
	w.builds = slices.DeleteFunc(w.builds, func(b queue.NewBuild) bool { return missing(b.ID) })
	w.claims = slices.DeleteFunc(w.claims, func(c queue.Claimed) bool { return missing(c.Build) })
}
