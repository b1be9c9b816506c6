package queuetest

import (
	"slices"
	"time"

	"github.com/slipway-build/slipway/queue"
)

var explainCases = []testCase{
	{
		"Queued",
		"Explain tells the class of a queued build, and how many builds of it come first.",
		func(s *subject) {
			builds, others := s.drafts(3), s.drafts(3)
			s.queued(slices.Concat(others, builds)...)
			for i, b := range builds {
				c := s.explain(b)
				if c.Build.ID != b.ID || c.Build.State != queue.Pending || !c.Now.Equal(s.now) || c.Class != s.class(b.Pool, b.Labels) || !c.Queued || c.Ahead != i {
					s.Errorf("circumstances of build %d are %+v", i, c)
				}
				if c.Avoids != "" || c.Limit != (queue.Limit{}) || c.Pool.Paused || c.Pool.Fair || c.Project.Paused || c.Project.ArtifactQuota != 0 || len(c.Workers) != 0 {
					s.Errorf("circumstances of a plain build are %+v", c)
				}
			}
		},
	},
	{
		"UnknownClass",
		"The class of a build is zero if it is not known yet, and the build is not queued.",
		func(s *subject) {
			b := s.draft()
			s.submit(b)
			if c := s.explain(b); c.Class != 0 || c.Queued || c.Ahead != 0 {
				s.Errorf("circumstances are %+v", c)
			}
		},
	},
	{
		"Scheduled",
		"Of a build that is held back by time Explain tells until when.",
		func(s *subject) {
			b := s.at(s.draft(), time.Hour)
			s.queued(b)
			if c := s.explain(b); c.Queued || !c.Build.NotBefore.Equal(b.NotBefore) || c.Class != s.class(b.Pool, b.Labels) {
				s.Errorf("circumstances are %+v", c)
			}
		},
	},
	{
		"Limit",
		"Explain tells the limit of a build's key and how much of it is used, and how many of its lane come first.",
		func(s *subject) {
			s.limit("key", 2)
			builds, others := s.sharing("key", 5), s.sharing("other", 1)
			for i := range others {
				others[i].Pool = builds[0].Pool
			}
			s.wantAdmitted(s.ready(slices.Concat(builds, others)...), 3)
			s.running(builds[0], s.worker())
			for i, b := range builds[2:] {
				c := s.explain(b)
				if c.Limit != (queue.Limit{Project: "project", Key: "key", Max: 2, Used: 2}) || c.Queued || c.Ahead != i {
					s.Errorf("circumstances of build %d are %+v", i+2, c)
				}
			}
			if c := s.explain(others[0]); c.Limit != (queue.Limit{}) || !c.Queued {
				s.Errorf("circumstances of a build whose key has no limit are %+v", c)
			}
		},
	},
	{
		"Avoids",
		"Explain tells which worker is not given the build, and until when.",
		func(s *subject) {
			b := s.draft()
			s.queued(b)
			facts := s.facts()
			s.releases(s.offered(b, s.open(facts)))
			until := s.now.Add(avoid)
			if c := s.explain(b); c.Avoids != facts.Worker || !c.AvoidsUntil.Equal(until) {
				s.Errorf("circumstances are %+v, want %s avoided until %v", c, facts.Worker, until)
			}
			s.pass(avoid + time.Second)
			if c := s.explain(b); c.Avoids != "" || !c.AvoidsUntil.IsZero() {
				s.Errorf("circumstances are %+v, want nobody avoided any more", c)
			}
		},
	},
	{
		"Settings",
		"Explain tells how the build's pool and project are set.",
		func(s *subject) {
			b := s.draft()
			s.queued(b)
			s.must(s.ChangePool(s.ctx, b.Pool, queue.PoolChange{Paused: new(true), Fair: new(true), Weights: map[string]int{"project": 3}}))
			s.must(s.ChangeProject(s.ctx, b.Project, queue.ProjectChange{Paused: new(true), ArtifactQuota: new(int64(5))}))
			c := s.explain(b)
			if c.Pool.Name != b.Pool || !c.Pool.Paused || !c.Pool.Fair || len(c.Pool.Weights) != 0 {
				s.Errorf("pool is %+v", c.Pool)
			}
			if want := (queue.Project{Name: b.Project, Paused: true, ArtifactQuota: 5}); c.Project != want {
				s.Errorf("project is %+v, want %+v", c.Project, want)
			}
		},
	},
	{
		"Workers",
		"Explain tells of the workers with a session that serves the build's pool, has not ended, and is on a controller that is alive, ordered by name.",
		func(s *subject) {
			b := s.draft()
			b.Pool = "pool"
			s.queued(b)
			controller := queue.NewID()
			open := func(name string, change func(*queue.NewSession)) queue.SessionID {
				s.Helper()
				facts := s.facts()
				facts.Worker, facts.Controller = name, controller
				if change != nil {
					change(&facts)
				}
				s.beat(facts.Controller)
				return s.open(facts)
			}
			open("w-c", func(n *queue.NewSession) { n.Labels = queue.Labels{"gpu": "yes"}; n.Slots = 7 })
			busy := open("w-a", func(n *queue.NewSession) { n.Pools = []string{"other", "pool"} })
			open("w-elsewhere", func(n *queue.NewSession) { n.Pools = []string{"other"} })
			open("w-dead", func(n *queue.NewSession) { n.Controller = queue.NewID() })
			lost := open("w-lost", nil)
			open("w-b", func(n *queue.NewSession) { n.Instance = "before" })
			open("w-b", nil)
			s.must(s.LoseSessions(s.ctx, []queue.SessionID{lost}, s.now))
			work := s.drafts(2)
			s.queued(work...)
			s.running(work[0], busy)
			s.offered(work[1], busy)
			s.pass(ttl - 3*time.Second)
			s.beat(controller)
			s.pass(4 * time.Second)
			got := s.explain(b).Workers
			plain := s.facts().Labels
			want := []queue.WorkerFacts{
				{Worker: "w-a", Labels: plain, Slots: 4, Busy: 2},
				{Worker: "w-b", Labels: plain, Slots: 4},
				{Worker: "w-c", Labels: queue.Labels{"gpu": "yes"}, Slots: 7},
			}
			same := func(x, y queue.WorkerFacts) bool {
				return x.Worker == y.Worker && x.Labels.String() == y.Labels.String() && x.Slots == y.Slots && x.Busy == y.Busy
			}
			if !slices.EqualFunc(got, want, same) {
				s.Errorf("workers are %+v, want %+v", got, want)
			}
		},
	},
	{
		"NotPending",
		"Of a build that is not Pending Explain returns the build alone.",
		func(s *subject) {
			builds := s.drafts(2)
			s.queued(builds...)
			session := s.worker()
			s.offered(builds[0], session)
			s.cancel(builds[1], queue.Canceled)
			for _, b := range builds {
				c := s.explain(b)
				want := s.get(b)
				want.Spec, c.Build.Spec = nil, nil
				if describe(c.Build) != describe(want) || c.Class != 0 || c.Queued || c.Ahead != 0 || c.Limit != (queue.Limit{}) || len(c.Workers) != 0 {
					s.Errorf("circumstances are %+v, want the build %s alone", c, describe(want))
				}
			}
		},
	},
	{
		"NotFound",
		"Explain returns ErrNotFound; a build of another project does not exist.",
		func(s *subject) {
			b := s.draft()
			s.queued(b)
			for project, id := range map[string]queue.ID{"elsewhere": b.ID, b.Project: queue.NewID()} {
				_, err := s.Explain(s.ctx, project, id, s.now)
				s.wantErr(err, queue.ErrNotFound)
			}
		},
	},
}

// explain returns what a build waits in.
func (s *subject) explain(b queue.NewBuild) queue.Circumstances {
	s.Helper()
	c, err := s.Explain(s.ctx, b.Project, b.ID, s.now)
	s.must(err)
	return c
}
