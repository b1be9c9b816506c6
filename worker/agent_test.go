package worker_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/slipway-build/slipway/internal/ws"
	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/worker"
	"github.com/slipway-build/slipway/worker/wire"
)

// A fakeController is the other side of an agent: it hands each connection to the test.
type fakeController struct {
	url   string
	conns chan *ws.Conn
	stop  func()
}

func newFakeController(t *testing.T) *fakeController {
	t.Helper()
	done := make(chan struct{})
	c := &fakeController{conns: make(chan *ws.Conn)}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := ws.Accept(w, r, &ws.Options{Subprotocols: []string{wire.Subprotocol}})
		if err != nil {
			t.Errorf("accept: %v", err)
			return
		}
		select {
		case c.conns <- conn:
		case <-done:
			conn.CloseNow()
		}
	}))
	c.url = server.URL
	c.stop = sync.OnceFunc(func() {
		close(done)
		server.Close()
	})
	t.Cleanup(c.stop)
	return c
}

// agent starts an agent of the controller, which will be gone when the agent is told to end: it need not wait for answers.
func (c *fakeController) agent(w *world, run executor, edit func(*worker.AgentOptions)) (quit func() error) {
	quit = w.agent("one", run, func(o *worker.AgentOptions) {
		o.StopTimeout = 200 * time.Millisecond
		if edit != nil {
			edit(o)
		}
	}, c.url)
	w.t.Cleanup(c.stop)
	return quit
}

// welcome takes the agent's next connection, and answers its hello with decisions.
func (c *fakeController) welcome(t *testing.T, decide func(wire.Running) wire.Decision) (*peer, *wire.Hello) {
	t.Helper()
	p := newPeer(t, receive(t, "a connection", c.conns))
	hello := expect[*wire.Hello](p)
	welcome := &wire.Welcome{
		Session: "1", Heartbeat: wire.MillisOf(100 * time.Millisecond), Lease: wire.MillisOf(10 * time.Second),
		KillTime: wire.MillisOf(2 * time.Second), ServerTime: time.Now().UTC(),
		Limits: wire.SessionLimits{MaxMessage: wire.MaxMessage, LogFrame: 1000, LogWindow: 5000, LogFlush: 1},
	}
	for _, r := range hello.Running {
		welcome.Decisions = append(welcome.Decisions, decide(r))
	}
	p.send(welcome)
	return p, hello
}

func keep(r wire.Running) wire.Decision {
	return wire.Decision{Ref: r.Ref, Action: wire.ActionKeep}
}

func newOffer() *wire.Offer {
	return &wire.Offer{
		Ref: wire.Ref{Build: queue.NewID(), Epoch: 1}, Expires: 10_000, Project: project, Pool: queue.DefaultPool,
		Limits: wire.AttemptLimits{RunTimeout: 60_000, CancelGrace: 500, LogCap: 1 << 20},
	}
}

// TestAgentRepeats answers an agent only when it has asked more than once.
func TestAgentRepeats(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := newFakeController(t)
	c.agent(w, succeed, nil)
	p, _ := c.welcome(t, keep)
	offer := newOffer()
	p.send(offer)
	first, second := expect[*wire.Accept](p), expect[*wire.Accept](p)
	if first.TokenHash != second.TokenHash || first.Ref != offer.Ref {
		t.Errorf("accepted %+v, then %+v", first, second)
	}
	p.send(&wire.Start{Ref: offer.Ref, Lease: 10_000})
	one, two := expect[*wire.Finished](p), expect[*wire.Finished](p)
	if one.Outcome != wire.OutcomeSucceeded || two.Outcome != one.Outcome || one.LogSHA256 != digest("") {
		t.Errorf("finished %+v, then %+v", one, two)
	}
	p.conn.CloseNow()

	p, hello := c.welcome(t, keep)
	if len(hello.Running) != 1 || hello.Running[0].State != wire.StageFinished || hello.Running[0].Exit == nil {
		t.Errorf("hello has %+v", hello.Running)
	}
	expect[*wire.Finished](p)
	p.send(&wire.FinishedOK{Ref: offer.Ref})
	eventually(t, "the attempt is forgotten", func() bool { return len(expect[*wire.Heartbeat](p).Leases) == 0 })
	p.conn.CloseNow()
	if _, hello = c.welcome(t, keep); len(hello.Running) != 0 {
		t.Errorf("hello has %+v after the end was stored", hello.Running)
	}
}

