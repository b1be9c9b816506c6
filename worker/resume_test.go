package worker_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/worker"
)

// patiently is a queue in which nobody loses a build by waiting.
func patiently() queue.Options {
	o := quickQueue
	o.Grace = 5 * time.Minute
	return o
}

// A doomed agent works behind a proxy, and is killed: what it has on the disk at a moment is what the next process finds, and nothing that
// it does later is seen by anybody.
type doomed struct {
	*world
	c     *controller
	proxy *proxy
	dir   string
	quit  func() error
}

func newDoomed(t *testing.T, run executor, edit func(*worker.AgentOptions)) *doomed {
	return newDoomedAt(t, nil, run, edit)
}

// newDoomedAt is newDoomed with other options of the hub.
func newDoomedAt(t *testing.T, hub func(*worker.HubOptions), run executor, edit func(*worker.AgentOptions)) *doomed {
	w := newWorld(t)
	c := w.controllerOn(patiently(), hub)
	d := &doomed{world: w, c: c, proxy: newProxy(t, c.server.URL), dir: filepath.Join(t.TempDir(), "doomed")}
	d.quit = w.agent("one", run, func(o *worker.AgentOptions) {
		o.Dir, o.StopTimeout = d.dir, 50*time.Millisecond
		if edit != nil {
			edit(o)
		}
	}, d.proxy.url())
	return d
}

// image returns a directory as it would be if the agent were killed now.
func (d *doomed) image() string {
	d.t.Helper()
	image := filepath.Join(d.t.TempDir(), "image")
	if err := os.CopyFS(image, os.DirFS(d.dir)); err != nil {
		d.t.Fatal(err)
	}
	return image
}

func (d *doomed) attemptDir(id queue.ID, epoch int64) string {
	return filepath.Join(d.dir, id.String(), strconv.FormatInt(epoch, 10))
}

// again starts the next process of the agent on a directory.
func (d *doomed) again(dir string, run worker.Executor) (quit func() error) {
	d.t.Helper()
	return d.agent("one", nil, func(o *worker.AgentOptions) { o.Dir, o.Executor = dir, run }, d.c.server.URL)
}

func (d *doomed) attempts(id queue.ID) []queue.Attempt {
	d.t.Helper()
	all, err := d.queue.Attempts(d.t.Context(), project, id)
	if err != nil {
		d.t.Fatal(err)
	}
	return all
}

// logOf returns the whole log of an attempt.
func (d *doomed) logOf(id queue.AttemptID) string {
	d.t.Helper()
	var log bytes.Buffer
	for page, err := range d.queue.FollowLog(d.t.Context(), project, id, 0) {
		if err != nil {
			d.t.Fatal(err)
		}
		log.Write(page.Data)
	}
	return log.String()
}

const killedHere = "[slipway] the agent was killed here: what the build wrote last may be missing\n"

// An agent that is killed while a build runs reports it when it is started again: all of the log that had got to the disk, and that the
// attempt is lost, so that the build is attempted again at once.
func TestKilledWhileRunning(t *testing.T) {
	t.Parallel()
	lines := strings.Repeat("a line of the log\n", 100_000)
	written := make(chan struct{})
	var first worker.Job
	d := newDoomed(t, func(ctx context.Context, job worker.Job) (worker.Result, error) {
		first = job
		_, _ = job.Log.Write([]byte("seen by the controller\n"))
		written <- struct{}{}
		<-written // no connection from here on
		_, _ = job.Log.Write([]byte(lines))
		written <- struct{}{}
		<-ctx.Done()
		return worker.Result{}, context.Cause(ctx)
	}, nil)
	id := d.submit(nil)
	receive(t, "the build runs", written)
	eventually(t, "the first line is stored", func() bool { return len(d.readLog(id)) > 0 })
	d.proxy.shut()
	written <- struct{}{}
	receive(t, "the log is written", written)

	image := d.image()
	again := d.again(image, executor(func(_ context.Context, job worker.Job) (worker.Result, error) {
		_, _ = job.Log.Write([]byte("second"))
		return worker.Result{}, nil
	}))
	if b := d.end(id); b.State != queue.Succeeded || b.AttemptsUsed != 2 {
		t.Errorf("the build ended as %+v", b)
	}
	all := d.attempts(id)
	lost := all[0]
	if len(all) != 2 || lost.Outcome != queue.Lost || !strings.HasPrefix(lost.Reason, "agent_restart;") || lost.LogComplete {
		t.Errorf("attempts %+v", all)
	}
	if got, want := d.logOf(lost.AttemptID), "seen by the controller\n"+lines+killedHere; got != want {
		t.Errorf("%d bytes of log, want %d", len(got), len(want))
	}
	d.checkComplete(id, []byte("second"))
	eventually(t, "nothing is left", func() bool {
		left, err := filepath.Glob(filepath.Join(image, id.String()+"*"))
		return err == nil && len(left) == 0
	})
	if err := again(); err != nil {
		t.Error(err)
	}
	if first.Epoch != 1 {
		t.Errorf("epoch %d", first.Epoch)
	}
	if strings.Contains(d.log.String(), "slw_build_") {
		t.Error("a token was logged")
	}
}

