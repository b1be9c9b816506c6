package worker_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/queue/memqueue"
	"github.com/slipway-build/slipway/storage"
	"github.com/slipway-build/slipway/storage/memstore"
	"github.com/slipway-build/slipway/worker"
	"github.com/slipway-build/slipway/worker/procexec"
	"github.com/slipway-build/slipway/worker/storeblobs"
)

const (
	project = "acme"
	secret  = "slw_worker_canary"
	patient = 30 * time.Second // how long a test waits for what must come
)

// Times that make a whole life of a worker short, and leave a busy machine some room.
var (
	quickQueue = queue.Options{
		OfferTimeout: 2 * time.Second, Avoid: 50 * time.Millisecond, Grace: 4500 * time.Millisecond, Slack: 2 * time.Second,
		CancelTimeout: 5 * time.Second, ControllerTTL: 2 * time.Second, MaintainEvery: 20 * time.Millisecond,
		Backoff: queue.Backoff{Base: 10 * time.Millisecond, Max: 50 * time.Millisecond},
		Logger:  slog.New(slog.DiscardHandler),
	}
	quickHub = worker.HubOptions{
		Heartbeat: 100 * time.Millisecond, Lease: 1500 * time.Millisecond, KillTime: time.Second, Margin: 100 * time.Millisecond,
		CancelGrace: 500 * time.Millisecond, HelloTimeout: 2 * time.Second, ReadTimeout: 2 * time.Second, Poll: 20 * time.Millisecond,
		CancelPoll: 20 * time.Millisecond, LogFlush: 10 * time.Millisecond,
		StallTimeout: 5 * time.Second,
	}
)

// eventually waits until cond is true.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.After(patient)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-deadline:
			t.Fatalf("waited in vain until %s", what)
		case <-tick.C:
		}
	}
}

// receive waits for a value.
func receive[T any](t *testing.T, what string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patient):
		t.Fatalf("waited in vain for %s", what)
		panic("unreachable")
	}
}

// A testLog shows what happens in a test, if anybody wants to see it, and never after its end.
type testLog struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *testLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *testLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// A world is what controllers share: one database, one storage.
type world struct {
	t       *testing.T
	backend queue.Backend
	blobs   worker.Blobs
	queue   *queue.Queue // a submitter's
	log     *testLog
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, backend: memqueue.New(), blobs: storeblobs.New(storage.New(memstore.New(), nil)), log: &testLog{}}
	w.queue = queue.New(w.backend, &quickQueue)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(w.log.String())
		}
	})
	return w
}

func (w *world) logger(who string) *slog.Logger {
	handler := slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug})
	return slog.New(handler).With("who", who)
}

// A controller is a hub that serves.
type controller struct {
	hub    *worker.Hub
	server *httptest.Server
	queue  *queue.Queue
	quit   func() // ends Run and waits for its end
}

// authenticate knows the workers that have a name and the secret.
func authenticate(r *http.Request) (worker.Identity, error) {
	name, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "+secret+"_")
	if !ok {
		return worker.Identity{}, worker.ErrUnauthorized
	}
	return worker.Identity{Worker: name, Pools: []string{queue.DefaultPool}}, nil
}

// controller starts a hub, with options that edit may change, and waits until it is ready.
func (w *world) controller(edit func(*worker.HubOptions)) *controller {
	w.t.Helper()
	return w.controllerOn(quickQueue, edit)
}

// controllerOn is controller with other options of the queue.
func (w *world) controllerOn(q queue.Options, edit func(*worker.HubOptions)) *controller {
	w.t.Helper()
	o := quickHub
	o.Logger = w.logger("hub")
	if edit != nil {
		edit(&o)
	}
	c := &controller{queue: queue.New(w.backend, &q)}
	var err error
	if c.hub, err = worker.NewHub(c.queue, w.blobs, authenticate, &o); err != nil {
		w.t.Fatalf("NewHub: %v", err)
	}
	c.server = httptest.NewServer(c.hub)
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := c.hub.Run(ctx); err != nil {
			w.t.Errorf("Hub.Run: %v", err)
		}
	})
	c.quit = sync.OnceFunc(func() {
		stop()
		running.Wait()
		c.server.CloseClientConnections()
		c.server.Close()
	})
	w.t.Cleanup(c.quit)
	eventually(w.t, "the hub is ready", func() bool { return c.hub.Ready() == nil })
	return c
}

