package queuetest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/slipway-build/slipway/queue"
)

var limitCases = []testCase{
	{
		"Admitted",
		"A build with a concurrency key is held until Admit lets it go; its claim and its end say so.",
		func(s *subject) {
			known := s.draft()
			s.queued(known)
			b := known
			b.ID, b.ConcurrencyKey = queue.NewID(), "key"
			if done := s.submit(b)[0]; done.Class != 0 || !done.Waiting {
				s.Errorf("Submit returned %+v, want a build that waits to be admitted", done)
			}
			if done := s.maintain(s.rules()); done.Queued != 0 {
				s.Errorf("Maintain queued %d builds that have to be admitted", done.Queued)
			}
			s.wantHead(b, 1)
			s.serve(b)
			done := s.admit()
			s.wantAdmitted(done, 1)
			class := s.class(b.Pool, b.Labels)
			if len(done.Heads) != 1 || done.Heads[0].Class != class || done.Heads[0].Rank != b.Rank(s.now) {
				s.Errorf("Admit returned heads %v, want class %d with rank %d", done.Heads, class, b.Rank(s.now))
			}
			claims := s.take(b)
			if len(claims) != 2 || claims[0].Build != known.ID || claims[0].Admitted || claims[1].Build != b.ID || !claims[1].Admitted {
				s.Fatalf("Claim gave %+v, want a plain build and one that was admitted", claims)
			}
			for _, c := range claims {
				s.accept(c.AttemptID, c.Session)
				ended, err := s.Finish(s.ctx, []queue.Completion{report(c.AttemptID, queue.Succeeded)}, avoid, s.now)
				s.must(err)
				if len(ended) != 1 || ended[0].Admitted != c.Admitted {
					s.Errorf("Finish returned %+v, want admitted %t", ended, c.Admitted)
				}
			}
		},
	},
	{
		"UnknownClass",
		"Maintain makes the class of a build that has to be admitted, and leaves the build to Admit.",
		func(s *subject) {
			b := s.sharing("key", 1)[0]
			if done := s.submit(b)[0]; done.Class != 0 || !done.Waiting {
				s.Errorf("Submit returned %+v, want a build that waits", done)
			}
			s.wantAdmitted(s.admit(), 0)
			if done := s.maintain(s.rules()); done.Interned != 1 || done.Queued != 0 {
				s.Errorf("Maintain did %+v, want one class made", done)
			}
			s.serve(b)
			s.wantAdmitted(s.admit(), 1)
			s.wantIDs("claims", s.taken(b), []queue.ID{b.ID})
		},
	},
	{
		"NoLimit",
		"A key that has no limit is not limited.",
		func(s *subject) {
			builds := s.sharing("key", 20)
			s.wantAdmitted(s.ready(builds...), len(builds))
			s.wantOrder(builds[0], builds)
			if limits, err := s.Limits(s.ctx, "project", "", 10); err != nil || len(limits) != 0 {
				s.Errorf("limits are %v, %v, want none", limits, err)
			}
		},
	},
	{
		"Exact",
		"Builds with a key stay held while those of it that are queued, Offered, Running or Cancelling reach its limit; all are admitted in the end, in order of rank.",
		func(s *subject) {
			const most = 3
			s.limit("key", most)
			builds := s.sharing("key", 10)
			builds[9].Priority = 1
			s.wantAdmitted(s.ready(builds...), most)
			session := s.worker()
			order := []queue.ID{builds[9].ID}
			order = append(order, ids(builds[:9])...)
			for i, want := range order {
				s.wantAdmitted(s.admit(), 0)
				s.wantUsed("key", most, min(most, len(order)-i))
				claimed := s.claim(builds[0], session)
				if len(claimed) != 1 || claimed[0].Build != want {
					s.Fatalf("claim %d is %v, want %v", i, claimed, want)
				}
				id := claimed[0].AttemptID
				s.wantAdmitted(s.admit(), 0)
				s.accept(id, session)
				s.wantAdmitted(s.admit(), 0)
				if i%2 == 1 {
					s.cancel(queue.NewBuild{Project: "project", ID: want}, queue.Cancelling)
					s.wantAdmitted(s.admit(), 0)
				}
				s.ends(report(id, queue.Succeeded), queue.Succeeded)
				s.wantAdmitted(s.admit(), min(1, max(0, len(order)-i-most)))
			}
			s.wantUsed("key", most, 0)
		},
	},
	{
		"EveryEnd",
		"However an admitted build ends, it leaves its room to another.",
		func(s *subject) {
			s.limit("key", 1)
			for name, end := range map[string]func(queue.NewBuild){
				"canceled while queued":  func(b queue.NewBuild) { s.cancel(b, queue.Canceled) },
				"canceled while offered": func(b queue.NewBuild) { s.claim(b, s.worker()); s.cancel(b, queue.Canceled) },
				"expired":                func(queue.NewBuild) { s.pass(2 * time.Hour); s.maintain(s.rules()) },
				"timed out":              func(b queue.NewBuild) { s.running(b, s.worker()); s.pass(2 * runTimeout); s.maintain(s.rules()) },
				"canceled by force": func(b queue.NewBuild) {
					s.running(b, s.worker())
					s.cancel(b, queue.Cancelling)
					s.pass(2 * force)
					s.maintain(s.rules())
				},
				"failed": func(b queue.NewBuild) { s.ends(report(s.running(b, s.worker()), queue.Failed), queue.Failed) },
			} {
				builds := s.sharing("key", 2)
				first, second := builds[0], builds[1]
				first.QueueTimeout = time.Hour
				s.wantAdmitted(s.ready(first, second), 1)
				if end(first); !s.get(first).State.Terminal() {
					s.Errorf("%s: build is %s", name, describe(s.get(first)))
				}
				if done := s.admit(); done.Queued != 1 {
					s.Errorf("%s: Admit queued %d builds, want the one that waited", name, done.Queued)
				}
				s.cancel(second, queue.Canceled)
			}
		},
	},
	{
		"PerProjectAndKey",
		"A limit is of one key of one project, in whatever pools its builds are.",
		func(s *subject) {
			s.limit("key", 2)
			builds, others := s.sharing("key", 2), s.sharing("key", 2)
			s.wantAdmitted(s.ready(slices.Concat(builds, others)...), 2)
			foreign, another, plain := s.sharing("key", 3), s.sharing("KEY", 3), s.drafts(3)
			for i := range foreign {
				foreign[i].Project = "elsewhere"
			}
			s.wantAdmitted(s.ready(slices.Concat(foreign, another)...), 6)
			s.queued(plain...)
			s.wantHead(plain[0], 3)
			s.wantUsed("key", 2, 2)
			for _, b := range slices.Concat(builds, others) {
				s.cancel(b, queue.Canceled)
				s.admit()
			}
			s.wantUsed("key", 2, 0)
		},
	},
	{
		"Lowered",
		"Builds that are beyond a limit that was lowered are not disturbed; no further one is admitted until there is room.",
		func(s *subject) {
			builds := s.sharing("key", 6)
			s.limit("key", 4)
			s.wantAdmitted(s.ready(builds...), 4)
			session := s.worker()
			first := s.running(builds[0], session)
			s.limit("key", 2)
			s.wantAdmitted(s.admit(), 0)
			s.wantUsed("key", 2, 4)
			s.ends(report(first, queue.Succeeded), queue.Succeeded)
			for i, b := range builds[1:4] {
				s.wantUsed("key", 2, 3-i)
				s.wantAdmitted(s.admit(), max(0, i-1))
				s.ends(report(s.running(b, session), queue.Succeeded), queue.Succeeded)
			}
			s.admit()
			s.wantUsed("key", 2, 2)
			s.wantOrder(builds[0], builds[4:])
		},
	},
	{
		"RaisedAndRemoved",
		"A limit that is raised lets in as many more; one that is taken away, all.",
		func(s *subject) {
			builds := s.sharing("key", 9)
			s.limit("key", 1)
			s.wantAdmitted(s.ready(builds...), 1)
			s.limit("key", 4)
			s.wantAdmitted(s.admit(), 3)
			s.limit("key", 0)
			s.wantAdmitted(s.admit(), 5)
			s.limit("key", 0)
			s.wantOrder(builds[0], builds)
		},
	},
	{
		"List",
		"Limits returns the limits of a project with keys above after, in the order of their bytes, at most max.",
		func(s *subject) {
			keys := []string{"B", "a", "a b", "a.b", "b", "é", "日本", "'; --", "%", "10", "9"}
			for i, key := range keys {
				s.limit(key, i+1)
			}
			s.limit("gone", 3)
			s.limit("gone", 0)
			s.limit("a", 20)
			s.must(s.SetLimit(s.ctx, queue.Limit{Project: "elsewhere", Key: "z", Max: 7}))
			var got []string
			for after := ""; ; {
				page, err := s.Limits(s.ctx, "project", after, 3)
				s.must(err)
				if len(page) == 0 {
					break
				}
				for _, l := range page {
					want := slices.Index(keys, l.Key) + 1
					if l.Key == "a" {
						want = 20
					}
					if l.Project != "project" || l.Max != want || l.Used != 0 {
						s.Errorf("limit is %+v, want %d", l, want)
					}
					got = append(got, l.Key)
					after = l.Key
				}
			}
			slices.Sort(keys)
			if !slices.Equal(got, keys) {
				s.Errorf("keys are %q, want %q", got, keys)
			}
		},
	},
	{
		"Steps",
		"Admit looks at lanes in order, from the one after the given on, at most at max of them, and moves at most max builds.",
		func(s *subject) {
			var builds []queue.NewBuild
			for i := range 10 {
				builds = append(builds, s.sharing(fmt.Sprint("key ", i), 1+i%3)...)
			}
			s.submit(builds...)
			s.maintain(s.rules())
			s.serve(builds...)
			s.wantAdmitted(s.admitInSteps(2), len(builds))
			for _, b := range builds {
				if got := s.taken(b); len(got) == 0 {
					continue
				}
				s.wantHead(b, 0)
			}
			s.wantAdmitted(s.admitInSteps(1), 0)
		},
	},
	{
		"Turns",
		"What one call of Admit has decided by counting holds until it has committed: calls that begin at different lanes of a key at once do not give its room away twice.",
		func(s *subject) {
			const most, rounds = 2, 20
			s.limit("key", most)
			pools := make([][]queue.NewBuild, crowd)
			for i := range pools {
				pools[i] = s.sharing("key", most*rounds)
				for j := range pools[i] {
					pools[i][j].Priority = (i + j) % 3
				}
			}
			slices.SortFunc(pools, func(x, y []queue.NewBuild) int { return strings.Compare(x[0].Pool, y[0].Pool) })
			all := slices.Concat(pools...)
			s.submit(all...)
			s.maintain(s.rules())
			s.serve(all...)
			slots := s.slots(most)
			for range rounds {
				s.together(func(ctx context.Context, i int) error {
					var after queue.Lane
					if i > 0 {
						b := pools[i-1][0]
						after = queue.Lane{Pool: b.Pool, Project: b.Project, Key: b.ConcurrencyKey}
					}
					_, err := s.Admit(ctx, after, 100, s.now)
					return err
				})
				s.wantUsed("key", most, most)
				for _, pool := range pools {
					for _, c := range s.claim(pool[0], slots...) {
						s.ends(report(c.AttemptID, queue.Succeeded), queue.Succeeded)
					}
				}
			}
		},
	},
	{
		"Race",
		"What Admit has decided by counting holds until it has committed: however many admit, claim and finish at once, a key is never over its limit, and all its builds end.",
		func(s *subject) {
			const most, n = 3, 60
			s.limit("key", most)
			builds := s.sharing("key", n)
			s.ready(builds...)
			class := s.class(builds[0].Pool, builds[0].Labels)
			var sessions []queue.SessionID
			for range crowd {
				sessions = append(sessions, s.worker())
			}
			var held, ended atomic.Int64
			s.together(func(ctx context.Context, i int) error {
				for ended.Load() < n {
					if _, err := s.Admit(ctx, queue.Lane{}, 100, s.now); err != nil {
						return err
					}
					claimed, err := s.Claim(ctx, []queue.Demand{demand(class, sessions[i], sessions[i])}, offerTime, s.now)
					if err != nil {
						return err
					}
					if now := held.Add(int64(len(claimed))); now > most {
						return fmt.Errorf("%d builds of a key with limit %d are claimed", now, most)
					}
					limits, err := s.Limits(ctx, "project", "", 1)
					if err != nil || len(limits) != 1 || limits[0].Used > most {
						return fmt.Errorf("limits are %+v, %w", limits, err)
					}
					for _, c := range claimed {
						held.Add(-1) // it leaves its room with the end of the call
						done, err := s.work(ctx, c)
						if err != nil {
							return err
						}
						if done {
							ended.Add(1)
						}
					}
				}
				return nil
			})
			for _, b := range builds {
				s.wantState(b, queue.Succeeded)
			}
			s.wantUsed("key", most, 0)
		},
	},
}
