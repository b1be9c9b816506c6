package queuetest

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/slipway-build/slipway/queue"
)

var retentionCases = []testCase{
	{
		"Deleted",
		"Builds whose retention is over are deleted with all rows that belong to them; others are not.",
		func(s *subject) {
			b, id := s.logged("text", 0)
			s.reserve(size(id, "a", 10))
			s.commit(size(id, "a", 10))
			s.ends(report(id, queue.Failed), queue.Failed)
			lost, first := s.logged("lost", queue.Lost)
			s.pass(backoff.Base)
			s.maintain(s.rules())
			s.ends(report(s.running(lost, s.worker()), queue.Succeeded), queue.Succeeded)
			canceled := s.draft()
			s.queued(canceled)
			s.cancel(canceled, queue.Canceled)
			s.pass(time.Minute)
			younger, _ := s.logged("younger", queue.Failed)
			s.pass(retention - time.Hour)
			lasting := s.apart(3)
			s.queued(lasting...)
			session := s.worker()
			s.offered(lasting[0], session)
			s.running(lasting[1], session)
			s.pass(time.Hour - 30*time.Second)
			stay := append(slices.Clone(lasting), younger)
			s.unchanged("deleting others", func() {
				if done := s.retain(); done.Deleted != 3 {
					s.Errorf("Maintain did %+v, want three builds deleted", done)
				}
			}, stay[1:]...) // of the first the offer ran out
			for _, gone := range []queue.NewBuild{b, lost, canceled} {
				_, err := s.Get(s.ctx, gone.Project, gone.ID)
				s.wantErr(err, queue.ErrNotFound)
				_, err = s.Attempts(s.ctx, gone.Project, gone.ID)
				s.wantErr(err, queue.ErrNotFound)
				_, err = s.ReadLog(s.ctx, gone.Project, queue.AttemptID{Build: gone.ID, Epoch: 1}, 0, 10)
				s.wantErr(err, queue.ErrNotFound)
				_, err = s.ListArtifacts(s.ctx, gone.Project, queue.AttemptID{Build: gone.ID, Epoch: 1})
				s.wantErr(err, queue.ErrNotFound)
				_, err = s.Explain(s.ctx, gone.Project, gone.ID, s.now)
				s.wantErr(err, queue.ErrNotFound)
			}
			s.wantIDs("list", listed(s.list(queue.Filter{Project: "project", Limit: 100})), newestFirst(stay))
			s.wantErr(s.ArchiveLog(s.ctx, id), queue.ErrNotFound)
			for _, late := range []queue.AttemptID{id, first} {
				if got := s.finish(report(late, queue.Succeeded)); got != 0 {
					s.Errorf("a report of an attempt of a deleted build led to %v", got)
				}
			}
			if got := s.cancels(b, "late", force); got != 0 {
				s.Errorf("Cancel of a deleted build led to %v", got)
			}
		},
	},
	{
		"Forever",
		"Without a retention builds are kept.",
		func(s *subject) {
			b, _ := s.logged("text", queue.Succeeded)
			s.pass(100 * retention)
			if done := s.maintain(s.rules()); done.Deleted != 0 {
				s.Errorf("Maintain deleted %d builds", done.Deleted)
			}
			s.wantState(b, queue.Succeeded)
		},
	},
	{
		"Steps",
		"Maintain deletes at most rules.Limit builds in one call, the oldest ends first, and says More.",
		func(s *subject) {
			builds := s.drafts(11)
			s.submit(builds...)
			for _, b := range builds {
				s.pass(time.Second)
				s.cancel(b, queue.Canceled)
			}
			s.pass(retention)
			rules := s.rules()
			rules.Retention, rules.Limit = retention, 4
			done, err := s.Maintain(s.ctx, rules, s.now)
			s.must(err)
			if done.Deleted != 4 || !done.More {
				s.Errorf("Maintain did %+v, want 4 builds deleted and more to come", done)
			}
			s.wantIDs("left", listed(s.list(queue.Filter{Project: "project", Limit: 100})), newestFirst(builds[4:]))
			if done := s.maintain(rules); done.Deleted != 7 {
				s.Errorf("Maintain deleted %d builds in steps of %d, want 7", done.Deleted, rules.Limit)
			}
		},
	},
	{
		"BeingArchived",
		"Builds whose log is being archived are left for later.",
		func(s *subject) {
			b, id := s.logged("text", queue.Failed)
			other, otherID := s.logged("text", queue.Failed)
			s.pass(retention)
			s.closed(10)
			if done := s.retain(); done.Deleted != 0 {
				s.Errorf("Maintain deleted %d builds whose logs are being archived", done.Deleted)
			}
			s.must(s.ArchiveLog(s.ctx, id))
			s.pass(hold + time.Second)
			if done := s.retain(); done.Deleted != 2 {
				s.Errorf("Maintain deleted %d builds, want 2", done.Deleted)
			}
			s.wantNone(b, other)
			s.wantErr(s.ArchiveLog(s.ctx, otherID), queue.ErrNotFound)
		},
	},
	{
		"GivesBack",
		"With a build go its bytes of the quota and its idempotency key. What was counted stays.",
		func(s *subject) {
			b := s.keyed("key")
			s.queued(b)
			id := s.running(b, s.worker())
			s.reserve(size(id, "a", 30))
			s.commit(size(id, "a", 30))
			s.reserve(size(id, "b", 5))
			_, other := s.logging()
			s.reserve(size(other, "a", 7))
			s.pass(2 * time.Second)
			s.ends(report(id, queue.Succeeded), queue.Succeeded)
			before, err := s.Stats(s.ctx, "project", today(s.now), today(s.now))
			s.must(err)
			s.pass(time.Minute)
			rules := s.rules()
			rules.Retention = time.Minute
			if done := s.maintain(rules); done.Deleted != 1 {
				s.Errorf("Maintain deleted %d builds, want 1", done.Deleted)
			}
			s.wantBytes("project", 7)
			s.wantDays("project", before.Days...)
			again := s.keyed("key")
			again.IdempotencyHash = queue.Digest{8}
			if done := s.submit(again)[0]; done.ID != again.ID {
				s.Errorf("the key of a deleted build is known for %v", done.ID)
			}
		},
	},
	{
		"Twins",
		"Maintain may run in many processes at once: each build is deleted once, and its archived log dropped once.",
		func(s *subject) {
			const n = 40
			var archived []queue.DroppedLog
			for i := range n {
				b, id := s.logged("text", queue.Failed)
				if i%2 == 0 {
					s.must(s.ArchiveLog(s.ctx, id))
					archived = append(archived, queue.DroppedLog{AttemptID: id, Project: b.Project})
				}
			}
			s.pass(retention)
			var mu sync.Mutex
			var deleted int
			rules := s.rules()
			rules.Retention, rules.Limit = retention, 7
			s.together(func(ctx context.Context, _ int) error {
				for {
					done, err := s.Maintain(ctx, rules, s.now)
					if err != nil {
						return err
					}
					mu.Lock()
					deleted += done.Deleted
					mu.Unlock()
					if !done.More {
						return nil
					}
				}
			})
			done := s.retain()
			if deleted += done.Deleted; deleted != n {
				s.Errorf("%d builds were deleted, want %d", deleted, n)
			}
			s.wantDropped(s.dropped(n), archived...)
			s.wantIDs("list", listed(s.list(queue.Filter{Project: "project", Limit: 100})), nil)
		},
	},
}

// retention is how long builds are kept where a case does not say otherwise.
const retention = 30 * 24 * time.Hour

// retain calls Maintain with a retention.
func (s *subject) retain() queue.Maintained {
	s.Helper()
	rules := s.rules()
	rules.Retention = retention
	return s.maintain(rules)
}
