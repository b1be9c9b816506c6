package modeltest

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/slipway-build/slipway/queue"
)

// keys are the concurrency keys of builds.
var keys = []string{"k", "key"}

// reach is all of a class.
func reach(class queue.ClassID) queue.Reach { return queue.Reach{Class: class, Floor: queue.NoFloor} }

// classes returns some of the six classes.
func (c *comparison) classes() []queue.ClassID {
	var some []queue.ClassID
	for id := range queue.ClassID(6) {
		if c.IntN(2) == 0 {
			some = append(some, id+1)
		}
	}
	return some
}

// admit does not compare where to go on from: a backend may look once more before it says that there is nothing.
func (c *comparison) admit() {
	c.same("admit", func(s *subject) string {
		done, err := s.Admit(c.Context(), queue.Lane{}, 1000, c.now)
		return text(err) + fmt.Sprintln(done.Queued, done.Held, heads(done.Heads))
	})
}

func (c *comparison) serve() {
	classes, ttl := c.classes(), time.Duration(1+c.IntN(300))*time.Second
	c.same(fmt.Sprintf("serve %v for %v", classes, ttl), func(s *subject) string {
		return text(s.Serve(c.Context(), classes, ttl, c.now))
	})
}

func (c *comparison) setLimit() {
	limit := queue.Limit{Project: project, Key: keys[c.IntN(len(keys))], Max: c.IntN(4)}
	c.same(fmt.Sprintf("limit %+v", limit), func(s *subject) string { return text(s.SetLimit(c.Context(), limit)) })
}

func (c *comparison) changePool() {
	name := pools[c.IntN(len(pools))]
	var change queue.PoolChange
	switch c.IntN(5) {
	case 0:
		change.Paused = new(c.IntN(4) == 0)
	case 1, 2:
		if c.anyLeased() {
			return // what is given back to a pool that has changed is held sooner or later
		}
		change.Fair = new(c.IntN(2) == 0)
	default:
		change.Weights = map[string]int{project: c.IntN(4)}
		change.Paused = new(false)
	}
	c.same(fmt.Sprintf("change pool %s: %s, %s, %v", name, pointed(change.Paused), pointed(change.Fair), change.Weights), func(s *subject) string {
		return text(s.ChangePool(c.Context(), name, change))
	})
}

// anyLeased reports whether a build is offered or runs.
func (c *comparison) anyLeased() bool {
	builds, err := c.subjects[0].List(c.Context(), queue.Filter{
		Project: project, States: []queue.State{queue.Offered, queue.Running, queue.Cancelling}, Limit: 1,
	})
	return err != nil || len(builds) > 0
}

func (c *comparison) changeProject() {
	change := queue.ProjectChange{Paused: new(c.IntN(3) == 0)}
	if c.IntN(3) == 0 {
		change.ArtifactQuota = new(int64(c.IntN(5) * 10))
	}
	c.same(fmt.Sprintf("change project: %s, %s", pointed(change.Paused), pointed(change.ArtifactQuota)), func(s *subject) string {
		return text(s.ChangeProject(c.Context(), project, change))
	})
}

func (c *comparison) cancelMany() {
	var ids []queue.ID
	for range min(len(c.builds), 3) {
		ids = append(ids, c.builds[c.IntN(len(c.builds))])
	}
	ids = append(ids, queue.NewID())
	c.same(fmt.Sprintf("cancel %v", ids), func(s *subject) string {
		done, err := s.Cancel(c.Context(), project, ids, "many", 40*time.Second, c.now)
		return text(err) + canceled(done)
	})
}

