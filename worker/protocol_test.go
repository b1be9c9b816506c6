package worker_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/slipway-build/slipway/internal/ws"
	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/worker"
	"github.com/slipway-build/slipway/worker/wire"
)

// TestHandshakes has connections that are refused.
func TestHandshakes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	options := quickHub
	options.Logger = w.logger("hub")
	c := w.controller(nil)
	stopped := w.controller(nil)
	stopped.server.Config.Handler = func() http.Handler {
		hub, err := worker.NewHub(stopped.queue, w.blobs, authenticate, &options)
		if err != nil {
			t.Fatal(err)
		}
		return hub // which does not run
	}()
	troubled, err := worker.NewHub(c.queue, w.blobs, func(*http.Request) (worker.Identity, error) {
		return worker.Identity{}, errors.New("the database of keys is down")
	}, &options)
	if err != nil {
		t.Fatal(err)
	}
	trouble := httptest.NewServer(troubled)
	defer trouble.Close()

	for name, test := range map[string]struct {
		url, credential, subprotocol string
		status                       int
		code                         string
	}{
		"no credential":         {url: c.server.URL, subprotocol: wire.Subprotocol, status: 401, code: "unauthorized"},
		"wrong credential":      {url: c.server.URL, credential: "x", subprotocol: wire.Subprotocol, status: 401, code: "unauthorized"},
		"wrong subprotocol":     {url: c.server.URL, credential: secret + "_a", subprotocol: "slipway.worker.v9", status: 426, code: "unsupported_version"},
		"hub does not run":      {url: stopped.server.URL, credential: secret + "_a", subprotocol: wire.Subprotocol, status: 503, code: "unavailable"},
		"cannot be looked up":   {url: trouble.URL, credential: secret + "_a", subprotocol: wire.Subprotocol, status: 503, code: "unavailable"},
		"no WebSocket at all":   {url: c.server.URL, credential: secret + "_a", status: 426, code: "handshake"},
		"credential in the URL": {url: c.server.URL + "/?token=" + secret + "_a", subprotocol: wire.Subprotocol, status: 404, code: "not_found"},
	} {
		t.Run(name, func(t *testing.T) {
			owner := "" // whom the answer may name: the holder of a good credential, and nobody else
			if test.status == http.StatusUpgradeRequired {
				owner = "a"
			}
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, test.url+"/v1/worker/connect", nil)
			if err != nil {
				t.Fatal(err)
			}
			if test.subprotocol != "" {
				r.Header.Set("Connection", "Upgrade")
				r.Header.Set("Upgrade", "websocket")
				r.Header.Set("Sec-WebSocket-Version", "13")
				r.Header.Set("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
				r.Header.Set("Sec-WebSocket-Protocol", test.subprotocol)
			}
			if test.credential != "" {
				r.Header.Set("Authorization", "Bearer "+test.credential)
			}
			answer, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer answer.Body.Close()
			problem := worker.ReadProblem(answer)
			if problem.Status != test.status || problem.Code != test.code {
				t.Errorf("answer %d, code %q; want %d, %q", problem.Status, problem.Code, test.status, test.code)
			}
			if told := slices.Equal(problem.Supported, wire.Subprotocols()); told != (test.status == http.StatusUpgradeRequired) {
				t.Errorf("answer %d names the versions %q", problem.Status, problem.Supported)
			}
			if problem.Worker != owner {
				t.Errorf("answer %d names the worker %q, want %q", problem.Status, problem.Worker, owner)
			}
		})
	}
}

