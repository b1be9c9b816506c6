package pgqueue_test

import (
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/slipway-build/slipway/internal/testenv"
	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/queue/pgqueue"
)

// waitSQL makes builds of a served class that wait to be admitted.
const waitSQL = `
INSERT INTO {schema}.build (id, rank, run_timeout, created_at, max_attempts, state, project, pool, labels, class_id, limit_key)
SELECT overlay(gen_random_uuid()::text placing '7' from 15)::uuid, n, 60000000, now(), 3, 0, 'project', 'pool', '', 1, 'key' || n % $2
FROM generate_series(1, $1) n`

func openBench(b *testing.B) (*pgqueue.Backend, *testenv.Database) {
	b.Helper()
	backend, db := open(b)
	run(b, db, classSQL)
	if err := backend.Serve(b.Context(), []queue.ClassID{1}, time.Hour, now); err != nil {
		b.Fatal(err)
	}
	return backend, db
}

func run(t testing.TB, db *testenv.Database, sql string, args ...any) {
	t.Helper()
	if _, err := db.Pool.Exec(t.Context(), strings.ReplaceAll(sql, "{schema}", db.Schema), args...); err != nil {
		t.Fatal(err)
	}
}

func admit(t testing.TB, b *pgqueue.Backend, after queue.Lane) queue.Admitted {
	t.Helper()
	done, err := b.Admit(t.Context(), after, 512, now)
	if err != nil {
		t.Fatal(err)
	}
	return done
}

// BenchmarkAdmit measures how many builds one process can have admitted.
func BenchmarkAdmit(b *testing.B) {
	backend, db := openBench(b)
	var admitted int
	for b.Loop() {
		done := admit(b, backend, queue.Lane{})
		if admitted += done.Queued; done.Queued == 0 {
			b.StopTimer()
			run(b, db, "TRUNCATE {schema}.build")
			run(b, db, waitSQL, 51200, 1)
			run(b, db, "ANALYZE {schema}.build")
			b.StartTimer()
		}
	}
	b.ReportMetric(float64(admitted)/b.Elapsed().Seconds(), "builds/s")
}

// BenchmarkAdmitNothing measures what it costs to look when nothing waits.
func BenchmarkAdmitNothing(b *testing.B) {
	backend, _ := openBench(b)
	for b.Loop() {
		admit(b, backend, queue.Lane{})
	}
}

// BenchmarkAdmitAtLimits measures a walk over 10,000 lanes whose keys are at their limits.
func BenchmarkAdmitAtLimits(b *testing.B) {
	backend, db := openBench(b)
	const lanes = 10_000
	run(b, db, waitSQL, 10*lanes, lanes)
	run(b, db, "INSERT INTO {schema}.build_limit (project, key, max_running) SELECT 'project', 'key' || n, 4 FROM generate_series(0, $1) n", lanes-1)
	run(b, db, "ANALYZE {schema}.build")
	var lane queue.Lane
	for more := true; more; {
		if done := admit(b, backend, lane); done.Queued == 0 {
			lane, more = done.Next, done.Next != (queue.Lane{})
		}
	}
	var longest time.Duration
	for b.Loop() {
		for more := true; more; more = lane != (queue.Lane{}) {
			begun := time.Now()
			lane = admit(b, backend, lane).Next
			longest = max(longest, time.Since(begun))
		}
	}
	b.ReportMetric(float64(longest.Microseconds())/1000, "ms/longest-call")
}

// BenchmarkAdmitTogether measures how long a call takes while several processes call all the time and builds trickle in: two for each CPU.
func BenchmarkAdmitTogether(b *testing.B) {
	_, db := openBench(b)
	processes := make(chan *pgqueue.Backend, 2*runtime.GOMAXPROCS(0))
	for range cap(processes) {
		process := backend(b, db.Open(b, nil), &pgqueue.Options{Schema: db.Schema})
		admit(b, process, queue.Lane{})
		processes <- process
	}
	var calls, took atomic.Int64
	b.SetParallelism(2)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		process := <-processes
		defer func() { processes <- process }()
		for pb.Next() {
			begun := time.Now()
			if _, err := process.Admit(b.Context(), queue.Lane{}, 512, now); err != nil {
				b.Error(err)
			}
			took.Add(int64(time.Since(begun)))
			if calls.Add(1)%10 == 0 {
				run(b, db, waitSQL, 5, 5)
			}
		}
	})
	b.ReportMetric(float64(took.Load())/float64(calls.Load())/1000, "µs/call")
}