// A log that the agent was killed in stays within the limit that its controller had set, whether it was cut already or is cut by what the
// next process adds.
func TestKilledAtLogCap(t *testing.T) {
	t.Parallel()
	const limit = 1000
	const cut = "\n[slipway] the log is cut here: it is longer than 1000 bytes\n"
	for name, length := range map[string]int{"cut": 5 * limit, "about to be cut": limit - len(cut) - 10} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			written := make(chan struct{})
			d := newDoomedAt(t, func(o *worker.HubOptions) { o.LogCap = limit }, func(ctx context.Context, job worker.Job) (worker.Result, error) {
				_, _ = job.Log.Write(bytes.Repeat([]byte("x"), length))
				close(written)
				<-ctx.Done()
				return worker.Result{}, context.Cause(ctx)
			}, nil)
			id := d.submit(func(p *queue.Params) { p.MaxAttempts = 1 })
			receive(t, "the log is written", written)
			d.proxy.shut()
			d.again(d.image(), executor(succeed))
			if b := d.end(id); b.State != queue.Lost || !strings.Contains(b.Reason, "the log is longer than 1000 bytes") {
				t.Errorf("the build ended as %+v", b)
			}
			log := string(d.readLog(id))
			if a := d.attempt(id); len(log) != limit || a.LogLength != limit || a.LogComplete {
				t.Errorf("%d bytes of log, attempt %+v", len(log), a)
			}
			if !strings.HasSuffix(log, cut) || strings.Count(log, "[slipway] the log is cut here") != 1 {
				t.Errorf("the log is %q", log)
			}
		})
	}
}

// finishOffline has a build end on an agent without a connection.
func finishOffline(t *testing.T, edit func(*worker.AgentOptions)) (*doomed, queue.ID, []byte) {
	running, cut := make(chan struct{}), make(chan struct{})
	log := bytes.Repeat([]byte("0123456789"), 50_000)
	d := newDoomed(t, func(_ context.Context, job worker.Job) (worker.Result, error) {
		close(running)
		<-cut
		_, _ = job.Log.Write(log)
		return worker.Result{ExitCode: 3}, nil
	}, edit)
	id := d.submit(nil)
	receive(t, "the build runs", running)
	d.proxy.shut()
	close(cut)
	eventually(t, "the end is on the disk", func() bool {
		_, err := os.Stat(filepath.Join(d.attemptDir(id, 1), "result.json"))
		return err == nil
	})
	return d, id, log
}

// wantFailed checks that the build was attempted once, and that all of it was reported.
func (d *doomed) wantFailed(id queue.ID, log []byte) {
	d.t.Helper()
	if b := d.end(id); b.State != queue.Failed || b.ExitCode == nil || *b.ExitCode != 3 || b.Reason != "exit code 3" || b.AttemptsUsed != 1 {
		d.t.Errorf("the build ended as %+v", b)
	}
	d.checkComplete(id, log)
}