// TestAgentDeclines offers more than there are slots.
func TestAgentDeclines(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := newFakeController(t)
	c.agent(w, succeed, nil)
	p, hello := c.welcome(t, keep)
	if hello.Slots != 1 || hello.Labels["os"] != hello.OS || hello.Labels["arch"] != hello.Arch {
		t.Errorf("hello is %+v", hello)
	}
	first, second := newOffer(), newOffer()
	p.send(first)
	p.send(second)
	if declined := expect[*wire.Decline](p); declined.Ref != second.Ref || declined.Reason != wire.DeclineNoSlot {
		t.Errorf("declined %+v", declined)
	}
	p.send(&wire.Error{Code: wire.CodeStaleLease, Re: wire.TypeAccept, Build: first.Build, Epoch: first.Epoch})
	if heartbeat := expect[*wire.Heartbeat](p); len(heartbeat.Leases) > 1 {
		t.Errorf("a heartbeat for %v", heartbeat.Leases)
	}
	eventually(t, "the slot is free", func() bool { return expect[*wire.Heartbeat](p).FreeSlots == 1 })
	p.send(second)
	if accept := expect[*wire.Accept](p); accept.Ref != second.Ref {
		t.Errorf("accepted %+v", accept)
	}
}

// TestAgentUnknownStart starts an attempt that the agent does not know: it gives it back.
func TestAgentUnknownStart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := newFakeController(t)
	c.agent(w, succeed, nil)
	p, _ := c.welcome(t, keep)
	offer := newOffer()
	p.send(&wire.Start{Ref: offer.Ref, Lease: 10_000})
	if end := expect[*wire.Finished](p); end.Ref != offer.Ref || end.Outcome != wire.OutcomeLost {
		t.Errorf("finished %+v", end)
	}
}

// TestAgentFinishedOKTooEarly has an answer come before the report that it is for.
func TestAgentFinishedOKTooEarly(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := newFakeController(t)
	started, proceed := make(chan struct{}), make(chan struct{})
	c.agent(w, func(ctx context.Context, _ worker.Job) (worker.Result, error) {
		close(started)
		<-proceed
		return worker.Result{}, ctx.Err()
	}, nil)
	p, _ := c.welcome(t, keep)
	offer := newOffer()
	p.send(offer)
	expect[*wire.Accept](p)
	p.send(&wire.Start{Ref: offer.Ref, Lease: 10_000})
	receive(t, "the start", started)
	p.send(&wire.FinishedOK{Ref: offer.Ref})
	p.send(newOffer())
	expect[*wire.Decline](p) // the slot is taken as before
	close(proceed)
	if end := expect[*wire.Finished](p); end.Ref != offer.Ref || end.Outcome != wire.OutcomeSucceeded {
		t.Errorf("finished %+v", end)
	}
}

// TestAgentLateStart starts an attempt so late that its lease, which counts from the first accept, is over already.
func TestAgentLateStart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := newFakeController(t)
	c.agent(w, func(context.Context, worker.Job) (worker.Result, error) {
		t.Error("the build was run")
		return worker.Result{}, nil
	}, func(o *worker.AgentOptions) { o.Repeat = 20 * time.Millisecond })
	p, _ := c.welcome(t, keep)
	offer := newOffer()
	p.send(offer)
	expect[*wire.Accept](p)
	first := time.Now()
	for time.Since(first) < 100*time.Millisecond {
		expect[*wire.Accept](p)
	}
	p.send(&wire.Start{Ref: offer.Ref, Lease: 50})
	if end := expect[*wire.Finished](p); end.Outcome != wire.OutcomeLost {
		t.Errorf("finished %+v", end)
	}
}

