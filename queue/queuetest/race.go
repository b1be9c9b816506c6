package queuetest

import (
	"context"
	"slices"
	"sync/atomic"

	"github.com/slipway-build/slipway/queue"
)

// raceCases let changes of one build meet.
var raceCases = []testCase{
	{
		"AcceptOrElse",
		"Each arrow is one conditional change: of an accept, a release and a cancel of one offer, those that count fit together.",
		func(s *subject) {
			for range 10 {
				b := s.draft()
				s.queued(b)
				session := s.worker()
				id := s.offered(b, session)
				var accepted, released int
				var canceled queue.State
				s.together(func(ctx context.Context, i int) error {
					switch i {
					case 0:
						done, err := s.Accept(ctx, []queue.Acceptance{acceptance(id, session)}, s.now)
						accepted = len(done)
						return err
					case 1:
						done, err := s.Release(ctx, []queue.AttemptID{id}, avoid, s.now)
						released = len(done)
						return err
					case 2:
						done, err := s.Cancel(ctx, b.Project, []queue.ID{b.ID}, "", force, s.now)
						if len(done) == 1 {
							canceled = done[0].State
						}
						return err
					}
					return nil
				})
				if accepted+released > 1 {
					s.Errorf("one offer was both accepted and released")
				}
				want := queue.Canceled
				if accepted == 1 {
					want = queue.Cancelling
				}
				if got := s.get(b); canceled != want || got.State != want || got.AttemptsUsed != accepted {
					s.Errorf("accepted %d, released %d, canceled as %v: build is %s", accepted, released, canceled, describe(got))
				}
			}
		},
	},
	{
		"FinishTwins",
		"Finishing an attempt again returns the same result: of several reports at once, one counts and all get its result.",
		func(s *subject) {
			b := s.draft()
			s.queued(b)
			id := s.running(b, s.worker())
			outcomes := []queue.State{queue.Succeeded, queue.Failed, queue.TimedOut, queue.Canceled}
			results := make([]queue.State, crowd)
			s.together(func(ctx context.Context, i int) error {
				done, err := s.Finish(ctx, []queue.Completion{report(id, outcomes[i%len(outcomes)])}, avoid, s.now)
				if err == nil && len(done) == 1 {
					results[i] = done[0].State
				}
				return err
			})
			got := s.get(b)
			for _, r := range results {
				if r != got.State {
					s.Errorf("reports led to %v, the build is %v", results, got.State)
				}
			}
			if rows := s.attempts(b); len(rows) != 1 || rows[0].Outcome != got.State {
				s.Errorf("attempts are %v, the build is %v", rows, got.State)
			}
		},
	},
	{
		"FinishOrElse",
		"Each arrow is one conditional change: of a report, a cancel and a deadline of one attempt, those that count fit together.",
		func(s *subject) {
			for range 10 {
				b := s.draft()
				s.queued(b)
				id := s.running(b, s.worker())
				later := s.now.Add(runTimeout + slack + force)
				var reported []queue.Finished
				s.together(func(ctx context.Context, i int) (err error) {
					switch i {
					case 0:
						reported, err = s.Finish(ctx, []queue.Completion{report(id, queue.Succeeded)}, avoid, s.now)
					case 1:
						_, err = s.Cancel(ctx, b.Project, []queue.ID{b.ID}, "", force, s.now)
					case 2:
						_, err = s.Maintain(ctx, s.rules(), later)
					}
					return err
				})
				s.now = later
				s.maintain(s.rules())
				got := s.get(b)
				want := []queue.State{queue.TimedOut, queue.Canceled}
				if len(reported) == 1 {
					want = []queue.State{queue.Succeeded}
				}
				if rows := s.attempts(b); !slices.Contains(want, got.State) || len(rows) != 1 || rows[0].Outcome != got.State {
					s.Errorf("reported %v: build is %s, attempts are %v", reported, describe(got), rows)
				}
			}
		},
	},
	{
		"AppendRacesFinish",
		"Finish fences the log: an append that races it comes wholly before it or does not count.",
		func(s *subject) {
			for range 5 {
				b := s.draft()
				s.queued(b)
				id := s.running(b, s.worker())
				var stored [crowd]int64
				var atEnd int64
				var finished atomic.Bool
				s.together(func(ctx context.Context, i int) error {
					if i == 0 {
						defer finished.Store(true)
						if _, err := s.Finish(ctx, []queue.Completion{report(id, queue.Succeeded)}, avoid, s.now); err != nil {
							return err
						}
						page, err := s.ReadLog(ctx, b.Project, id, 0, 1)
						atEnd = page.Length
						return err
					}
					for offset, last := int64(0), false; !last; {
						last = finished.Load()
						chunk := queue.LogChunk{AttemptID: id, Offset: offset, Data: []byte("0123456789")[offset%10:]}
						lengths, err := s.AppendLogs(ctx, []queue.LogChunk{chunk}, roomy, s.now)
						if err != nil || len(lengths) == 0 {
							return err
						}
						offset = lengths[0].Length
						stored[i] = offset
					}
					return nil
				})
				got := s.log(b, id.Epoch)
				if int64(len(got)) != atEnd {
					s.Errorf("the log had %d bytes when Finish returned, %d now", atEnd, len(got))
				}
				for i, c := range got {
					if c != byte('0'+i%10) {
						s.Fatalf("log is %q", got)
					}
				}
				if most := slices.Max(stored[:]); most > atEnd {
					s.Errorf("an append was acknowledged at %d bytes, the log has %d", most, atEnd)
				}
				if rows := s.attempts(b); len(rows) != 1 || rows[0].LogLength != atEnd {
					s.Errorf("attempts are %v, the log has %d bytes", rows, atEnd)
				}
			}
		},
	},
}
