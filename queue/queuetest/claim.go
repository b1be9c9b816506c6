package queuetest

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/slipway-build/slipway/queue"
)

var claimCases = []testCase{
	{
		"Offered",
		"Claim raises the epoch and makes the build Offered.",
		func(s *subject) {
			b := s.draft()
			b.Source = &queue.Source{Digest: queue.Digest{9}, Size: 77}
			s.queued(b)
			facts := s.facts()
			session := s.open(facts)
			claimed := s.claim(b, session)
			if len(claimed) != 1 {
				s.Fatalf("Claim returned %v, want one build", claimed)
			}
			c := claimed[0]
			if c.AttemptID != (queue.AttemptID{Build: b.ID, Epoch: 1}) || c.Session != session || c.Class != s.class(b.Pool, b.Labels) || c.Project != b.Project || c.Pool != b.Pool ||
				!bytes.Equal(c.Spec, b.Spec) || c.SpecSize != len(b.Spec) || c.Source == nil || *c.Source != *b.Source || c.RunTimeout != b.RunTimeout {
				s.Errorf("Claim returned %+v for %+v", c, b)
			}
			got := s.get(b)
			if got.State != queue.Offered || got.Epoch != 1 || got.Worker != facts.Worker || got.AttemptsUsed != 0 || !got.StartedAt.IsZero() {
				s.Errorf("build is %s", describe(got))
			}
			if rows := s.attempts(b); len(rows) != 0 {
				s.Errorf("an offer is an attempt: %v", rows)
			}
			s.wantHead(b, 0)
		},
	},
	{
		"Metadata",
		"A claim tells a build's metadata, and which attempt it is: those that were used before, and this one if it is Running.",
		func(s *subject) {
			b := s.draft()
			b.Metadata = map[string]string{"commit": "0123", "title": "what \"it\" says"}
			b.Backoff = queue.Backoff{}
			s.queued(b)
			for i, attempt := range []int{0, 2, 2} {
				facts := s.facts()
				facts.Direct = i == 1
				session := s.open(facts)
				claimed := s.claim(b, session)
				if len(claimed) != 1 || claimed[0].Attempt != attempt || !maps.Equal(claimed[0].Metadata, b.Metadata) {
					s.Fatalf("claim %d returned %+v, want attempt %d", i, claimed, attempt)
				}
				if claimed[0].Admitted {
					s.Errorf("a build that nobody had to admit was admitted")
				}
				if !facts.Direct {
					s.accept(claimed[0].AttemptID, session)
				}
				s.finish(report(claimed[0].AttemptID, queue.Lost))
			}
		},
	},
	{
		"NoSource",
		"A build has no source if it needs none.",
		func(s *subject) {
			b := s.draft()
			s.queued(b)
			if claimed := s.claim(b, s.worker()); len(claimed) != 1 || claimed[0].Source != nil {
				s.Errorf("Claim returned %+v", claimed)
			}
			if got := s.get(b); got.Source != nil {
				s.Errorf("build is %s", describe(got))
			}
		},
	},
	{
		"Direct",
		"Claim makes the build Running at once if the session is direct.",
		func(s *subject) {
			b := s.draft()
			s.queued(b)
			facts := s.facts()
			facts.Direct = true
			session := s.open(facts)
			id := s.offered(b, session)
			got := s.get(b)
			if got.State != queue.Running || got.AttemptsUsed != 1 || !got.StartedAt.Equal(s.now) {
				s.Errorf("build is %s", describe(got))
			}
			rows := s.attempts(b)
			if len(rows) != 1 || rows[0].AttemptID != id || rows[0].Worker != facts.Worker || !rows[0].StartedAt.Equal(s.now) {
				s.Errorf("attempts are %v", rows)
			}
			s.ends(report(id, queue.Succeeded), queue.Succeeded)
		},
	},
	{
		"LowestRankFirst",
		"Claim gives the lowest rank first within a class, one build a slot.",
		func(s *subject) {
			builds := s.drafts(5)
			s.queued(builds...)
			session := s.worker()
			s.wantIDs("first two", sorted(s.claimIDs(builds[0], session, session)), sorted(ids(builds[:2])))
			s.wantIDs("next", s.claimIDs(builds[0], session), ids(builds[2:3]))
			s.wantIDs("rest", sorted(s.claimIDs(builds[0], session, session, session, session)), sorted(ids(builds[3:])))
			s.wantIDs("nothing left", s.claimIDs(builds[0], session), nil)
		},
	},
	{
		"OrderInABatch",
		"Builds that are submitted together, and so have one rank, are claimed in the order of their ids.",
		func(s *subject) {
			builds := s.drafts(6)
			builds[0], builds[4] = builds[4], builds[0]
			builds[1], builds[3] = builds[3], builds[1]
			s.submit(builds...)
			s.maintain(s.rules())
			session := s.worker()
			var got []queue.ID
			for range builds {
				got = append(got, s.claimIDs(builds[0], session)...)
			}
			s.wantIDs("claims", got, sorted(ids(builds)))
		},
	},
	{
		"OneBuildASlot",
		"A session stands in a demand once for each idle slot: no session gets more builds than it has slots there.",
		func(s *subject) {
			builds := s.drafts(10)
			s.queued(builds...)
			one, two := s.worker(), s.worker()
			got := make(map[queue.SessionID]int)
			for _, c := range s.claim(builds[0], one, two, two) {
				got[c.Session]++
			}
			if got[one] != 1 || got[two] != 2 {
				s.Errorf("sessions got %v builds, want 1 and 2", got)
			}
			s.wantHead(builds[0], 7)
		},
	},
	{
		"SeveralClasses",
		"Claim gives each session builds of the classes that are demanded for it.",
		func(s *subject) {
			left, right := s.drafts(3), s.drafts(3)
			s.queued(append(slices.Clone(left), right...)...)
			one, two := s.worker(), s.worker()
			claimed, err := s.Claim(s.ctx, []queue.Demand{
				demand(s.class(left[0].Pool, left[0].Labels), one, one),
				demand(s.class(right[0].Pool, right[0].Labels), two),
				demand(1<<30, two),
			}, offerTime, s.now)
			s.must(err)
			got := make(map[queue.SessionID][]queue.ID)
			for _, c := range claimed {
				got[c.Session] = append(got[c.Session], c.Build)
			}
			s.wantIDs("first class", sorted(got[one]), sorted(ids(left[:2])))
			s.wantIDs("second class", got[two], ids(right[:1]))
		},
	},
	{
		"Nothing",
		"Claim gives queued builds only.",
		func(s *subject) {
			held, gone := s.draft(), s.draft()
			s.queued(gone)
			s.cancel(gone, queue.Canceled)
			s.submit(held)
			session := s.worker()
			s.wantIDs("a canceled build", s.claimIDs(gone, session), nil)
			s.wantIDs("a held build", s.claimIDs(held, session), nil)
			claimed, err := s.Claim(s.ctx, nil, offerTime, s.now)
			s.must(err)
			if len(claimed) != 0 {
				s.Errorf("Claim without demand returned %v", claimed)
			}
		},
	},
	{
		"EndedSession",
		"A session that has ended gets nothing.",
		func(s *subject) {
			builds := s.drafts(2)
			s.queued(builds...)
			facts := s.facts()
			lost, replaced, live := s.worker(), s.open(facts), s.worker()
			s.open(facts)
			s.must(s.LoseSessions(s.ctx, []queue.SessionID{lost}, s.now))
			for name, session := range map[string]queue.SessionID{"lost": lost, "replaced": replaced, "unknown": 1 << 40} {
				s.wantIDs(name, s.claimIDs(builds[0], session), nil)
			}
			got := 0
			for range 2 {
				for _, c := range s.claim(builds[0], lost, live, replaced) {
					if got++; c.Session != live {
						s.Errorf("session %d, which has ended, got a build", c.Session)
					}
				}
			}
			if got != 2 {
				s.Errorf("the live session got %d builds, want 2", got)
			}
		},
	},
	{
		"EpochGrows",
		"The epoch grows by one at each claim and is never reset.",
		func(s *subject) {
			b := s.draft()
			s.queued(b)
			for want := int64(1); want <= 4; want++ {
				session := s.worker()
				id := s.offered(b, session)
				if id.Epoch != want {
					s.Fatalf("claim %d has epoch %d", want, id.Epoch)
				}
				if want%2 == 0 {
					s.accept(id, session)
					s.ends(report(id, queue.Lost), queue.Pending)
					s.pass(time.Hour)
					s.maintain(s.rules())
				} else if !s.releases(id) {
					s.Fatalf("Release of %v returned nothing", id)
				}
				if got := s.get(b).Epoch; got != want {
					s.Errorf("epoch is %d after the attempt, want %d", got, want)
				}
			}
		},
	},
	{
		"Specs",
		"Claim returns specs of at most InlineSpec bytes; larger ones are read with Specs.",
		func(s *subject) {
			session := s.worker()
			for _, spec := range specs() {
				b := s.draft()
				b.Spec = spec
				s.queued(b)
				claimed := s.claim(b, session)
				if len(claimed) != 1 || claimed[0].SpecSize != len(spec) {
					s.Fatalf("Claim of a spec of %d bytes returned %+v", len(spec), claimed)
				}
				if got := claimed[0].Spec; len(spec) > queue.InlineSpec && got != nil || len(spec) <= queue.InlineSpec && !bytes.Equal(got, spec) {
					s.Errorf("Claim returned %d bytes of a spec of %d", len(got), len(spec))
				}
				found, err := s.Specs(s.ctx, []queue.ID{b.ID})
				s.must(err)
				if !bytes.Equal(found[b.ID], spec) {
					s.Errorf("Specs returned %d bytes of a spec of %d", len(found[b.ID]), len(spec))
				}
			}
		},
	},
	{
		"Probe",
		"Probe tells which of the classes have queued builds within reach, and the ranks of the first of them, max of each class at most.",
		func(s *subject) {
			first, second, empty, other := s.drafts(1), s.drafts(5), s.drafts(1), s.drafts(1)
			s.queued(first[0], second[0], empty[0], other[0], second[1], second[2], second[3], second[4])
			s.offered(empty[0], s.worker())
			class := func(b []queue.NewBuild) queue.ClassID { return s.class(b[0].Pool, b[0].Labels) }
			fronts, err := s.Probe(s.ctx, []queue.Reach{reach(class(second)), reach(class(first)), reach(class(empty)), reach(1 << 30)}, 3)
			s.must(err)
			rank := func(b []queue.NewBuild, i int) int64 { return s.get(b[i]).CreatedAt.UnixMicro() }
			want := []queue.Front{
				{Class: class(first), Ranks: []int64{rank(first, 0)}},
				{Class: class(second), Ranks: []int64{rank(second, 0), rank(second, 1), rank(second, 2)}},
			}
			if fmt.Sprint(fronts) != fmt.Sprint(want) {
				s.Errorf("Probe returned %v, want %v", fronts, want)
			}
		},
	},
}
