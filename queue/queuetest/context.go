package queuetest

import (
	"context"
	"time"

	"github.com/slipway-build/slipway/queue"
)

var contextCases = []testCase{
	{
		"Ended",
		"Every method ends when ctx ends, with an error, and has then made its change wholly or not at all: a context that has ended changes nothing.",
		func(s *subject) {
			builds := []queue.NewBuild{s.draft(), s.draft(), s.draft(), s.draft()}
			s.queued(builds...)
			facts := s.facts()
			session := s.open(facts)
			offered, running := s.offered(builds[1], session), s.running(builds[2], session)
			s.reserve(queue.NewArtifact{AttemptID: running, Name: "name"})
			s.running(builds[3], session)
			ctx, cancel := context.WithCancel(s.ctx)
			cancel()
			s.unchanged("a call with a context that has ended", func() {
				for name, call := range s.writes(builds, facts, session, offered, running) {
					if call(ctx) == nil {
						s.Errorf("%s returned no error", name)
					}
				}
				for name, call := range s.reads(builds[2], running) {
					if call(ctx) == nil {
						s.Errorf("%s returned no error", name)
					}
				}
			}, builds...)
			s.wantHead(builds[0], 1)
			s.wantIDs("list", listed(s.list(queue.Filter{Project: "project", Limit: 100})), newestFirst(builds))
			s.wantIDs("claim by the session", s.claimIDs(builds[0], session), ids(builds[:1]))
		},
	},
	{
		"Reads",
		"A read with a context that lasts returns no error.",
		func(s *subject) {
			b := s.draft()
			s.queued(b)
			for name, call := range s.reads(b, s.running(b, s.worker())) {
				if err := call(s.ctx); err != nil {
					s.Errorf("%s: %v", name, err)
				}
			}
		},
	},
}

// writes returns a call of each method that changes something. The builds are queued, offered, and twice running.
func (s *subject) writes(
	builds []queue.NewBuild, facts queue.NewSession, session queue.SessionID, offered, running queue.AttemptID,
) map[string]func(context.Context) error {
	class, fresh := s.class(builds[0].Pool, builds[0].Labels), s.draft()
	return map[string]func(context.Context) error{
		"Submit": func(ctx context.Context) error {
			_, err := s.Submit(ctx, []queue.NewBuild{fresh}, s.now)
			return err
		},
		"Claim": func(ctx context.Context) error {
			_, err := s.Claim(ctx, []queue.Demand{demand(class, session)}, offerTime, s.now)
			return err
		},
		"Accept": func(ctx context.Context) error {
			_, err := s.Accept(ctx, []queue.Acceptance{acceptance(offered, session)}, s.now)
			return err
		},
		"Release": func(ctx context.Context) error {
			_, err := s.Release(ctx, []queue.AttemptID{offered}, avoid, s.now)
			return err
		},
		"Finish": func(ctx context.Context) error {
			_, err := s.Finish(ctx, []queue.Completion{report(running, queue.Succeeded)}, avoid, s.now)
			return err
		},
		"Cancel": func(ctx context.Context) error {
			_, err := s.Cancel(ctx, builds[0].Project, ids(builds[:1]), "", force, s.now)
			return err
		},
		"Maintain": func(ctx context.Context) error {
			_, err := s.Maintain(ctx, s.rules(), s.now.Add(2*runTimeout))
			return err
		},
		"Beat": func(ctx context.Context) error {
			_, err := s.Beat(ctx, facts.Controller, ttl, s.now)
			return err
		},
		"OpenSessions": func(ctx context.Context) error {
			_, err := s.OpenSessions(ctx, []queue.NewSession{facts}, s.now)
			return err
		},
		"Adopt": func(ctx context.Context) error {
			_, err := s.Adopt(ctx, session, nil, s.now)
			return err
		},
		"LoseSessions": func(ctx context.Context) error { return s.LoseSessions(ctx, []queue.SessionID{session}, s.now) },
		"AppendLogs": func(ctx context.Context) error {
			_, err := s.AppendLogs(ctx, []queue.LogChunk{{AttemptID: running, Data: []byte("text")}}, roomy, s.now)
			return err
		},
		"ReserveArtifact": func(ctx context.Context) error {
			_, err := s.ReserveArtifact(ctx, queue.NewArtifact{AttemptID: running, Name: "other"}, s.now)
			return err
		},
		"Admit": func(ctx context.Context) error {
			_, err := s.Admit(ctx, queue.Lane{}, 10, s.now)
			return err
		},
		"ChangePool": func(ctx context.Context) error {
			return s.ChangePool(ctx, builds[0].Pool, queue.PoolChange{Paused: new(true), Fair: new(true)})
		},
		"ChangeProject": func(ctx context.Context) error {
			return s.ChangeProject(ctx, builds[0].Project, queue.ProjectChange{Paused: new(true)})
		},
		"SetLimit": func(ctx context.Context) error {
			return s.SetLimit(ctx, queue.Limit{Project: builds[0].Project, Key: "key", Max: 1})
		},
		"Serve": func(ctx context.Context) error { return s.Serve(ctx, []queue.ClassID{class}, time.Hour, s.now) },
		"ClosedLogs": func(ctx context.Context) error {
			_, err := s.ClosedLogs(ctx, 10, time.Hour, s.now)
			return err
		},
		"DroppedLogs": func(ctx context.Context) error {
			_, err := s.DroppedLogs(ctx, 10, time.Hour, s.now)
			return err
		},
		"ForgetLogs":      func(ctx context.Context) error { return s.ForgetLogs(ctx, []queue.AttemptID{running}) },
		"ArchiveLog":      func(ctx context.Context) error { return s.ArchiveLog(ctx, running) },
		"ReleaseArtifact": func(ctx context.Context) error { return s.ReleaseArtifact(ctx, running, "name", s.now) },
		"CommitArtifact": func(ctx context.Context) error {
			_, err := s.CommitArtifact(ctx, running, "name", s.now)
			return err
		},
	}
}

