package faultcalls

import (
	"context"
	"errors"
	"time"

	"github.com/slipway-build/slipway/queue"
)

// A Call is one call of a backend on a scene.
type Call struct {
	Name string
	// InSteps says that the call makes its changes in several transactions.
	InSteps bool

	prepare func(context.Context, *Scene) error
	make    func(context.Context, *Scene, queue.Backend) (any, error)
	anew    bool // a second call changes something, too
}

// Calls returns every call: those that change something, and then those that do not.
func Calls() []*Call { return append(Changes(), reads()...) }

// Named returns the call of that name.
func Named(name string) *Call {
	for _, c := range Calls() {
		if c.Name == name {
			return c
		}
	}
	panic("faultcalls: there is no call " + name)
}

// Changes returns the calls that change something.
func Changes() []*Call {
	var all []*Call
	for _, some := range [][]*Call{transitions, maintenance, admission, sessions, outputs} {
		all = append(all, some...)
	}
	return all
}

var transitions = []*Call{
	{Name: "Submit", make: func(ctx context.Context, s *Scene, b queue.Backend) (any, error) {
		return b.Submit(ctx, []queue.NewBuild{s.build(10, "pool", 0), s.build(11, "new", 0)}, s.now)
	}},
	{Name: "SubmitSlots", prepare: func(ctx context.Context, s *Scene) error {
		facts := s.facts()
		facts.Worker, facts.Direct = "direct", true
		var err error
		if s.direct, err = open(ctx, s, facts, s.now); err != nil {
			return err
		}
		_, err = s.Cancel(ctx, project, []queue.ID{s.queued}, "", force, s.now)
		return err
	}, make: func(ctx context.Context, s *Scene, b queue.Backend) (any, error) {
		builds := []queue.NewBuild{s.build(10, "pool", 0), s.build(11, "pool", 0), s.build(12, "new", 0)}
		for i := range builds[1:] {
			builds[i+1].Slot = queue.Slot{Session: s.direct, Floor: queue.NoFloor, Slack: time.Second}
		}
		return b.Submit(ctx, builds, s.now)
	}},
	{Name: "SubmitKeyed", make: func(ctx context.Context, s *Scene, b queue.Backend) (any, error) {
		n := s.build(10, "pool", 0)
		n.IdempotencyKey, n.IdempotencyHash = "once", queue.Digest{3}
		return b.Submit(ctx, []queue.NewBuild{n}, s.now)
	}},
	{Name: "Claim", make: func(ctx context.Context, s *Scene, b queue.Backend) (any, error) { return s.claim(ctx, b) }},
	{Name: "Accept", make: func(ctx context.Context, s *Scene, b queue.Backend) (any, error) {
		return s.accept(ctx, b, s.offered, s.running)
	}},
	{Name: "Release", make: func(ctx context.Context, s *Scene, b queue.Backend) (any, error) {
		return b.Release(ctx, []queue.AttemptID{s.offered}, avoid, s.now)
	}},
	{Name: "Finish", make: func(ctx context.Context, s *Scene, b queue.Backend) (any, error) {
		return b.Finish(ctx, []queue.Completion{
			{AttemptID: s.running, Outcome: queue.Succeeded, LogLength: 5}, {AttemptID: s.cancelling, Outcome: queue.Lost},
		}, avoid, s.now)
	}},
	{Name: "FinishLost", make: func(ctx context.Context, s *Scene, b queue.Backend) (any, error) {
		return b.Finish(ctx, []queue.Completion{{AttemptID: s.running, Outcome: queue.Lost}}, avoid, s.now)
	}},
	{Name: "Cancel", make: func(ctx context.Context, s *Scene, b queue.Backend) (any, error) {
		return b.Cancel(ctx, project, []queue.ID{s.queued, s.running.Build, s.offered.Build}, "not wanted", force, s.now)
	}},
}

var maintenance = []*Call{
	{Name: "Maintain", InSteps: true, make: func(ctx context.Context, s *Scene, b queue.Backend) (any, error) {
		return b.Maintain(ctx, s.rules(), s.now.Add(90*time.Second)) // the offer and the cancel have run out, there is a class to be made
	}},
	{Name: "MaintainLate", InSteps: true, make: func(ctx context.Context, s *Scene, b queue.Backend) (any, error) {
		return b.Maintain(ctx, s.rules(), s.now.Add(2*time.Hour)) // everything has run out
	}},
	{
		Name: "Retire", InSteps: true,
		prepare: finish,
		make: func(ctx context.Context, s *Scene, b queue.Backend) (any, error) {
			rules := s.rules()
			rules.Retention = time.Minute
			return b.Maintain(ctx, rules, s.now.Add(2*time.Minute))
		},
	},
	{
		Name: "RetireArchived", InSteps: true,
		prepare: archive,
		make: func(ctx context.Context, s *Scene, b queue.Backend) (any, error) {
			rules := s.rules()
			rules.Retention = time.Minute
			return b.Maintain(ctx, rules, s.now.Add(2*time.Minute))
		},
	},
	{
		Name: "Sweep", InSteps: true,
		prepare: func(ctx context.Context, s *Scene) error {
			return s.LoseSessions(ctx, []queue.SessionID{s.session}, s.now)
		},
		make: func(ctx context.Context, s *Scene, b queue.Backend) (any, error) {
			return b.Maintain(ctx, s.rules(), s.now.Add(grace+time.Second))
		},
	},
}

