package worker_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/slipway-build/slipway/queue"
	"github.com/slipway-build/slipway/worker"
)

// TestLife carries builds through everything that can happen to one that nothing goes wrong with.
func TestLife(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.controller(nil)
	output := make([]byte, 10<<20)
	rand.Read(output)
	var dir string
	run := func(_ context.Context, job worker.Job) (worker.Result, error) {
		dir = job.Dir
		if got, err := os.ReadFile(filepath.Join(job.Source, "cmd/main.go")); err != nil || string(got) != "package main" {
			return worker.Result{}, fmt.Errorf("source: %q, %w", got, err)
		}
		if string(job.Spec) != "spec" {
			return worker.Result{}, fmt.Errorf("spec %q", job.Spec)
		}
		for piece := range slices.Chunk(output, 77_777) {
			if n, err := job.Log.Write(piece); n != len(piece) || err != nil {
				return worker.Result{}, fmt.Errorf("log: %d, %w", n, err)
			}
		}
		var files []worker.File
		for name, content := range map[string]string{"bin/tool": "twice", "bin/twin": "twice", "empty": "", "weird name/ü?#%.txt": "x"} {
			path := filepath.Join(job.Dir, fmt.Sprintf("out%d", len(files)))
			writeFile(t, path, []byte(content))
			files = append(files, worker.File{Name: name, Path: path})
		}
		env := strings.Join(job.Env, "\n")
		for _, name := range []string{
			"CI=true", "SLIPWAY_BUILD_ID=" + job.Build.String(), "SLIPWAY_EPOCH=1", "SLIPWAY_PROJECT=" + project,
			"SLIPWAY_POOL=default", "SLIPWAY_URL=" + c.server.URL, "SLIPWAY_TOKEN=slw_build_",
		} {
			if !strings.Contains(env, name) {
				return worker.Result{}, fmt.Errorf("%s is missing in the environment", name)
			}
		}
		return worker.Result{Artifacts: files}, nil
	}
	w.agent("one", run, nil, c.server.URL)
	id := w.submit(func(p *queue.Params) { p.Source = w.source(map[string]string{"cmd/main.go": "package main"}) })

	b := w.end(id)
	if b.State != queue.Succeeded || b.ExitCode == nil || *b.ExitCode != 0 || b.Reason != "" || b.Worker != "one" || b.AttemptsUsed != 1 {
		t.Errorf("the build ended as %+v", b)
	}
	w.checkComplete(id, output)
	artifacts, err := w.queue.Artifacts(t.Context(), project, queue.AttemptID{Build: id})
	if err != nil {
		t.Fatal(err)
	}
	names := make(map[string]int64)
	for _, a := range artifacts {
		names[a.Name] = a.Size
		if size, err := w.blobs.Stat(t.Context(), project, a.Digest); err != nil || size != a.Size {
			t.Errorf("artifact %q: %d bytes are stored, %v", a.Name, size, err)
		}
	}
	if want := map[string]int64{"bin/tool": 5, "bin/twin": 5, "empty": 0, "weird name/ü?#%.txt": 1}; !maps.Equal(names, want) {
		t.Errorf("artifacts %v, want %v", names, want)
	}
	eventually(t, "the workspace is removed", func() bool {
		_, err := os.Stat(dir)
		return os.IsNotExist(err)
	})
	if strings.Contains(w.log.String(), secret) || strings.Contains(w.log.String(), "slw_build_") {
		t.Error("a secret was logged")
	}
}