// TestAgentAbandons has decisions that end attempts, in each stage.
func TestAgentAbandons(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := newFakeController(t)
	started, stopped := make(chan worker.Job, 2), make(chan error, 2)
	c.agent(w, untilStopped(started, stopped), func(o *worker.AgentOptions) { o.Slots = 2 })
	p, _ := c.welcome(t, keep)
	accepted, running := newOffer(), newOffer()
	p.send(running)
	expect[*wire.Accept](p)
	p.send(&wire.Start{Ref: running.Ref, Lease: 10_000})
	job := receive(t, "the start", started)
	p.send(accepted)
	expect[*wire.Accept](p)
	p.conn.CloseNow()

	p, hello := c.welcome(t, func(r wire.Running) wire.Decision { return wire.Decision{Ref: r.Ref, Action: wire.ActionAbandon} })
	if len(hello.Running) != 2 {
		t.Errorf("hello has %+v", hello.Running)
	}
	if cause := receive(t, "the stop", stopped); !errors.Is(cause, worker.ErrLeaseLost) {
		t.Errorf("the executor was told %v", cause)
	}
	receive(t, "the kill", job.Kill)
	eventually(t, "the slots are free", func() bool { return expect[*wire.Heartbeat](p).FreeSlots == 2 })
}

// TestAgentAcceptedMeanwhile has an accept whose answer is lost with the connection.
func TestAgentAcceptedMeanwhile(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := newFakeController(t)
	c.agent(w, succeed, nil)
	p, _ := c.welcome(t, keep)
	offer := newOffer()
	p.send(offer)
	first := expect[*wire.Accept](p)
	p.conn.CloseNow()
	p, hello := c.welcome(t, keep)
	if len(hello.Running) != 1 || hello.Running[0].State != wire.StageAccepted {
		t.Errorf("hello has %+v", hello.Running)
	}
	if again := expect[*wire.Accept](p); again.Ref != first.Ref || again.TokenHash != first.TokenHash {
		t.Errorf("accepted %+v, then %+v", first, again)
	}
	p.send(&wire.Start{Ref: offer.Ref, Lease: 10_000})
	expect[*wire.Finished](p)
}

// TestAgentLog answers log frames in all the ways there are.
func TestAgentLog(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := newFakeController(t)
	content := make([]byte, 8000)
	rand.Read(content)
	run := func(_ context.Context, job worker.Job) (worker.Result, error) {
		_, _ = job.Log.Write(content)
		return worker.Result{}, nil
	}
	c.agent(w, run, nil)
	p, _ := c.welcome(t, keep)
	offer := newOffer()
	p.send(offer)
	expect[*wire.Accept](p)
	p.send(&wire.Start{Ref: offer.Ref, Lease: 10_000})
	frame := func(offset int64) {
		t.Helper()
		m := expect[*logMessage](p)
		got := m.frame
		if got.Offset != offset || len(got.Data) > 1000 || string(got.Data) != string(content[offset:][:len(got.Data)]) {
			t.Fatalf("a frame of %d bytes at %d, want one at %d", len(got.Data), got.Offset, offset)
		}
	}
	for offset := int64(0); offset < 5000; offset += 1000 {
		frame(offset)
	}
	p.send(&wire.LogNack{Ref: offer.Ref, Expected: 2000}) // the third was lost
	for offset := int64(2000); offset < 7000; offset += 1000 {
		frame(offset)
	}
	frame(2000) // after a while without an answer
	p.send(&wire.LogAck{Ref: offer.Ref, Offset: 3000, Window: 1000})
	p.conn.CloseNow()

	p, hello := c.welcome(t, func(r wire.Running) wire.Decision {
		return wire.Decision{Ref: r.Ref, Action: wire.ActionKeep, LogOffset: 4500}
	})
	if hello.Running[0].LogLen != 8000 {
		t.Errorf("hello has %+v", hello.Running)
	}
	frame(4500)
	p.send(&wire.LogLimit{Ref: offer.Ref, Cap: 5000})
	p.send(&wire.LogAck{Ref: offer.Ref, Offset: 5000, Window: 5000})
	end := expect[*wire.Finished](p)
	if end.LogLen != 5000 || end.LogSHA256 != digest(string(content[:5000])) || !end.Partial || end.PartialReason == "" {
		t.Errorf("finished %+v", end)
	}
}

