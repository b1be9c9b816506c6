package queuetest

import (
	"slices"
	"time"

	"github.com/slipway-build/slipway/queue"
)

var artifactCases = []testCase{
	{
		"Commit",
		"ReserveArtifact notes that an attempt is about to upload an artifact; CommitArtifact shows it to readers.",
		func(s *subject) {
			b := s.draft()
			s.queued(b)
			id := s.running(b, s.worker())
			n := queue.NewArtifact{AttemptID: id, Name: "dir/tool.tar.gz", Digest: queue.Digest{1, 2}, Size: 1 << 40}
			want := queue.Artifact{AttemptID: id, Project: b.Project, Name: n.Name, Digest: n.Digest, Size: n.Size, CreatedAt: s.now}
			got, err := s.ReserveArtifact(s.ctx, n, s.now)
			s.must(err)
			s.wantArtifact(got, want)
			s.wantNames(b, id.Epoch)
			s.pass(time.Minute)
			want.Committed = true
			got, err = s.CommitArtifact(s.ctx, id, n.Name, s.now)
			s.must(err)
			s.wantArtifact(got, want)
			rows, err := s.ListArtifacts(s.ctx, b.Project, id)
			s.must(err)
			if len(rows) != 1 {
				s.Fatalf("artifacts are %v, want one", rows)
			}
			s.wantArtifact(rows[0], want)
		},
	},
	{
		"Again",
		"Reserving the same name, digest and size again returns the row that is there; so does committing again.",
		func(s *subject) {
			b := s.draft()
			s.queued(b)
			id := s.running(b, s.worker())
			n := queue.NewArtifact{AttemptID: id, Name: "name", Digest: queue.Digest{3}}
			first := s.reserve(n)
			s.pass(time.Second)
			s.wantArtifact(s.reserve(n), first)
			committed := s.commit(n)
			s.pass(time.Second)
			s.wantArtifact(s.reserve(n), committed)
			s.wantArtifact(s.commit(n), committed)
			s.wantNames(b, id.Epoch, "name")
		},
	},
	{
		"Conflict",
		"ReserveArtifact returns ErrConflict if the attempt has that name with other content.",
		func(s *subject) {
			b := s.draft()
			s.queued(b)
			id := s.running(b, s.worker())
			n := queue.NewArtifact{AttemptID: id, Name: "name", Digest: queue.Digest{3}, Size: 10}
			for _, change := range []func(){func() { s.reserve(n) }, func() { s.commit(n) }} {
				change()
				s.unchanged("reserving other content", func() {
					other := n
					other.Digest[31] = 1
					_, err := s.ReserveArtifact(s.ctx, other, s.now)
					s.wantErr(err, queue.ErrConflict)
					other = n
					other.Size++
					_, err = s.ReserveArtifact(s.ctx, other, s.now)
					s.wantErr(err, queue.ErrConflict)
				}, b)
			}
			s.wantArtifact(s.commit(n), s.reserve(n))
		},
	},
	{
		"Names",
		"ListArtifacts returns the committed artifacts of an attempt, ordered by name.",
		func(s *subject) {
			b := s.draft()
			s.queued(b)
			id := s.running(b, s.worker())
			names := []string{"b", "a/b", "B", "a", "a.b", "ä", "a-b", "A", "日本", "a b", "10", "9", "%", "a_b", "'; --"}
			for i, name := range names {
				n := queue.NewArtifact{AttemptID: id, Name: name, Digest: queue.Digest{byte(i)}, Size: int64(i)}
				s.reserve(n)
				s.commit(n)
			}
			s.reserve(queue.NewArtifact{AttemptID: id, Name: "reserved only"})
			s.wantNames(b, id.Epoch, slices.Sorted(slices.Values(names))...)
		},
	},
	{
		"OfEachAttempt",
		"Artifacts are those of an attempt: another attempt may use the names again. A zero epoch stands for the newest accepted one.",
		func(s *subject) {
			b := s.draft()
			s.queued(b)
			_, err := s.ListArtifacts(s.ctx, b.Project, queue.AttemptID{Build: b.ID})
			s.wantErr(err, queue.ErrNotFound)
			first := s.running(b, s.worker())
			s.wantNames(b, 0)
			s.commit(s.reserved(first, "log.txt", 1))
			s.commit(s.reserved(first, "old", 2))
			s.ends(report(first, queue.Lost), queue.Pending)
			s.wantNames(b, 0, "log.txt", "old")
			s.pass(backoff.Max)
			s.maintain(s.rules())
			session := s.worker()
			second := s.offered(b, session)
			s.wantNames(b, 0, "log.txt", "old")
			_, err = s.ListArtifacts(s.ctx, b.Project, second)
			s.wantErr(err, queue.ErrNotFound)
			s.accept(second, session)
			s.wantNames(b, 0)
			s.commit(s.reserved(second, "log.txt", 3))
			s.ends(report(second, queue.Succeeded), queue.Succeeded)
			s.wantNames(b, 0, "log.txt")
			s.wantNames(b, 1, "log.txt", "old")
			s.wantNames(b, 2, "log.txt")
		},
	},
	{
		"NotFound",
		"CommitArtifact returns ErrNotFound if nothing of that name is reserved; ListArtifacts as ReadLog does.",
		func(s *subject) {
			b := s.draft()
			s.queued(b)
			id := s.running(b, s.worker())
			s.commit(s.reserved(id, "name", 1))
			_, err := s.CommitArtifact(s.ctx, id, "Name", s.now)
			s.wantErr(err, queue.ErrNotFound)
			_, err = s.ListArtifacts(s.ctx, "elsewhere", id)
			s.wantErr(err, queue.ErrNotFound)
			_, err = s.ListArtifacts(s.ctx, b.Project, queue.AttemptID{Build: queue.NewID()})
			s.wantErr(err, queue.ErrNotFound)
			_, err = s.ListArtifacts(s.ctx, b.Project, queue.AttemptID{Build: b.ID, Epoch: 2})
			s.wantErr(err, queue.ErrNotFound)
		},
	},
	{
		"Stale",
		"A fenced change is made only if the attempt is the newest of its build and its state admits it.",
		func(s *subject) {
			stale := func(id queue.AttemptID) bool {
				_, reserveErr := s.ReserveArtifact(s.ctx, queue.NewArtifact{AttemptID: id, Name: "late"}, s.now)
				s.wantErr(reserveErr, queue.ErrStaleLease)
				_, commitErr := s.CommitArtifact(s.ctx, id, "late", s.now)
				s.wantErr(commitErr, queue.ErrStaleLease)
				return reserveErr == nil || commitErr == nil
			}
			s.eachStale(func(_ queue.NewBuild, id queue.AttemptID, _ queue.SessionID) bool { return stale(id) })
			stale(queue.AttemptID{Build: queue.NewID(), Epoch: 1})
			b := s.draft()
			s.queued(b)
			stale(s.offered(b, s.worker()))
			_, again := s.reoffered()
			stale(again)
		},
	},
	{
		"CommitAfterTheEnd",
		"What was reserved cannot be committed once the attempt has ended; a Cancelling attempt has not ended.",
		func(s *subject) {
			session := s.worker()
			for _, outcome := range []queue.State{queue.Succeeded, queue.Failed, queue.Lost} {
				b := s.draft()
				s.queued(b)
				id := s.running(b, session)
				s.reserve(queue.NewArtifact{AttemptID: id, Name: "late"})
				s.commit(s.reserved(id, "in time", 1))
				s.finish(report(id, outcome))
				for _, name := range []string{"late", "in time"} {
					_, err := s.CommitArtifact(s.ctx, id, name, s.now)
					s.wantErr(err, queue.ErrStaleLease)
				}
				s.wantNames(b, id.Epoch, "in time")
			}
			b := s.draft()
			s.queued(b)
			id := s.running(b, session)
			s.cancel(b, queue.Cancelling)
			s.commit(s.reserved(id, "report", 1))
			s.wantNames(b, id.Epoch, "report")
		},
	},
}

