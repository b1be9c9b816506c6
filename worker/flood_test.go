package worker_test

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/worker"
	"github.com/slipway-build/slipway/worker/procexec"
)

// peakHeap returns what the heap grows by, at most, while f runs.
func peakHeap(f func()) uint64 {
	var stats runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&stats)
	base, peak := stats.HeapAlloc, stats.HeapAlloc
	over := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-over:
				return
			case <-tick.C:
				runtime.ReadMemStats(&stats)
				peak = max(peak, stats.HeapAlloc)
			}
		}
	})
	f()
	close(over)
	watching.Wait()
	return peak - base
}

// TestLogFlood has builds write far more than is kept of a log: what is stored ends where it may with a line, or a mark, that says so, the
// memory of agent and hub does not grow with the flood, and how the build ended is known.
func TestLogFlood(t *testing.T) {
	const (
		limit = 1 << 20
		flood = 100_000_000
		most  = 24 << 20 // of heap, in which the queue has the log, too, and what waits for the garbage collector
	)
	marker := fmt.Sprintf("\n[slipway] the log is cut here: it is longer than %d bytes\n", limit)
	executor, err := procexec.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, script := range map[string]string{
		"lines":         `yes 'ten bytes' | head -c "$1"`, // ten million
		"a line":        `yes | tr -d '\n' | head -c "$1"`,
		"NUL":           `head -c "$1" /dev/zero`,
		"invalid UTF-8": `yes "$(printf '\377\300\200\355\240\200')" | head -c "$1"`,
		"bytes":         `head -c "$1" /dev/urandom`,
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			c := w.controller(func(o *worker.HubOptions) { o.LogCap = limit })
			w.agent("one", nil, func(o *worker.AgentOptions) { o.Executor = executor }, c.server.URL)
			spec, err := procexec.Spec{Command: []string{"sh", "-c", script + "; exit 7", "sh", fmt.Sprint(flood)}}.Encode()
			if err != nil {
				t.Fatal(err)
			}
			var b queue.Build
			grown := peakHeap(func() {
				b = w.end(w.submit(func(p *queue.Params) { p.Spec = spec }))
			})
			if b.State != queue.Failed || b.ExitCode == nil || *b.ExitCode != 7 || !strings.Contains(b.Reason, fmt.Sprintf("the log is longer than %d bytes", limit)) {
				t.Errorf("the build ended as %+v", b)
			}
			log := string(w.readLog(b.ID))
			if a := w.attempt(b.ID); len(log) != limit || a.LogLength != limit || a.LogComplete || a.LogSHA256 != digest(log) {
				t.Errorf("%d bytes of log are stored; the attempt is %+v", len(log), a)
			}
			if !strings.HasSuffix(log, marker) || strings.Count(log, marker) != 1 {
				t.Errorf("the log ends with %.200q", log[max(0, len(log)-200):])
			}
			if grown > most {
				t.Errorf("the heap has grown by %d bytes, more than %d", grown, most)
			}
			t.Logf("the heap has grown by %.1f MiB", float64(grown)/(1<<20))
		})
	}
	t.Run("too many lines for the queue", func(t *testing.T) {
		few := quickQueue
		few.LogLines = 1000
		w := newWorld(t)
		c := w.controllerOn(few, nil)
		w.agent("one", nil, func(o *worker.AgentOptions) { o.Executor = executor }, c.server.URL)
		spec, err := procexec.Spec{Command: []string{"sh", "-c", "yes | head -n 1000000; exit 7"}}.Encode()
		if err != nil {
			t.Fatal(err)
		}
		b := w.end(w.submit(func(p *queue.Params) { p.Spec = spec }))
		if b.State != queue.Failed || b.ExitCode == nil || *b.ExitCode != 7 {
			t.Errorf("the build ended as %+v", b)
		}
		page, err := w.queue.ReadLog(t.Context(), project, queue.AttemptID{Build: b.ID}, 0, queue.MaxLogRead)
		if err != nil || string(page.Data) != strings.Repeat("y\n", 1000) || !page.Cut {
			t.Errorf("%d bytes of log, cut %t, %v", len(page.Data), page.Cut, err)
		}
	})
}
