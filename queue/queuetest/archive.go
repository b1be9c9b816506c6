package queuetest

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/slipway-build/slipway/queue"
)

var archiveCases = []testCase{
	{
		"Closed",
		"ClosedLogs returns logs of ended attempts that have bytes and are not in the archive.",
		func(s *subject) {
			running, _ := s.logged("running", 0)
			ended, first := s.logged("ended", queue.Succeeded)
			_, _ = s.logged("", queue.Succeeded)
			again, second := s.logged("lost", queue.Lost)
			foreign := s.draft()
			foreign.Project = "elsewhere"
			s.queued(foreign)
			third := s.running(foreign, s.worker())
			s.append(third, 0, "foreign log")
			s.ends(report(third, queue.Failed), queue.Failed)
			s.pass(backoff.Base)
			s.maintain(s.rules())
			s.append(s.running(again, s.worker()), 0, "another attempt, which runs")
			s.wantClosed(s.closed(100),
				queue.ClosedLog{AttemptID: first, Project: ended.Project, Length: 5},
				queue.ClosedLog{AttemptID: second, Project: again.Project, Length: 4},
				queue.ClosedLog{AttemptID: third, Project: foreign.Project, Length: 11})
			s.wantLog(running, queue.AttemptID{Build: running.ID, Epoch: 1}, "running", false)
		},
	},
	{
		"Hold",
		"ClosedLogs keeps what it returns from other callers until now+hold.",
		func(s *subject) {
			b, id := s.logged("text", queue.Failed)
			want := queue.ClosedLog{AttemptID: id, Project: b.Project, Length: 4}
			for range 2 {
				s.wantClosed(s.closed(10), want)
				s.wantClosed(s.closed(10))
				s.pass(hold - time.Second)
				s.wantClosed(s.closed(10))
				s.pass(2 * time.Second)
			}
		},
	},
	{
		"Twins",
		"Of many who ask for closed logs at once each gets others, at most max.",
		func(s *subject) {
			const n = 30
			for range n {
				s.logged("text", queue.Succeeded)
			}
			var mu sync.Mutex
			var got []queue.AttemptID
			s.together(func(ctx context.Context, _ int) error {
				for {
					logs, err := s.ClosedLogs(ctx, 2, hold, s.now)
					if err != nil || len(logs) == 0 {
						return err
					}
					mu.Lock()
					if len(logs) > 2 {
						s.Errorf("ClosedLogs returned %d logs, at most 2 were asked for", len(logs))
					}
					for _, l := range logs {
						got = append(got, l.AttemptID)
					}
					mu.Unlock()
				}
			})
			for _, l := range s.closed(n) { // what they passed over because others were taking it
				got = append(got, l.AttemptID)
			}
			slices.SortFunc(got, byAttempt)
			if distinct := len(slices.Compact(slices.Clone(got))); len(got) != n || distinct != n {
				s.Errorf("%d logs were returned, %d of them distinct, want %d", len(got), distinct, n)
			}
		},
	},
	{
		"Archived",
		"ArchiveLog notes that a log is in the archive and drops its bytes: ReadLog returns all but the data. Repeating it changes nothing.",
		func(s *subject) {
			b := s.draft()
			s.queued(b)
			id := s.running(b, s.worker())
			s.write(id, 0, "0123456789", queue.LogLimit{Bytes: 8, Lines: 1})
			s.ends(report(id, queue.Failed), queue.Failed)
			before := s.attempts(b)
			s.closed(10)
			for range 2 {
				s.must(s.ArchiveLog(s.ctx, id))
				for _, epoch := range []int64{0, id.Epoch} {
					page, err := s.ReadLog(s.ctx, b.Project, queue.AttemptID{Build: b.ID, Epoch: epoch}, 3, 100)
					s.must(err)
					if page.AttemptID != id || page.Offset != 3 || len(page.Data) != 0 || page.Length != 8 || !page.Closed || !page.Cut || !page.Archived {
						s.Errorf("page is %+v", page)
					}
				}
				s.wantAttempts(b, before...)
				s.pass(2 * hold)
				s.wantClosed(s.closed(10))
			}
			if length, counts := s.appends(id, 8, "more"); counts {
				s.Errorf("an archived log takes more: %d", length)
			}
		},
	},
	{
		"OneOfSeveral",
		"The logs of a build's attempts are archived one by one.",
		func(s *subject) {
			b, first := s.logged("first", queue.Lost)
			s.pass(backoff.Base)
			s.maintain(s.rules())
			second := s.running(b, s.worker())
			s.must(s.ArchiveLog(s.ctx, first))
			s.append(second, 0, "second")
			s.wantLog(b, second, "second", false)
			s.ends(report(second, queue.Succeeded), queue.Succeeded)
			s.wantLog(b, second, "second", true)
			s.wantClosed(s.closed(10), queue.ClosedLog{AttemptID: second, Project: b.Project, Length: 6})
			page, err := s.ReadLog(s.ctx, b.Project, first, 0, 10)
			s.must(err)
			if !page.Archived || page.Length != 5 {
				s.Errorf("page is %+v", page)
			}
		},
	},
	{
		"NotFound",
		"ArchiveLog returns ErrNotFound if the log is not there or not closed.",
		func(s *subject) {
			b, id := s.logged("text", 0)
			offered := s.draft()
			s.queued(offered)
			offer := s.offered(offered, s.worker())
			s.unchanged("ArchiveLog", func() {
				for _, other := range []queue.AttemptID{
					id, offer, {Build: b.ID}, {Build: b.ID, Epoch: 2}, {Build: queue.NewID(), Epoch: 1},
				} {
					s.wantErr(s.ArchiveLog(s.ctx, other), queue.ErrNotFound)
				}
			}, b, offered)
			s.cancel(b, queue.Cancelling)
			s.wantErr(s.ArchiveLog(s.ctx, id), queue.ErrNotFound)
			s.ends(report(id, queue.Canceled), queue.Canceled)
			s.must(s.ArchiveLog(s.ctx, id))
		},
	},
	{
		"Empty",
		"ArchiveLog leaves a closed log without bytes as it is, whoever ended the attempt: nothing of it is in the archive.",
		func(s *subject) {
			reported, first := s.logged("", queue.Failed)
			silent, second := s.logging()
			cut, third := s.logging()
			s.write(third, 0, "more than nothing", queue.LogLimit{Bytes: 0, Lines: 1})
			s.ends(report(third, queue.Succeeded), queue.Succeeded)
			s.pass(runTimeout + slack)
			if done := s.maintain(s.rules()); done.TimedOut != 1 {
				s.Fatalf("Maintain did %+v, want one build timed out", done)
			}
			s.wantClosed(s.closed(10))
			s.unchanged("ArchiveLog", func() {
				for _, id := range []queue.AttemptID{first, second, third} {
					s.must(s.ArchiveLog(s.ctx, id))
				}
			}, reported, silent, cut)
			for _, id := range []queue.AttemptID{first, second, third} {
				page, err := s.ReadLog(s.ctx, reported.Project, id, 0, 10)
				s.must(err)
				if page.Archived || !page.Closed || page.Length != 0 {
					s.Errorf("page is %+v", page)
				}
			}
			s.pass(retention)
			s.retain()
			s.wantDropped(s.dropped(10))
		},
	},
}

