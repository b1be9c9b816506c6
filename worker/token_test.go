package worker_test

import (
	"context"
	"io"
	"strings"
	"testing"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/worker"
)

// TestLogHidesToken has a build print its environment: those who may read its log do not get its token.
func TestLogHidesToken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.controller(nil)
	run := func(_ context.Context, job worker.Job) (worker.Result, error) {
		for _, variable := range job.Env { // byte by byte, as an unbuffered program does
			for i := range variable {
				_, _ = io.WriteString(job.Log, variable[i:i+1])
			}
			_, _ = io.WriteString(job.Log, "\n")
		}
		return worker.Result{}, nil
	}
	w.agent("one", run, nil, c.server.URL)
	id := w.submit(nil)
	if b := w.end(id); b.State != queue.Succeeded {
		t.Errorf("the build ended as %v: %q", b.State, b.Reason)
	}
	log := w.readLog(id)
	if strings.Contains(string(log), "slw_build_") || !strings.Contains(string(log), "SLIPWAY_TOKEN=[redacted]\n") {
		t.Errorf("the log is %q", log)
	}
	w.checkComplete(id, log)
}