// An agent that is killed after the end of a build reports that end: the build is not attempted again.
func TestKilledWhileFinishing(t *testing.T) {
	t.Parallel()
	d, id, log := finishOffline(t, nil)
	image := d.image()
	d.again(image, executor(succeed))
	d.wantFailed(id, log)
	// One that is killed once more, before it has removed what it reported, says the same, and changes nothing.
	another := d.image()
	old := d.agent("one", succeed, func(o *worker.AgentOptions) { o.Dir = another }, d.c.server.URL)
	eventually(t, "the report is settled", func() bool {
		_, err := os.Stat(filepath.Join(another, id.String()))
		return os.IsNotExist(err)
	})
	if err := old(); err != nil {
		t.Error(err)
	}
	d.wantFailed(id, log)
}

// An agent that is stopped in order, with nobody to report to, leaves the report to the next one.
func TestStoppedUnheard(t *testing.T) {
	t.Parallel()
	d, id, log := finishOffline(t, func(o *worker.AgentOptions) { o.StopTimeout = time.Millisecond })
	if err := d.quit(); err != nil {
		t.Error(err)
	}
	d.again(d.dir, executor(succeed))
	d.wantFailed(id, log)
}

// What an agent left is no concern of a build that has been attempted again since.
func TestKilledLongAgo(t *testing.T) {
	t.Parallel()
	d, id, _ := finishOffline(t, nil)
	dir := d.attemptDir(id, 1)
	image, old := d.image(), d.image()
	if err := os.Remove(filepath.Join(image, strings.TrimPrefix(dir, d.dir), "result.json")); err != nil {
		t.Fatal(err)
	}
	running, release := make(chan worker.Job, 1), make(chan struct{})
	again := d.again(image, executor(func(_ context.Context, job worker.Job) (worker.Result, error) {
		running <- job
		<-release
		_, _ = job.Log.Write([]byte("second"))
		return worker.Result{}, nil
	}))
	if job := receive(t, "the second attempt", running); job.Epoch != 2 {
		t.Fatalf("epoch %d", job.Epoch)
	}
	first := d.attempts(id)[0]
	stale := d.agent("one", succeed, func(o *worker.AgentOptions) { o.Dir = old }, d.c.server.URL)
	eventually(t, "what is stale is dropped", func() bool {
		_, err := os.Stat(filepath.Join(old, id.String()))
		return os.IsNotExist(err)
	})
	if err := stale(); err != nil {
		t.Error(err)
	}
	close(release)
	if b := d.end(id); b.State != queue.Succeeded || b.AttemptsUsed != 2 {
		t.Errorf("the build ended as %+v", b)
	}
	if got := d.attempts(id)[0]; got.Outcome != first.Outcome || got.LogLength != first.LogLength || got.Reason != first.Reason {
		t.Errorf("the first attempt was %+v, is %+v", first, got)
	}
	if err := again(); err != nil {
		t.Error(err)
	}
}