func TestHello(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.controller(nil)
	hasty := w.controller(func(o *worker.HubOptions) { o.HelloTimeout = time.Second })
	t.Run("another worker's name", func(t *testing.T) {
		p := c.dial(t, "one")
		p.send(hello("two", queue.NewID()))
		if code := p.closed(); code != wire.CloseUnauthorized {
			t.Errorf("closed with %d", code)
		}
	})
	t.Run("none", func(t *testing.T) {
		if code := hasty.dial(t, "one").closed(); code != wire.CloseHelloTimeout {
			t.Errorf("closed with %d", code)
		}
	})
	t.Run("what must be understood instead", func(t *testing.T) {
		p := hasty.dial(t, "one")
		if err := p.conn.SendControl(t.Context(), []byte(`{"t":"news","must":true}`)); err != nil {
			t.Fatal(err)
		}
		if refused := expect[*wire.Error](p); refused.Code != wire.CodeUnsupported {
			t.Errorf("answered with %+v", refused)
		}
		if code := p.closed(); code != wire.CloseHelloTimeout {
			t.Errorf("closed with %d", code)
		}
	})
	t.Run("something else", func(t *testing.T) {
		p := c.dial(t, "one")
		p.send(&wire.Heartbeat{Seq: 1})
		if code := p.closed(); code != wire.CloseProtocol {
			t.Errorf("closed with %d", code)
		}
	})
	t.Run("nonsense", func(t *testing.T) {
		p := c.dial(t, "one")
		if err := p.conn.SendControl(t.Context(), []byte("{")); err != nil {
			t.Fatal(err)
		}
		if code := p.closed(); code != wire.CloseProtocol {
			t.Errorf("closed with %d", code)
		}
	})
}

// TestReplaced connects a worker twice: the newer connection stays, on the same controller and on another one.
func TestReplaced(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first, second := w.controller(nil), w.controller(nil)
	a := first.dial(t, "one")
	a.enter("one", queue.NewID())
	b := first.dial(t, "one")
	b.enter("one", queue.NewID())
	if code := a.closed(); code != wire.CloseReplaced {
		t.Errorf("the older connection was closed with %d", code)
	}
	b.sync(1)
	c := second.dial(t, "one")
	c.enter("one", queue.NewID())
	if code := b.closed(); code != wire.CloseReplaced {
		t.Errorf("the older connection, at the other controller, was closed with %d", code)
	}
	c.sync(1)
}

// TestCancelOffered cancels a build that was offered and not accepted yet.
func TestCancelOffered(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.controller(nil)
	p := c.dial(t, "one")
	p.enter("one", queue.NewID())
	id := w.submit(nil)
	offer := expect[*wire.Offer](p)
	if state, err := w.queue.Cancel(t.Context(), project, id, "no"); err != nil || state != queue.Canceled {
		t.Fatalf("Cancel: %v, %v", state, err)
	}
	p.send(&wire.Accept{Ref: offer.Ref, TokenHash: queue.Digest{1}})
	if refused := expect[*wire.Error](p); refused.Code != wire.CodeStaleLease || refused.Ref() != offer.Ref {
		t.Errorf("the accept was answered with %+v", refused)
	}
	if b := w.build(id); b.State != queue.Canceled || b.AttemptsUsed != 0 {
		t.Errorf("the build is %v after %d attempts", b.State, b.AttemptsUsed)
	}
	w.submit(nil)
	expect[*wire.Offer](p) // the slot is free again
}

// TestUnanswered has offers that are declined, that run out, and whose worker goes away: none uses up an attempt.
func TestUnanswered(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.controller(func(o *worker.HubOptions) { o.ReadTimeout = patient })
	p := c.dial(t, "one")
	p.enter("one", queue.NewID())
	id := w.submit(nil)
	offer := expect[*wire.Offer](p)
	p.send(&wire.Decline{Ref: offer.Ref, Reason: wire.DeclineUnsupported})
	if offer = expect[*wire.Offer](p); offer.Epoch != 2 {
		t.Errorf("offered under epoch %d after a decline", offer.Epoch)
	}
	eventually(t, "the offer has run out", func() bool { return w.build(id).State != queue.Offered })
	if offer = expect[*wire.Offer](p); offer.Epoch != 3 {
		t.Errorf("offered under epoch %d after an offer ran out", offer.Epoch)
	}
	p.conn.CloseNow()
	w.await(id, queue.Pending)
	w.agent("two", succeed, nil, c.server.URL)
	if b := w.end(id); b.State != queue.Succeeded || b.AttemptsUsed != 1 {
		t.Errorf("the build ended as %v after %d attempts", b.State, b.AttemptsUsed)
	}
}