// TestOutcomes runs builds that come to all kinds of ends.
func TestOutcomes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.controller(nil)
	results := map[string]func() (worker.Result, error){
		"exit":   func() (worker.Result, error) { return worker.Result{ExitCode: 3}, nil },
		"signal": func() (worker.Result, error) { return worker.Result{ExitCode: -1, Signal: "SIGSEGV"}, nil },
		"spec":   func() (worker.Result, error) { return worker.Result{}, fmt.Errorf("%w: no command", worker.ErrBadSpec) },
		"broken": func() (worker.Result, error) { return worker.Result{}, errors.New("no such tool") },
		"panic":  func() (worker.Result, error) { panic("oops") },
		"odd":    func() (worker.Result, error) { return worker.Result{Signal: "not a name"}, nil },
		"source": func() (worker.Result, error) { panic("must not run") },
	}
	run := func(_ context.Context, job worker.Job) (worker.Result, error) { return results[string(job.Spec)]() }
	w.agent("one", run, func(o *worker.AgentOptions) { o.Slots = 4 }, c.server.URL)

	archive := w.source(map[string]string{"a": "b"})
	wrong := &queue.Source{Digest: archive.Digest, Size: archive.Size - 1}
	short := &queue.Source{Digest: archive.Digest, Size: archive.Size + 1}
	for name, test := range map[string]struct {
		spec   string
		source *queue.Source
		state  queue.State
		exit   int
		signal string
		reason string
		used   int
		logged bool
	}{
		"exit code":              {spec: "exit", state: queue.Failed, exit: 3, reason: "exit code 3", used: 1},
		"signal":                 {spec: "signal", state: queue.Failed, signal: "SIGSEGV", reason: "ended by SIGSEGV", used: 1},
		"bad spec":               {spec: "spec", state: queue.Failed, reason: "no command", used: 1, logged: true},
		"executor that fails":    {spec: "broken", state: queue.Lost, reason: "no such tool", used: 2},
		"executor that panics":   {spec: "panic", state: queue.Lost, reason: "panicked", used: 2},
		"result of no use":       {spec: "odd", state: queue.Lost, reason: "cannot be reported", used: 2},
		"source too long":        {spec: "source", source: wrong, state: queue.Failed, reason: "longer than declared", used: 1, logged: true},
		"source too short":       {spec: "source", source: short, state: queue.Failed, reason: "shorter than declared", used: 1},
		"source that is none":    {spec: "source", source: w.blob([]byte("no archive")), state: queue.Failed, reason: "bad source", used: 1},
		"source without digest":  {spec: "source", source: &queue.Source{Size: 3}, state: queue.Failed, reason: "source.sha256", used: 1},
		"source that is missing": {spec: "source", source: &queue.Source{Digest: queue.Digest{1}, Size: 3}, state: queue.Lost, reason: "no such object", used: 2},
	} {
		t.Run(name, func(t *testing.T) {
			id := w.submit(func(p *queue.Params) { p.Spec, p.Source, p.MaxAttempts = []byte(test.spec), test.source, 2 })
			b := w.end(id)
			exit := 0
			if b.ExitCode != nil {
				exit = *b.ExitCode
			}
			if b.State != test.state || exit != test.exit || b.Signal != test.signal || b.AttemptsUsed != test.used ||
				!strings.Contains(b.Reason, test.reason) {
				t.Errorf("state %v, exit code %d, signal %q, attempts %d, reason %q; want %+v",
					b.State, exit, b.Signal, b.AttemptsUsed, b.Reason, test)
			}
			if log := string(w.readLog(id)); test.logged && !strings.Contains(log, test.reason) {
				t.Errorf("log %q, want the reason in it", log)
			}
		})
	}
}

// TestPartial has a log and artifacts that the controller does not take whole: the build succeeds and says what is missing.
func TestPartial(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.controller(func(o *worker.HubOptions) { o.MaxArtifact, o.LogCap = 10, 1000 })
	run := func(_ context.Context, job worker.Job) (worker.Result, error) {
		for range 100 {
			fmt.Fprintln(job.Log, strings.Repeat("x", 99))
		}
		var files []worker.File
		for name, content := range map[string]string{"small": "0123456789", "large": "0123456789a"} {
			path := filepath.Join(job.Dir, name)
			writeFile(t, path, []byte(content))
			files = append(files, worker.File{Name: name, Path: path})
		}
		link := filepath.Join(job.Dir, "link")
		if err := os.Symlink("/etc/passwd", link); err != nil {
			return worker.Result{}, err
		}
		return worker.Result{Artifacts: append(files, worker.File{Name: "link", Path: link})}, nil
	}
	w.agent("one", run, nil, c.server.URL)
	id := w.submit(nil)
	b, a := w.end(id), w.attempt(id)
	if b.State != queue.Succeeded || !strings.Contains(b.Reason, "longer than 1000 bytes") || !strings.Contains(b.Reason, "artifact") {
		t.Errorf("the build ended as %v: %q", b.State, b.Reason)
	}
	log := string(w.readLog(id))
	if len(log) != 1000 || !strings.HasSuffix(log, "\n[slipway] the log is cut here: it is longer than 1000 bytes\n") || a.LogComplete {
		t.Errorf("a log of %d bytes, complete %t: …%q", len(log), a.LogComplete, log[max(0, len(log)-100):])
	}
	artifacts, err := w.queue.Artifacts(t.Context(), project, queue.AttemptID{Build: id})
	if err != nil || len(artifacts) != 1 || artifacts[0].Name != "small" {
		t.Errorf("artifacts %v, %v; want the small one", artifacts, err)
	}
}
