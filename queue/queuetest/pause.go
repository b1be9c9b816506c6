package queuetest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/slipway-build/slipway/queue"
)

var pauseCases = []testCase{
	{
		"Pool",
		"A paused pool gives out no builds from the change on. What is offered or runs goes on, and nothing is lost.",
		func(s *subject) {
			builds, others := s.drafts(6), s.drafts(1)
			s.queued(append(slices.Clone(builds[:4]), others...)...)
			session := s.worker()
			offered, running := s.offered(builds[0], session), s.running(builds[1], session)
			s.pausePool(builds[0].Pool, true)
			s.wantIDs("claim from a paused pool", s.claimIDs(builds[0], session), nil)
			s.wantHead(builds[0], 0)
			s.wantIDs("claim from another pool", s.claimIDs(others[0], session), ids(others))
			s.submit(builds[4:]...)
			s.maintain(s.rules())
			s.admit()
			s.wantIDs("claim of what came during the pause", s.claimIDs(builds[0], session), nil)
			s.accept(offered, session)
			s.ends(report(offered, queue.Succeeded), queue.Succeeded)
			s.ends(report(running, queue.Lost), queue.Pending)
			s.pass(avoid)
			s.maintain(s.rules())
			s.wantIDs("claim of what came back during the pause", s.claimIDs(builds[0], s.worker()), nil)
			s.pausePool(builds[0].Pool, false)
			s.admit()
			s.wantOrder(builds[0], builds[1:])
		},
	},
	{
		"Project",
		"Builds of a paused project are not claimed from the change on, wherever they stand in the queue; those of others are.",
		func(s *subject) {
			builds, others := s.between(4)
			s.queued(slices.Concat(builds, others)...)
			session := s.worker()
			offered, running := s.offered(builds[0], session), s.running(builds[1], session)
			s.pauseProject("project", true)
			s.wantIDs("claims", s.claimIDs(builds[0], session), ids(others[:1]))
			if done := s.admit(); done.Queued != 0 || done.Held != 2 {
				s.Errorf("Admit queued %d builds and held %d again, want the two of the paused project", done.Queued, done.Held)
			}
			s.wantHead(builds[0], 3)
			s.accept(offered, session)
			s.ends(report(offered, queue.Succeeded), queue.Succeeded)
			s.ends(report(running, queue.Lost), queue.Pending)
			s.pass(backoff.Base)
			s.maintain(s.rules())
			s.admit()
			s.wantIDs("rest of the others", s.taken(builds[0]), ids(others[1:]))
			for _, b := range builds[1:] {
				s.wantState(b, queue.Pending)
			}
			s.pauseProject("project", false)
			s.wantAdmitted(s.admit(), 3)
			s.wantOrder(builds[0], builds[1:])
		},
	},
	{
		"SubmitDuringAPause",
		"A build that is submitted to a paused project is held until Admit lets it go; nothing is lost.",
		func(s *subject) {
			builds := s.drafts(5)
			builds[4] = s.at(builds[4], time.Hour)
			s.queued(builds[0])
			s.pauseProject("project", true)
			unknown := s.draft()
			for _, b := range []queue.NewBuild{builds[1], unknown} {
				if done := s.submit(b)[0]; done.Class != 0 || !done.Waiting {
					s.Errorf("Submit returned %+v, want a build that waits", done)
				}
			}
			s.submit(builds[2:]...)
			if done := s.maintain(s.rules()); done.Interned != 1 || done.Queued != 0 {
				s.Errorf("Maintain did %+v, want one class made", done)
			}
			s.pass(2 * time.Hour)
			if done := s.maintain(s.rules()); done.Queued != 0 {
				s.Errorf("Maintain queued a build of a paused project")
			}
			if done := s.admit(); done.Queued != 0 || done.Held != 1 {
				s.Errorf("Admit queued %d builds and held %d again, want the one that was queued before the pause", done.Queued, done.Held)
			}
			s.wantIDs("claims during the pause", s.taken(builds[0]), nil)
			s.pauseProject("project", false)
			s.wantAdmitted(s.admit(), 6)
			s.wantOrder(unknown, []queue.NewBuild{unknown})
			s.wantOrder(builds[0], builds)
		},
	},
	{
		"Resumed",
		"A project that is resumed before anybody looked is as if it had not been paused.",
		func(s *subject) {
			builds := s.drafts(3)
			s.queued(builds...)
			s.unchanged("a pause", func() {
				s.pauseProject("project", true)
				s.pauseProject("project", false)
				s.pausePool(builds[0].Pool, true)
				s.pausePool(builds[0].Pool, false)
				s.wantAdmitted(s.admit(), 0)
			}, builds...)
			s.wantOrder(builds[0], builds)
		},
	},
	{
		"Steps",
		"Admit holds at most max builds of paused projects again in one call.",
		func(s *subject) {
			builds, others := s.between(10)
			s.queued(slices.Concat(builds, others)...)
			s.pauseProject("project", true)
			if done := s.admitInSteps(3); done.Held != len(builds) {
				s.Errorf("Admit held %d builds again, want %d", done.Held, len(builds))
			}
			s.wantHead(builds[0], len(others))
			s.pauseProject("project", false)
			s.wantAdmitted(s.admitInSteps(3), len(builds))
			s.wantHead(builds[0], len(builds)+len(others))
		},
	},
	{
		"Key",
		"What is held for its paused project takes up no room of a limit, and is admitted with the others when the pause is over.",
		func(s *subject) {
			builds := s.sharing("key", 4)
			s.limit("key", 2)
			s.wantAdmitted(s.ready(builds...), 2)
			s.pauseProject("project", true)
			if done := s.admit(); done.Held != 2 || done.Queued != 0 {
				s.Errorf("Admit queued %d builds and held %d again, want none and two", done.Queued, done.Held)
			}
			s.wantUsed("key", 2, 0)
			s.pauseProject("project", false)
			s.wantAdmitted(s.admit(), 2)
			s.wantOrder(builds[0], builds[:2])
		},
	},
	{
		"KeyInAPool",
		"Builds with a key stay held while their pool is paused, and where builds of the key wait, those of it that are queued there are held again.",
		func(s *subject) {
			s.limit("key", 2)
			paused, open := s.sharing("key", 4), s.sharing("key", 3)
			s.wantAdmitted(s.ready(paused[:2]...), 2)
			s.ready(slices.Concat(paused[2:], open)...)
			session := s.worker()
			running := s.running(paused[0], session)
			s.pausePool(paused[0].Pool, true)
			if done := s.admit(); done.Held != 1 || done.Queued != 1 {
				s.Errorf("Admit held %d builds again and queued %d, want one of the paused pool and one of the other", done.Held, done.Queued)
			}
			s.wantUsed("key", 2, 2)
			s.ends(report(running, queue.Succeeded), queue.Succeeded)
			s.wantAdmitted(s.admit(), 1)
			s.limit("key", 0)
			s.wantAdmitted(s.admit(), 1)
			s.wantOrder(open[0], open)
			s.wantAdmitted(s.admit(), 0)
			s.pausePool(paused[0].Pool, false)
			s.wantAdmitted(s.admit(), 3)
			s.wantOrder(paused[0], paused[1:])
		},
	},
	{
		"Race",
		"A pause is exact: no claim that begins after it gives out a build of the project or the pool, however many claim.",
		func(s *subject) {
			for _, pause := range []func(ctx context.Context, b queue.NewBuild) error{
				func(ctx context.Context, b queue.NewBuild) error {
					return s.ChangePool(ctx, b.Pool, queue.PoolChange{Paused: new(true)})
				},
				func(ctx context.Context, b queue.NewBuild) error {
					return s.ChangeProject(ctx, b.Project, queue.ProjectChange{Paused: new(true)})
				},
			} {
				builds := s.drafts(40 * crowd)
				s.submit(builds...)
				s.maintain(s.rules())
				class := s.class(builds[0].Pool, builds[0].Labels)
				var sessions []queue.SessionID
				for range crowd {
					sessions = append(sessions, s.worker())
				}
				var paused atomic.Bool
				var claims atomic.Int64
				s.together(func(ctx context.Context, i int) error {
					if i == 0 {
						for claims.Load() < crowd && ctx.Err() == nil {
							if _, err := s.Admit(ctx, queue.Lane{}, 100, s.now); err != nil {
								return err
							}
						}
						defer paused.Store(true)
						return pause(ctx, builds[0])
					}
					for range 40 {
						late := paused.Load()
						claimed, err := s.Claim(ctx, []queue.Demand{demand(class, sessions[i])}, offerTime, s.now)
						if err != nil {
							return err
						}
						if late && len(claimed) > 0 {
							return fmt.Errorf("build %v was claimed after the pause", claimed[0].Build)
						}
						claims.Add(1)
					}
					return nil
				})
			}
		},
	},
	{
		"Pools",
		"Pools returns the pools that were ever changed, ordered by name. ChangePool sets what is not nil.",
		func(s *subject) {
			s.queued(s.draft())
			s.wantPools()
			weights := map[string]int{"a": 3, "b.c": queue.MaxWeight, "d": 2}
			s.must(s.ChangePool(s.ctx, "b", queue.PoolChange{Paused: new(true)}))
			s.must(s.ChangePool(s.ctx, "a-b", queue.PoolChange{Fair: new(true), Weights: weights}))
			s.must(s.ChangePool(s.ctx, "a.b", queue.PoolChange{Paused: new(true), Fair: new(true)}))
			s.wantPools(queue.Pool{Name: "a-b", Fair: true, Weights: weights}, queue.Pool{Name: "a.b", Paused: true, Fair: true}, queue.Pool{Name: "b", Paused: true})
			s.must(s.ChangePool(s.ctx, "a-b", queue.PoolChange{Paused: new(true), Weights: map[string]int{"d": 0, "e": 7, "nobody": 0}}))
			s.must(s.ChangePool(s.ctx, "a.b", queue.PoolChange{Paused: new(false), Fair: new(false)}))
			s.must(s.ChangePool(s.ctx, "b", queue.PoolChange{}))
			s.wantPools(
				queue.Pool{Name: "a-b", Paused: true, Fair: true, Weights: map[string]int{"a": 3, "b.c": queue.MaxWeight, "e": 7}},
				queue.Pool{Name: "a.b"}, queue.Pool{Name: "b", Paused: true},
			)
		},
	},
	{
		"Projects",
		"Projects returns the projects with names above after, in the order of their bytes, at most max. ChangeProject sets what is not nil.",
		func(s *subject) {
			names := []string{"b", "a-b", "a.b", "a", "0"}
			for i, name := range names {
				s.must(s.ChangeProject(s.ctx, name, queue.ProjectChange{ArtifactQuota: new(int64(i + 1))}))
			}
			s.must(s.ChangeProject(s.ctx, "a.b", queue.ProjectChange{Paused: new(true)}))
			s.must(s.ChangeProject(s.ctx, "b", queue.ProjectChange{}))
			var got []string
			for after := ""; ; {
				page, err := s.Projects(s.ctx, after, 2)
				s.must(err)
				if len(page) == 0 {
					break
				}
				for _, p := range page {
					quota := int64(slices.Index(names, p.Name) + 1)
					if p != (queue.Project{Name: p.Name, Paused: p.Name == "a.b", ArtifactQuota: quota}) {
						s.Errorf("project is %+v", p)
					}
					got, after = append(got, p.Name), p.Name
				}
			}
			slices.Sort(names)
			if !slices.Equal(got, names) {
				s.Errorf("projects are %q, want %q", got, names)
			}
		},
	},
}

