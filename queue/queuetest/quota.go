package queuetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/slipway-build/slipway/queue"
)

var quotaCases = []testCase{
	{
		"Exact",
		"ReserveArtifact returns ErrQuota if the project's artifacts, this one included, would be more than its quota.",
		func(s *subject) {
			b, id := s.logging()
			s.quota("project", 100)
			s.reserve(size(id, "a", 60))
			s.commit(size(id, "a", 60))
			s.unchanged("reserving too much", func() {
				for _, n := range []int64{41, 100, 1 << 40} {
					_, err := s.ReserveArtifact(s.ctx, size(id, "b", n), s.now)
					s.wantErr(err, queue.ErrQuota)
				}
			}, b)
			s.wantBytes("project", 60)
			s.reserve(size(id, "b", 40))
			s.wantBytes("project", 100)
			_, err := s.ReserveArtifact(s.ctx, size(id, "c", 1), s.now)
			s.wantErr(err, queue.ErrQuota)
			s.reserve(size(id, "empty", 0))
			s.wantBytes("project", 100)
		},
	},
	{
		"Again",
		"Reserving again returns the row that is there, and counts once; content that conflicts does not count.",
		func(s *subject) {
			_, id := s.logging()
			s.quota("project", 10)
			first := s.reserve(size(id, "a", 10))
			s.wantArtifact(s.reserve(size(id, "a", 10)), first)
			_, err := s.ReserveArtifact(s.ctx, size(id, "a", 3), s.now)
			s.wantErr(err, queue.ErrConflict)
			s.wantBytes("project", 10)
			s.commit(size(id, "a", 10))
			s.reserve(size(id, "a", 10))
			s.commit(size(id, "a", 10))
			s.wantBytes("project", 10)
		},
	},
	{
		"Release",
		"ReleaseArtifact takes back a reservation of a leased attempt, or does nothing if it is not there or committed.",
		func(s *subject) {
			b, id := s.logging()
			s.quota("project", 10)
			s.reserve(size(id, "a", 4))
			s.commit(size(id, "a", 4))
			s.reserve(size(id, "b", 6))
			release := func(name string, left int64) {
				s.Helper()
				s.must(s.ReleaseArtifact(s.ctx, id, name, s.now))
				s.wantBytes("project", left)
			}
			release("nothing", 10)
			release("a", 10)
			release("b", 4)
			release("b", 4)
			_, err := s.CommitArtifact(s.ctx, id, "b", s.now)
			s.wantErr(err, queue.ErrNotFound)
			s.reserve(queue.NewArtifact{AttemptID: id, Name: "b", Digest: queue.Digest{2}, Size: 5}) // other content
			s.wantBytes("project", 9)
			s.wantNames(b, id.Epoch, "a")
		},
	},
	{
		"ReleaseStale",
		"ReleaseArtifact returns ErrStaleLease for attempts that are not leased.",
		func(s *subject) {
			s.eachStale(func(_ queue.NewBuild, id queue.AttemptID, _ queue.SessionID) bool {
				err := s.ReleaseArtifact(s.ctx, id, "name", s.now)
				if err != nil && !errors.Is(err, queue.ErrStaleLease) {
					s.must(err)
				}
				return err == nil
			})
		},
	},
	{
		"DeadReservations",
		"Maintain takes back the reservations of attempts that have ended. What was committed stays.",
		func(s *subject) {
			s.quota("project", 1000)
			b, id := s.logging()
			other, lasting := s.logging()
			for i := range 11 {
				s.reserve(size(id, fmt.Sprint("reserved ", i), 10))
			}
			s.reserve(size(id, "committed", 7))
			s.commit(size(id, "committed", 7))
			s.reserve(size(lasting, "reserved", 5))
			s.maintain(s.rules())
			s.wantBytes("project", 122)
			s.ends(report(id, queue.Lost), queue.Pending)
			rules := s.rules()
			rules.Limit = 4
			if done := s.maintain(rules); done.Forgotten != 11 {
				s.Errorf("Maintain took %d reservations back in steps of %d, want 11", done.Forgotten, rules.Limit)
			}
			s.wantBytes("project", 12)
			s.wantNames(b, id.Epoch, "committed")
			s.commit(size(lasting, "reserved", 5))
			s.wantNames(other, lasting.Epoch, "reserved")
		},
	},
	{
		"PerProject",
		"A quota is of one project; zero, and none that was set, are any.",
		func(s *subject) {
			_, id := s.logging()
			foreign := s.draft()
			foreign.Project = "elsewhere"
			s.queued(foreign)
			foreignID := s.running(foreign, s.worker())
			s.reserve(size(id, "a", 1<<40))
			s.wantBytes("project", 1<<40)
			s.quota("project", 5)
			s.reserve(size(foreignID, "a", 10))
			_, err := s.ReserveArtifact(s.ctx, size(id, "b", 0), s.now)
			s.wantErr(err, queue.ErrQuota)
			s.commit(size(id, "a", 1<<40))
			s.quota("project", 0)
			s.reserve(size(id, "b", 1<<40))
			s.wantBytes("project", 2<<40)
			s.wantBytes("elsewhere", 10)
		},
	},
	{
		"Race",
		"The project's artifacts are never more than its quota, however many reserve at once, and no room is left unused.",
		func(s *subject) {
			const each, quota = 10, 500
			s.quota("project", quota)
			builds := s.drafts(crowd)
			s.submit(builds...)
			s.maintain(s.rules())
			var attempts []queue.AttemptID
			for _, c := range s.take(builds[0]) {
				s.accept(c.AttemptID, c.Session)
				attempts = append(attempts, c.AttemptID)
			}
			var reserved atomic.Int64
			s.together(func(ctx context.Context, i int) error {
				for j := range 20 {
					n := size(attempts[(i+j)%crowd], fmt.Sprint(i, j), each)
					_, err := s.ReserveArtifact(ctx, n, s.now)
					if errors.Is(err, queue.ErrQuota) {
						continue
					}
					if err == nil && j%3 == 0 {
						err = s.ReleaseArtifact(ctx, n.AttemptID, n.Name, s.now)
					} else {
						reserved.Add(each)
					}
					if err == nil && j%3 == 1 {
						_, err = s.CommitArtifact(ctx, n.AttemptID, n.Name, s.now)
					}
					if err != nil {
						return err
					}
				}
				return nil
			})
			s.wantBytes("project", reserved.Load())
			if reserved.Load() > quota {
				s.Errorf("%d bytes are reserved of a quota of %d", reserved.Load(), quota)
			}
			s.reserve(size(attempts[0], "rest", quota-reserved.Load()))
			s.wantBytes("project", quota)
		},
	},
}

// size is an artifact to be uploaded.
func size(id queue.AttemptID, name string, size int64) queue.NewArtifact {
	return queue.NewArtifact{AttemptID: id, Name: name, Digest: queue.Digest{1}, Size: size}
}

// quota sets how many bytes of artifacts a project may have.
func (s *subject) quota(project string, bytes int64) {
	s.Helper()
	s.must(s.ChangeProject(s.ctx, project, queue.ProjectChange{ArtifactQuota: &bytes}))
}

// wantBytes reports a project that has more or fewer bytes of artifacts.
func (s *subject) wantBytes(project string, want int64) {
	s.Helper()
	projects, err := s.Projects(s.ctx, "", 100)
	s.must(err)
	i := slices.IndexFunc(projects, func(p queue.Project) bool { return p.Name == project })
	if i < 0 || projects[i].ArtifactBytes != want {
		s.Errorf("projects are %+v, want %d bytes of artifacts of %s", projects, want, project)
	}
}