// A file that was torn costs the attempt, and nothing else.
func TestKilledTorn(t *testing.T) {
	t.Parallel()
	for name, content := range map[string]string{
		"empty": "", "torn": `{"finished":{"bui`, "another's": `{"finished":{"build":"` + queue.NewID().String() + `","epoch":1}}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, id, log := finishOffline(t, nil)
			image := d.image()
			writeFile(t, filepath.Join(image, strings.TrimPrefix(d.attemptDir(id, 1), d.dir), "result.json"), []byte(content))
			if err := os.Mkdir(filepath.Join(image, "notes"), 0o700); err != nil {
				t.Fatal(err)
			}
			writeFile(t, filepath.Join(image, "notes", "mine"), []byte("what is not the agent's stays"))
			d.again(image, executor(succeed))
			if b := d.end(id); b.State != queue.Succeeded || b.AttemptsUsed != 2 {
				t.Errorf("the build ended as %+v", b)
			}
			first := d.attempts(id)[0]
			if got := d.logOf(first.AttemptID); got != string(log)+killedHere || !strings.HasPrefix(first.Reason, "agent_restart;") {
				t.Errorf("%d bytes of log and %q, want %d", len(got), first.Reason, len(log)+len(killedHere))
			}
			if !strings.Contains(d.world.log.String(), "cannot be used") {
				t.Error("nobody is told")
			}
			if _, err := os.Stat(filepath.Join(image, "notes", "mine")); err != nil {
				t.Error(err)
			}
		})
	}
}

// What cannot be read of what an agent left stays where it is, and keeps the next one from nothing.
func TestLeftUnreadable(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.controller(nil)
	dir := t.TempDir()
	file := filepath.Join(dir, queue.NewID().String())
	writeFile(t, file, []byte("a file in the place of a directory"))
	odd := filepath.Join(dir, queue.NewID().String(), "3", "log")
	if err := os.MkdirAll(odd, 0o700); err != nil { // a directory in the place of a file
		t.Fatal(err)
	}
	w.agent("one", succeed, func(o *worker.AgentOptions) { o.Dir = dir }, c.server.URL)
	if b := w.end(w.submit(nil)); b.State != queue.Succeeded {
		t.Errorf("the build ended as %+v", b)
	}
	for _, name := range []string{file, odd} {
		if _, err := os.Stat(name); err != nil {
			t.Error(err)
		}
		if !strings.Contains(w.log.String(), "and stays\" who=agent worker=one dir="+strings.TrimSuffix(name, "/3/log")) {
			t.Errorf("nobody is told of %s", name)
		}
	}
}

// A reaper is an executor that says when what it was asked about is dead.
type reaper struct {
	executor
	asked chan worker.Job
	dead  atomic.Bool
}

func (r *reaper) Reap(_ context.Context, job worker.Job) error {
	select {
	case r.asked <- job:
	default:
	}
	if !r.dead.Load() {
		return worker.ErrNotKilled
	}
	return nil
}

// As long as something of a build may be alive that the earlier process ran, it is not attempted again.
func TestKilledAndNotDead(t *testing.T) {
	t.Parallel()
	running := make(chan worker.Job, 1)
	d := newDoomed(t, untilStopped(running, make(chan error, 1)), nil)
	id := d.submit(nil)
	job := receive(t, "the build runs", running)
	image := d.image()
	d.proxy.shut()
	r := &reaper{executor: succeed, asked: make(chan worker.Job)}
	d.again(image, r)
	for range 3 {
		asked := receive(t, "whether it is dead", r.asked)
		if asked.Build != id || asked.Epoch != job.Epoch || asked.Dir != strings.Replace(job.Dir, d.dir, image, 1) {
			t.Errorf("asked about %+v, want %+v", asked, job)
		}
		if b := d.build(id); b.State != queue.Running || b.AttemptsUsed != 1 {
			t.Errorf("the build is %+v", b)
		}
	}
	r.dead.Store(true)
	if b := d.end(id); b.State != queue.Succeeded || b.AttemptsUsed != 2 {
		t.Errorf("the build ended as %+v", b)
	}
}

// Workspaces that are kept are not reported twice.
func TestKeptWorkspaceIsNotTakenUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.controller(nil)
	dir := filepath.Join(t.TempDir(), "kept")
	keep := func(o *worker.AgentOptions) { o.Dir, o.KeepWorkspace = dir, true }
	first := w.agent("one", succeed, keep, c.server.URL)
	id := w.submit(nil)
	w.end(id)
	done := filepath.Join(dir, id.String(), "1", "done")
	eventually(t, "the workspace is marked", func() bool {
		_, err := os.Stat(done)
		return err == nil
	})
	if err := first(); err != nil {
		t.Error(err)
	}
	w.agent("one", succeed, keep, c.server.URL)
	w.end(w.submit(nil))
	if strings.Contains(w.log.String(), "taken up") {
		t.Error("a workspace was taken for a build that has to be reported")
	}
	if _, err := os.Stat(done); err != nil {
		t.Error(err)
	}
}
