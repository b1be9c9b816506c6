package queuetest

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/slipway-build/slipway/queue"
)

// snapshot writes down all that can be read of builds, to tell whether something has changed.
func (s *subject) snapshot(builds ...queue.NewBuild) string {
	s.Helper()
	var w strings.Builder
	for _, n := range builds {
		b := s.get(n)
		fmt.Fprintf(&w, "build %v: %s\n", b.ID, describe(b))
		fronts, err := s.Probe(s.ctx, []queue.Reach{reach(s.class(n.Pool, n.Labels))}, 1000)
		s.must(err)
		for _, f := range fronts {
			fmt.Fprintf(&w, "  class: %d queued from rank %d\n", len(f.Ranks), f.Ranks[0])
		}
		for _, a := range s.attempts(n) {
			fmt.Fprintf(&w, "  attempt %s\n", describeAttempt(a))
			fmt.Fprintf(&w, "    log %q\n", s.log(n, a.Epoch))
			artifacts, err := s.ListArtifacts(s.ctx, n.Project, a.AttemptID)
			s.must(err)
			for _, r := range artifacts {
				fmt.Fprintf(&w, "    artifact %q %v %d %s\n", r.Name, r.Digest, r.Size, stamp(r.CreatedAt))
			}
		}
		lease, err := s.Lease(s.ctx, queue.AttemptID{Build: b.ID, Epoch: b.Epoch})
		if err != nil && !errors.Is(err, queue.ErrStaleLease) {
			s.must(err)
		}
		if err == nil {
			fmt.Fprintf(&w, "  lease %d of session %d, %s, %v, token %v, reason %q, log %d\n",
				lease.Epoch, lease.Session, lease.Worker, lease.State, lease.TokenHash, lease.Reason, lease.LogLength)
		}
	}
	return w.String()
}

// unchanged reports whether what f does changes something that can be read of builds.
func (s *subject) unchanged(what string, f func(), builds ...queue.NewBuild) {
	s.Helper()
	before := s.snapshot(builds...)
	f()
	if after := s.snapshot(builds...); after != before {
		s.Errorf("%s changed something.\nbefore:\n%safter:\n%s", what, before, after)
	}
}

func describe(b queue.Build) string {
	source := "none"
	if b.Source != nil {
		source = fmt.Sprintf("%v %d", b.Source.Digest, b.Source.Size)
	}
	return fmt.Sprintf("%s %s {%v} %v, spec %q, source %s, epoch %d, used %d of %d, worker %q, run %v, wait %v, "+
		"back-off %v, retry failed %t, priority %d, keys %q and %q, metadata %q, retry of %v, "+
		"created %s, held until %s, started %s, finished %s, reason %q, exit %s, signal %q",
		b.Project, b.Pool, b.Labels, b.State, b.Spec, source, b.Epoch, b.AttemptsUsed, b.MaxAttempts, b.Worker, b.RunTimeout, b.QueueTimeout,
		b.Backoff, b.RetryFailed, b.Priority, b.ConcurrencyKey, b.IdempotencyKey, b.Metadata, b.RetryOf,
		stamp(b.CreatedAt), stamp(b.NotBefore), stamp(b.StartedAt), stamp(b.FinishedAt), b.Reason, code(b.ExitCode), b.Signal)
}

func describeAttempt(a queue.Attempt) string {
	return fmt.Sprintf("%d of %s from %s to %s, %v, reason %q, exit %s, signal %q, log %d %v %v cut %t",
		a.Epoch, a.Worker, stamp(a.StartedAt), stamp(a.EndedAt), a.Outcome, a.Reason, code(a.ExitCode), a.Signal, a.LogLength, a.LogSHA256, a.LogComplete, a.LogCut)
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.UTC().Format(time.RFC3339Nano)
}

func code(p *int) string {
	if p == nil {
		return "none"
	}
	return fmt.Sprint(*p)
}

// log reads an attempt's whole log, as far as the backend has it: nothing of one that is in the archive.
func (s *subject) log(b queue.NewBuild, epoch int64) []byte {
	s.Helper()
	var all []byte
	for {
		page, err := s.ReadLog(s.ctx, b.Project, queue.AttemptID{Build: b.ID, Epoch: epoch}, int64(len(all)), queue.MaxLogRead)
		s.must(err)
		if int64(len(all)) == page.Length || page.Archived {
			return all
		}
		if len(page.Data) == 0 {
			s.Fatalf("ReadLog returned nothing at %d of %d bytes", len(all), page.Length)
		}
		all = append(all, page.Data...)
	}
}
