package main

import (
	"context"
	"testing"
	"time"

	"github.com/slipway-build/slipway/queue"
)

// testBench has a server of its own.
func testBench(t *testing.T) *bench {
	t.Helper()
	s, err := startServer(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.stop(); err != nil {
			t.Error(err)
		}
	})
	return &bench{server: s, pool: 4, sizes: quickSizes}
}

// A history is deleted but for its last tenth, and what is wrong after that is noticed.
func TestHistoryAndItsEnd(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	b := testBench(t)
	db, side, err := b.slipway(ctx, "history", queue.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.pool.Close()
	const builds = 1000
	if err := fillHistory(ctx, db, builds); err != nil {
		t.Fatal(err)
	}
	page, err := side.queue.List(ctx, queue.Filter{AllProjects: true, States: []queue.State{queue.Succeeded}, Limit: queue.MaxPage})
	if err != nil || len(page) != queue.MaxPage {
		t.Errorf("a page has %d builds, %v; want %d", len(page), err, queue.MaxPage)
	}
	if err := b.retire(ctx, db); err != nil {
		t.Fatal(err)
	}
	wrong := func() float64 {
		n, err := wronglyKept(ctx, db, builds/10)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if got := wrong(); got != 0 {
		t.Errorf("%v rows were kept or deleted against the rules", got)
	}
	if _, err := db.pool.Exec(ctx, `DELETE FROM slipway.build WHERE id = (SELECT min(build_id::text)::uuid FROM slipway.attempt)`); err != nil {
		t.Fatal(err)
	}
	if got := wrong(); got < 4 { // the build, and at least one attempt, log head and chunk
		t.Errorf("a build deleted without its rows counts for %v, want 4 or more", got)
	}
}

func TestMedians(t *testing.T) {
	got := medians([][]finding{{{Figure: "a", Value: 1}, {Figure: "b", Value: 5}}, {{Figure: "a", Value: 3}, {Figure: "b", Value: 5}}})
	if len(got) != 2 || got[0].Figure != "a" || got[0].Value != 2 || len(got[0].Runs) != 2 || got[1].Value != 5 {
		t.Errorf("got %+v", got)
	}
}
