package queuetest

import (
	"bytes"
	"time"

	"github.com/slipway-build/slipway/queue"
)

var submitCases = []testCase{
	{
		"Pending",
		"Submit inserts builds as Pending.",
		func(s *subject) {
			b := s.draft()
			b.Source = &queue.Source{Digest: queue.Digest{1, 2, 3}, Size: 1 << 40}
			b.QueueTimeout = 90 * time.Minute
			b.Backoff, b.RetryFailed, b.Priority = queue.Backoff{Base: time.Second, Max: time.Hour}, true, -queue.MaxPriority
			b.ConcurrencyKey, b.IdempotencyKey, b.IdempotencyHash = "deploy é", "push '42'", queue.Digest{4, 2}
			b.Metadata, b.RetryOf = map[string]string{"commit": "0123", "title": "Grüße, \"\n\t{}"}, queue.NewID()
			b.NotBefore = s.now.Add(time.Hour)
			s.submit(b)
			s.wantBuild(s.get(b), b)
		},
	},
	{
		"Specs",
		"A change is durable when the method returns nil: Get returns the spec that was submitted, whatever its bytes.",
		func(s *subject) {
			for _, spec := range specs() {
				b := s.draft()
				b.Spec = spec
				s.submit(b)
				if got := s.get(b).Spec; !bytes.Equal(got, spec) {
					s.Errorf("spec of %d bytes came back as %d other bytes", len(spec), len(got))
				}
			}
		},
	},
	{
		"Labels",
		"A class is a pool and a set of required labels: labels come back as they were submitted, none as well as many.",
		func(s *subject) {
			many := queue.Labels{}
			for range queue.MaxLabels {
				many[s.name("a.b_c/d")] = "Value_1.0-rc"
			}
			for _, labels := range []queue.Labels{nil, {}, {"k": ""}, {"os": "linux"}, many} {
				b := s.draft()
				b.Labels = labels
				s.queued(b)
				if got := s.get(b).Labels.String(); got != labels.String() {
					s.Errorf("labels are %q, want %q", got, labels)
				}
				if s.class(b.Pool, labels) == 0 {
					s.Errorf("Classes lists no class with labels %q", labels)
				}
			}
		},
	},
	{
		"UnknownClassIsHeld",
		"A build whose class is known is queued; any other is held until Maintain has made its class.",
		func(s *subject) {
			builds := s.drafts(3)
			s.submit(builds[:2]...)
			if id := s.class(builds[0].Pool, builds[0].Labels); id != 0 {
				s.Errorf("the class is known as %d before Maintain", id)
			}
			if done := s.maintain(s.rules()); done.Interned != 1 || done.Queued != 2 {
				s.Errorf("Maintain made %d classes and queued %d builds, want 1 and 2", done.Interned, done.Queued)
			}
			s.wantHead(builds[0], 2)
			s.submit(builds[2])
			s.wantHead(builds[0], 3)
		},
	},
	{
		"ClassIsPoolAndLabels",
		"A backend gives each distinct pair of a pool and labels a number.",
		func(s *subject) {
			first, second, third := s.draft(), s.draft(), s.draft()
			second.Labels = queue.Labels{"os": "linux"}
			third.Pool, third.Labels = first.Pool, queue.Labels{"os": "linux"}
			s.queued(first, second, third)
			seen := make(map[queue.ClassID]bool)
			for _, b := range []queue.NewBuild{first, second, third} {
				seen[s.class(b.Pool, b.Labels)] = true
				s.wantHead(b, 1)
			}
			if len(seen) != 3 || seen[0] {
				s.Errorf("the classes of three pairs are %v", seen)
			}
		},
	},
	{
		"TakenID",
		"If any id is taken, nothing is inserted and the error wraps ErrConflict.",
		func(s *subject) {
			old := s.draft()
			s.queued(old)
			builds := s.drafts(3)
			builds[1].ID = old.ID
			s.unchanged("a submit with a taken id", func() {
				s.wantErr(s.submitErr(builds...), queue.ErrConflict)
			}, old)
			for _, b := range []queue.NewBuild{builds[0], builds[2]} {
				_, err := s.Get(s.ctx, b.Project, b.ID)
				s.wantErr(err, queue.ErrNotFound)
			}
		},
	},
	{
		"TakenIDOfAnotherProject",
		"If any id is taken, nothing is inserted and the error wraps ErrConflict.",
		func(s *subject) {
			old := s.draft()
			s.submit(old)
			twin := s.draft()
			twin.ID, twin.Project = old.ID, "elsewhere"
			s.wantErr(s.submitErr(twin), queue.ErrConflict)
			_, err := s.Get(s.ctx, twin.Project, twin.ID)
			s.wantErr(err, queue.ErrNotFound)
		},
	},
	{
		"SameIDTwiceInABatch",
		"If any id is taken, nothing is inserted and the error wraps ErrConflict.",
		func(s *subject) {
			builds := s.drafts(3)
			builds[2].ID = builds[0].ID
			s.wantErr(s.submitErr(builds...), queue.ErrConflict)
			for _, b := range builds {
				_, err := s.Get(s.ctx, b.Project, b.ID)
				s.wantErr(err, queue.ErrNotFound)
			}
		},
	},
	{
		"LargeBatch",
		"A change is atomic: a batch of any size up to MaxBatch is one change.",
		func(s *subject) {
			builds := s.drafts(2500)
			s.submit(builds...)
			s.maintain(s.rules())
			fronts, err := s.Probe(s.ctx, []queue.Reach{reach(s.class(builds[0].Pool, builds[0].Labels))}, 10_000)
			s.must(err)
			if len(fronts) != 1 || len(fronts[0].Ranks) != len(builds) {
				s.Errorf("Probe returned %v, want all %d builds", fronts, len(builds))
			}
		},
	},
	{
		"ArgumentsAreNotKept",
		"Slices and maps of arguments are not kept; those of results belong to the caller.",
		func(s *subject) {
			b := s.draft()
			b.Source = &queue.Source{Size: 1}
			spec, labels, source := bytes.Clone(b.Spec), b.Labels.String(), *b.Source
			check := func() {
				s.Helper()
				got := s.get(b)
				if !bytes.Equal(got.Spec, spec) || got.Labels.String() != labels || *got.Source != source {
					s.Errorf("build is %s", describe(got))
				}
			}
			s.submit(b)
			b.Spec[0], b.Labels["os"], b.Source.Size = 'X', "plan9", 2
			check()
			got := s.get(b)
			got.Spec[0], got.Labels["os"], got.Source.Size = 'Y', "vms", 3
			check()
		},
	},
}