// An executor is a worker.Executor that is a function.
type executor func(ctx context.Context, job worker.Job) (worker.Result, error)

func (run executor) Run(ctx context.Context, job worker.Job) (worker.Result, error) {
	return run(ctx, job)
}

// agent starts an agent of that name. The function that it returns ends the agent and returns what Run returned.
func (w *world) agent(name string, run executor, edit func(*worker.AgentOptions), urls ...string) (quit func() error) {
	w.t.Helper()
	o := worker.AgentOptions{
		URLs: urls, Credential: worker.Secret(secret + "_" + name), Worker: name, Executor: run, Dir: filepath.Join(w.t.TempDir(), name),
		ReconnectMin: 10 * time.Millisecond, ReconnectMax: 50 * time.Millisecond, Repeat: 200 * time.Millisecond,
		LogTimeout: 500 * time.Millisecond, StallTimeout: 5 * time.Second, TransferTimeout: 10 * time.Second, StopTimeout: 5 * time.Second,
		Logger: w.logger("agent"),
	}
	if edit != nil {
		edit(&o)
	}
	a, err := worker.NewAgent(o)
	if err != nil {
		w.t.Fatalf("NewAgent: %v", err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { err = a.Run(ctx) })
	quit = sync.OnceValue(func() error {
		stop()
		running.Wait()
		return err
	})
	w.t.Cleanup(func() { _ = quit() })
	return quit
}

// submit adds a build.
func (w *world) submit(edit func(*queue.Params)) queue.ID {
	w.t.Helper()
	p := queue.Params{Project: project, Spec: []byte("spec"), RunTimeout: time.Minute}
	if edit != nil {
		edit(&p)
	}
	id, err := w.queue.Submit(w.t.Context(), p)
	if err != nil {
		w.t.Fatalf("Submit: %v", err)
	}
	return id
}

func (w *world) build(id queue.ID) queue.Build {
	w.t.Helper()
	b, err := w.queue.Get(w.t.Context(), project, id)
	if err != nil {
		w.t.Fatalf("Get: %v", err)
	}
	return b
}

// end waits for the end of a build.
func (w *world) end(id queue.ID) queue.Build {
	w.t.Helper()
	eventually(w.t, "the build has ended", func() bool { return w.build(id).State.Terminal() })
	return w.build(id)
}

// await waits until a build is in a state.
func (w *world) await(id queue.ID, state queue.State) {
	w.t.Helper()
	eventually(w.t, "the build is "+state.String(), func() bool { return w.build(id).State == state })
}

// attempt returns the newest attempt of a build.
func (w *world) attempt(id queue.ID) queue.Attempt {
	w.t.Helper()
	all, err := w.queue.Attempts(w.t.Context(), project, id)
	if err != nil || len(all) == 0 {
		w.t.Fatalf("Attempts: %d of them, %v", len(all), err)
	}
	return all[len(all)-1]
}

// readLog returns the whole log of a build's newest attempt.
func (w *world) readLog(id queue.ID) []byte {
	w.t.Helper()
	var log []byte
	for {
		page, err := w.queue.ReadLog(w.t.Context(), project, queue.AttemptID{Build: id}, int64(len(log)), queue.MaxLogRead)
		if err != nil {
			w.t.Fatalf("ReadLog: %v", err)
		}
		if len(page.Data) == 0 {
			return log
		}
		log = append(log, page.Data...)
	}
}

// source stores an archive of files and returns it.
func (w *world) source(files map[string]string) *queue.Source {
	w.t.Helper()
	var archive bytes.Buffer
	zip := gzip.NewWriter(&archive)
	out := tar.NewWriter(zip)
	for name, content := range files {
		err := out.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(content)), Mode: 0o644})
		if err != nil {
			w.t.Fatal(err)
		}
		if _, err := io.WriteString(out, content); err != nil {
			w.t.Fatal(err)
		}
	}
	if err := errors.Join(out.Close(), zip.Close()); err != nil {
		w.t.Fatal(err)
	}
	return w.blob(archive.Bytes())
}