// reads returns a call of each method that reads.
func (s *subject) reads(b queue.NewBuild, running queue.AttemptID) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"Probe":         func(ctx context.Context) error { _, err := s.Probe(ctx, []queue.Reach{reach(1)}, 10); return err },
		"Leases":        func(ctx context.Context) error { _, err := s.Leases(ctx, queue.NewID(), false); return err },
		"Lease":         func(ctx context.Context) error { _, err := s.Lease(ctx, running); return err },
		"ReadLog":       func(ctx context.Context) error { _, err := s.ReadLog(ctx, b.Project, running, 0, 10); return err },
		"ListArtifacts": func(ctx context.Context) error { _, err := s.ListArtifacts(ctx, b.Project, running); return err },
		"Get":           func(ctx context.Context) error { _, err := s.Get(ctx, b.Project, b.ID); return err },
		"List": func(ctx context.Context) error {
			_, err := s.List(ctx, queue.Filter{Project: b.Project, Limit: 1})
			return err
		},
		"Attempts": func(ctx context.Context) error { _, err := s.Attempts(ctx, b.Project, b.ID); return err },
		"Classes":  func(ctx context.Context) error { _, err := s.Classes(ctx, 0, 10); return err },
		"Specs":    func(ctx context.Context) error { _, err := s.Specs(ctx, []queue.ID{b.ID}); return err },
		"Pools":    func(ctx context.Context) error { _, err := s.Pools(ctx); return err },
		"Projects": func(ctx context.Context) error { _, err := s.Projects(ctx, "", 10); return err },
		"Limits":   func(ctx context.Context) error { _, err := s.Limits(ctx, b.Project, "", 10); return err },
		"Stats": func(ctx context.Context) error {
			_, err := s.Stats(ctx, b.Project, today(s.now), today(s.now))
			return err
		},
		"Explain": func(ctx context.Context) error { _, err := s.Explain(ctx, b.Project, b.ID, s.now); return err },
		"Ping":    s.Ping,
	}
}