// reserved reserves an artifact, and returns it for a commit.
func (s *subject) reserved(id queue.AttemptID, name string, content byte) queue.NewArtifact {
	s.Helper()
	n := queue.NewArtifact{AttemptID: id, Name: name, Digest: queue.Digest{content}, Size: int64(content)}
	s.reserve(n)
	return n
}

func (s *subject) reserve(n queue.NewArtifact) queue.Artifact {
	s.Helper()
	row, err := s.ReserveArtifact(s.ctx, n, s.now)
	s.must(err)
	return row
}

func (s *subject) commit(n queue.NewArtifact) queue.Artifact {
	s.Helper()
	row, err := s.CommitArtifact(s.ctx, n.AttemptID, n.Name, s.now)
	s.must(err)
	return row
}

// wantArtifact reports an artifact that is not as wanted.
func (s *subject) wantArtifact(got, want queue.Artifact) {
	s.Helper()
	at := got.CreatedAt
	if got.CreatedAt = want.CreatedAt; got != want || !at.Equal(want.CreatedAt) {
		got.CreatedAt = at
		s.Errorf("artifact is %+v, want %+v", got, want)
	}
}

// wantNames reports committed artifacts that have other names.
func (s *subject) wantNames(b queue.NewBuild, epoch int64, want ...string) {
	s.Helper()
	rows, err := s.ListArtifacts(s.ctx, b.Project, queue.AttemptID{Build: b.ID, Epoch: epoch})
	s.must(err)
	var got []string
	for _, r := range rows {
		got = append(got, r.Name)
	}
	if !slices.Equal(got, want) {
		s.Errorf("artifacts of epoch %d are %q, want %q", epoch, got, want)
	}
}