// TestStaleEpoch says everything that a worker can say, of an attempt that has been followed by another: nothing changes.
func TestStaleEpoch(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.controller(func(o *worker.HubOptions) { o.ReadTimeout = patient })
	instance := queue.NewID()
	p := c.dial(t, "one")
	p.enter("one", instance)
	id := w.submit(func(b *queue.Params) { b.Source = w.source(map[string]string{"a": "b"}) })
	old, oldToken := p.take()
	p.sendLog(old.Ref, 0, "old log")
	expect[*wire.LogAck](p)
	p.conn.CloseNow()

	// The worker comes back without the attempt, which is offered again when its grace is over.
	p = c.dial(t, "one")
	p.enter("one", instance)
	fresh, _ := p.take()
	if fresh.Build != id || fresh.Epoch != old.Epoch+1 {
		t.Fatalf("offered %v, want %v again", fresh.Ref, old.Ref)
	}
	p.sendLog(fresh.Ref, 0, "new log")
	expect[*wire.LogAck](p)
	type state struct {
		build    queue.Build
		attempts []queue.Attempt
		log      string
	}
	snapshot := func() state {
		attempts, err := w.queue.Attempts(t.Context(), project, id)
		if err != nil {
			t.Fatal(err)
		}
		return state{w.build(id), attempts, string(w.readLog(id))}
	}
	before := snapshot()

	canceled := finished(old.Ref, "")
	canceled.Outcome = wire.OutcomeCanceled
	for _, m := range []wire.Message{
		&wire.Accept{Ref: old.Ref, TokenHash: oldToken.Hash()}, finished(old.Ref, "old log"), canceled,
	} {
		p.send(m)
		if refused := expect[*wire.Error](p); refused.Code != wire.CodeStaleLease || refused.Ref() != old.Ref || refused.Re != m.Type() {
			t.Errorf("%s was answered with %+v", m.Type(), refused)
		}
	}
	p.sendLog(old.Ref, 7, " goes on")
	if refused := expect[*wire.Error](p); refused.Code != wire.CodeStaleLease || refused.Ref() != old.Ref {
		t.Errorf("a log frame was answered with %+v", refused)
	}
	p.send(&wire.Decline{Ref: old.Ref, Reason: wire.DeclineNoSlot})
	p.send(&wire.StateReport{Ref: old.Ref, Phase: wire.PhaseRunning})
	p.send(&wire.Cancelling{Ref: old.Ref})
	if ok := p.sync(1, old.Ref, fresh.Ref); len(ok.Lost) != 1 || ok.Lost[0] != old.Ref || len(ok.Kept) != 1 || ok.Kept[0] != fresh.Ref {
		t.Errorf("a heartbeat was answered with %+v", ok)
	}
	for _, request := range []string{
		"GET /source", "POST /artifacts", "PUT /artifacts/a",
	} {
		method, path, _ := strings.Cut(request, " ")
		answer := c.do(t, method, attemptURL(old.Ref)+path, oldToken.Reveal(), `{"name":"a","size":1,"sha256":"`+digest("a").String()+`"}`, nil)
		if answer.Code != "unauthorized" || answer.Status != http.StatusUnauthorized {
			t.Errorf("%s was answered with %d, %q", request, answer.Status, answer.Code)
		}
	}
	if after := snapshot(); !reflect.DeepEqual(after, before) {
		t.Errorf("before: %+v\nafter:  %+v", before, after)
	}
	p.send(finished(fresh.Ref, "new log"))
	expect[*wire.FinishedOK](p)
	p.send(finished(fresh.Ref, "new log"))
	expect[*wire.FinishedOK](p) // again, and nothing changes
	if b := w.end(id); b.State != queue.Succeeded {
		t.Errorf("the build ended as %v", b.State)
	}
	w.checkComplete(id, []byte("new log"))
}

// TestLogFrames sends log frames that overlap, that leave gaps, and that are too many.
func TestLogFrames(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.controller(func(o *worker.HubOptions) { o.LogWindow = 64 << 10 })
	p := c.dial(t, "one")
	p.enter("one", queue.NewID())
	id := w.submit(nil)
	offer, _ := p.take()
	p.sendLog(offer.Ref, 5, "behind")
	if nack := expect[*wire.LogNack](p); nack.Expected != 0 {
		t.Errorf("a gap at the beginning: expected %d", nack.Expected)
	}
	p.sendLog(offer.Ref, 0, "0123")
	if ack := expect[*wire.LogAck](p); ack.Offset != 4 {
		t.Errorf("acknowledged %d of 4 bytes", ack.Offset)
	}
	p.sendLog(offer.Ref, 2, "2345")
	if ack := expect[*wire.LogAck](p); ack.Offset != 6 {
		t.Errorf("acknowledged %d of 6 bytes", ack.Offset)
	}
	p.sendLog(offer.Ref, 0, "0")
	if ack := expect[*wire.LogAck](p); ack.Offset != 6 {
		t.Errorf("acknowledged %d of 6 bytes", ack.Offset)
	}
	if got := string(w.readLog(id)); got != "012345" {
		t.Errorf("stored %q", got)
	}
}