// archive takes some of the closed logs into the archive.
func (c *comparison) archive() {
	some := c.IntN(3)
	c.same("archive", func(s *subject) string {
		logs, err := s.ClosedLogs(c.Context(), 1000, 30*time.Second, c.now)
		rows := []string{text(err)}
		for _, l := range logs {
			row := fmt.Sprint(l)
			if int(l.Build[15])%3 == some { // by the id: the order means nothing
				row += text(s.ArchiveLog(c.Context(), l.AttemptID))
			}
			rows = append(rows, row)
		}
		return inOrder(rows)
	})
	if c.IntN(3) > 0 {
		return
	}
	c.same("remove from the archive", func(s *subject) string {
		logs, err := s.DroppedLogs(c.Context(), 2, 30*time.Second, c.now)
		for _, l := range logs {
			if int(l.Build[15])%3 == some {
				err = errors.Join(err, s.ForgetLogs(c.Context(), []queue.AttemptID{l.AttemptID}))
			}
		}
		return text(err) + inOrder(lines(logs))
	})
}

// probe looks from floors on that are among the ranks there are.
func (c *comparison) probe() {
	floor := c.now.Add(-time.Duration(c.IntN(120)) * time.Second).UnixMicro()
	if c.IntN(2) == 0 {
		floor = int64(c.IntN(10)) * queue.FairStep
	}
	c.same(fmt.Sprintf("probe from %d", floor), func(s *subject) string {
		var reaches []queue.Reach
		for id := range queue.ClassID(6) {
			reaches = append(reaches, queue.Reach{Class: id + 1, Floor: floor})
		}
		found, err := s.Probe(c.Context(), reaches, 3)
		return text(err) + fmt.Sprint(found)
	})
}

// settings writes what is set, counted and explained, a line for each thing.
func (c *comparison) settings(s *subject, w *strings.Builder) {
	found, err := s.Probe(c.Context(), []queue.Reach{reach(1), reach(2), reach(3), reach(4), reach(5), reach(6)}, 3)
	fmt.Fprintln(w, text(err), found)
	limits, err := s.Limits(c.Context(), project, "", 10)
	fmt.Fprintf(w, "%s %+v\n", text(err), limits)
	set, err := s.Pools(c.Context())
	fmt.Fprint(w, text(err))
	for _, p := range set {
		fmt.Fprintf(w, "%s %t %t %v ", p.Name, p.Paused, p.Fair, p.Weights)
	}
	fmt.Fprintln(w)
	projects, err := s.Projects(c.Context(), "", 10)
	fmt.Fprint(w, text(err))
	for _, p := range projects {
		if p != (queue.Project{Name: p.Name}) {
			fmt.Fprintf(w, "%+v ", p)
		}
	}
	fmt.Fprintln(w)
	for _, name := range []string{project, ""} {
		stats, err := s.Stats(c.Context(), name, c.now.Add(-48*time.Hour).Truncate(24*time.Hour), c.now.Truncate(24*time.Hour))
		fmt.Fprintf(w, "%s %+v\n", text(err), stats)
	}
	for _, id := range c.builds[max(0, len(c.builds)-20):] {
		e, err := s.Explain(c.Context(), project, id, c.now)
		fmt.Fprintln(w, text(err), e.Build.State, e.Class, e.Queued, e.Ahead, e.Avoids, e.AvoidsUntil.UTC(), e.Limit,
			e.Pool.Paused, e.Pool.Fair, e.Project.Paused, e.Project.ArtifactQuota, e.Workers)
	}
	for _, filter := range []queue.Filter{
		{AllProjects: true, Limit: 20},
		{Project: project, Worker: "worker1", Limit: 20},
		{AllProjects: true, Worker: "worker2", States: []queue.State{queue.Running, queue.Failed}, Limit: 5},
	} {
		page, err := s.List(c.Context(), filter)
		fmt.Fprint(w, text(err))
		for _, b := range page {
			fmt.Fprint(w, b.ID, " ")
		}
		fmt.Fprintln(w)
	}
}

// heads returns heads as text, without counts and their order, which mean nothing.
func heads(all []queue.Head) string {
	var rows []string
	for _, h := range all {
		rows = append(rows, fmt.Sprint(h.Class, h.Rank))
	}
	return inOrder(rows)
}