var admission = []*Call{
	{
		Name: "Admit",
		prepare: func(ctx context.Context, s *Scene) error {
			n := s.build(6, "pool", 0)
			n.ConcurrencyKey = key
			_, err := s.Submit(ctx, []queue.NewBuild{n}, s.now)
			return errors.Join(err, s.SetLimit(ctx, queue.Limit{Project: project, Key: key, Max: 1}),
				s.Serve(ctx, []queue.ClassID{s.class}, time.Hour, s.now))
		},
		make: func(ctx context.Context, s *Scene, b queue.Backend) (any, error) {
			return b.Admit(ctx, queue.Lane{}, 10, s.now)
		},
	},
	{Name: "ChangePool", make: func(ctx context.Context, _ *Scene, b queue.Backend) (any, error) {
		change := queue.PoolChange{Paused: new(true), Fair: new(true), Weights: map[string]int{project: 2, "other": 3}}
		return nil, b.ChangePool(ctx, "pool", change)
	}},
	{Name: "ChangeProject", make: func(ctx context.Context, _ *Scene, b queue.Backend) (any, error) {
		return nil, b.ChangeProject(ctx, project, queue.ProjectChange{Paused: new(true), ArtifactQuota: new(int64(10))})
	}},
	{Name: "SetLimit", make: func(ctx context.Context, _ *Scene, b queue.Backend) (any, error) {
		return nil, b.SetLimit(ctx, queue.Limit{Project: project, Key: key, Max: 1})
	}},
	{Name: "Serve", make: func(ctx context.Context, s *Scene, b queue.Backend) (any, error) {
		return nil, b.Serve(ctx, []queue.ClassID{s.class}, time.Hour, s.now)
	}},
}

var sessions = []*Call{
	{Name: "Beat", make: func(ctx context.Context, s *Scene, b queue.Backend) (any, error) {
		return b.Beat(ctx, s.controller, 2*time.Hour, s.now)
	}},
	{Name: "OpenSessions", anew: true, make: func(ctx context.Context, s *Scene, b queue.Backend) (any, error) {
		other := s.facts()
		other.Worker = "other"
		opened, err := b.OpenSessions(ctx, []queue.NewSession{s.facts(), other}, s.now)
		if err == nil {
			for i := range opened {
				opened[i].Session = 0 // it is another number each time
			}
		}
		return opened, err
	}},
	{
		Name: "Adopt",
		prepare: func(ctx context.Context, s *Scene) (err error) {
			s.session, err = open(ctx, s, s.facts(), s.now)
			return err
		},
		make: func(ctx context.Context, s *Scene, b queue.Backend) (any, error) {
			return b.Adopt(ctx, s.session, []queue.AttemptID{s.running}, s.now)
		},
	},
	{Name: "LoseSessions", make: func(ctx context.Context, s *Scene, b queue.Backend) (any, error) {
		return nil, b.LoseSessions(ctx, []queue.SessionID{s.session}, s.now)
	}},
}

var outputs = []*Call{
	{Name: "AppendLogs", make: func(ctx context.Context, s *Scene, b queue.Backend) (any, error) {
		return s.appendLog(ctx, b, 5, ", world")
	}},
	{Name: "ReserveArtifact", make: func(ctx context.Context, s *Scene, b queue.Backend) (any, error) {
		return b.ReserveArtifact(ctx, s.artifact("new"), s.now)
	}},
	{Name: "CommitArtifact", make: func(ctx context.Context, s *Scene, b queue.Backend) (any, error) {
		return b.CommitArtifact(ctx, s.running, "reserved", s.now)
	}},
	{Name: "ReleaseArtifact", make: func(ctx context.Context, s *Scene, b queue.Backend) (any, error) {
		return nil, b.ReleaseArtifact(ctx, s.running, "reserved", s.now)
	}},
	{Name: "ClosedLogs", prepare: finish, make: func(ctx context.Context, s *Scene, b queue.Backend) (any, error) {
		return b.ClosedLogs(ctx, 10, time.Minute, s.now)
	}},
	{Name: "ArchiveLog", prepare: finish, make: func(ctx context.Context, s *Scene, b queue.Backend) (any, error) {
		return nil, b.ArchiveLog(ctx, s.running)
	}},
	{Name: "DroppedLogs", prepare: retire, make: func(ctx context.Context, s *Scene, b queue.Backend) (any, error) {
		return b.DroppedLogs(ctx, 10, time.Minute, s.now.Add(time.Hour))
	}},
	{Name: "ForgetLogs", prepare: retire, make: func(ctx context.Context, s *Scene, b queue.Backend) (any, error) {
		return nil, b.ForgetLogs(ctx, []queue.AttemptID{s.running, s.cancelling})
	}},
}