// TestUnknownMessages are ignored, or refused if they must not be.
func TestUnknownMessages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.controller(nil)
	p := c.dial(t, "one")
	p.enter("one", queue.NewID())
	for _, text := range []string{`{"t":"news","d":{"x":1}}`, `{"t":"news","must":true}`} {
		if err := p.conn.SendControl(t.Context(), []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if refused := expect[*wire.Error](p); refused.Code != wire.CodeUnsupported {
		t.Errorf("answered with %+v", refused)
	}
	p.sync(1)
}

// TestAgentRefused has controllers that will never take the agent.
func TestAgentRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.controller(nil)
	answering := func(status int) string {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
		t.Cleanup(server.Close)
		return server.URL
	}
	closing := func(code wire.CloseCode) string {
		server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			conn, err := ws.Accept(rw, r, &ws.Options{Subprotocols: []string{wire.Subprotocol}})
			if err != nil {
				t.Errorf("accept: %v", err)
				return
			}
			conn.Close(int(code), "")
			_ = conn.Run(r.Context(), nil)
		}))
		t.Cleanup(server.Close)
		return server.URL
	}
	for name, test := range map[string]struct {
		url  string
		want error
	}{
		"401":                  {answering(401), worker.ErrUnauthorized},
		"403":                  {answering(403), worker.ErrUnauthorized},
		"426":                  {answering(426), worker.ErrVersion},
		"4401":                 {closing(wire.CloseUnauthorized), worker.ErrUnauthorized},
		"4426":                 {closing(wire.CloseVersion), worker.ErrVersion},
		"another worker's key": {c.server.URL, worker.ErrUnauthorized},
	} {
		t.Run(name, func(t *testing.T) {
			o := worker.AgentOptions{
				URLs: []string{test.url}, Credential: secret + "_other", Worker: "one", Executor: executor(succeed), Dir: t.TempDir(),
				Logger: w.logger("agent"),
			}
			a, err := worker.NewAgent(o)
			if err != nil {
				t.Fatal(err)
			}
			if err := a.Run(t.Context()); !errors.Is(err, test.want) || strings.Contains(err.Error(), secret) {
				t.Errorf("Run: %v, want %v", err, test.want)
			}
		})
	}
}

func TestDirInUse(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.controller(nil)
	dir := t.TempDir()
	connected := func() bool { return strings.Contains(w.log.String(), "msg=connected") }
	w.agent("one", succeed, func(o *worker.AgentOptions) { o.Dir = dir }, c.server.URL)
	eventually(t, "the first agent is connected", connected)
	second := w.agent("two", succeed, func(o *worker.AgentOptions) { o.Dir = dir }, c.server.URL)
	if err := second(); !errors.Is(err, worker.ErrDirInUse) {
		t.Errorf("Run: %v, want ErrDirInUse", err)
	}
}

// TestGoingAway ends a controller: its workers are told, and what was offered to them is pending at once.
func TestGoingAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.controller(func(o *worker.HubOptions) { o.ReadTimeout = patient })
	p := c.dial(t, "one")
	p.enter("one", queue.NewID())
	id := w.submit(nil)
	expect[*wire.Offer](p)
	c.quit()
	if code := p.closed(); code != wire.CloseGoingAway {
		t.Errorf("closed with %d", code)
	}
	if b := w.build(id); b.State != queue.Pending {
		t.Errorf("the build is %v", b.State)
	}
	if err := c.hub.Ready(); err == nil {
		t.Error("a hub that has ended is ready")
	}
	if err := c.hub.Run(t.Context()); err == nil {
		t.Error("a hub ran twice")
	}
}
