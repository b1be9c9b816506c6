package queue_test

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/queue/memqueue"
)

// TestIdleSet lets sessions come, go, and have slots or not, and builds of several kinds be submitted. Nobody gets more than he has slots
// for, or what he does not serve; and a claim leaves nothing that somebody with a slot would take.
func TestIdleSet(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		f := newFleet(t, memqueue.New(), nil)
		set := f.NewIdleSet()
		pools := []string{"a", "b", "c"}
		serves := make(map[queue.SessionID][]string)
		slots := make(map[queue.SessionID]int)
		queued := make(map[string]int)
		var sessions []queue.SessionID
		var opened int
		some := func() queue.SessionID { return rapid.SampledFrom(sessions).Draw(rt, "session") }
		rt.Repeat(map[string]func(*rapid.T){
			"open": func(rt *rapid.T) {
				mine := pools[:rapid.IntRange(1, len(pools)).Draw(rt, "pools")]
				opened++
				s := f.session(fmt.Sprintf("worker-%d", opened), nil, mine...)
				sessions, serves[s] = append(sessions, s), mine
			},
			"lose": func(rt *rapid.T) {
				if len(sessions) == 0 {
					return
				}
				s := some()
				if err := f.LoseSessions(t.Context(), s); err != nil {
					rt.Fatal(err)
				}
				delete(slots, s)
				delete(serves, s)
				sessions = slices.DeleteFunc(sessions, func(other queue.SessionID) bool { return other == s })
				f.maintain()
				clear(queued) // what was offered to it is queued again
				for _, pool := range pools {
					page, err := f.List(t.Context(), queue.Filter{
						AllProjects: true, Pool: pool, States: []queue.State{queue.Pending}, Limit: queue.MaxPage,
					})
					if err != nil {
						rt.Fatal(err)
					}
					queued[pool] = len(page)
				}
			},
			"set": func(rt *rapid.T) {
				if len(sessions) > 0 {
					s, n := some(), rapid.IntRange(-1, 4).Draw(rt, "slots")
					set.Set(s, n)
					slots[s] = max(n, 0)
				}
			},
			"submit": func(rt *rapid.T) {
				pool, n := rapid.SampledFrom(pools).Draw(rt, "pool"), rapid.IntRange(1, 5).Draw(rt, "builds")
				f.submit(n, queue.Params{Pool: pool})
				queued[pool] += n
			},
			"claim": func(rt *rapid.T) {
				offers, err := set.Claim(t.Context())
				if err != nil {
					rt.Fatal(err)
				}
				for _, o := range offers {
					queued[o.Pool]--
					if slots[o.Session]--; slots[o.Session] < 0 {
						rt.Fatalf("session %d was given more than it has slots for", o.Session)
					}
					if !slices.Contains(serves[o.Session], o.Pool) {
						rt.Fatalf("session %d was given a build of pool %s, which it does not serve", o.Session, o.Pool)
					}
				}
				for s, n := range slots {
					for _, pool := range serves[s] {
						if n > 0 && queued[pool] > 0 {
							rt.Fatalf("session %d has %d slots, and %d builds of pool %s were left", s, n, queued[pool], pool)
						}
					}
				}
			},
		})
	})
}

// BenchmarkClaimOneOfManyIdle claims a build that one session may have while more and more others wait.
func BenchmarkClaimOneOfManyIdle(b *testing.B) {
	for _, idle := range []int{10, 1_000, 10_000} {
		b.Run(fmt.Sprintf("idle=%d", idle), func(b *testing.B) {
			q := queue.New(memqueue.New(), nil)
			set := q.NewIdleSet()
			ctx := b.Context()
			var wanted queue.SessionID
			for i := range idle {
				id, err := q.OpenSession(ctx, queue.NewSession{
					Worker: fmt.Sprintf("worker-%d", i), Instance: "1", Pools: []string{queue.DefaultPool}, Slots: 1,
					Labels: queue.Labels{"host": fmt.Sprint(i)},
				})
				if err != nil {
					b.Fatal(err)
				}
				set.Set(id, 1)
				wanted = id
			}
			host := queue.Labels{"host": fmt.Sprint(idle - 1)}
			for b.Loop() {
				if _, err := q.Submit(ctx, queue.Params{Project: "p", Labels: host}); err != nil {
					b.Fatal(err)
				}
				if _, err := q.Maintain(ctx); err != nil {
					b.Fatal(err)
				}
				offers, err := set.Claim(ctx)
				if err != nil || len(offers) != 1 {
					b.Fatalf("claimed %d builds: %v", len(offers), err)
				}
				id := offers[0].AttemptID
				if err := q.Accept(ctx, wanted, id, queue.Digest{}); err != nil {
					b.Fatal(err)
				}
				if _, err := q.Finish(ctx, queue.Completion{AttemptID: id, Session: wanted, Outcome: queue.Succeeded}); err != nil {
					b.Fatal(err)
				}
				set.Set(wanted, 1)
			}
		})
	}
}
