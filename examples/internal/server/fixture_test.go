package server_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/slipway-build/slipway/auth"
	"github.com/slipway-build/slipway/auth/memauth"
	"github.com/slipway-build/slipway/examples/internal/api"
	"github.com/slipway-build/slipway/examples/internal/server"
	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/queue/memqueue"
	"github.com/slipway-build/slipway/storage"
	"github.com/slipway-build/slipway/storage/memstore"
	"github.com/slipway-build/slipway/worker"
	"github.com/slipway-build/slipway/worker/keyauth"
	"github.com/slipway-build/slipway/worker/storeblobs"
)

// Who calls. Submitters and viewers are of project web, or of app if they are others.
const (
	anonymous      = ""
	admin          = "admin"
	submitter      = "submitter"
	viewer         = "viewer"
	agent          = "worker"
	otherSubmitter = "other submitter"
	otherViewer    = "other viewer"
)

// A fixture is a server on backends in memory, behind real HTTP.
type fixture struct {
	*testing.T
	queueBackend *queueBackend
	storeBackend *storeBackend
	authBackend  *authBackend
	queue        *queue.Queue // a front end of the tests' own: its sessions are not the hub's
	store        *storage.Store
	server       *server.Server
	url          string
	client       *http.Client
	secrets      map[string]string // by caller
	log          *logBuffer
}

func newFixture(t *testing.T, o *server.Options) *fixture {
	t.Helper()
	f := &fixture{
		T: t, queueBackend: &queueBackend{Backend: memqueue.New()}, storeBackend: &storeBackend{Backend: memstore.New()},
		authBackend: &authBackend{Backend: memauth.New()}, secrets: map[string]string{anonymous: ""}, log: &logBuffer{},
	}
	if o == nil {
		o = &server.Options{}
	}
	o.Logger = slog.New(slog.NewTextHandler(f.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	adminKey := auth.GenerateKey()
	f.secrets[admin] = adminKey.Reveal()
	keys := must(auth.New(f.authBackend, &auth.Options{AdminKey: adminKey, Logger: o.Logger}))
	for who, n := range map[string]auth.NewKey{
		submitter:      {Role: auth.Submitter, Project: "web", Pools: []string{"default", "linux"}},
		viewer:         {Role: auth.Viewer, Project: "web"},
		otherSubmitter: {Role: auth.Submitter, Project: "app"},
		otherViewer:    {Role: auth.Viewer, Project: "app"},
		agent:          {Role: auth.Worker, Worker: "rack-7", Pools: []string{"default"}},
	} {
		n.Name = who
		_, secret, err := keys.Create(t.Context(), n)
		f.check(err)
		f.secrets[who] = secret.Reveal()
	}
	f.store = storage.New(f.storeBackend, nil)
	f.queue = queue.New(f.queueBackend, nil)
	q := queue.New(f.queueBackend, &queue.Options{Logger: o.Logger})
	hub := must(worker.NewHub(q, storeblobs.New(f.store), keyauth.New(keys), &worker.HubOptions{Logger: o.Logger}))
	f.server = must(server.New(server.Parts{Queue: q, Store: f.store, Keys: keys, Hub: hub}, o))
	f.serve(hub)
	return f
}

func (f *fixture) serve(hub *worker.Hub) {
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := hub.Run(ctx); err != nil {
			f.Error(err)
		}
	})
	f.Cleanup(func() {
		stop()
		running.Wait()
	})
	f.listen(f.server)
	f.eventually("the hub is ready", func() bool { return hub.Ready() == nil })
}

// listen serves h from now on, in place of what was served before.
func (f *fixture) listen(h http.Handler) {
	listening := httptest.NewServer(h)
	f.url = listening.URL
	f.client = &http.Client{
		Transport:     &http.Transport{},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	client := f.client
	f.Cleanup(func() {
		client.CloseIdleConnections()
		listening.Close()
	})
}

func (f *fixture) check(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// eventually waits until a condition holds.
func (f *fixture) eventually(what string, holds func() bool) {
	f.Helper()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline.C:
			f.Fatalf("never: %s", what)
		}
	}
}

// A reply is a response that was read to its end.
type reply struct {
	*http.Response
	body    []byte
	problem worker.Problem // of an error
}

// call sends a request as who. A body that is neither nil nor a reader is sent as JSON; headers are pairs.
func (f *fixture) call(who, method, path string, body any, headers ...string) *reply {
	f.Helper()
	r, err := f.try(who, method, path, body, headers...)
	f.check(err)
	return r
}

