package queuetest

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/slipway-build/slipway/queue"
)

var droppedCases = []testCase{
	{
		"Noted",
		"DroppedLogs returns the logs of deleted builds that are in the archive, and those that ClosedLogs has ever returned.",
		func(s *subject) {
			b, first := s.logged("first", queue.Lost)
			s.pass(backoff.Base)
			s.maintain(s.rules())
			second := s.running(b, s.worker())
			s.append(second, 0, "second!")
			s.ends(report(second, queue.Succeeded), queue.Succeeded)
			s.must(s.ArchiveLog(s.ctx, first))
			foreign := s.draft()
			foreign.Project = "elsewhere"
			s.queued(foreign)
			third := s.running(foreign, s.worker())
			s.append(third, 0, "third")
			s.ends(report(third, queue.Failed), queue.Failed)
			s.must(s.ArchiveLog(s.ctx, third))
			s.pass(time.Minute)
			_, younger := s.logged("younger", queue.Failed)
			s.must(s.ArchiveLog(s.ctx, younger))
			s.closed(1) // the second, and perhaps an object is made before somebody dies
			s.pass(time.Minute)
			s.logged("never to be archived", queue.Succeeded)
			s.wantDropped(s.dropped(10))
			s.pass(retention - 2*time.Minute)
			s.retain()
			s.wantDropped(s.dropped(10),
				queue.DroppedLog{AttemptID: first, Project: b.Project}, queue.DroppedLog{AttemptID: second, Project: b.Project},
				queue.DroppedLog{AttemptID: third, Project: "elsewhere"})
			s.pass(2 * time.Minute)
			if done := s.retain(); done.Deleted != 2 {
				s.Errorf("Maintain deleted %d builds, want 2", done.Deleted)
			}
			s.wantDropped(s.dropped(10), queue.DroppedLog{AttemptID: younger, Project: "project"})
		},
	},
	{
		"Hold",
		"DroppedLogs keeps what it returns from other callers until now+hold. What was never returned comes first.",
		func(s *subject) {
			first := s.drop(1)
			for range 2 {
				s.wantDropped(s.dropped(10), first...)
				s.wantDropped(s.dropped(10))
				s.pass(hold - time.Second)
				s.wantDropped(s.dropped(10))
				s.pass(2 * time.Second)
			}
			second := s.drop(1)
			s.wantDropped(s.dropped(1), second...)
			s.wantDropped(s.dropped(10), first...)
		},
	},
	{
		"Forgotten",
		"ForgetLogs forgets dropped logs, at once and for good. Those that are not known are passed over.",
		func(s *subject) {
			logs := s.drop(3)
			b, closed := s.logged("text", queue.Failed)
			s.must(s.ArchiveLog(s.ctx, closed))
			s.wantDropped(s.dropped(2), logs[:2]...)
			s.unchanged("ForgetLogs", func() {
				for range 2 {
					s.must(s.ForgetLogs(s.ctx, []queue.AttemptID{
						logs[0].AttemptID, logs[2].AttemptID, closed, {Build: logs[1].Build, Epoch: 2}, {Build: queue.NewID(), Epoch: 1},
					}))
				}
				s.must(s.ForgetLogs(s.ctx, nil))
			}, b)
			s.wantDropped(s.dropped(10))
			s.pass(hold)
			s.wantDropped(s.dropped(10), logs[1])
			s.must(s.ForgetLogs(s.ctx, []queue.AttemptID{logs[1].AttemptID}))
			s.pass(hold)
			s.wantDropped(s.dropped(10))
		},
	},
	{
		"SameID",
		"ClosedLogs leaves out logs whose place in the archive is still that of a dropped log.",
		func(s *subject) {
			old := s.drop(1)[0]
			b := s.draft()
			b.ID = old.Build
			s.queued(b)
			id := s.running(b, s.worker())
			s.append(id, 0, "of another build")
			s.ends(report(id, queue.Succeeded), queue.Succeeded)
			if id != old.AttemptID {
				s.Fatalf("the attempt is %v, want %v", id, old.AttemptID)
			}
			s.wantClosed(s.closed(10))
			s.wantDropped(s.dropped(10), old)
			s.wantClosed(s.closed(10))
			s.must(s.ForgetLogs(s.ctx, []queue.AttemptID{id}))
			s.wantClosed(s.closed(10), queue.ClosedLog{AttemptID: id, Project: b.Project, Length: 16})
		},
	},
	{
		"Twins",
		"Of many who ask for dropped logs at once each gets others, at most max.",
		func(s *subject) {
			logs := s.drop(30)
			var mu sync.Mutex
			var got []queue.DroppedLog
			s.together(func(ctx context.Context, _ int) error {
				for {
					some, err := s.DroppedLogs(ctx, 2, hold, s.now)
					if err != nil || len(some) == 0 {
						return err
					}
					mu.Lock()
					if len(some) > 2 {
						s.Errorf("DroppedLogs returned %d logs, at most 2 were asked for", len(some))
					}
					got = append(got, some...)
					mu.Unlock()
				}
			})
			got = append(got, s.dropped(len(logs))...) // what they passed over because others were taking it
			s.wantDropped(got, logs...)
		},
	},
}

// drop deletes builds whose logs are in the archive, and returns those, in order of their ids.
func (s *subject) drop(n int) []queue.DroppedLog {
	s.Helper()
	var logs []queue.DroppedLog
	for range n {
		b, id := s.logged("text", queue.Failed)
		s.must(s.ArchiveLog(s.ctx, id))
		logs = append(logs, queue.DroppedLog{AttemptID: id, Project: b.Project})
	}
	s.pass(retention)
	if done := s.retain(); done.Deleted != n {
		s.Fatalf("Maintain deleted %d builds, want %d", done.Deleted, n)
	}
	slices.SortFunc(logs, byDropped)
	return logs
}

// dropped returns dropped logs.
func (s *subject) dropped(most int) []queue.DroppedLog {
	s.Helper()
	logs, err := s.DroppedLogs(s.ctx, most, hold, s.now)
	s.must(err)
	return logs
}

// wantDropped reports logs that are not those that are wanted, in any order.
func (s *subject) wantDropped(got []queue.DroppedLog, want ...queue.DroppedLog) {
	s.Helper()
	got, want = slices.SortedFunc(slices.Values(got), byDropped), slices.SortedFunc(slices.Values(want), byDropped)
	if !slices.Equal(got, want) {
		s.Errorf("dropped logs are %v, want %v", got, want)
	}
}

func byDropped(x, y queue.DroppedLog) int { return byAttempt(x.AttemptID, y.AttemptID) }