func (w *world) blob(content []byte) *queue.Source {
	w.t.Helper()
	digest := queue.Digest(sha256.Sum256(content))
	if err := w.blobs.Put(w.t.Context(), project, digest, int64(len(content)), bytes.NewReader(content)); err != nil {
		w.t.Fatalf("Put: %v", err)
	}
	return &queue.Source{Digest: digest, Size: int64(len(content))}
}

// checkComplete fails unless the newest attempt's log is stored whole and is what was written.
func (w *world) checkComplete(id queue.ID, want []byte) {
	w.t.Helper()
	a := w.attempt(id)
	got := w.readLog(id)
	if sum := sha256.Sum256(want); sha256.Sum256(got) != sum || a.LogSHA256 != sum || a.LogLength != int64(len(want)) || !a.LogComplete {
		w.t.Errorf("log: %d bytes are stored, %d were written; length %d, complete %t, sum as reported %t",
			len(got), len(want), a.LogLength, a.LogComplete, a.LogSHA256 == sum)
	}
}

func succeed(context.Context, worker.Job) (worker.Result, error) { return worker.Result{}, nil }

// untilStopped is a build that runs until it is told to stop, and then stops.
func untilStopped(started chan<- worker.Job, stopped chan<- error) executor {
	return func(ctx context.Context, job worker.Job) (worker.Result, error) {
		started <- job
		<-ctx.Done()
		stopped <- context.Cause(ctx)
		return worker.Result{ExitCode: -1, Signal: "SIGTERM"}, nil
	}
}

func writeFile(t *testing.T, name string, content []byte) {
	t.Helper()
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestMain fails if a hub or an agent leaves a goroutine behind.
func TestMain(m *testing.M) {
	procexec.Guardian()
	code := m.Run()
	deadline := time.After(10 * time.Second)
	for tick := time.Tick(20 * time.Millisecond); code == 0 && leaked() != ""; {
		select {
		case <-tick:
		case <-deadline:
			fmt.Fprintf(os.Stderr, "goroutines are left behind:\n%s\n", leaked())
			code = 1
		}
	}
	os.Exit(code)
}

// leaked returns the stacks of the goroutines that code of hubs, agents and connections runs in.
func leaked() string {
	buf := make([]byte, 4<<20)
	var own []string
	for stack := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		if strings.Contains(stack, "slipway/worker.(") || strings.Contains(stack, "slipway/internal/ws.(") {
			own = append(own, stack)
		}
	}
	return strings.Join(own, "\n\n")
}

// A proxy passes connections on to a server, until it is told otherwise.
type proxy struct {
	ctx      context.Context // of the test
	listener net.Listener
	relays   sync.WaitGroup

	mu     sync.Mutex
	target string
	conns  map[net.Conn]bool
	closed bool // lets nobody through
}

// newProxy starts a proxy for the server at a URL.
func newProxy(t *testing.T, target string) *proxy {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{ctx: context.WithoutCancel(t.Context()), listener: listener, target: strings.TrimPrefix(target, "http://"), conns: make(map[net.Conn]bool)}
	p.relays.Go(p.accept)
	t.Cleanup(func() {
		listener.Close()
		p.cut()
		p.relays.Wait()
	})
	return p
}

func (p *proxy) url() string { return "http://" + p.listener.Addr().String() }

func (p *proxy) accept() {
	for {
		in, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		target, closed := p.target, p.closed
		p.mu.Unlock()
		out, err := new(net.Dialer).DialContext(p.ctx, "tcp", target)
		if err != nil || closed {
			in.Close()
			continue
		}
		p.mu.Lock()
		p.conns[in], p.conns[out] = true, true
		p.mu.Unlock()
		p.relays.Go(func() { p.relay(in, out) })
		p.relays.Go(func() { p.relay(out, in) })
	}
}

func (p *proxy) relay(from, to net.Conn) {
	_, _ = io.Copy(to, from)
	from.Close()
	to.Close()
	p.mu.Lock()
	delete(p.conns, from)
	p.mu.Unlock()
}

// cut breaks all connections.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for conn := range p.conns {
		conn.Close()
	}
}

// shut breaks all connections and lets no new ones through until open is called.
func (p *proxy) shut() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.cut()
}

func (p *proxy) open() {
	p.mu.Lock()
	p.closed = false
	p.mu.Unlock()
}