// hold is how long closed and dropped logs are kept from others.
const hold = 5 * time.Minute

// logged returns a build whose attempt wrote a log and ended with an outcome; it still runs if that is zero.
func (s *subject) logged(text string, outcome queue.State) (queue.NewBuild, queue.AttemptID) {
	s.Helper()
	b, id := s.logging()
	s.append(id, 0, text)
	if outcome != 0 {
		s.finish(report(id, outcome))
	}
	return b, id
}

// closed returns closed logs.
func (s *subject) closed(most int) []queue.ClosedLog {
	s.Helper()
	logs, err := s.ClosedLogs(s.ctx, most, hold, s.now)
	s.must(err)
	return logs
}

// wantClosed reports logs that are not those that are wanted, in any order.
func (s *subject) wantClosed(got []queue.ClosedLog, want ...queue.ClosedLog) {
	s.Helper()
	for _, logs := range [][]queue.ClosedLog{got, want} {
		slices.SortFunc(logs, func(x, y queue.ClosedLog) int { return byAttempt(x.AttemptID, y.AttemptID) })
	}
	if !slices.Equal(got, want) {
		s.Errorf("closed logs are %v, want %v", got, want)
	}
}

func byAttempt(x, y queue.AttemptID) int {
	if c := bytes.Compare(x.Build[:], y.Build[:]); c != 0 {
		return c
	}
	return int(x.Epoch - y.Epoch)
}
