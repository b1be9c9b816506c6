package faultcalls

import (
	"context"
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
	for _, some := range [][]*Call{transitions, maintenance, sessions, outputs} {
		all = append(all, some...)
	}
	return all
}

var transitions = []*Call{
	{Name: "Submit", make: func(ctx context.Context, s *Scene, b queue.Backend) (any, error) {
		return b.Submit(ctx, []queue.NewBuild{s.build(10, "pool", 0), s.build(11, "new", 0)}, s.now)
	}},
	{Name: "Claim", make: func(ctx context.Context, s *Scene, b queue.Backend) (any, error) { return s.claim(ctx, b) }},
	{Name: "Accept", make: func(ctx context.Context, s *Scene, b queue.Backend) (any, error) {
		return nil, s.accept(ctx, b, s.offered, s.running)
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
		return b.Cancel(ctx, project, []queue.ID{s.running.Build}, "not wanted", force, s.now)
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
		Name: "Sweep", InSteps: true,
		prepare: func(ctx context.Context, s *Scene) error {
			return s.LoseSessions(ctx, []queue.SessionID{s.session}, s.now)
		},
		make: func(ctx context.Context, s *Scene, b queue.Backend) (any, error) {
			return b.Maintain(ctx, s.rules(), s.now.Add(grace+time.Second))
		},
	},
}

var sessions = []*Call{
	{Name: "Beat", make: func(ctx context.Context, s *Scene, b queue.Backend) (any, error) {
		return b.Beat(ctx, s.controller, 2*time.Hour, s.now)
	}},
	{Name: "OpenSession", anew: true, make: func(ctx context.Context, s *Scene, b queue.Backend) (any, error) {
		_, err := b.OpenSession(ctx, s.facts(), s.now)
		return nil, err
	}},
	{
		Name: "Adopt",
		prepare: func(ctx context.Context, s *Scene) (err error) {
			s.session, err = s.OpenSession(ctx, s.facts(), s.now)
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
		return nil, s.appendLog(ctx, b, 5, ", world")
	}},
	{Name: "ReserveArtifact", make: func(ctx context.Context, s *Scene, b queue.Backend) (any, error) {
		return b.ReserveArtifact(ctx, s.artifact("new"), s.now)
	}},
	{Name: "CommitArtifact", make: func(ctx context.Context, s *Scene, b queue.Backend) (any, error) {
		return b.CommitArtifact(ctx, s.running, "reserved", s.now)
	}},
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
		{Name: "Ping", make: func(ctx context.Context, _ *Scene, b queue.Backend) (any, error) { return nil, b.Ping(ctx) }},
	}
}