// finish ends the attempt that runs.
func finish(ctx context.Context, s *Scene) error {
	_, err := s.Finish(ctx, []queue.Completion{{AttemptID: s.running, Outcome: queue.Succeeded, LogLength: 5}}, avoid, s.now)
	return err
}

// archive ends the attempt that runs, and has its log in the archive.
func archive(ctx context.Context, s *Scene) error {
	return errors.Join(finish(ctx, s), s.ArchiveLog(ctx, s.running))
}

// retire deletes the build that ran, whose log is in the archive.
func retire(ctx context.Context, s *Scene) error {
	if err := archive(ctx, s); err != nil {
		return err
	}
	rules := s.rules()
	rules.Retention = time.Minute
	_, err := s.Maintain(ctx, rules, s.now.Add(2*time.Minute))
	return err
}

// settle sets what can be set.
func settle(ctx context.Context, s *Scene) error {
	return errors.Join(s.ChangePool(ctx, "pool", queue.PoolChange{Weights: map[string]int{project: 2}}),
		s.SetLimit(ctx, queue.Limit{Project: project, Key: key, Max: 1}))
}

func reads() []*Call {
	return []*Call{
		{Name: "Probe", make: func(ctx context.Context, s *Scene, b queue.Backend) (any, error) {
			return b.Probe(ctx, []queue.Reach{s.reach()}, 10)
		}},
		{Name: "Leases", make: func(ctx context.Context, s *Scene, b queue.Backend) (any, error) {
			return b.Leases(ctx, s.controller, false)
		}},
		{Name: "Lease", make: func(ctx context.Context, s *Scene, b queue.Backend) (any, error) { return b.Lease(ctx, s.running) }},
		{Name: "ReadLog", make: func(ctx context.Context, s *Scene, b queue.Backend) (any, error) {
			return b.ReadLog(ctx, project, queue.AttemptID{Build: s.running.Build}, 0, 10)
		}},
		{Name: "ListArtifacts", make: func(ctx context.Context, s *Scene, b queue.Backend) (any, error) {
			return b.ListArtifacts(ctx, project, s.running)
		}},
		{Name: "Get", make: func(ctx context.Context, s *Scene, b queue.Backend) (any, error) {
			return b.Get(ctx, project, s.queued)
		}},
		{Name: "List", make: func(ctx context.Context, s *Scene, b queue.Backend) (any, error) {
			return b.List(ctx, queue.Filter{Project: project, Limit: 10})
		}},
		{Name: "Attempts", make: func(ctx context.Context, s *Scene, b queue.Backend) (any, error) {
			return b.Attempts(ctx, project, s.running.Build)
		}},
		{Name: "Classes", make: func(ctx context.Context, s *Scene, b queue.Backend) (any, error) { return b.Classes(ctx, 0, 10) }},
		{Name: "Specs", make: func(ctx context.Context, s *Scene, b queue.Backend) (any, error) {
			return b.Specs(ctx, []queue.ID{s.queued, s.held})
		}},
		{Name: "Pools", prepare: settle, make: func(ctx context.Context, _ *Scene, b queue.Backend) (any, error) { return b.Pools(ctx) }},
		{Name: "Projects", make: func(ctx context.Context, _ *Scene, b queue.Backend) (any, error) { return b.Projects(ctx, "", 10) }},
		{Name: "Limits", prepare: settle, make: func(ctx context.Context, _ *Scene, b queue.Backend) (any, error) {
			return b.Limits(ctx, project, "", 10)
		}},
		{Name: "Stats", make: func(ctx context.Context, s *Scene, b queue.Backend) (any, error) {
			today := s.now.Truncate(24 * time.Hour)
			return b.Stats(ctx, project, today, today)
		}},
		{Name: "Explain", make: func(ctx context.Context, s *Scene, b queue.Backend) (any, error) {
			c, err := b.Explain(ctx, project, s.queued, s.now)
			if err == nil {
				return nil, nil // it tells numbers of classes, which differ
			}
			return c, err
		}},
		{Name: "Ping", make: func(ctx context.Context, _ *Scene, b queue.Backend) (any, error) { return nil, b.Ping(ctx) }},
	}
}
