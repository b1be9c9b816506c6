package worker_test

import (
	"context"
	"crypto/rand"
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
		for _, name := range []string{"CI=true", "SLIPWAY_BUILD_ID=" + job.Build.String(), "SLIPWAY_EPOCH=1", "SLIPWAY_PROJECT=" + project,
			"SLIPWAY_POOL=default", "SLIPWAY_URL=" + c.server.URL, "SLIPWAY_TOKEN=slw_build_"} {
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