// TestAgentDrains asks an agent to leave when it is done.
func TestAgentDrains(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := newFakeController(t)
	quit := c.agent(w, succeed, nil)
	p, _ := c.welcome(t, keep)
	offer := newOffer()
	p.send(offer)
	expect[*wire.Accept](p)
	p.send(&wire.Drain{Reason: "maintenance"})
	p.send(newOffer())
	if declined := expect[*wire.Decline](p); declined.Reason != wire.DeclineDraining {
		t.Errorf("declined with %s", declined.Reason)
	}
	p.send(&wire.Start{Ref: offer.Ref, Lease: 10_000})
	expect[*wire.Finished](p)
	p.send(&wire.FinishedOK{Ref: offer.Ref})
	expect[*wire.Bye](p)
	if code := p.closed(); code != wire.CloseNormal {
		t.Errorf("closed with %d", code)
	}
	if err := quit(); err != nil {
		t.Errorf("Run: %v", err)
	}
}

// TestWorkspaces looks at what is left of attempts, at once and when the agent starts anew.
func TestWorkspaces(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.controller(nil)
	dir := t.TempDir()
	run := func(_ context.Context, job worker.Job) (worker.Result, error) {
		closed := filepath.Join(job.Dir, "closed")
		if err := os.Mkdir(closed, 0o700); err != nil {
			return worker.Result{}, err
		}
		writeFile(t, filepath.Join(closed, "file"), nil)
		return worker.Result{}, os.Chmod(closed, 0)
	}
	builds := func() int {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, e := range entries {
			if e.IsDir() {
				n++
			}
		}
		return n
	}
	quit := w.agent("one", run, func(o *worker.AgentOptions) { o.Dir, o.KeepWorkspace = dir, true }, c.server.URL)
	w.end(w.submit(nil))
	if err := quit(); err != nil || builds() != 1 {
		t.Errorf("%d workspaces are kept, %v", builds(), err)
	}
	quit = w.agent("one", run, func(o *worker.AgentOptions) { o.Dir = dir }, c.server.URL)
	w.end(w.submit(nil))
	eventually(t, "all workspaces are removed", func() bool { return builds() == 0 })
	if err := quit(); err != nil {
		t.Errorf("Run: %v", err)
	}
}

