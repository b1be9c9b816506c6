package main

import (
	"context"
	"syscall"
	"testing"
	"time"

	"github.com/slipway-build/slipway/queue"
)

// TestSignals stops the real agent in its three ways while a build runs.
func TestSignals(t *testing.T) {
	site, err := newSite(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(site.close)
	for _, tt := range []struct {
		name     string
		signals  int
		code     int
		attempts int
	}{{"drain", 1, 0, 1}, {"stop", 2, 0, 2}, {"kill", 3, 128 + int(syscall.SIGTERM), 2}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := &cell{site: site, name: tt.name, grace: 8 * time.Second}
			t.Cleanup(func() { c.close(context.WithoutCancel(t.Context()), false) })
			check := func(err error) {
				t.Helper()
				if err != nil {
					t.Fatalf("%v\n%s", err, tail(c.path("agent.log")))
				}
			}
			check(c.open(t.Context()))
			check(running(t.Context(), c))
			stopped := c.agent()
			for i := range tt.signals {
				stopped.signal(syscall.SIGTERM)
				said := []string{"msg=\"draining", "msg=\"stopping", ""}[i]
				check(c.see(t.Context(), said, func() bool { return logged(stopped.log, said) }))
			}
			if tt.signals == 1 {
				if b, err := c.queue.Get(t.Context(), project, c.build); err != nil || b.State != queue.Running {
					t.Errorf("while the agent drains the build is %v, %v", b.State, err)
				}
				check(c.openGate())
			}
			check(c.see(t.Context(), "the end of the agent", func() bool {
				select {
				case <-stopped.ended:
					return true
				default:
					return false
				}
			}))
			if code := stopped.cmd.ProcessState.ExitCode(); code != tt.code {
				t.Errorf("the agent ends with %d, want %d", code, tt.code)
			}
			check(c.openGate())
			check(c.restartAgent())
			c.moment = moments[1]
			c.check(t.Context())
			if len(c.wrong) > 0 || c.attempts != tt.attempts {
				t.Errorf("after %d attempts, want %d: %v", c.attempts, tt.attempts, c.wrong)
			}
		})
	}
}
