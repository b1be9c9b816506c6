package queuetest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/slipway-build/slipway/queue"
)

var idempotencyCases = []testCase{
	{
		"Known",
		"A build whose idempotency key is known in its project is not inserted: Submit returns the id of the first, which is neither queued nor waits.",
		func(s *subject) {
			first := s.keyed("key")
			s.queued(first)
			id := queue.AttemptID{}
			session := s.worker()
			for _, f := range []func(){
				func() {},
				func() { id = s.offered(first, session) },
				func() { s.accept(id, session) },
				func() { s.ends(report(id, queue.Succeeded), queue.Succeeded) },
			} {
				f()
				again := first
				again.ID = queue.NewID()
				s.unchanged("submitting again", func() {
					if done := s.submit(again)[0]; done.ID != first.ID || done.Class != 0 || done.Waiting {
						s.Errorf("Submit returned %+v, want the id %v alone", done, first.ID)
					}
				}, first)
				s.wantNone(again)
			}
		},
	},
	{
		"OtherHash",
		"If the hash is another than that of the first, nothing is inserted and the error wraps ErrConflict.",
		func(s *subject) {
			first := s.keyed("key")
			s.queued(first)
			other, bystander, keyed := s.keyed("key"), s.draft(), s.keyed("fresh")
			other.IdempotencyHash[31]++
			s.unchanged("a submit with another hash", func() {
				s.wantErr(s.submitErr(bystander, keyed, other), queue.ErrConflict)
				s.wantErr(s.submitErr(other, keyed), queue.ErrConflict)
			}, first)
			s.wantNone(other, bystander, keyed)
			if done := s.submit(keyed)[0]; done.ID != keyed.ID {
				s.Errorf("a key of a submit that failed is known for %v", done.ID)
			}
		},
	},
	{
		"OtherProject",
		"An idempotency key is known in its project only.",
		func(s *subject) {
			first, other := s.keyed("key"), s.keyed("key")
			other.Project, other.IdempotencyHash = "elsewhere", queue.Digest{9}
			for _, b := range []queue.NewBuild{first, other} {
				if done := s.submit(b)[0]; done.ID != b.ID {
					s.Errorf("Submit returned %v, want a new build %v", done.ID, b.ID)
				}
				s.wantBuild(s.get(b), b)
			}
			first, other = s.keyed("another"), s.keyed("another")
			other.Project, other.IdempotencyHash = "elsewhere", queue.Digest{9}
			if done := s.submit(first, other); done[0].ID != first.ID || done[1].ID != other.ID {
				s.Errorf("Submit of both at once returned %v", done)
			}
		},
	},
	{
		"InABatch",
		"Of two builds with one key in a call the first counts as known to the second.",
		func(s *subject) {
			builds := []queue.NewBuild{s.keyed("one"), s.draft(), s.keyed("two"), s.keyed("one"), s.keyed("one"), s.keyed("two")}
			var got []queue.ID
			for _, d := range s.submit(builds...) {
				got = append(got, d.ID)
			}
			s.wantIDs("submitted", got, ids([]queue.NewBuild{builds[0], builds[1], builds[2], builds[0], builds[0], builds[2]}))
			s.wantNone(builds[3:]...)
			other, bystander := s.keyed("three"), s.draft()
			other.IdempotencyHash[0]++
			s.wantErr(s.submitErr(bystander, s.keyed("three"), other), queue.ErrConflict)
			s.wantNone(bystander, other)
		},
	},
	{
		"Mixed",
		"Submit returns what became of each build, in their order, whatever is known of them.",
		func(s *subject) {
			known := []queue.NewBuild{s.keyed("one"), s.keyed("two")}
			s.queued(known...)
			var builds []queue.NewBuild
			var want []queue.ID
			for i := range 40 {
				b := s.draft()
				b.Pool = known[0].Pool
				if i%3 > 0 {
					b.IdempotencyKey, b.IdempotencyHash = fmt.Sprint(i/6), queue.Digest{1}
				}
				if i%5 == 0 {
					b.IdempotencyKey = known[i%2].IdempotencyKey
					b.IdempotencyHash = known[i%2].IdempotencyHash
				}
				builds = append(builds, b)
				first := slices.IndexFunc(builds, func(e queue.NewBuild) bool { return e.IdempotencyKey != "" && e.IdempotencyKey == b.IdempotencyKey })
				switch {
				case i%5 == 0:
					want = append(want, known[i%2].ID)
				case first >= 0:
					want = append(want, builds[first].ID)
				default:
					want = append(want, b.ID)
				}
			}
			var got []queue.ID
			for i, d := range s.submit(builds...) {
				got = append(got, d.ID)
				if inserted := d.ID == builds[i].ID; inserted != (d.Class != 0) || d.Waiting {
					s.Errorf("item %d is %+v", i, d)
				}
			}
			s.wantIDs("submitted", got, want)
			s.wantHead(known[0], len(slices.Compact(sorted(want)))-1)
		},
	},
	{
		"SameID",
		"A submit whose outcome was not learned can be made again, with the same id and the same key.",
		func(s *subject) {
			b := s.keyed("key")
			s.queued(b)
			s.unchanged("submitting again", func() {
				if done := s.submit(b)[0]; done.ID != b.ID || done.Class != 0 || done.Waiting {
					s.Errorf("Submit returned %+v, want the id %v alone", done, b.ID)
				}
			}, b)
			s.wantHead(b, 1)
		},
	},
	{
		"TakenID",
		"If an id is taken by another build than the one with the key, nothing is inserted and the error wraps ErrConflict.",
		func(s *subject) {
			old, b := s.draft(), s.keyed("key")
			s.queued(old)
			b.ID = old.ID
			s.unchanged("a submit with a taken id", func() { s.wantErr(s.submitErr(b), queue.ErrConflict) }, old)
			b.ID = queue.NewID()
			if done := s.submit(b)[0]; done.ID != b.ID {
				s.Errorf("the key of a submit that failed is known for %v", done.ID)
			}
		},
	},
	{
		"Twins",
		"Of many submits of one key at once one counts, and all return its id.",
		func(s *subject) {
			const twins = 16
			b := s.keyed("key")
			s.queued(b) // its class
			b.IdempotencyKey = "another"
			returned := make([]queue.ID, twins)
			s.gather(twins, func(ctx context.Context, i int) error {
				b := b
				b.ID = queue.NewID()
				done, err := s.Submit(ctx, []queue.NewBuild{b}, s.now)
				if err == nil {
					returned[i] = done[0].ID
				}
				return err
			})
			if first := slices.Compact(returned); len(first) != 1 {
				s.Errorf("submits of one key returned %v", returned)
			}
			s.wantHead(b, 2)
		},
	},
	{
		"TwinBatches",
		"Of many submits of the same keys at once each build counts once, in whatever order their keys come.",
		func(s *subject) {
			const twins, keys = 8, 30
			pool := s.name("pool")
			var mu sync.Mutex
			returned := make(map[string][]queue.ID)
			s.gather(twins, func(ctx context.Context, i int) error {
				var builds []queue.NewBuild
				for k := range keys {
					if i%2 == 1 {
						k = keys - 1 - k
					}
					builds = append(builds, queue.NewBuild{
						ID: queue.NewID(), Project: "project", Pool: pool, RunTimeout: runTimeout, MaxAttempts: 1,
						IdempotencyKey: fmt.Sprint("key ", (k+5*i)%keys), IdempotencyHash: queue.Digest{1},
					})
				}
				done, err := s.Submit(ctx, builds, s.now)
				mu.Lock()
				defer mu.Unlock()
				for i, d := range done {
					key := builds[i].IdempotencyKey
					returned[key] = append(returned[key], d.ID)
				}
				return err
			})
			for key, all := range returned {
				if len(all) != twins || len(slices.Compact(all)) != 1 {
					s.Errorf("submits of %q returned %v", key, all)
				}
			}
			s.maintain(s.rules())
			s.wantHead(queue.NewBuild{Pool: pool}, keys)
		},
	},
	{
		"Forgotten",
		"A key is forgotten when rules.KeepKeys are over after the end of its build, and not before.",
		func(s *subject) {
			b := s.keyed("key")
			s.queued(b)
			s.pass(2 * keepKeys)
			s.maintain(s.rules())
			id := s.running(b, s.worker())
			s.ends(report(id, queue.Failed), queue.Failed)
			s.pass(keepKeys - 2*time.Second)
			s.maintain(s.rules())
			again := s.keyed("key")
			again.IdempotencyHash = queue.Digest{7}
			s.wantErr(s.submitErr(again), queue.ErrConflict)
			if got := s.get(b); got.IdempotencyKey != "key" {
				s.Errorf("build is %s", describe(got))
			}
			s.pass(3 * time.Second)
			if done := s.maintain(s.rules()); done.Forgotten == 0 {
				s.Errorf("Maintain forgot nothing")
			}
			if got := s.get(b); got.IdempotencyKey != "" || got.State != queue.Failed {
				s.Errorf("build is %s", describe(got))
			}
			if done := s.submit(again)[0]; done.ID != again.ID {
				s.Errorf("Submit returned %v for a key that is forgotten, want a new build", done.ID)
			}
			s.wantBuild(s.get(again), again)
		},
	},
	{
		"ForgottenInSteps",
		"Maintain forgets at most rules.Limit keys in one call, and says More.",
		func(s *subject) {
			var builds []queue.NewBuild
			for i := range 11 {
				builds = append(builds, s.keyed(fmt.Sprint(i)))
			}
			s.submit(builds...)
			for _, b := range builds {
				s.cancel(b, queue.Canceled)
			}
			s.pass(keepKeys + time.Second)
			rules := s.rules()
			rules.Limit = 4
			if done := s.maintain(rules); done.Forgotten != len(builds) {
				s.Errorf("Maintain forgot %d in steps of %d, want %d", done.Forgotten, rules.Limit, len(builds))
			}
		},
	},
}

// keyed returns a build with an idempotency key. All have the same hash.
func (s *subject) keyed(key string) queue.NewBuild {
	b := s.draft()
	b.IdempotencyKey, b.IdempotencyHash = key, queue.Digest{1, 2}
	return b
}

// wantNone reports builds that are there.
func (s *subject) wantNone(builds ...queue.NewBuild) {
	s.Helper()
	for _, b := range builds {
		_, err := s.Get(s.ctx, b.Project, b.ID)
		s.wantErr(err, queue.ErrNotFound)
	}
}