func TestNewHub(t *testing.T) {
	q := queue.New(nil, &queue.Options{Grace: time.Minute, CancelTimeout: 40 * time.Second})
	w := newWorld(t)
	for name, test := range map[string]struct {
		options *worker.HubOptions
		want    string
	}{
		"defaults":                      {nil, ""},
		"grace too short by a bit":      {&worker.HubOptions{KillTime: 10*time.Second + 1}, "raise Grace or lower Lease, KillTime or queue.Options.ControllerTTL"},
		"grace just long enough":        {&worker.HubOptions{Lease: 30 * time.Second, KillTime: 10 * time.Second}, ""},
		"margin above the time to live": {&worker.HubOptions{Margin: 20*time.Second + 1}, "raise Grace or lower Lease, KillTime or Margin"},
		"lease not above heartbeat":     {&worker.HubOptions{Heartbeat: 30 * time.Second}, "HubOptions.Lease"},
		"cancel grace too long":         {&worker.HubOptions{CancelGrace: 31 * time.Second}, "raise CancelTimeout"},
		"window smaller than a frame":   {&worker.HubOptions{LogWindow: 1000}, "HubOptions.LogWindow"},
		"window larger than a batch":    {&worker.HubOptions{LogWindow: 8<<20 + 1}, "HubOptions.LogWindow"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := worker.NewHub(q, w.blobs, authenticate, test.options)
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
	if _, err := worker.NewHub(nil, w.blobs, authenticate, nil); err == nil {
		t.Error("a hub without a queue")
	}
}

func TestNewAgent(t *testing.T) {
	good := func() worker.AgentOptions {
		return worker.AgentOptions{
			URLs: []string{"https://builds.example/base"}, Credential: "canary", Worker: "one", Executor: executor(succeed), Dir: "work",
		}
	}
	for name, test := range map[string]struct {
		edit func(*worker.AgentOptions)
		want string
	}{
		"good":                   {func(*worker.AgentOptions) {}, ""},
		"no URL":                 {func(o *worker.AgentOptions) { o.URLs = nil }, "URLs"},
		"URL of another kind":    {func(o *worker.AgentOptions) { o.URLs[0] = "ws://host" }, "URLs"},
		"URL with a secret":      {func(o *worker.AgentOptions) { o.URLs[0] = "https://u:canary@host" }, "URLs"},
		"URL that is none":       {func(o *worker.AgentOptions) { o.URLs[0] = "https://canary\x7f" }, "URLs"},
		"no credential":          {func(o *worker.AgentOptions) { o.Credential = "" }, "Credential"},
		"credential in two rows": {func(o *worker.AgentOptions) { o.Credential = "canary\nHost: x" }, "Credential"},
		"no worker":              {func(o *worker.AgentOptions) { o.Worker = "" }, "Worker"},
		"worker that is no name": {func(o *worker.AgentOptions) { o.Worker = "A b" }, "Worker"},
		"bad labels":             {func(o *worker.AgentOptions) { o.Labels = queue.Labels{"A": "b"} }, "Labels"},
		"no executor":            {func(o *worker.AgentOptions) { o.Executor = nil }, "Executor"},
		"no directory":           {func(o *worker.AgentOptions) { o.Dir = "" }, "Dir"},
		"too many slots":         {func(o *worker.AgentOptions) { o.Slots = wire.MaxSlots + 1 }, "Slots"},
		"pauses out of order":    {func(o *worker.AgentOptions) { o.ReconnectMin, o.ReconnectMax = 2, 1 }, "ReconnectMin"},
	} {
		t.Run(name, func(t *testing.T) {
			o := good()
			test.edit(&o)
			_, err := worker.NewAgent(o)
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
			if err != nil && strings.Contains(err.Error(), "canary") {
				t.Errorf("the error shows a secret: %v", err)
			}
		})
	}
}

func TestSecret(t *testing.T) {
	o := worker.AgentOptions{Credential: "canary"}
	var b strings.Builder
	fmt.Fprintf(&b, "%v %+v %#v %s %q %x ", o, o, o, o.Credential, o.Credential, o.Credential)
	log := slog.New(slog.NewTextHandler(&b, nil))
	log.Info("options", "credential", o.Credential, "all", o)
	log = slog.New(slog.NewJSONHandler(&b, nil))
	log.Info("options", "credential", o.Credential)
	_, _ = io.WriteString(&b, fmt.Sprint(errors.New("x"), o.Credential))
	if strings.Contains(b.String(), "canary") || strings.Contains(b.String(), "63616e617279") {
		t.Errorf("the secret shows: %s", b.String())
	}
}

// TestLogIsCut has a build write more lines than the queue keeps: it ends as it would, with a log that is cut.
func TestLogIsCut(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	options := quickQueue
	options.LogLines = 10
	c := w.controllerOn(options, nil)
	w.agent("one", func(_ context.Context, job worker.Job) (worker.Result, error) {
		for i := range 10_000 {
			fmt.Fprintln(job.Log, "line", i)
		}
		return worker.Result{}, nil
	}, nil, c.server.URL)
	id := w.submit(nil)
	if b := w.end(id); b.State != queue.Succeeded {
		t.Errorf("the build ended as %v: %s", b.State, b.Reason)
	}
	want := "line 0\nline 1\nline 2\nline 3\nline 4\nline 5\nline 6\nline 7\nline 8\nline 9\n"
	if got := string(w.readLog(id)); got != want {
		t.Errorf("the log is %q", got)
	}
	if a := w.attempt(id); !a.LogCut || a.LogComplete {
		t.Errorf("the attempt is %+v", a)
	}
}
