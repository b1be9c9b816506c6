package pgqueue_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/slipway-build/slipway/queue"
)

// A reader is a backend that counts how often logs are read.
type reader struct {
	queue.Backend
	reads atomic.Int64
}

func (r *reader) ReadLog(ctx context.Context, project string, id queue.AttemptID, offset int64, max int) (queue.LogPage, error) {
	r.reads.Add(1)
	return r.Backend.ReadLog(ctx, project, id, offset, max)
}

// BenchmarkFollowLog measures how long a line of a log takes from its write by one process until all who follow it in another have it,
// with ten lines a second, and what that costs the database.
func BenchmarkFollowLog(b *testing.B) {
	for _, followers := range []int{1, 500} {
		b.Run(fmt.Sprintf("followers=%d", followers), func(b *testing.B) { benchmarkFollow(b, followers) })
	}
}

func benchmarkFollow(b *testing.B, followers int) {
	backend, _ := open(b)
	counted := &reader{Backend: backend}
	here, there := queue.New(counted, nil), queue.New(backend, nil)
	id := attempted(b, there)
	read := make(chan struct{}, followers)
	var follows sync.WaitGroup
	for range followers {
		follows.Go(func() {
			for page, err := range here.FollowLog(b.Context(), "project", id, 0) {
				if err != nil {
					b.Error(err)
				}
				if !page.Closed {
					read <- struct{}{}
				}
			}
		})
	}
	lines := time.NewTicker(100 * time.Millisecond)
	defer lines.Stop()
	var took []time.Duration
	var offset int64
	line := func() time.Duration {
		<-lines.C
		begun := time.Now()
		length, err := there.AppendLog(b.Context(), queue.LogChunk{AttemptID: id, Offset: offset, Data: []byte("a line of a log\n")})
		if err != nil {
			b.Fatal(err)
		}
		offset = length.Length
		for range followers {
			<-read
		}
		return time.Since(begun)
	}
	line() // by then all follow
	before := counted.reads.Load()
	for b.Loop() {
		took = append(took, line())
	}
	reads := counted.reads.Load() - before
	if _, err := there.Finish(b.Context(), queue.Completion{AttemptID: id, Outcome: queue.Succeeded}); err != nil {
		b.Fatal(err)
	}
	follows.Wait()
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
	b.ReportMetric(float64(reads)/b.Elapsed().Seconds(), "reads/s")
}

// attempted returns an attempt of a new build that runs.
func attempted(b *testing.B, q *queue.Queue) queue.AttemptID {
	b.Helper()
	check := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	ctx := b.Context()
	_, err := q.Beat(ctx)
	check(err)
	session, err := q.OpenSession(ctx, queue.NewSession{Worker: "worker", Instance: "1", Pools: []string{"default"}, Slots: 1})
	check(err)
	_, err = q.Submit(ctx, queue.Params{Project: "project"})
	check(err)
	_, err = q.Maintain(ctx)
	check(err)
	offers, err := q.Claim(ctx, []queue.Idle{{Session: session, Slots: 1}})
	check(err)
	if len(offers) != 1 {
		b.Fatalf("%d offers", len(offers))
	}
	check(q.Accept(ctx, session, offers[0].AttemptID, queue.Digest{}))
	return offers[0].AttemptID
}