func (f *fixture) try(who, method, path string, body any, headers ...string) (*reply, error) {
	var content io.Reader
	contentType := ""
	switch body := body.(type) {
	case nil:
	case io.Reader:
		content = body
	case string:
		content, contentType = strings.NewReader(body), "application/json"
	default:
		content, contentType = bytes.NewReader(must(json.Marshal(body))), "application/json"
	}
	req, err := http.NewRequestWithContext(f.Context(), method, f.url+path, content)
	if err != nil {
		return nil, err
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	if secret := f.secrets[who]; secret != "" {
		req.Header.Set("Authorization", "Bearer "+secret)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := f.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	r := &reply{Response: resp}
	if resp.Header.Get("Content-Type") == "text/event-stream" {
		return r, nil // it may have no end
	}
	if r.body, err = io.ReadAll(resp.Body); err != nil {
		return nil, err
	}
	if resp.Header.Get("Content-Type") == "application/problem+json" && method != http.MethodHead {
		err = json.Unmarshal(r.body, &r.problem)
	}
	return r, err
}

// wantProblem checks that a reply is a problem of that status and code which gives away nothing, and returns its detail.
func (f *fixture) wantProblem(r *reply, status int, code string) string {
	f.Helper()
	if r.StatusCode != status || r.problem.Status != status || r.problem.Code != code {
		f.Errorf("%s %s: got %s %s, want %d %s", r.Request.Method, r.Request.URL, r.Status, r.body, status, code)
	}
	if id := r.Header.Get("X-Request-Id"); id == "" || r.problem.RequestID != id {
		f.Errorf("the problem has the request id %q, the header %q", r.problem.RequestID, id)
	}
	if r.Header.Get("Content-Type") != "application/problem+json" || r.Header.Get("X-Content-Type-Options") != "nosniff" {
		f.Errorf("headers of a problem: %v", r.Header)
	}
	return r.problem.Detail
}

// want checks the status of a reply and decodes its body into v, if v is not nil.
func (f *fixture) want(r *reply, status int, v any) {
	f.Helper()
	if r.StatusCode != status {
		f.Fatalf("%s %s: got %s %s, want %d", r.Request.Method, r.Request.URL, r.Status, r.body, status)
	}
	if v == nil {
		return
	}
	d := json.NewDecoder(bytes.NewReader(r.body))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		f.Fatalf("%s %s: %v in %s", r.Request.Method, r.Request.URL, err, r.body)
	}
}

// submit submits a build to project web.
func (f *fixture) submit() api.Build {
	f.Helper()
	var b api.Build
	f.want(f.call(submitter, "POST", "/v1/builds", api.NewBuild{Spec: []byte("make")}), http.StatusCreated, &b)
	return b
}

// start has a worker of the tests' own accept the build, and returns the attempt.
func (f *fixture) start(build queue.ID) queue.AttemptID {
	f.Helper()
	ctx := f.Context()
	_, err := f.queue.Beat(ctx)
	f.check(err)
	session, err := f.queue.OpenSession(ctx, queue.NewSession{
		Worker: "tester", Instance: queue.NewID().String(), Pools: []string{"default"}, Slots: 1,
	})
	f.check(err)
	_, err = f.queue.Maintain(ctx)
	f.check(err)
	var offers []queue.Offer
	f.eventually("the build is offered", func() bool {
		offers, err = f.queue.Claim(ctx, []queue.Idle{{Session: session, Slots: 1}})
		f.check(err)
		return len(offers) > 0
	})
	if offers[0].Build != build {
		f.Fatalf("offered %v, want %v", offers[0].Build, build)
	}
	f.check(f.queue.Accept(ctx, session, offers[0].AttemptID, queue.Digest{1}))
	return offers[0].AttemptID
}

func (f *fixture) appendLog(id queue.AttemptID, offset int64, text string) {
	f.Helper()
	_, err := f.queue.AppendLog(f.Context(), queue.LogChunk{AttemptID: id, Offset: offset, Data: []byte(text)})
	f.check(err)
}

func (f *fixture) finish(id queue.AttemptID, outcome queue.State) {
	f.Helper()
	_, err := f.queue.Finish(f.Context(), queue.Completion{AttemptID: id, Outcome: outcome})
	f.check(err)
}

// addArtifact gives an attempt of project web an artifact, behind the back of the front end's rules for names.
func (f *fixture) addArtifact(id queue.AttemptID, name, content string) queue.Digest {
	f.Helper()
	ctx := f.Context()
	digest := queue.Digest(sha256.Sum256([]byte(content)))
	row := queue.NewArtifact{AttemptID: id, Name: name, Digest: digest, Size: int64(len(content))}
	_, err := f.queueBackend.ReserveArtifact(ctx, row, time.Time{})
	f.check(err)
	f.check(f.store.Put(ctx, "web", storage.Blob{Digest: storage.Digest(digest), Size: row.Size}, strings.NewReader(content)))
	_, err = f.queueBackend.CommitArtifact(ctx, id, name, time.Time{})
	f.check(err)
	return digest
}

// A fault is what a backend answers with while it is set.
type fault struct{ err atomic.Pointer[error] }

func (f *fault) set(err error) {
	if err == nil {
		f.err.Store(nil)
		return
	}
	f.err.Store(&err)
}

// now returns the fault, or panics with it if it wraps errPanic.
func (f *fault) now() error {
	p := f.err.Load()
	switch {
	case p == nil:
		return nil
	case errors.Is(*p, errPanic):
		panic(*p)
	}
	return *p
}

var errPanic = errors.New("panic")

type queueBackend struct {
	queue.Backend
	fault
	looks atomic.Int64 // at builds and logs
}

func (b *queueBackend) Submit(ctx context.Context, builds []queue.NewBuild, now time.Time) ([]queue.Submitted, error) {
	if err := b.now(); err != nil {
		return nil, err
	}
	return b.Backend.Submit(ctx, builds, now)
}

func (b *queueBackend) Cancel(
	ctx context.Context, project string, ids []queue.ID, reason string, force time.Duration, now time.Time,
) ([]queue.CanceledBuild, error) {
	if err := b.now(); err != nil {
		return nil, err
	}
	return b.Backend.Cancel(ctx, project, ids, reason, force, now)
}

func (b *queueBackend) Get(ctx context.Context, project string, id queue.ID) (queue.Build, error) {
	b.looks.Add(1)
	if err := b.now(); err != nil {
		return queue.Build{}, err
	}
	return b.Backend.Get(ctx, project, id)
}

func (b *queueBackend) List(ctx context.Context, filter queue.Filter) ([]queue.Build, error) {
	if err := b.now(); err != nil {
		return nil, err
	}
	return b.Backend.List(ctx, filter)
}

func (b *queueBackend) ReadLog(ctx context.Context, project string, id queue.AttemptID, offset int64, max int) (queue.LogPage, error) {
	b.looks.Add(1)
	if err := b.now(); err != nil {
		return queue.LogPage{}, err
	}
	return b.Backend.ReadLog(ctx, project, id, offset, max)
}

func (b *queueBackend) ListArtifacts(ctx context.Context, project string, id queue.AttemptID) ([]queue.Artifact, error) {
	if err := b.now(); err != nil {
		return nil, err
	}
	return b.Backend.ListArtifacts(ctx, project, id)
}

func (b *queueBackend) Ping(ctx context.Context) error {
	return errors.Join(b.now(), b.Backend.Ping(ctx))
}

type storeBackend struct {
	storage.Backend
	fault
}

func (b *storeBackend) Put(ctx context.Context, key storage.Key, size int64, r io.Reader) error {
	if err := b.now(); err != nil {
		return err
	}
	return b.Backend.Put(ctx, key, size, r)
}

func (b *storeBackend) Stat(ctx context.Context, key storage.Key) (storage.Info, error) {
	if err := b.now(); err != nil {
		return storage.Info{}, err
	}
	return b.Backend.Stat(ctx, key)
}

func (b *storeBackend) List(ctx context.Context, page storage.Page) ([]storage.Info, error) {
	if err := b.now(); err != nil {
		return nil, err
	}
	return b.Backend.List(ctx, page)
}

type authBackend struct {
	auth.Backend
	fault
}

func (b *authBackend) Lookup(ctx context.Context, id string) (auth.Record, error) {
	if err := b.now(); err != nil {
		return auth.Record{}, err
	}
	return b.Backend.Lookup(ctx, id)
}

func (b *authBackend) Enrol(ctx context.Context, r auth.Record) (auth.Key, error) {
	if err := b.now(); err != nil {
		return auth.Key{}, err
	}
	return b.Backend.Enrol(ctx, r)
}

func (b *authBackend) Insert(ctx context.Context, r auth.Record) error {
	if err := b.now(); err != nil {
		return err
	}
	return b.Backend.Insert(ctx, r)
}

func (b *authBackend) Revoke(ctx context.Context, id string, at time.Time) error {
	if err := b.now(); err != nil {
		return err
	}
	return b.Backend.Revoke(ctx, id, at)
}

func (b *authBackend) List(ctx context.Context, f auth.Filter) ([]auth.Key, error) {
	if err := b.now(); err != nil {
		return nil, err
	}
	return b.Backend.List(ctx, f)
}

// A logBuffer takes the server's log.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
