package workertest

import (
	"bytes"
	"testing"
	"time"

	"github.com/slipway-build/slipway/worker/wire"
)

// Settings are what a worker is started with.
type Settings struct {
	// URL is where its one controller is, and Credential what the controller knows it by.
	URL        string
	Credential string
	// Worker is its name.
	Worker string
}

// A Program is a worker that is held to the protocol, and what it must be told for it. It runs one build at a time.
type Program struct {
	// Start starts it, to be ended by t.Cleanup, and returns a channel that is closed when it has ended by itself. A worker that comes back
	// soon, repeats what is not answered every second or so, and so on, makes the whole take less time.
	Start func(t *testing.T, s Settings) <-chan struct{}
	// Print returns the spec of a build that prints a text to its log, and nothing else, and succeeds.
	Print func(text string) []byte
	// Wait is the spec of a build that prints "ready\n" and runs until it is told to end.
	Wait []byte
	// Artifact returns the spec of a build that leaves an artifact of that name and content. Nil: the program has none.
	Artifact func(name, content string) []byte
	// Source packs a source that the program takes. Nil: it takes none.
	Source func(t *testing.T) []byte
}

// TestWorker holds a worker to the protocol. Each case starts the program anew and has a controller of its own.
func TestWorker(t *testing.T, p Program) {
	for _, c := range workerCases {
		if c.needs != nil && !c.needs(&p) {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			t.Cleanup(func() {
				if t.Failed() {
					t.Logf("contract: %s", c.contract)
				}
			})
			c.check(&workerCase{T: t, Program: p, controller: NewController(t, &c.options)})
		})
	}
}

type workerTest struct {
	name     string
	contract string
	options  ControllerOptions
	needs    func(p *Program) bool // nil: nothing that not every program has
	check    func(c *workerCase)
}

type workerCase struct {
	*testing.T
	Program
	controller *Controller
	exited     <-chan struct{}
}

// start starts the worker.
func (c *workerCase) start() {
	c.Helper()
	o := &c.controller.opts
	c.exited = c.Start(c.T, Settings{URL: c.controller.URL(), Credential: o.Credential, Worker: "tested"})
}

// session starts the worker and welcomes it.
func (c *workerCase) session() *Session {
	c.Helper()
	c.start()
	return c.controller.Welcomed()
}

// waiting starts the worker, and a build in it that runs until it is told to end.
func (c *workerCase) waiting() (*Session, wire.Ref) {
	c.Helper()
	s := c.session()
	ref := s.Run(c.Wait, nil)
	s.Logged(ref, len("ready\n"))
	return s, ref
}

// beats waits for some more heartbeats, in which what must not happen would have.
func (c *workerCase) beats(s *Session, n int) (last *wire.Heartbeat) {
	c.Helper()
	for range n {
		last = Await[*wire.Heartbeat](s.Peer, nil)
	}
	return last
}

// ended waits until the worker has given up.
func (c *workerCase) ended() {
	c.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	select {
	case <-c.exited:
	case <-deadline.C:
		c.Error("the worker goes on")
	}
}

// wantSuccess waits for the report of success with a log, which must have come whole before.
func (c *workerCase) wantSuccess(s *Session, ref wire.Ref, log []byte) {
	c.Helper()
	end := s.Finished(ref)
	if end.Outcome != wire.OutcomeSucceeded || end.Partial {
		c.Errorf("the report is %+v", end)
	}
	c.wantLog(ref, end, log)
}

func (c *workerCase) wantLog(ref wire.Ref, end *wire.Finished, log []byte) {
	c.Helper()
	want := succeeded(ref, string(log))
	if got := c.controller.Log(ref); !bytes.Equal(got, log) || end.LogLen != want.LogLen || end.LogSHA256 != want.LogSHA256 {
		c.Errorf("of a log of %d bytes %d have come, and the report says %d with the sum %v", len(log), len(got), end.LogLen, end.LogSHA256)
	}
}
