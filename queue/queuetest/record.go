package queuetest

import (
	"bytes"
	"slices"

	"github.com/slipway-build/slipway/queue"
)

var recordCases = []testCase{
	{
		"NotFound",
		"Get and Attempts return ErrNotFound; a build of another project does not exist.",
		func(s *subject) {
			b := s.draft()
			s.queued(b)
			s.running(b, s.worker())
			for project, id := range map[string]queue.ID{"elsewhere": b.ID, b.Project: queue.NewID(), "PROJECT": b.ID} {
				_, err := s.Get(s.ctx, project, id)
				s.wantErr(err, queue.ErrNotFound)
				_, err = s.Attempts(s.ctx, project, id)
				s.wantErr(err, queue.ErrNotFound)
			}
		},
	},
	{
		"ListNewestFirst",
		"List returns builds of a project, newest id first, without their specs.",
		func(s *subject) {
			builds := s.drafts(7)
			for i := range builds {
				builds[i].Source = &queue.Source{Size: int64(i)}
			}
			foreign := s.draft()
			foreign.Project = "elsewhere"
			s.submit(append(slices.Clone(builds), foreign)...)
			got := s.list(queue.Filter{Project: "project", Limit: 100})
			s.wantIDs("list", listed(got), newestFirst(builds))
			for _, b := range got {
				if b.Spec != nil {
					s.Errorf("List returned a spec")
				}
				want := s.get(queue.NewBuild{Project: b.Project, ID: b.ID})
				want.Spec = nil
				if describe(b) != describe(want) {
					s.Errorf("List returned\n%s, Get\n%s", describe(b), describe(want))
				}
			}
			s.wantIDs("list of another project", listed(s.list(queue.Filter{Project: "elsewhere", Limit: 100})), []queue.ID{foreign.ID})
			s.wantIDs("list of an unknown project", listed(s.list(queue.Filter{Project: "nobody", Limit: 100})), nil)
		},
	},
	{
		"ListPages",
		"The cursor lists only builds with smaller ids: builds submitted meanwhile do not shift the pages.",
		func(s *subject) {
			builds := s.drafts(23)
			s.submit(builds...)
			var got []queue.ID
			filter := queue.Filter{Project: "project", Limit: 5}
			for range 10 {
				page := s.list(filter)
				got = append(got, listed(page)...)
				if len(page) < filter.Limit {
					break
				}
				filter.Before = page[len(page)-1].ID
				younger := s.draft()
				younger.ID[0] = 0xff // after all others
				s.submit(younger)
			}
			s.wantIDs("pages", got, newestFirst(builds))
		},
	},
	{
		"ListFilters",
		"A filter lists the builds of its states and its pool; none of them means all.",
		func(s *subject) {
			builds, others := s.drafts(4), s.drafts(2)
			for _, b := range append(slices.Clone(builds), others...) {
				s.queued(b)
			}
			session := s.worker()
			s.running(builds[0], session)
			s.offered(builds[1], session)
			s.cancel(builds[2], queue.Canceled)
			s.cancel(others[0], queue.Canceled)
			all := append(slices.Clone(builds), others...)
			for _, c := range []struct {
				name   string
				states []queue.State
				pool   string
				want   []queue.NewBuild
			}{
				{"all", nil, "", all},
				{"every state", queue.States(), "", all},
				{"one state", []queue.State{queue.Canceled}, "", []queue.NewBuild{builds[2], others[0]}},
				{"two states", []queue.State{queue.Running, queue.Offered}, "", builds[:2]},
				{"pending", []queue.State{queue.Pending}, "", []queue.NewBuild{builds[3], others[1]}},
				{"no such", []queue.State{queue.Lost}, "", nil},
				{"pool", nil, builds[0].Pool, builds},
				{"pool and state", []queue.State{queue.Canceled, queue.Pending}, others[0].Pool, others},
				{"no such pool", nil, "nowhere", nil},
			} {
				got := s.list(queue.Filter{Project: "project", States: c.states, Pool: c.pool, Limit: 100})
				s.wantIDs(c.name, listed(got), newestFirst(c.want))
				pages := queue.Filter{Project: "project", States: c.states, Pool: c.pool, Limit: 1}
				var paged []queue.ID
				for range len(c.want) + 1 {
					page := s.list(pages)
					if len(page) == 0 {
						break
					}
					pages.Before = page[0].ID
					paged = append(paged, page[0].ID)
				}
				s.wantIDs(c.name+", page by page", paged, newestFirst(c.want))
			}
		},
	},
	{
		"ListByWorker",
		"A filter lists the builds that a worker holds, or held last.",
		func(s *subject) {
			builds := s.drafts(5)
			builds[4].MaxAttempts = 2
			s.queued(builds...)
			first, second := s.facts(), s.facts()
			session := s.open(first)
			s.ends(report(s.running(builds[0], session), queue.Succeeded), queue.Succeeded)
			s.running(builds[1], session)
			s.releases(s.offered(builds[2], session))
			s.running(builds[2], s.open(second))
			s.releases(s.offered(builds[3], s.open(second)))
			want := func(worker string, states []queue.State, want ...queue.NewBuild) {
				s.Helper()
				filter := queue.Filter{Project: "project", Worker: worker, States: states, Limit: 10}
				s.wantIDs("builds of "+worker, listed(s.list(filter)), newestFirst(want))
			}
			want(first.Worker, nil, builds[:2]...)
			want(second.Worker, nil, builds[2:4]...)
			want("nobody", nil)
			want(first.Worker, []queue.State{queue.Succeeded, queue.Pending}, builds[0])
			want(second.Worker, []queue.State{queue.Pending}, builds[3])
		},
	},
	{
		"ListAllProjects",
		"A filter with AllProjects lists the builds of all projects, by the same order and filters as that of one.",
		func(s *subject) {
			builds, others := s.between(4)
			all := slices.Concat(builds, others)
			s.queued(all...)
			session := s.worker()
			held := s.claimIDs(builds[0], session, session, session)
			s.cancel(others[3], queue.Canceled)
			s.wantIDs("all", listed(s.list(queue.Filter{AllProjects: true, Limit: 100})), newestFirst(all))
			s.wantIDs("first page", listed(s.list(queue.Filter{AllProjects: true, Limit: 3})), newestFirst(all)[:3])
			s.wantIDs("next page", listed(s.list(queue.Filter{AllProjects: true, Limit: 3, Before: newestFirst(all)[2]})), newestFirst(all)[3:6])
			s.wantIDs("ended", listed(s.list(queue.Filter{AllProjects: true, States: []queue.State{queue.Canceled}, Limit: 10})), ids(others[3:]))
			worker := s.get(builds[0]).Worker
			got := listed(s.list(queue.Filter{AllProjects: true, Worker: worker, Pool: builds[0].Pool, Limit: 10}))
			s.wantIDs("of a worker", sorted(got), sorted(held))
			s.wantIDs("one project", listed(s.list(queue.Filter{Project: "another", Limit: 10})), newestFirst(others))
		},
	},
	{
		"ListSince",
		"Since and Before bound a list: only builds with ids from Since on, and below Before.",
		func(s *subject) {
			builds := s.drafts(10)
			s.submit(builds...)
			s.cancel(builds[5], queue.Canceled)
			all := newestFirst(builds)
			for _, c := range []struct {
				since, before int // of builds, from the oldest on; -1: none
				want          []queue.ID
			}{
				{0, -1, all}, {3, -1, all[:7]}, {9, -1, all[:1]}, {-1, 0, nil}, {3, 7, all[3:7]}, {3, 4, all[6:7]}, {4, 4, nil}, {5, 3, nil},
			} {
				filter := queue.Filter{Project: "project", Limit: 100}
				if c.since >= 0 {
					filter.Since = sorted(ids(builds))[c.since]
				}
				if c.before >= 0 {
					filter.Before = sorted(ids(builds))[c.before]
				}
				s.wantIDs("list", listed(s.list(filter)), c.want)
				filter.States = []queue.State{queue.Canceled}
				s.wantIDs("list of the canceled", listed(s.list(filter)), slices.DeleteFunc(slices.Clone(c.want), func(id queue.ID) bool { return id != builds[5].ID }))
				filter = queue.Filter{AllProjects: true, Since: filter.Since, Before: filter.Before, Limit: 100}
				s.wantIDs("list of all projects", listed(s.list(filter)), c.want)
			}
		},
	},
	{
		"Held",
		"Builds that are held and builds that are queued are both Pending.",
		func(s *subject) {
			held, queued := s.draft(), s.draft()
			s.queued(queued)
			s.submit(held)
			got := s.list(queue.Filter{Project: "project", States: []queue.State{queue.Pending}, Limit: 10})
			s.wantIDs("pending", listed(got), newestFirst([]queue.NewBuild{held, queued}))
		},
	},
	{
		"AttemptsInOrder",
		"Attempts returns the attempts of a build, oldest first; an offer that was not accepted is none.",
		func(s *subject) {
			b := s.draft()
			b.MaxAttempts = 4
			s.queued(b)
			var want []int64
			for i := range 4 {
				session := s.worker()
				s.releases(s.offered(b, session))
				id := s.running(b, s.worker())
				want = append(want, id.Epoch)
				if i < 3 {
					s.ends(report(id, queue.Lost), queue.Pending)
					s.pass(backoff.Max)
					s.maintain(s.rules())
				}
				var got []int64
				for _, a := range s.attempts(b) {
					if a.Build != b.ID || (a.Outcome == 0) != (a.Epoch == id.Epoch && i == 3) {
						s.Errorf("attempt is %s", describeAttempt(a))
					}
					got = append(got, a.Epoch)
				}
				if !slices.Equal(got, want) {
					s.Errorf("attempts have epochs %v, want %v", got, want)
				}
			}
			if got := s.get(b); got.AttemptsUsed != 4 || got.Epoch != 8 {
				s.Errorf("build is %s", describe(got))
			}
		},
	},
	{
		"Specs",
		"Specs returns the specs of claimed builds.",
		func(s *subject) {
			builds := s.drafts(3)
			for i := range builds {
				builds[i].Spec = bytes.Repeat([]byte{byte('a' + i)}, queue.InlineSpec+i)
			}
			s.queued(builds...)
			session := s.worker()
			s.claim(builds[0], session, session, session)
			unknown := queue.NewID()
			specs, err := s.Specs(s.ctx, append(ids(builds), unknown))
			s.must(err)
			for _, b := range builds {
				if !bytes.Equal(specs[b.ID], b.Spec) {
					s.Errorf("spec of %d bytes came back as %d", len(b.Spec), len(specs[b.ID]))
				}
			}
			if _, there := specs[unknown]; there || len(specs) != len(builds) {
				s.Errorf("Specs returned %d specs, want %d", len(specs), len(builds))
			}
		},
	},
	{
		"Ping",
		"Ping returns nil if the backend answers.",
		func(s *subject) { s.must(s.Ping(s.ctx)) },
	},
}

// list lists builds.
func (s *subject) list(f queue.Filter) []queue.Build {
	s.Helper()
	builds, err := s.List(s.ctx, f)
	s.must(err)
	return builds
}

// listed returns the ids of listed builds.
func listed(builds []queue.Build) []queue.ID {
	var all []queue.ID
	for _, b := range builds {
		all = append(all, b.ID)
	}
	return all
}

// newestFirst returns the ids of builds as a list orders them.
func newestFirst(builds []queue.NewBuild) []queue.ID {
	all := sorted(ids(builds))
	slices.Reverse(all)
	return all
}
