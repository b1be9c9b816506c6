package queuetest

import (
	"time"

	"github.com/slipway-build/slipway/queue"
)

var slotCases = []testCase{
	{
		"Started",
		"A build that comes with a slot is given to that session at its submit, as Claim would do it.",
		func(s *subject) {
			b, session := s.slotted()
			b.Source, b.QueueTimeout = &queue.Source{Digest: queue.Digest{9}, Size: 77}, time.Minute
			done := s.submit(b)
			want := queue.Submitted{ID: b.ID, Class: s.class(b.Pool, b.Labels), Rank: b.Rank(s.now), Started: true}
			if done[0] != want {
				s.Errorf("Submit returned %+v, want %+v", done[0], want)
			}
			id := queue.AttemptID{Build: b.ID, Epoch: 1}
			got := s.get(b)
			if got.State != queue.Running || got.Epoch != 1 || got.AttemptsUsed != 1 || !got.StartedAt.Equal(s.now) || !got.CreatedAt.Equal(s.now) {
				s.Errorf("build is %s", describe(got))
			}
			if rows := s.attempts(b); len(rows) != 1 || rows[0].AttemptID != id || rows[0].Worker != got.Worker || !rows[0].StartedAt.Equal(s.now) {
				s.Errorf("attempts are %v", rows)
			}
			lease, err := s.Lease(s.ctx, id)
			s.must(err)
			if lease.Session != session || lease.State != queue.Running || lease.Source == nil || *lease.Source != *b.Source {
				s.Errorf("the lease is %+v", lease)
			}
			s.wantHead(b, 0)
			s.pass(2 * time.Minute)
			s.maintain(s.rules()) // it does not wait any more
			s.ends(report(id, queue.Succeeded), queue.Succeeded)
		},
	},
	{
		"TimesOut",
		"What started at its submit is awaited until the slack after the end of its run timeout.",
		func(s *subject) {
			b, _ := s.slotted()
			s.starts(b, true)
			s.pass(runTimeout + slack - time.Second)
			s.maintain(s.rules())
			s.wantState(b, queue.Running)
			s.pass(2 * time.Second)
			s.maintain(s.rules())
			s.wantState(b, queue.TimedOut)
		},
	},
	{
		"Lost",
		"What started at its submit is attempted again when it is lost, also with its session.",
		func(s *subject) {
			b, session := s.slotted()
			builds := s.like(b, 2)
			sweeper := s.fresh()
			s.alive(2*grace, sweeper)
			for _, b := range builds {
				s.starts(b, true)
			}
			s.ends(report(queue.AttemptID{Build: builds[0].ID, Epoch: 1}, queue.Lost), queue.Pending)
			s.must(s.LoseSessions(s.ctx, []queue.SessionID{session}, s.now))
			if done := s.sweep(sweeper, grace+time.Second); done.Requeued != 1 || done.Lost != 0 {
				s.Errorf("Maintain did %+v, want one build requeued", done)
			}
			s.pass(backoff.Base + time.Second)
			s.maintain(s.rules())
			for range builds {
				if claimed := s.claim(b, s.worker()); len(claimed) != 1 || claimed[0].Epoch != 2 || claimed[0].Attempt != 1 {
					s.Errorf("Claim returned %+v, want a second attempt", claimed)
				}
			}
		},
	},
	{
		"LowerRankFirst",
		"Where a build was queued in the class before, within reach and with a lower rank, the new one is queued.",
		func(s *subject) {
			b, _ := s.slotted()
			builds := s.like(b, 5)
			b.Slot = queue.Slot{}
			s.starts(b, false)
			s.starts(builds[0], false)
			builds[1].Priority = 1
			s.starts(builds[1], true) // of a lower rank itself
			builds[2].Slot.Floor = builds[2].Rank(s.now)
			s.starts(builds[2], true) // with all others out of reach
			s.wantIDs("claim", s.claimIDs(b, s.worker(), s.worker()), []queue.ID{b.ID, builds[0].ID})
			s.starts(builds[3], true)
		},
	},
	{
		"Together",
		"Builds that are submitted together start if they come with slots, whatever the ranks of the others, and the others are queued.",
		func(s *subject) {
			b, _ := s.slotted()
			builds := s.like(b, 4)
			builds[1].Slot, builds[3].Slot = queue.Slot{}, queue.Slot{}
			builds[1].Priority = 5
			for i, got := range s.submit(builds...) {
				if got.ID != builds[i].ID || got.Class == 0 || got.Started != (i%2 == 0) {
					s.Errorf("of build %d Submit returned %+v", i, got)
				}
			}
			s.wantIDs("claim", s.claimIDs(b, s.worker(), s.worker(), s.worker()), []queue.ID{builds[1].ID, builds[3].ID})
		},
	},
	{
		"Kept",
		"A slot changes nothing for a build that is not queued at its submit: of an unknown class, scheduled, with a concurrency key, of a " +
			"fair pool or of a paused project.",
		func(s *subject) {
			b, _ := s.slotted()
			builds := s.like(b, 5)
			builds[0].Labels = queue.Labels{"class": "unknown"}
			builds[1].NotBefore = s.now.Add(time.Hour)
			builds[2].ConcurrencyKey = "key"
			builds[3].Project = "paused"
			s.pauseProject("paused", true)
			for _, b := range builds[:4] {
				s.starts(b, false)
			}
			s.makeFair(b.Pool, true)
			s.starts(builds[4], false)
			for i := range builds {
				s.wantState(builds[i], queue.Pending)
			}
		},
	},
	{
		"PausedPool",
		"In a paused pool no build starts at its submit; it is queued, and claimed when the pause is over.",
		func(s *subject) {
			b, session := s.slotted()
			s.pausePool(b.Pool, true)
			s.starts(b, false)
			s.pausePool(b.Pool, false)
			s.wantIDs("claim", s.claimIDs(b, session), []queue.ID{b.ID})
		},
	},
	{
		"NoSession",
		"No build starts in a slot of a session that has ended, is not direct or does not exist: it is queued.",
		func(s *subject) {
			b, session := s.slotted()
			builds := s.like(b, 3)
			s.must(s.LoseSessions(s.ctx, []queue.SessionID{session}, s.now))
			builds[1].Slot.Session = s.worker()
			builds[2].Slot.Session = 1 << 40
			for _, b := range builds {
				s.starts(b, false)
			}
			s.wantHead(b, 3)
		},
	},
	{
		"IdempotencyKey",
		"In a call with idempotency keys slots change nothing.",
		func(s *subject) {
			b, _ := s.slotted()
			builds := s.like(b, 2)
			builds[0].IdempotencyKey, builds[0].IdempotencyHash = "key", queue.Digest{1}
			for i, got := range s.submit(builds...) {
				if got.Started {
					s.Errorf("build %d started", i)
				}
			}
			s.wantHead(b, 2)
			again := s.like(b, 1)
			again[0].IdempotencyKey, again[0].IdempotencyHash = "key", queue.Digest{1}
			if got := s.submit(again...); got[0] != (queue.Submitted{ID: builds[0].ID}) {
				s.Errorf("Submit of a key that is known returned %+v", got)
			}
		},
	},
	{
		"Conflict",
		"If an id is taken nothing is inserted, and nothing starts.",
		func(s *subject) {
			b, _ := s.slotted()
			s.starts(b, true)
			builds := append(s.like(b, 2), b)
			s.wantErr(s.submitErr(builds...), queue.ErrConflict)
			for _, b := range builds[:2] {
				_, err := s.Get(s.ctx, b.Project, b.ID)
				s.wantErr(err, queue.ErrNotFound)
			}
			s.ends(report(queue.AttemptID{Build: b.ID, Epoch: 1}, queue.Succeeded), queue.Succeeded)
		},
	},
}

// slotted returns a build of a known class with a slot of a new direct session.
func (s *subject) slotted() (queue.NewBuild, queue.SessionID) {
	s.Helper()
	b := s.draft()
	known := s.like(b, 1)
	s.queued(known...)
	s.cancel(known[0], queue.Canceled)
	facts := s.facts()
	facts.Direct = true
	session := s.open(facts)
	b.Slot = queue.Slot{Session: session, Floor: queue.NoFloor, Slack: slack}
	return b, session
}

// like returns other builds that are like b.
func (s *subject) like(b queue.NewBuild, n int) []queue.NewBuild {
	builds := s.drafts(n)
	for i := range builds {
		id := builds[i].ID
		builds[i] = b
		builds[i].ID = id
	}
	return builds
}

// starts submits a build alone and checks whether it starts.
func (s *subject) starts(b queue.NewBuild, want bool) {
	s.Helper()
	done := s.submit(b)
	if done[0].Started != want {
		s.Errorf("Submit returned %+v, want Started to be %v", done[0], want)
	}
	state := queue.Pending
	if want {
		state = queue.Running
	}
	s.wantState(b, state)
}
