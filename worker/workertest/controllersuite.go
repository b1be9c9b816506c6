package workertest

import (
	"net/http"
	"strings"
	"testing"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/worker/wire"
)

// A Service is a controller that is held to the protocol, and the queue behind it, which has no builds yet and no other workers.
// Its functions fail the test themselves.
type Service struct {
	// URL is where the controller is found, http://127.0.0.1:8080 for instance.
	URL string
	// Worker is the name of the worker that Credential was given for.
	Worker     string
	Credential string
	// Submit adds a build that the worker may run, to be attempted again if it is lost. Its source is nil if it has none. The run timeout is a
	// minute or more.
	Submit func(t *testing.T, spec, source []byte) queue.ID
	// Cancel asks for a build to be canceled.
	Cancel func(t *testing.T, id queue.ID)
	// State returns how a build stands.
	State func(t *testing.T, id queue.ID) queue.State
	// Log returns what is stored of the log of a build's newest attempt.
	Log func(t *testing.T, id queue.ID) []byte
}

// TestController holds a controller to the protocol. Each case gets a service of its own from open, which leaves what it must take down to
// t.Cleanup. With short times (an offer that stands for a second or two, a heartbeat well below that) the whole takes seconds.
func TestController(t *testing.T, open func(t *testing.T) Service) {
	for _, c := range append(connectionCases, append(attemptCases, transferCases...)...) {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			t.Cleanup(func() {
				if t.Failed() {
					t.Logf("contract: %s", c.contract)
				}
			})
			c.check(&controllerCase{T: t, Service: open(t)})
		})
	}
}

type controllerTest struct {
	name     string
	contract string
	check    func(c *controllerCase)
}

type controllerCase struct {
	*testing.T
	Service
}

// dial connects as the worker, and says nothing.
func (c *controllerCase) dial() *Worker {
	c.Helper()
	return Dial(c.T, c.URL, c.Worker, c.Credential)
}

// worker connects and says hello.
func (c *controllerCase) worker() *Worker {
	c.Helper()
	w := c.dial()
	w.Hello()
	return w
}

// running submits a build, and has a worker run it.
func (c *controllerCase) running() (*Worker, *Attempt) {
	c.Helper()
	w := c.worker()
	c.Submit(c.T, []byte("spec"), nil)
	return w, w.Take()
}

func (c *controllerCase) wantClosed(w *Worker, want wire.CloseCode) {
	c.Helper()
	if code := w.Closed(); code != want {
		c.Errorf("the connection was closed with %d, want %d", code, want)
	}
}

// wantError waits for an error about an attempt, or about none.
func (c *controllerCase) wantError(w *Worker, code wire.ErrorCode, ref wire.Ref, re wire.Type) {
	c.Helper()
	got := Await[*wire.Error](w.Peer, nil)
	if got.Code != code || got.Ref() != ref || re != "" && got.Re != re {
		c.Errorf("the answer is the error %+v, want %s about %v", got, code, ref)
	}
}

func (c *controllerCase) wantState(id queue.ID, want queue.State) {
	c.Helper()
	eventually(c.T, "the build is "+want.String(), func() bool { return c.State(c.T, id) == want })
}

// handshake sends a request to connect that asks for some versions, and returns the answer's status and body.
func (c *controllerCase) handshake(bearer, versions string) (*http.Response, string) {
	c.Helper()
	w := &Worker{Peer: &Peer{tb: c.T}, url: strings.TrimSuffix(c.URL, "/")}
	answer, body := w.Do(http.MethodGet, "/v1/worker/connect", bearer, http.Header{
		"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"},
		"Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="}, "Sec-Websocket-Protocol": {versions},
	}, "")
	return answer, string(body)
}

// reported describes an attempt for hello.
func reported(ref wire.Ref, state wire.Stage, length int64) wire.Running {
	return wire.Running{Ref: ref, State: state, LogLen: length}
}

// decision returns what welcome decides on an attempt.
func (c *controllerCase) decision(m *wire.Welcome, ref wire.Ref) wire.Decision {
	c.Helper()
	for _, d := range m.Decisions {
		if d.Ref == ref {
			return d
		}
	}
	c.Fatalf("welcome decides nothing on %v: %+v", ref, m.Decisions)
	panic("unreachable")
}