// specs returns specs of all kinds: none, binary, as large as comes with a claim, a byte larger, as large as may be.
func specs() [][]byte {
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	return [][]byte{
		nil,
		{},
		all,
		bytes.Repeat([]byte{0}, 100),
		bytes.Repeat(all, queue.InlineSpec/256),
		append(bytes.Repeat(all, queue.InlineSpec/256), 'x'),
		bytes.Repeat(all, queue.MaxSpec/256),
	}
}

// wantBuild reports a build that is not as it was submitted just now.
func (s *subject) wantBuild(got queue.Build, n queue.NewBuild) {
	s.Helper()
	want := queue.Build{
		ID: n.ID, Project: n.Project, Pool: n.Pool, Labels: n.Labels, State: queue.Pending, Spec: n.Spec, Source: n.Source,
		MaxAttempts: n.MaxAttempts, RunTimeout: n.RunTimeout, QueueTimeout: n.QueueTimeout, Backoff: n.Backoff, RetryFailed: n.RetryFailed,
		Priority: n.Priority, ConcurrencyKey: n.ConcurrencyKey, IdempotencyKey: n.IdempotencyKey, Metadata: n.Metadata, RetryOf: n.RetryOf,
		NotBefore: n.NotBefore, CreatedAt: s.now,
	}
	if describe(got) != describe(want) {
		s.Errorf("build is\n%s, want\n%s", describe(got), describe(want))
	}
}

// wantHead reports a class that has not that many queued builds.
func (s *subject) wantHead(b queue.NewBuild, count int) {
	s.Helper()
	class := s.class(b.Pool, b.Labels)
	fronts, err := s.Probe(s.ctx, []queue.Reach{reach(class)}, 1000)
	s.must(err)
	switch {
	case count == 0 && len(fronts) == 0:
	case len(fronts) != 1 || fronts[0].Class != class || len(fronts[0].Ranks) != count:
		s.Errorf("Probe of class %d returned %v, want %d queued builds", class, fronts, count)
	}
}