// between returns builds of one class of two projects, "project" and another, which are to be queued one after the other.
func (s *subject) between(n int) (builds, others []queue.NewBuild) {
	all := s.drafts(2 * n)
	builds, others = all[:n], all[n:]
	for i := range others {
		others[i].Project = "another"
	}
	return builds, others
}

func (s *subject) pausePool(name string, paused bool) {
	s.Helper()
	s.must(s.ChangePool(s.ctx, name, queue.PoolChange{Paused: &paused}))
}

func (s *subject) pauseProject(name string, paused bool) {
	s.Helper()
	s.must(s.ChangeProject(s.ctx, name, queue.ProjectChange{Paused: &paused}))
}

// wantPools reports pools that are not those that are wanted.
func (s *subject) wantPools(want ...queue.Pool) {
	s.Helper()
	got, err := s.Pools(s.ctx)
	s.must(err)
	same := func(x, y queue.Pool) bool {
		return x.Name == y.Name && x.Paused == y.Paused && x.Fair == y.Fair && maps.Equal(x.Weights, y.Weights)
	}
	if !slices.EqualFunc(got, want, same) || !slices.IsSortedFunc(got, func(x, y queue.Pool) int { return strings.Compare(x.Name, y.Name) }) {
		s.Errorf("pools are %+v, want %+v", got, want)
	}
}
